#!/usr/bin/env bash
# What-if: the unchanged platform equals `sim`; same bytes for any number of jobs; plot; refusals.
. tests/cli/lib/check.bash
t=$folder/t.h5
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:layers=8,experts=8,top_k=2,tokens=120,sequences=3,prompt=6" -o "$t"
model=mixtral-8x7b-8-layers

# cell FILE AXIS LINE COLUMN: the value in the row of the platform's own value.
cell() {
    awk -F'\t' -v axis="$2" -v line="$3" -v name="$4" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
        $c["axis"] == axis && $c["line"] == line && $c["own"] == "yes" { print $c[name]; exit }
        ' "$1"
}

# simulated STRATEGY GEOMETRY: tokens/s by `sim`.
simulated() {
    "$moelab" sim "$t" --model $model --strategy "$1" --geometry "$2" --no-bound --format tsv |
        awk -F'\t' '/^#/ { next }
            !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
            { print $c["tokens_per_s"] }'
}

run=("$moelab" whatif "$t" --model "$model" --channels 4)
expect 0 "largest gain from one step" "${run[@]}" --no-plot -o "$folder/one" --jobs 1
expect 0 "SYNTHETIC routing" "${run[@]}" --no-plot -o "$folder/three" --jobs 3
result=$folder/one/what-if.tsv
rows() { grep -v '^# command' "$1" >"$1.rows"; }
rows "$result"
rows "$folder/three/what-if.tsv"
same "$result.rows" "$folder/three/what-if.tsv.rows"

for axis in pcie dram vram cores weights; do
    for line in strategy cpu-only on-demand; do
        got=$(cell "$result" $axis $line tokens_per_s)
        want=$(simulated "$(cell "$result" $axis $line strategy)" \
            "$(cell "$result" $axis $line geometry)")
        holds "$axis $line: $got, sim has $want" test "$got" = "$want"
    done
done
holds "every row ran" test "$(grep -c $'\tok\t' "$result")" = $((3 * (4 + 5 + 7 + 9 + 4)))
expect 0 "# synthetic: yes" cat "$result"
expect 0 "as told" grep axis_dram "$result"
expect 0 "a guess: the slowest that carries them" grep axis_pcie "$result"

# Memory that the dense weights do not fit into costs its rows only: all three lines of half a GiB,
# and those that stage copies at one GiB or of float32.
expect 0 "5 of 81 rows could not run, the first: " "$moelab" whatif "$t" --model $model --no-plot \
    -o "$folder/small" --set platform.gpu.memory_bytes=2GiB --max-tokens 8
expect 0 "more than the 512 MiB of the GPU" cat "$folder/small/what-if.tsv"
# None that can run: one line with the reason, and no picture.
none=("$moelab" whatif "$t" --model "$model" -o "$folder/none" --max-tokens 8
    --set platform.gpu.memory_bytes=1MiB)
expect 1 "rows could run, the first: " "${none[@]}"
expect 1 "of the GPU" "${none[@]}"
one_line "${none[@]}"
absent "$folder/none/what-if.svg"
# Fewer bits of a weight are the shape that has them.
expect 0 "" "$moelab" trace synth "zipf:layers=32,experts=8,top_k=2,tokens=12,sequences=1" \
    -o "$folder/32.h5"
expect 0 "" "$moelab" whatif "$folder/32.h5" --model mixtral-8x7b --no-plot -o "$folder/plain"
for type in q8:8.5 q4:4.5; do
    quantized=$folder/${type%:*}
    expect 0 "" "$moelab" whatif "$folder/32.h5" --model "mixtral-8x7b-${type%:*}" --no-plot \
        -o "$quantized"
    holds "$type: own" test "$(cell "$quantized/what-if.tsv" weights strategy value)" = "${type#*:}"
    for column in geometry tokens_per_s bound_ms_per_token; do
        got=$(awk -F'\t' -v bits="${type#*:}" -v name=$column '/^#/ { next }
            !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
            $c["axis"] == "weights" && $c["line"] == "strategy" && $c["value"] == bits {
                print $c[name] }' "$folder/plain/what-if.tsv")
        want=$(cell "$quantized/what-if.tsv" weights strategy $column)
        holds "$type $column: $got, the shape has $want" test "$got" = "$want" -a -n "$got"
    done
done
# A cache that no part changes much.
expect 0 "change nothing: no single step gains 5 %" "$moelab" whatif "$t" --model tiny-mixtral \
    --no-plot -o "$folder/nothing" --max-tokens 8

# The table says how many threads were simulated, not how many a strategy asks a small machine for.
expect 0 "simulated with 8" "$moelab" whatif "$t" --model tiny-mixtral --platform laptop-4060 \
    --no-plot -o "$folder/few" --max-tokens 8
holds "8 threads" test "$(cell "$folder/few/what-if.tsv" vram strategy threads)" = 8

# Strategies written for models of other sizes run on this one's own: all of them.
expect 0 "" "$moelab" record --model tiny-mixtral --prompts experiments/prompts/demo.jsonl \
    --chat none --limit 1 --max-new-tokens 4 -o "$folder/tiny.h5"
names=$("$moelab" list strategies | awk '/^  [a-z]/ { print $1 }')
holds "strategies with more layers than tiny-mixtral: $names" grep -q hybrimoe <<<"$names"
for name in $names; do
    expect 0 "whatif.$name/what-if.tsv" "$moelab" whatif "$folder/tiny.h5" --model tiny-mixtral \
        --strategy "$name" --lossy --no-plot --max-tokens 2 -o "$folder/whatif.$name"
    holds "$name: every row ran" test "$(grep -c $'\tok\t' "$folder/whatif.$name/what-if.tsv")" = 87
done

if command -v gnuplot >/dev/null; then
    expect 0 "plot " "${run[@]}" -o "$folder/drawn" --max-tokens 8
    for kind in svg png pdf; do
        holds "a $kind" test -s "$folder/drawn/what-if.$kind"
    done
    expect 0 "" "$moelab" report "$folder/drawn" -o "$folder/report.html"
    expect 0 "DRAM channels" cat "$folder/report.html"
fi

expect 2 "did you mean 'collab'" "${run[@]}" --strategy colab
expect 2 "lossy" "${run[@]}" --set reroute=cache-prior
expect 2 "fits the geometry to each value itself" "${run[@]}" --set geometry=7x8
one_line "${run[@]}" --set geometry=7x8
sed 's/^geometry: .*/geometry: 7y8/' experiments/strategies/collab.yaml >"$folder/wrong.yaml"
expect 2 "geometry '7y8'" "${run[@]}" --strategy "$folder/wrong.yaml"
expect 2 "has 8 layers, 8 experts" "$moelab" whatif "$t" --model mixtral-8x7b
expect 2 "at most 15.75" "${run[@]}" --pcie-generation 3
expect 2 "generations are 3 to 6" "${run[@]}" --pcie-generation 1
expect 2 "channels" "${run[@]}" --channels 65
expect 2 "missing argument" "$moelab" whatif
expect 1 "cannot make folder" "${run[@]}" -o "$result/x"
one_line "${run[@]}" --pcie-lanes 4
# A full disk leaves no folder that was not there. (clang's OpenMP needs 1 KiB of shared memory.)
mkdir "$folder/old"
for out in new/deep old/deep; do
    said=$(
        trap '' XFSZ
        ulimit -f 1
        "$moelab" whatif synth:uniform:tokens=1,model=mixtral-8x7b --no-plot -o "$folder/$out" 2>&1
    )
    holds "a full disk: exit code $?, '$said'" [ $? = 1 ]
    absent "$folder/$out"
done
absent "$folder/new"
holds "a folder that was there" [ -d "$folder/old" ]
finish
