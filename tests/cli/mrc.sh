#!/usr/bin/env bash
# Miss ratio curves: the same numbers as replay, the same bytes for any threads, plots, refusals.
. tests/cli/lib/check.bash
program=$(realpath "$moelab")
t=$folder/t.h5
geometries=(4x1 4x5 4x24 3x2 1x24 global:1 global:7 global:50 global:96)
[ "$size" = whole ] || geometries=(4x5 global:7)
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:layers=4,experts=24,top_k=3,tokens=2000,sequences=40,prompt=6" -o "$t"

# column FILE GEOMETRY PHASE NAME: a cell of a table of curves.
column() {
    awk -F'\t' -v g="$2" -v p="$3" -v name="$4" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
        $c["geometry"] == g && $c["phase"] == p && (!("layer" in c) || $c["layer"] == "all") {
            print $c[name]; exit }' "$1"
}

# replayed GEOMETRY POLICY CONTRACT PHASE: the same cell by `moelab replay`.
replayed() {
    "$moelab" replay "$t" --geometry "$1" --policy "$2" --contract "$3" --no-layers --format tsv |
        awk -F'\t' -v p="$4" '/^#/ { next }
            !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
            $c["phase"] == p { print $c["hit_rate_percent"] }'
}

for contract in event access; do
    curves=$folder/$contract.tsv
    expect 0 "" "$moelab" mrc "$t" --contract $contract --grid --layers --format tsv -o "$curves"
    for geometry in "${geometries[@]}"; do
        for policy in lru opt; do
            for phase in decode prefill both; do
                got=$(column "$curves" "$geometry" $phase ${policy}_hit_percent)
                want=$(replayed "$geometry" $policy $contract $phase)
                holds "$contract $geometry $policy $phase: $got, replay has $want" \
                    test "$got" = "$want"
            done
        done
    done
done

# Every size is there, in every phase: 24 of a pool a layer and 96 of one pool.
expect 0 "" "$moelab" mrc "$t" --format tsv -o "$folder/all.tsv"
holds "rows of every size" test "$(grep -vc '^#' "$folder/all.tsv")" = $((3 * (24 + 96) + 1))
expect 0 "SYNTHETIC" cat "$folder/all.tsv"
expect 0 '"columns"' "$moelab" mrc "$t" --format json
expect 0 "global:72" "$moelab" mrc "$t" --phase decode
expect 0 "gib" "$moelab" mrc "$t" --model mixtral-8x7b

# Any number of threads, and blocks of a file: the same rows.
rows() { grep -v '^# command' "$1" >"$1.rows"; }
for threads in 1 2 5; do
    OMP_NUM_THREADS=$threads "$moelab" mrc "$t" --sample 40 --format tsv -o "$folder/$threads.tsv"
    rows "$folder/$threads.tsv"
    same "$folder/1.tsv.rows" "$folder/$threads.tsv.rows"
done
expect 0 "of 40 sequences counted" cat "$folder/1.tsv"
expect 0 "lru_low_percent" cat "$folder/1.tsv"
# With OPT where the processor can; the refusal elsewhere tells what can be done.
streamed=("--no-opt --bands")
refused=()
if grep -q avx512bw /proc/cpuinfo; then
    streamed+=("--bands" "--contract access --cold --layers" "--order token --phase decode")
else
    refused+=("$t")
fi
for options in "${streamed[@]}"; do
    # shellcheck disable=SC2086 # words on purpose
    "$moelab" mrc "$t" $options --format tsv -o "$folder/memory.tsv"
    # shellcheck disable=SC2086 # words on purpose
    expect 0 "" "$moelab" mrc "$t" $options --stream --format tsv -o "$folder/stream.tsv"
    rows "$folder/memory.tsv"
    rows "$folder/stream.tsv"
    same "$folder/memory.tsv.rows" "$folder/stream.tsv.rows"
done
for trace in "${refused[@]}"; do
    expect 2 "OPT from blocks of a file needs a processor with AVX-512: leave out --stream, add \
--no-opt" "$moelab" mrc "$trace" --stream
    one_line "$moelab" mrc "$trace" --stream
done

# From samples of experts: every size of one pool, the same rows from file and for any threads.
for threads in 1 3; do
    OMP_NUM_THREADS=$threads "$moelab" mrc "$t" --shards 20 --format tsv \
        -o "$folder/shards$threads.tsv"
    rows "$folder/shards$threads.tsv"
done
same "$folder/shards1.tsv.rows" "$folder/shards3.tsv.rows"
holds "rows of shards" test "$(grep -vc '^#' "$folder/shards1.tsv")" = 97
expect 0 "19 of 96 experts" cat "$folder/shards1.tsv"
expect 2 "fewer than 16" "$moelab" mrc "$t" --shards 5
expect 2 "its own error bars" "$moelab" mrc "$t" --shards 20 --bands

if command -v gnuplot >/dev/null; then
    for options in "" "--no-opt --no-global" "--sample 50 --layers --grid --model mixtral-8x7b"; do
        rm -f "$folder"/plot.*
        # shellcheck disable=SC2086 # words on purpose
        expect 0 "" "$moelab" mrc "$t" $options --plot "$folder/plot" -o "$folder/out.txt"
        for plot in svg png tsv; do
            holds "plot.$plot of '$options'" test -s "$folder/plot.$plot"
        done
    done
    # Whatever the locale, gnuplot and the awk of its scripts run in one with points in numbers.
    for locale in "" C de_DE.UTF-8; do
        env -u LANG -u LC_CTYPE LC_ALL=$locale "$moelab" mrc "$t" --plot "$folder/plot" \
            -o "$folder/out.txt" 2>"$folder/said"
        holds "LC_ALL=$locale: $(cat "$folder/said")" test ! -s "$folder/said"
    done
    # Names that gnuplot, awk or grep would run or take for something else are files.
    # shellcheck disable=SC2016 # as they are
    names=('|touch ran;' '<touch ran;' 'a=b' -v 'x"`touch ran`')
    for name in "${names[@]}"; do
        (cd "$folder" && timeout 60 "$program" mrc t.h5 --no-opt --plot "$name" -o out.txt 2>said)
        holds "--plot '$name': exit $?, $(cat "$folder/said")" test ! -s "$folder/said"
        for plot in svg png pdf tsv; do
            holds "$name.$plot" test -s "$folder/$name.$plot"
        done
    done
    absent "$folder/ran"
    expect 2 "a quote (') in its name" "$moelab" mrc "$t" --plot "$folder/'; system 'touch ran';#"
fi

# A gnuplot that hangs is ended with the command, and one that cannot be started is not "missing".
mkdir "$folder/bin"
printf '#!/bin/sh\necho $$ >"%s"\nexec sleep 600\n' "$folder/drawing" >"$folder/bin/gnuplot"
chmod +x "$folder/bin/gnuplot"
PATH=$folder/bin:$PATH "$moelab" mrc "$t" --plot "$folder/hang" >"$folder/hang.out" \
    2>"$folder/hang.err" &
pid=$!
until [ -s "$folder/drawing" ]; do sleep 0.02; done
kill -TERM $pid
wait $pid
code=$?
holds "gnuplot hangs: exit $code, not 1" [ $code = 1 ]
holds "gnuplot hangs: $(cat "$folder/hang.err")" \
    grep -q "^moelab: interrupted while gnuplot drew; the data are in '" "$folder/hang.err"
holds "gnuplot still runs" test ! -e "/proc/$(cat "$folder/drawing")"
holds "the data" test -s "$folder/hang.tsv"
# On a full disk gnuplot ends as if all were well: what it cut is no picture.
printf '#!/bin/sh\nprintf "<svg" >"%s.svg"\n: >"%s.png"\n' "$folder/cut" "$folder/cut" \
    >"$folder/bin/gnuplot"
expect 1 "gnuplot could not write all of '$folder/cut.png' (is the disk full?); the data are in '" \
    env PATH="$folder/bin:$PATH" "$moelab" mrc "$t" --plot "$folder/cut"
absent "$folder/cut.svg"
absent "$folder/cut.png"
holds "the data beside a cut picture" test -s "$folder/cut.tsv"
chmod -x "$folder/bin/gnuplot"
expect 1 "cannot start gnuplot: Permission denied; the data are in '" \
    env PATH="$folder/bin" "$moelab" mrc "$t" --plot "$folder/plot"
rm "$folder/bin/gnuplot"
expect 1 "gnuplot is not installed" env PATH="$folder/bin" "$moelab" mrc "$t" --plot "$folder/plot"

expect 2 "needs a trace file" "$moelab" mrc "synth:uniform:tokens=64" --stream --no-opt
expect 2 "takes none of the 40 sequences" "$moelab" mrc "$t" --sample 0.0001
expect 2 "sample" "$moelab" mrc "$t" --sample 0
expect 2 "missing argument" "$moelab" mrc
expect 1 "none.h5" "$moelab" mrc "$folder/none.h5"
finish
