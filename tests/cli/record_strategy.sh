#!/usr/bin/env bash
# `moelab record --strategy`, on device and CPU, writes the same bytes as recording on the CPU
# alone.
. tests/cli/lib/check.bash
prompts=experiments/prompts/demo.jsonl
common=(--model tiny-mixtral --prompts "$prompts" --limit 5 --max-new-tokens 12
    --created 2026-01-01T00:00:00Z)
device=(--device host:memory_bytes=8MiB)

recorded() { # recorded FILE OPTION...
    expect 0 "decode_tokens" "$moelab" record "${common[@]}" "${@:2}" --out "$folder/$1"
}

recorded cpu.h5
for strategy in collab on-demand mixtral-offloading llama-cpp-lru; do
    recorded $strategy.h5 --strategy $strategy --geometry 4x2 "${device[@]}"
    same "$folder/cpu.h5" "$folder/$strategy.h5"
done
recorded sampled-cpu.h5 --temperature 0.8 --seed 5 --no-lookahead --chunk 7
recorded sampled.h5 --temperature 0.8 --seed 5 --no-lookahead --chunk 7 --strategy collab \
    --geometry global:5 "${device[@]}" --timeline "$folder/t.json" --decisions "$folder/d.txt"
same "$folder/sampled-cpu.h5" "$folder/sampled.h5"
holds "a timeline" [ -s "$folder/t.json" ]
holds "a decision for each layer of each pass" [ "$(wc -l <"$folder/d.txt")" -gt 400 ]

# The table tells what ran; one that is done already packs no experts.
"$moelab" record "${common[@]}" --strategy collab --geometry 4x2 "${device[@]}" \
    --out "$folder/again.h5" --format tsv >"$folder/again.tsv" 2>"$folder/said"
holds "the strategy's keys" grep -q '^# strategy.*collab' "$folder/again.tsv"
holds "what was allocated" grep -q '8 slots' "$folder/said"
expect 0 "prompts_before" "$moelab" record "${common[@]}" --strategy collab --geometry 4x2 \
    "${device[@]}" --out "$folder/again.h5"
"$moelab" record "${common[@]}" --strategy collab --geometry 4x2 "${device[@]}" \
    --out "$folder/again.h5" >/dev/null 2>"$folder/said"
holds "packed for nothing: $(cat "$folder/said")" grep -qv packed "$folder/said"
same "$folder/cpu.h5" "$folder/again.h5"

# Begun on the CPU until the disk was full, gone on with under a strategy.
size=$(stat -c %s "$folder/cpu.h5")
(
    trap '' XFSZ
    ulimit -f $((size / 1024 / 2))
    exec "$moelab" record "${common[@]}" --out "$folder/half.h5" >/dev/null 2>&1
)
expect 0 "sequences" "$moelab" trace info "$folder/half.h5"
holds "some prompts are left" [ "$(stat -c %s "$folder/half.h5")" -lt "$size" ]
recorded half.h5 --strategy collab --geometry 4x2 "${device[@]}"
for file in cpu half; do
    expect 0 "" "$moelab" trace export --format jsonl "$folder/$file.h5" -o "$folder/$file.jsonl"
done
same "$folder/cpu.jsonl" "$folder/half.jsonl"

expect 2 "lossy" "$moelab" record "${common[@]}" --strategy daop --lossy "${device[@]}" \
    --out "$folder/x.h5"
expect 2 "lossy" "$moelab" record "${common[@]}" --strategy daop "${device[@]}" \
    --out "$folder/x.h5"
expect 2 "--geometry needs --strategy" "$moelab" record "${common[@]}" --geometry 4x2 \
    --out "$folder/x.h5"
expect 2 "64x64" "$moelab" record "${common[@]}" --strategy collab --geometry 64x64 \
    "${device[@]}" --out "$folder/x.h5"
expect 2 "more than" "$moelab" record "${common[@]}" --strategy collab --geometry all \
    --device host:memory_bytes=3MiB --out "$folder/x.h5"
absent "$folder/x.h5"
absent "$folder/x.h5.part"
finish
