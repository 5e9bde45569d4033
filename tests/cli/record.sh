#!/usr/bin/env bash
# `moelab record`: the same bytes twice, resumable after a kill, nothing lost on a full disk.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
prompts=experiments/prompts/demo.jsonl
common=(--model tiny-mixtral --chat none --prompts "$prompts" --max-new-tokens 24
    --created 2026-01-01T00:00:00Z)
limited=("${common[@]}" --limit 6)

record() {
    "$moelab" record "$@" >"$folder/out" 2>"$folder/err" ||
        failed "record $* -> $(cat "$folder/err")"
}

record "${limited[@]}" --out "$folder/a.h5"
record "${limited[@]}" -o "$folder/b.h5" --threads 1
same "$folder/a.h5" "$folder/b.h5"
expect 0 "" "$moelab" trace verify "$folder/a.h5"
expect 0 "tiny-mixtral" "$moelab" trace info "$folder/a.h5"
expect 0 "lookups" "$moelab" replay "$folder/a.h5" --geometry 4x4
h5dump -n 1 "$folder/a.h5" >"$folder/a.txt"
for part in /routes/score /routes/lookahead /routes/weight; do
    holds "no $part" grep -qF "$part" "$folder/a.txt"
done
record "${limited[@]}" --no-scores --no-lookahead --out "$folder/small.h5"
h5dump -n 1 "$folder/small.h5" | grep -qE "score|lookahead" && failed "scores although not asked"

# Done already; other settings, prompts, model: not continued.
expect 0 "prompts_before" "$moelab" record "${limited[@]}" --out "$folder/a.h5" --format tsv
same "$folder/a.h5" "$folder/b.h5"
expect 2 "settings" "$moelab" record "${limited[@]}" --temperature 0.5 --out "$folder/a.h5"
expect 2 "source" "$moelab" record "${common[@]}" --limit 5 --out "$folder/a.h5"
expect 2 "model" "$moelab" record --model tiny-phimoe --prompts "$prompts" --out "$folder/a.h5"
same "$folder/a.h5" "$folder/b.h5"
record "${limited[@]}" --temperature 0.5 --overwrite --out "$folder/a.h5"

# Prompts of every kind.
printf 'Once upon a time\n\nThe king said\n' >"$folder/p.txt"
printf 'question,choice0,choice1,choice2,choice3,answer\n"What is 1, plus 1?",1,2,3,4,1\n' \
    >"$folder/sums_test.csv"
for kind in tiny-mixtral tiny-phimoe; do
    record --model $kind --prompts "$folder/p.txt" -n 8 --out "$folder/$kind.h5"
    record --model $kind --prompts "$folder/sums_test.csv" -n 8 --out "$folder/$kind-mmlu.h5"
    expect 0 "" "$moelab" trace verify "$folder/$kind.h5"
done
expect 1 "no-such.txt" "$moelab" record --model tiny-mixtral --prompts no-such.txt \
    --out "$folder/x.h5"
printf 'good\nbad \xff\n' >"$folder/bad.txt"
expect 1 "bad.txt':2" "$moelab" record --model tiny-mixtral --prompts "$folder/bad.txt" \
    --out "$folder/x.h5"
expect 1 "exceed the context of 8" "$moelab" record --model tiny-mixtral --context 8 \
    --prompts "$folder/sums_test.csv" --out "$folder/x.h5"
: >"$folder/empty.txt"
expect 1 "empty.txt" "$moelab" record --model tiny-mixtral --prompts "$folder/empty.txt" \
    --out "$folder/x.h5"
expect 2 "prompts" "$moelab" record --model tiny-mixtral --out "$folder/x.h5"
expect 1 "nowhere" "$moelab" record "${limited[@]}" --out "$folder/nowhere/x.h5"
absent "$folder/x.h5"
absent "$folder/x.h5.part"

# A weight that is no number, wherever it shows: it is named, and no trace is left. (The last of
# these gives each token a logit, none of them finite.)
poke() { # TENSOR ITEM BYTES: into the BF16 tensor of a copy of tiny-mixtral
    local weights=$folder/broken/model.safetensors header begin
    rm -rf "$folder/broken"
    cp -r experiments/models/tiny-mixtral "$folder/broken"
    header=$(od -An -t u8 -N 8 "$weights")
    begin=$(grep -ao "\"$1\":{[^}]*}" "$weights" | sed 's/.*"data_offsets":\[\([0-9]*\),.*/\1/')
    # shellcheck disable=SC2059 # octal codes
    printf "$3" | dd of="$weights" bs=1 seek=$((8 + header + begin + 2 * $2)) conv=notrunc \
        2>/dev/null
}
broken() { # N TEXT: a recording of N tokens fails with TEXT
    expect 1 "$2" "$moelab" record --model "$folder/broken" --prompts "$folder/p.txt" -n "$1" \
        --out "$folder/x.h5"
    absent "$folder/x.h5"
    absent "$folder/x.h5.part"
}
poke model.embed_tokens.weight $((128 + 5)) '\300\177'
broken 0 "weight 133 of tensor 'model.embed_tokens.weight' is NaN"
broken 1 "weight 133 of tensor 'model.embed_tokens.weight' is NaN"
poke model.layers.3.block_sparse_moe.gate.weight 7 '\200\377'
broken 0 "weight 7 of tensor 'model.layers.3.block_sparse_moe.gate.weight' is infinite"
poke model.norm.weight 9 '\200\377'
broken 2 "weight 9 of tensor 'model.norm.weight' is infinite"
# What it would have replaced stays.
cp "$folder/small.h5" "$folder/kept.h5"
expect 1 "is infinite" "$moelab" record --model "$folder/broken" --prompts "$folder/p.txt" -n 2 \
    --out "$folder/kept.h5" --overwrite
same "$folder/small.h5" "$folder/kept.h5"
# Prompts done before it stay: "z" is token 1521.
poke model.embed_tokens.weight $((128 * 1521)) '\300\177'
printf 'The king said\nzzz\n' >"$folder/z.txt"
expect 1 "weight 194688 of tensor 'model.embed_tokens.weight' is NaN" "$moelab" record --chat none \
    --model "$folder/broken" --prompts "$folder/z.txt" -n 1 --commit-every 9 --out "$folder/z.h5"
expect 0 "ok, 1 sequence" "$moelab" trace verify "$folder/z.h5"

# Killed at any moment, and started again until it is done: the same routes as in one go.
record "${common[@]}" --out "$folder/whole.h5"
"$moelab" trace export --format jsonl "$folder/whole.h5" -o "$folder/whole.jsonl" >/dev/null 2>&1
killed=0
for n in 2 5 9 14; do
    "$moelab" record "${common[@]}" --out "$folder/k.h5" >/dev/null 2>&1 &
    pid=$!
    # Kill it as soon as the file holds n prompts or more.
    while kill -0 "$pid" 2>/dev/null; do
        have=$("$moelab" trace info "$folder/k.h5" --format json 2>/dev/null |
            sed -n 's/.*"sequences": \([0-9]*\).*/\1/p')
        [ "${have:-0}" -lt "$n" ] || kill -9 "$pid" 2>/dev/null
    done
    wait "$pid" 2>/dev/null && break
    killed=$((killed + 1))
    expect 0 "" "$moelab" trace verify "$folder/k.h5"
done
holds "never killed in time" [ "$killed" -gt 0 ]
record "${common[@]}" --out "$folder/k.h5"
"$moelab" trace export --format jsonl "$folder/k.h5" -o "$folder/k.jsonl" >/dev/null 2>&1
same "$folder/whole.jsonl" "$folder/k.jsonl"

# Full disk (a limit of the file's size): one line, committed prompts stay and are gone on with.
size=$(stat -c %s "$folder/whole.h5")
(
    trap '' XFSZ
    ulimit -f $((size / 1024 / 2))
    exec "$moelab" record "${common[@]}" --out "$folder/full.h5" >/dev/null 2>"$folder/full.err"
)
holds "full disk: exit code $?" [ $? = 1 ]
holds "full disk: $(cat "$folder/full.err")" [ "$(wc -l <"$folder/full.err")" = 1 ]
expect 0 "" "$moelab" trace verify "$folder/full.h5"
absent "$folder/full.h5.part"
record "${common[@]}" --out "$folder/full.h5"
"$moelab" trace export --format jsonl "$folder/full.h5" -o "$folder/full.jsonl" >/dev/null 2>&1
same "$folder/whole.jsonl" "$folder/full.jsonl"
finish
