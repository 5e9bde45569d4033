#!/usr/bin/env bash
# Platforms without a GPU in every command: cpu-only runs, all else is refused in one line.
. tests/cli/lib/check.bash
t=$folder/t.h5
platform=laptop-no-gpu
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:layers=32,experts=8,top_k=2,tokens=60,sequences=6,prompt=4,model=mixtral-8x7b" -o "$t"

# cell COLUMN FILE: the value in the first row.
cell() {
    awk -F'\t' -v name="$1" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
        { print $c[name]; exit }' "$2"
}

expect 0 "no GPU, 8 cores, memory 76 GB/s" "$moelab" list platforms
expect 0 "gpu_ms_per_token                 0" "$moelab" sim "$t" --platform $platform \
    --strategy cpu-only --threads 8 --gap
expect 2 "strategy 'collab' needs a GPU (it has slots), and platform 'laptop-no-gpu' has none: \
take cpu-only" "$moelab" sim "$t" --platform $platform --threads 8
one_line "$moelab" sim "$t" --platform $platform --strategy on-demand --threads 8
expect 2 "it computes missed experts there" "$moelab" sim "$t" --platform $platform \
    --strategy on-demand
expect 2 "says 'gpu: none'" "$moelab" sim "$t" --platform $platform --strategy cpu-only \
    --set platform.link.copy_setup_us=3

# The same machine with a GPU that is told to have no memory: equal to the last digit.
for p in $platform laptop-4060; do
    "$moelab" sim "$t" --platform "$p" --set platform.gpu.memory_bytes=0 --strategy cpu-only \
        --threads 8 --format tsv -o "$folder/$p.tsv" 2>/dev/null ||
        "$moelab" sim "$t" --platform "$p" --strategy cpu-only --threads 8 --format tsv \
            -o "$folder/$p.tsv" 2>/dev/null
done
for column in tokens_per_s j_per_token bound_ms_per_token; do
    holds "$column" test "$(cell $column "$folder/$platform.tsv")" = \
        "$(cell $column "$folder/laptop-4060.tsv")"
done

# The tuner: its words, its file in sim and in run.
expect 0 "no GPU: only cpu-only can run" "$moelab" tune "$t" --platform $platform \
    -o "$folder/best.yaml"
expect 2 "budget 1.0 GiB is GPU memory" "$moelab" tune "$t" --platform $platform --budget 1GiB
expect 0 "cpu-only" "$moelab" sim "$t" --platform $platform --strategy "$folder/best.yaml"
run=("$moelab" run --model tiny-mixtral -p "Who are you?" -n 8)
expect 0 "computed without a device" "${run[@]}" --strategy "$folder/best.yaml"
expect 0 "computed without a device" "${run[@]}" --strategy cpu-only --platform $platform
expect 0 "computed without a device" "${run[@]}" --strategy cpu-only --stats # not on a terminal
"${run[@]}" >"$folder/plain" 2>/dev/null
for more in "" "--device host" "--platform $platform"; do
    # shellcheck disable=SC2086 # words
    "${run[@]}" --strategy "$folder/best.yaml" $more >"$folder/text" 2>/dev/null
    same "$folder/plain" "$folder/text"
done
expect 2 "needs a GPU" "${run[@]}" --strategy collab --geometry 4x2 --platform $platform

# Predicted and measured without a device; nothing is expected of the times themselves.
own=$folder/own.h5
"$moelab" record --model tiny-mixtral --prompts experiments/prompts/demo.jsonl --limit 1 -n 12 \
    --out "$own" >/dev/null 2>&1
validate=("$moelab" validate --model tiny-mixtral --trace "$own" --platform "$platform" --repeats 2
    --tolerance 1e9 --tolerance-p95 1e9)
expect 0 "decisions: 1 equal" "${validate[@]}" --strategy cpu-only
expect 0 "device: none: the CPU computes all" "${validate[@]}" --strategy "$folder/best.yaml" \
    --format tsv
expect 0 "SYNTHETIC, made in memory" "$moelab" validate --shape tiny-mixtral --trace "$own" \
    --platform $platform --strategy cpu-only --tolerance 1e9 --tolerance-p95 1e9 --repeats 1
expect 2 "needs a GPU" "${validate[@]}" --strategy collab --geometry 4x2
one_line "${validate[@]}" --strategy on-demand --threads 1
expect 2 "--device 'host': platform '$platform' has no GPU" "${validate[@]}" --strategy cpu-only \
    --device host
"${validate[@]}" --strategy cpu-only --timeline "$folder/line" >/dev/null 2>&1
expect 0 "no device, as platform '$platform' has no GPU" "$moelab" run --model tiny-mixtral \
    --trace "$own" --strategy cpu-only --platform $platform
expect 0 "device host" "$moelab" run --model tiny-mixtral --trace "$own" --strategy cpu-only \
    --platform $platform --device host # asked for
expect 2 "needs a GPU" "$moelab" run --model tiny-mixtral --trace "$own" --strategy on-demand \
    --platform $platform
holds "a timeline of what ran" grep -q '"experts"' "$folder/line-exec.json"

# What-if, and a league of strategies: what cannot run has its reason in its row.
expect 2 "needs a GPU" "$moelab" whatif "$t" --platform $platform --no-plot -o "$folder/w"
expect 0 "on-demand cannot run" "$moelab" whatif "$t" --platform $platform --strategy cpu-only \
    --no-plot -o "$folder/w"
holds "axes without a GPU" grep -q "^dram" "$folder/w/what-if.tsv"
if grep -qE "^(pcie|vram)" "$folder/w/what-if.tsv"; then failed "axes of a GPU"; else passed; fi
cat >"$folder/league.yaml" <<X
experiment: league
title: "x"
trace: "$t"
model: mixtral-8x7b
platform: $platform
strategy: collab
axes: {strategy: [collab, cpu-only, on-demand]}
X
expect 0 "2 of 3 points could not run" "$moelab" sweep "$folder/league.yaml" --no-plot \
    -o "$folder/league.tsv"

# Calibrated as a machine without one: what a device could hold does not matter.
expect 0 "cpu.dense, 1 thread, " "$moelab" calibrate --no-gpu --quick --shape tiny-mixtral \
    --power-seconds 0.05 --device host:memory_bytes=64KiB -o "$folder/here.yaml"
expect 0 "gpu: none" cat "$folder/here.yaml"
expect 0 "  dense:" cat "$folder/here.yaml"
holds "constants of a GPU" test "$(grep -cE '^link|gpu_|h2d' "$folder/here.yaml")" = 0
expect 0 "cpu.dense" "$moelab" calibrate --no-gpu --quick --shape tiny-mixtral \
    --power-seconds 0.05 --check "$folder/here.yaml" --tolerance 1e9
expect 0 "decisions: 1 equal" "${validate[@]}" --strategy cpu-only --platform "$folder/here.yaml"
expect 0 "cpu-only" "$moelab" sim "$t" --platform "$folder/here.yaml" --strategy cpu-only
finish
