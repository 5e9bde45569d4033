#!/usr/bin/env bash
# Byte-level BPE in the whole program: the embedded model's weights with a tokenizer of Qwen's kind
# answer, are recorded and give the same text in every way; what does not fit is refused.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
golden=tests/golden/tokenizer

mkdir "$folder/q"
cp experiments/models/tiny-mixtral/{config.json,model.safetensors} "$folder/q"
cp $golden/bytes-qwen.json "$folder/q/tokenizer.json"
"$moelab" run --model "$folder/q" --chat none -n 1 -p x >/dev/null 2>"$folder/err" || {
    grep -q "was built without" "$folder/err" || failed "run: $(cat "$folder/err")"
    echo "skipped: $(cat "$folder/err")"
    exit 77
}

common=(--model "$folder/q" --chat chatml -n 24 --ignore-eos)
"$moelab" run "${common[@]}" -p "It's 12 o'clock" >"$folder/a" 2>"$folder/err"
holds "text: $(cat "$folder/err")" test -s "$folder/a"
"$moelab" run "${common[@]}" -p "It's 12 o'clock" --threads 1 --chunk 3 >"$folder/b" 2>/dev/null
same "$folder/a" "$folder/b"
"$moelab" run "${common[@]}" -p "It's 12 o'clock" --strategy collab --set geometry=8x2 \
    --device host >"$folder/c" 2>/dev/null
same "$folder/a" "$folder/c"

# The template's markers are single tokens: <|im_start|> before both turns, <|im_end|> after one.
echo '{"prompt":"a b"}' >"$folder/p.jsonl"
"$moelab" record "${common[@]}" -n 1 --prompts "$folder/p.jsonl" --out "$folder/t.h5" \
    >/dev/null 2>"$folder/err" || failed "record: $(cat "$folder/err")"
"$moelab" trace cat "$folder/t.h5" | awk '$7 == 0 && $6 == "prefill" { print $5 }' >"$folder/ids"
holds "begins with 541" [ "$(head -n 1 "$folder/ids")" = 541 ]
holds "two turns" [ "$(grep -cx 541 "$folder/ids")" = 2 ]
holds "one ends" [ "$(grep -cx 542 "$folder/ids")" = 1 ]

cp $golden/bytes-qwen.json "$folder/tokenizer.json"
cp tests/golden/logits/qwen3-renormalised/* "$folder" 2>/dev/null
expect 1 "the tokenizer has 546 tokens, but vocab_size is 61" "$moelab" run --model "$folder" -p x
rm "$folder/tokenizer.json"
touch "$folder/vocab.json" "$folder/merges.txt"
expect 1 "tokenizer.json is needed" "$moelab" run --model "$folder" -p x
finish
