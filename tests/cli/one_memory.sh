#!/usr/bin/env bash
# A platform whose GPU and CPU share one memory: the same with and without a timeline, slower than
# with two memories, and in the commands that search.
. tests/cli/lib/check.bash
t=$folder/t.h5
platform=strix-halo
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:layers=32,experts=8,top_k=2,tokens=40,sequences=4,prompt=4,model=mixtral-8x7b" -o "$t"

# value COLUMN OPTIONS...: the result of `sim` with these options.
value() {
    local column=$1
    shift
    "$moelab" sim "$t" --platform $platform --threads 16 --format tsv "$@" 2>/dev/null |
        awk -F'\t' -v name="$column" '/^#/ { next }
            !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
            { print $c[name]; exit }'
}
# shellcheck disable=SC2317 # holds calls it
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a < b) }'; }

expect 0 "of the same memory" "$moelab" list platforms
for strategy in collab on-demand "collab --geometry all"; do
    # shellcheck disable=SC2086 # words
    {
        plain=$(value tokens_per_s --strategy $strategy --max-tokens 16)
        drawn=$(value tokens_per_s --strategy $strategy --timeline "$folder/t.json")
        apart=$(value tokens_per_s --strategy $strategy --set platform.memory=separate \
            --max-tokens 16)
        dram=$(value dram_gb_per_s --strategy $strategy)
    }
    holds "$strategy: $plain, $drawn with a timeline" test "$plain" = "$drawn"
    holds "$strategy: $plain, $apart with two memories" less "$plain" "$apart"
    holds "$strategy: $dram GB/s of the DRAM" less "$dram" 212
done
expect 2 "experts on the host 84.0 GiB: more than the 128 GiB of the GPU of platform" \
    "$moelab" sim "$t" --platform $platform --geometry 32x6
expect 0 "" "$moelab" sim "$t" --platform $platform --geometry 32x6 --policy static \
    --max-tokens 16
expect 2 "memory" "$moelab" sim "$t" --platform $platform --set platform.memory=both
# A model that cannot fit is told of before anything is simulated.
expect 2 "model 'mixtral-8x22b' does not fit: its experts take 252 GiB, dense weights and KV" \
    "$moelab" tune synth:zipf:tokens=999 --model mixtral-8x22b --platform $platform

# What the tuner predicts is what sim has.
expect 0 "" "$moelab" tune "$t" --platform $platform --max-points 60 --finalists 3 --format tsv \
    --table "$folder/table" --held-out "$folder/held.h5" -o "$folder/best.yaml"
t=$folder/held.h5
want=$(awk -F'\t' '/^#/ { next } !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
    $c["chosen"] == "yes" { print $c["tokens_per_s"] }' "$folder/table")
threads=$(sed -n 's/^threads: "\(.*\)"/\1/p' "$folder/best.yaml")
got=$(value tokens_per_s --strategy "$folder/best.yaml" --threads "$threads")
holds "predicted $want, simulated $got" test "$want" = "$got"
expect 0 "one step more" "$moelab" whatif "$t" --platform $platform --channels 4 --no-plot \
    --set threads=16 -o "$folder/w"
if grep -q "^pcie" "$folder/w/what-if.tsv"; then failed "a slot"; else passed; fi
finish
