#!/usr/bin/env bash
# `moelab trace batch`: batches of one request equal the input, larger ones lose nothing, and other
# commands can use them.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
root=$PWD
cd "$folder" || exit 1

# 3 requests: a prompt of two and three decode tokens; one of one and two; three decode tokens.
# token POSITION ID LAYER0 LAYER1 MORE: a line of JSON whose weights follow from the id.
token() {
    local weights="[[0.$2, 0.5], [0.25, 0.$2]]"
    [ "$4" = null ] && weights="[[0.$2, 0.5], null]"
    echo "{$5\"position\": $1, \"token\": $2, \"layers\": [$3, $4], \"weights\": $weights}"
}
{
    echo '{"moelab_trace": 1, "n_layers": 2, "n_experts": 8, "top_k": 2, "parts": ["weights"],' \
        '"model": "toy"}'
    token 0 10 "[0, 1]" "[7, 6]" '"phase": "prefill", '
    token 1 11 "[1, 2]" "[6, 5]" '"phase": "prefill", '
    token 2 12 "[0, 1]" "[7, 6]" ""
    token 3 13 "[0, 2]" "[7, 5]" ""
    token 4 14 "[3, 0]" "[4, 7]" ""
    echo '{"sequence": 1, "label": "second", "category": ""}'
    token 0 20 "[4, 5]" null '"sequence": 1, "phase": "prefill", '
    token 1 21 "[0, 4]" "[7, 3]" '"sequence": 1, '
    token 2 22 "[2, 4]" "[5, 3]" '"sequence": 1, '
    for i in 0 1 2; do
        token 4$i 3$i "[6, 7]" "[1, 0]" '"sequence": 2, '
    done
} >t.jsonl
expect 0 "3 sequences" "$moelab" trace import --format jsonl t.jsonl -o t.h5

expect 0 "3 sequences of up to 1 request, 11 tokens" "$moelab" trace batch t.h5 --size 1 -o 1.h5
same t.h5 1.h5
expect 0 "wrote 2.h5: 2 sequences of up to 2 requests, 11 tokens" "$moelab" trace batch t.h5 \
    --size 2 -o 2.h5
expect 0 "ok, 2 sequences, 11 tokens" "$moelab" trace verify 2.h5
expect 0 "several_requests_a_sequence  yes" "$moelab" trace info 2.h5
expect 0 "batches of 2 requests decode in lockstep, prompts one by one" "$moelab" trace info 2.h5
expect 0 "several_requests_a_sequence  no" "$moelab" trace info t.h5

# sequence, step, position, token id, request of the merged tokens, by hand
cat >wanted <<'ROWS'
0 0 0 10 0
0 0 1 11 0
0 1 0 20 1
0 2 2 12 0
0 2 1 21 1
0 3 3 13 0
0 3 2 22 1
0 4 4 14 0
1 0 40 30 0
1 1 41 31 0
1 2 42 32 0
ROWS
"$moelab" trace cat 2.h5 --layer 0 | awk 'NR > 1 { print $2, $3, $4, $5, $9 }' >got
same wanted got
# each token's routes and weights are those that it had
rows() { "$moelab" trace cat "$1" | awk -F'\t' 'NR > 1 { print $4, $5, $6, $7, $8 }' | sort; }
rows t.h5 >wanted
rows 2.h5 >got
same wanted got
"$moelab" trace batch t.h5 --size 3 --prefill together -o 3.h5 >/dev/null
rows 3.h5 >got
same wanted got
holds "one pass of prompts" [ "$("$moelab" trace cat 3.h5 --layer 0 | cut -f3,6 | sort -u |
    grep -c prefill)" = 1 ]
"$moelab" trace export 3.h5 -o 3.jsonl >/dev/null
"$moelab" trace import --format jsonl 3.jsonl -o again.h5 >/dev/null
same 3.h5 again.h5
expect 0 "which request a token is of" "$moelab" trace export 3.h5 --format npy -o npy

# Decode passes of sequence 0 of 2.h5 use {0 1 4}, {0 2 4}, {0 3} in layer 0 and {7 6 3}, {7 5 3},
# {4 7} in layer 1: where everything is kept, 5 of 8 uses miss. Sequence 1 uses two others thrice.
"$moelab" replay 2.h5 --geometry all --policy lru --phase decode --no-layers --format tsv \
    -o r.tsv 2>/dev/null
column() {
    awk -F'\t' -v name="$1" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) if ($i == name) n = i; next }
        { print $n; exit }' "$2"
}
holds "lookups" [ "$(column lookups r.tsv)" = $((2 * (8 + 6))) ]
holds "misses" [ "$(column misses r.tsv)" = $((2 * (5 + 2))) ]

# several inputs; an engine's log
expect 0 "2 sequences of up to 3 requests, 22 tokens" "$moelab" trace batch t.h5 jsonl:t.jsonl \
    --size 3 -o two.h5
log=("route-csv:$root/tests/golden/import/route.csv")
expect 2 "its cache served one request at a time, not 4 (--log no leaves the log out)" \
    "$moelab" trace batch "${log[@]}" -o x.h5
expect 0 "1 sequence of up to 4 requests" "$moelab" trace batch "${log[@]}" --log=false -o x.h5

# refusals
expect 2 "option '--output' is required" "$moelab" trace batch t.h5
expect 2 "4097" "$moelab" trace batch t.h5 --size 4097 -o x.h5
expect 2 "already has several requests in a sequence" "$moelab" trace batch 2.h5 -o x.h5
expect 2 "its model is 'synthetic.gguf', not 'toy'" "$moelab" trace batch t.h5 "${log[@]}" \
    --log=false -o x.h5
expect 2 "" "$moelab" trace batch t.h5 -o t.h5
expect 1 "the trace has several requests in a sequence" "$moelab" trace stats 2.h5
sed 's/"batch_request": 0, //' 3.jsonl >zero.jsonl # where it is absent it is 0
expect 0 "11 tokens" "$moelab" trace import --format jsonl zero.jsonl -o zero.h5
same 3.h5 zero.h5
sed 's/"batch_request": 1, "position": 1,/"batch_request": 1,/' 3.jsonl >bad.jsonl
expect 1 "of request 1 is not known" "$moelab" trace import --format jsonl bad.jsonl -o bad.h5

# The real machine runs such a trace and decides as was simulated.
cd "$root" || exit 1
spec="synth:zipf:layers=8,experts=8,top_k=2,tokens=24,sequences=6,prompt=3,model=tiny-mixtral"
expect 0 "SYNTHETIC, 2 sequences of up to 3 requests" "$moelab" trace batch "$spec" --size 3 \
    -o "$folder/s.h5"
expect 0 "" "$moelab" validate --model tiny-mixtral --trace "$folder/s.h5" --platform paper-4090 \
    --device host --strategy on-demand,cpu-only --geometry 3x2 --repeats 2 --tolerance 1e9 \
    --tolerance-p95 1e9 --format tsv -o "$folder/v.tsv"
holds "validate decides alike" [ "$(column decisions "$folder/v.tsv")" = equal ]
expect 0 "decode_tokens                    24" "$moelab" run --shape tiny-mixtral \
    --trace "$folder/s.h5" --device host --strategy collab --geometry 4x2
finish
