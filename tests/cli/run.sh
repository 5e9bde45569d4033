#!/usr/bin/env bash
# `moelab run`: text from the embedded models, the same for any threads and chunks; bad input.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")

# answer NAME OPTION...: standard output of a run into $folder/NAME.
answer() {
    local name=$1
    shift
    "$moelab" run --model "$@" >"$folder/$name" 2>"$folder/$name.err" ||
        failed "run $* -> $(cat "$folder/$name.err")"
}

text="It was generally agreed in the village"
for model in tiny-mixtral tiny-phimoe; do
    answer a "$model" --chat none -n 40 -p "$text"
    holds "$model: fewer than 15 words: $(cat "$folder/a")" [ "$(wc -w <"$folder/a")" -ge 15 ]
    answer b "$model" --chat none -n 40 -p "$text" --threads 1 --chunk 3
    same "$folder/a" "$folder/b"
    answer c "$model" --chat none -n 40 -p - <<<"$text"
    holds "$model: statistics: $(cat "$folder/c.err")" grep -q "decode: 39 passes" "$folder/c.err"
    answer d "$model" -n 30 --temperature 0.9 --seed 3 -p "Who are you?"
    answer e "$model" -n 30 --temperature 0.9 --seed 3 -p "Who are you?" --threads 2
    answer f "$model" -n 30 --temperature 0.9 --seed 4 -p "Who are you?"
    same "$folder/d" "$folder/e"
    holds "$model: the seed changes nothing" [ "$(cat "$folder/d")" != "$(cat "$folder/f")" ]
    answer g "$model" --chat none -n 40 -p "$text" --format json
    for word in '"text": "' '"stop": "' '"prompt_tokens": ' '"decode_tokens_per_s": '; do
        holds "no $word in $(cat "$folder/g")" grep -qF "$word" "$folder/g"
    done
done

tiny=experiments/models/tiny-mixtral
expect 2 "'--model' is required" "$moelab" run -p x
expect 1 "no such folder" "$moelab" run --model ./nowhere -p x
expect 2 "tiny-mixtral" "$moelab" run --model tiny-mixtrel -p x
expect 2 "give that of a downloaded model" "$moelab" run --model Mixtral-8x7B-Instruct-v0.1 -p x
expect 1 "description only" "$moelab" run --model mixtral-8x7b -p x
expect 2 "--prompt" "$moelab" run --model tiny-phimoe
expect 2 "missing or empty" "$moelab" run --model tiny-phimoe -p ""
expect 2 "the prompt is empty" "$moelab" run --model tiny-phimoe --chat none -p - </dev/null
expect 2 "--system" "$moelab" run --model tiny-phimoe --chat none --system x -p x
expect 1 "invalid UTF-8" "$moelab" run --model tiny-mixtral -p $'a\xffb'
expect 2 "exceed the context of 8" "$moelab" run --model tiny-mixtral --context 8 --chat none \
    -p "a prompt that has more than eight tokens"
expect 2 "4096" "$moelab" run --model tiny-mixtral --context 4096 -p x
expect 2 "unknown kernels" "$moelab" run --model tiny-mixtral --kernels mmx -p x
expect 0 "" "$moelab" run --model tiny-mixtral --chat mixtral --system "be kind" -n 4 -p x
one_line "$moelab" run --model ./nowhere -p x
expect 0 "context full" "$moelab" run --model tiny-mixtral --context 24 --ignore-eos \
    --chat none -p "a b c"
expect 0 "0 new tokens" "$moelab" run --model tiny-mixtral -n 0 -p "a b c"
for one in ", 1 thread, " "decode: 1 pass in " "2 new tokens, ended"; do
    expect 0 "$one" "$moelab" run --model tiny-mixtral --ignore-eos -n 2 -p "a b c" --threads 1
done

# A model folder with something wrong: one line that says what.
copy() {
    rm -rf "$folder/m"
    cp -r "$tiny" "$folder/m"
}
copy && rm "$folder/m/tokenizer.model"
expect 1 "tokenizer.model" "$moelab" run --model "$folder/m" -p x
copy && rm "$folder/m/model.safetensors"
expect 1 "safetensors" "$moelab" run --model "$folder/m" -p x
copy && rm "$folder/m/config.json"
expect 1 "'$folder/m/config.json'" "$moelab" run --model "$folder/m//" -p x
copy && head -c 1000000 "$tiny/model.safetensors" >"$folder/m/model.safetensors"
expect 1 "model.safetensors" "$moelab" run --model "$folder/m" -p x
copy && sed -i 's/"MixtralForCausalLM"/"LlamaForCausalLM"/' "$folder/m/config.json"
expect 1 "LlamaForCausalLM" "$moelab" run --model "$folder/m" -p x
copy && rm "$folder/m/tokenizer_config.json"
echo '{"<more>": 1536}' >"$folder/m/added_tokens.json"
expect 1 "but vocab_size is 1536" "$moelab" run --model "$folder/m" -p x
copy && sed -i 's/"intermediate_size": 128/"intermediate_size": 256/' "$folder/m/config.json"
expect 1 "w1" "$moelab" run --model "$folder/m" -p x
copy && sed -i 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' "$folder/m/config.json"
expect 1 "tensor 'lm_head.weight' differs from 'model.embed_tokens.weight', though tie_word_" \
    "$moelab" run --model "$folder/m" -p x
# Two norms, q, k, v, o, a router and 8 experts of three: it runs, and says so.
copy && sed -i 's/"num_hidden_layers": 8/"num_hidden_layers": 7/' "$folder/m/config.json"
expect 0 "'$folder/m': 31 tensors are not used, the first is 'model.layers.7.block_sparse_moe.exp" \
    "$moelab" run --model "$folder/m" -n 1 -p x

# Ctrl-C after the first text
interrupted "$moelab" run --model tiny-phimoe --ignore-eos -n 2000 -p x

# A model larger than any memory is told. Its file is a hole, and an error comes before it is read.
copy
sed -i 's/"num_hidden_layers": 8/"num_hidden_layers": 1/
    s/"num_local_experts": 8/"num_local_experts": 64/
    s/"intermediate_size": 128/"intermediate_size": 16777216/' "$folder/m/config.json"
header='{"__metadata__":{}' at=0
add() { # NAME COLUMNS [ROWS]
    local size=$((2 * $2 * ${3:-1}))
    header+=",\"$1.weight\":{\"dtype\":\"BF16\",\"shape\":[${3:+$3,}$2],"
    header+="\"data_offsets\":[$at,$((at + size))]}"
    at=$((at + size))
}
layer=model.layers.0
for name in lm_head model.embed_tokens; do add "$name" 128 1536; done
for name in model.norm $layer.{input,post_attention}_layernorm; do add "$name" 128; done
for name in q o; do add $layer.self_attn.${name}_proj 128 128; done
for name in k v; do add $layer.self_attn.${name}_proj 128 64; done
add $layer.block_sparse_moe.gate 128 64
for e in {0..63}; do
    for name in w1 w3; do add "$layer.block_sparse_moe.experts.$e.$name" 128 16777216; done
    add "$layer.block_sparse_moe.experts.$e.w2" 16777216 128
done
header+="}"
length=$(printf '\\x%02x\\x%02x' $((${#header} % 256)) $((${#header} / 256)))
printf '%b%s' "$length\\0\\0\\0\\0\\0\\0" "$header" >"$folder/m/model.safetensors"
if truncate -s $((8 + ${#header} + at)) "$folder/m/model.safetensors" 2>/dev/null; then
    for text in "weights of 768 GiB, available memory" " makes them smaller"; do
        expect 2 "$text" "$moelab" run --model "$folder/m" -n 1 --context 1 -p "a b c"
    done
fi
# a prompt that cannot be read, one longer than a buffer, and Ctrl-C while waiting for one
expect 1 "cannot read standard input: Is a directory" bash -c \
    "exec '$moelab' run --model tiny-mixtral --chat none -p - <'$folder'"
expect 2 "150001 tokens exceed" bash -c "yes abcdefg | head -c 200000 |
    '$moelab' run --model tiny-mixtral --chat none -n 1 -p -"
mkfifo "$folder/prompt"
"$moelab" run --model tiny-mixtral -p - <"$folder/prompt" 2>"$folder/waiting.err" &
pid=$!
exec 8>"$folder/prompt" # open, and nothing comes
until [ "$(cat /proc/$pid/comm)" = "$(basename "$moelab")" ]; do :; done
until [ $((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' /proc/$pid/status) & 2)) != 0 ]; do :; done
kill -INT $pid
wait $pid
code=$?
holds "Ctrl-C while waiting for a prompt: exit $code" [ $code = 1 ]
exec 8>&-
expect 0 "interrupted" cat "$folder/waiting.err"
finish
