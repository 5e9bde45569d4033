#!/usr/bin/env bash
# The three real traces: import without loss, agreement with the hits in the engine's own log, and
# export to the same bytes.
. tests/cli/lib/check.bash
traces=$shared/traces
skip_without "$traces"

qwen=$traces/qwen3-30b-a3b/qwen.route.csv
q=$folder/q.h5
expect 0 "48 layers, 128 experts, top-6" "$moelab" trace import --format route-csv "$qwen" -o "$q"
expect 0 "q.h5: ok" "$moelab" trace verify "$q"
replay=("$moelab" replay "$q" --geometry global:4000MiB --policy lru --contract access --order file
    --compare-log)
expect 0 "agreement with the engine's log" "${replay[@]}"
last=$("${replay[@]}" | tail -n 1)
case $last in
"agreement with the engine's log: "*" of 44766 rows, "*) passed ;;
*) failed "the agreement is not the last line: $last" ;;
esac
expect 3 "is below the limit of 100 %" "${replay[@]}" --min-agreement 100
expect 3 "is below the limit of 99.9 %" "$moelab" replay "$q" --geometry global:2000MiB \
    --policy lru --contract access --order file --compare-log

expect 0 "" "$moelab" trace export "$q" --format route-csv -o "$folder/q.csv"
same "$folder/q.csv" "$qwen"
expect 0 "" "$moelab" trace import --format route-csv "$folder/q.csv" -o "$folder/q2.h5"
same "$q" "$folder/q2.h5"
expect 0 "" "$moelab" trace export "$q" --format jsonl -o "$folder/q.jsonl"
expect 0 "" "$moelab" trace import --format jsonl "$folder/q.jsonl" -o "$folder/q3.h5"
same "$q" "$folder/q3.h5"

choices=$traces/minicpm-moe-8x2b/expert_choices.csv
m=$folder/m.h5
expect 0 "131 tokens, 40 layers, 8 experts, top-2" "$moelab" trace import --format expert-choices \
    "$choices" --model minicpm-moe-8x2b -o "$m"
expect 0 "" "$moelab" trace export "$m" --format expert-choices -o "$folder/m.csv"
same "$folder/m.csv" "$choices"
expect 0 "\"lookups\": " "$moelab" replay "$m" --geometry 14x4 --policy paper-lru --format json

g=$folder/g.h5
expect 0 "173 sequences, 48490 tokens, 24 layers, 32 experts, top-4" "$moelab" trace import \
    --format npy "$traces/gpt-oss-20b/ids.npy" --weights "$traces/gpt-oss-20b/weights.npy" \
    --sequences "$traces/gpt-oss-20b/sequences.csv" --model gpt-oss-20b -o "$g"
expect 0 "" "$moelab" trace export "$g" --format npy -o "$folder/g"
same "$folder/g/ids.npy" "$traces/gpt-oss-20b/ids.npy"
same "$folder/g/weights.npy" "$traces/gpt-oss-20b/weights.npy"
same "$folder/g/sequences.csv" "$traces/gpt-oss-20b/sequences.csv"

for trace in "$q:qwen3-30b-a3b" "$m:minicpm-moe-8x2b" "$g:gpt-oss-20b"; do
    expect 0 "tokens_per_s" "$moelab" sim "${trace%%:*}" --model "${trace##*:}" --geometry none
done
finish
