#!/usr/bin/env bash
# Weights of 8 and 4 bits: the same bytes for any number of threads, the same text and trace by
# every way to run it; refusals; a full disk, Ctrl-C and kill -9 leave nothing that is a model.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
tiny=experiments/models/tiny-mixtral

quantize() {
    "$moelab" quantize "$@" 2>"$folder/made" || failed "quantize $*: $(cat "$folder/made")"
}

# Every way to say it makes the same files.
bits="10.02 bits a weight instead of 16.00 (experts 8.5, 79.8 % of the weights)"
expect 0 "7.5 MiB became 4.7 MiB, $bits" \
    "$moelab" quantize --model tiny-mixtral --experts q8 -o "$folder/q8"
expect 0 "became 3.2 MiB, 6.82 bits a weight instead of 16.00 (experts 4.5" \
    "$moelab" quantize --model tiny-mixtral --experts Q4 -o "$folder/q4"
quantize --model $tiny/ --experts Q8 --threads 1 --output "$folder/new/in/q8/"
quantize --model tiny-mixtral --experts q8 --threads 5 -o "$folder/q8-5"
holds "the same bytes again" diff -r "$folder/q8" "$folder/new/in/q8"
holds "the same bytes with 5 threads" diff -r "$folder/q8" "$folder/q8-5"
absent "$folder/q8.part"
holds "nothing on standard output" test -z "$("$moelab" quantize --model tiny-mixtral --experts q4 \
    -o "$folder/quiet" 2>/dev/null)"

expect 0 "became 2.7 MiB, 5.70 bits a weight instead of 16.00 (experts 4.5, dense weights" \
    "$moelab" quantize --model tiny-mixtral --experts q4 --dense q8 -o "$folder/q4d8"
quantize --model tiny-mixtral --experts q4 --dense same -o "$folder/q4-same"
holds "--dense same is the default" diff -r "$folder/q4" "$folder/q4-same"
holds "with both types" grep -q '"experts": "Q4", "dense": "Q8"}' "$folder/q4d8/config.json"

# What is not weights stays.
diff -rq $tiny "$folder/q8" | sed 's/.*\(config.json\|model.safetensors\).*/\1/' >"$folder/differ"
printf '%s\n' config.json model.safetensors | cmp -s - "$folder/differ" ||
    failed "other files differ: $(cat "$folder/differ")"
diff $tiny/config.json "$folder/q8/config.json" >"$folder/differ"
holds "config.json has one key more" test "$(grep -c '^>' "$folder/differ")" = 2
holds "with the type" grep -q '"quantization_config": {"quant_method": "moelab", "experts": "Q8"}' \
    "$folder/q8/config.json"

# Several files stay several, by the same names.
quantize --model tiny-phimoe --experts q4 -o "$folder/p4"
quantize --model tiny-phimoe --experts q8 --dense q4 -o "$folder/p8d4"
(cd experiments/models/tiny-phimoe && ls) >"$folder/names"
(cd "$folder/p4" && ls) | cmp -s - "$folder/names" || failed "other names: $(ls "$folder/p4")"
index=$folder/p4/model.safetensors.index.json
stored=0
for file in "$folder"/p4/*.safetensors; do
    header=$(od -An -t u8 -N 8 "$file")
    stored=$((stored + $(stat -c %s "$file") - 8 - header))
done
holds "total_size is $stored" grep -q "\"total_size\": $stored\b" "$index"

# The same text and the same trace on the CPU, and under a strategy on the device of CPU threads.
cat >"$folder/p.jsonl" <<'END'
{"prompt":"It was a dark and stormy night"}
{"prompt":"She had never been so happy"}
END
for model in q8 q4 p4 q4d8 p8d4; do
    common=(--model "$folder/$model" --chat none -n 12 --threads 2)
    "$moelab" run "${common[@]}" -p "It was a dark" >"$folder/cpu.txt" 2>"$folder/run.err" ||
        failed "run $model: $(cat "$folder/run.err")"
    holds "$model: text" test -s "$folder/cpu.txt"
    "$moelab" record "${common[@]}" --prompts "$folder/p.jsonl" --created x \
        --overwrite --out "$folder/cpu.h5" >/dev/null 2>"$folder/run.err" ||
        failed "record $model: $(cat "$folder/run.err")"
    for strategy in collab on-demand; do
        more=(--strategy "$strategy" --set geometry=8x2 --device host)
        "$moelab" run "${common[@]}" -p "It was a dark" "${more[@]}" >"$folder/host.txt" \
            2>"$folder/run.err" || failed "run $model $strategy: $(cat "$folder/run.err")"
        same "$folder/cpu.txt" "$folder/host.txt"
        "$moelab" record "${common[@]}" --prompts "$folder/p.jsonl" --created x "${more[@]}" \
            --overwrite --out "$folder/host.h5" >/dev/null 2>"$folder/run.err" ||
            failed "record $model $strategy: $(cat "$folder/run.err")"
        same "$folder/cpu.h5" "$folder/host.h5"
    done
done

# Its recordings are not simulated with experts of 16 bits, though the folder's name is of a model
# that has them.
mkdir "$folder/same"
mv "$folder/q8-5" "$folder/same/tiny-mixtral"
expect 0 "" "$moelab" record --model "$folder/same/tiny-mixtral" --chat none -n 4 \
    --prompts "$folder/p.jsonl" --out "$folder/same.h5"
holds "its type in its name" grep -q tiny-mixtral-q8 <("$moelab" trace info "$folder/same.h5")
expect 0 "" "$moelab" record --model "$folder/q4d8" --chat none -n 4 --prompts "$folder/p.jsonl" \
    --overwrite --out "$folder/cpu.h5"
holds "both types" grep -q q4d8-dense-q8 <("$moelab" trace info "$folder/cpu.h5")
expect 2 "tiny-mixtral-q8" "$moelab" sim "$folder/same.h5" --platform paper-4090
expect 0 "" "$moelab" sim "$folder/same.h5" --platform paper-4090 \
    --model "$folder/same/tiny-mixtral"

# The document's way to read a row: rows of 32 weights by hand, and of 64.
awk '/^```/ { inside = /python/; on = 0; next }
    inside && /^def as_float32/ { on = 1 }
    inside && on' docs/run-and-record.md >"$folder/rows.py"
cat >>"$folder/rows.py" <<'END'
import numpy as np
i = np.arange(16)
half, two = [0x00, 0x38], [0x00, 0x40]
q8 = np.array([list(range(-16, 16)) + half, list(range(100, 68, -1)) + two]).astype("u1")
assert (as_float32(q8, "Q8") == [np.arange(-16, 16) / 2, 2 * np.arange(100, 68, -1)]).all()
q4 = np.concatenate([i | (15 - i) << 4, i[::-1] | 8 << 4, half, two]).astype("u1")
got = as_float32(q4.reshape(1, 1, 36), "Q4")
assert got.shape == (1, 1, 64) and got.dtype == np.float32
assert (got == np.concatenate([(i - 8) / 2, (7 - i) / 2, 2 * (7 - i), 0 * i])).all()
END
holds "the document has it" test "$(grep -c '^def as_float32' "$folder/rows.py")" = 1
if python3 -c 'import numpy' 2>/dev/null; then expect 0 "" python3 "$folder/rows.py"; fi

# Refusals: one line, the right exit code, nothing made.
refuse() {
    local code=$1 text=$2
    shift 2
    expect "$code" "$text" "$moelab" quantize "$@"
    one_line "$moelab" quantize "$@"
}
out=$folder/none
refuse 2 "option '--model' is required" --experts q8 -o "$out"
refuse 2 "option '--experts' is required: q8 or q4" --model tiny-mixtral -o "$out"
refuse 2 "'q5' is not one of q8, q4" --model tiny-mixtral --experts q5 -o "$out"
refuse 2 "'bf16' is not one of q8, q4" --model tiny-mixtral --experts bf16 -o "$out"
refuse 2 "option '--dense': 'q5' is not one of same, q8, q4" --model tiny-mixtral --experts q4 \
    --dense q5 -o "$out"
refuse 2 "option '--output' is required: the folder to make" --model tiny-mixtral --experts q8
refuse 2 "'-' is standard output, but a folder is written" --model tiny-mixtral --experts q8 -o -
refuse 1 "cannot open model" --model "$folder/nothing" --experts q8 -o "$out"
refuse 1 "a description only" --model mixtral-8x7b --experts q8 -o "$out"
refuse 2 "' exists; name a folder that does not, or remove it" --model tiny-mixtral --experts q8 \
    -o "$folder/q4"
refuse 1 "' already has experts of Q8; take the model that it was made from" --model "$folder/q8" \
    --experts q4 -o "$out"
refuse 1 "hidden_size 40 is not a multiple of 32, as experts of Q4 need it" \
    --model tests/golden/logits/mixtral-gqa2 --experts q4 -o "$out"
refuse 1 "intermediate_size 24 is not a multiple of 32, as experts of Q8 need it" \
    --model tests/golden/logits/mixtral-long --experts q8 -o "$out"
refuse 1 "hidden_size 40 is not a multiple of 32, as experts of Q4 need it" \
    --model tests/golden/logits/olmoe-v5-gqa --experts q4 --dense q4 -o "$out"
cp -r $tiny "$folder/copy"
refuse 2 "' is the folder of the model itself; name a new one" --model "$folder/copy" --experts q8 \
    -o "$folder/q8/../copy"
refuse 2 "' lies inside the folder of the model, '" --model "$folder/copy" --experts q8 \
    -o "$folder/copy/q8"
holds "the model is as it was" diff -r $tiny "$folder/copy"

# Weights that are no numbers. The first expert's w1 is the third tensor of the file.
file=$folder/copy/model.safetensors
header=$(od -An -t u8 -N 8 "$file")
w1=$(head -c $((8 + header)) "$file" | tail -c +9 |
    grep -o '"model.layers.0.block_sparse_moe.experts.0.w1.weight":{[^}]*' |
    sed 's/.*"data_offsets": *\[\([0-9]*\),.*/\1/')
printf '\200\177' | dd of="$file" bs=1 seek=$((8 + header + w1 + 2 * 133)) conv=notrunc 2>/dev/null
refuse 1 "weight 133 of tensor 'model.layers.0.block_sparse_moe.experts.0.w1.weight' is infinite" \
    --model "$folder/copy" --experts q8 -o "$out"

# A file that cannot be copied is told before the weights are worked on.
ln -s nowhere "$folder/copy/notes.md"
refuse 1 "cannot open '$folder/copy/notes.md': No such file" --model "$folder/copy" --experts q8 \
    -o "$out"

# A full disk: midway (a limit of a file's size), and where it can be known before.
(
    trap '' XFSZ
    ulimit -f 1024
    exec "$moelab" quantize --model tiny-mixtral --experts q8 -o "$out" >/dev/null 2>"$folder/full"
)
holds "full disk: exit code $?" [ $? = 1 ]
holds "full disk: $(cat "$folder/full")" grep -q "cannot write '.*': File too large" "$folder/full"
holds "one line" [ "$(wc -l <"$folder/full")" = 1 ]
mkdir "$folder/small"
if unshare -m true 2>/dev/null; then
    # shellcheck disable=SC2016 # for the inner shell
    expect 1 "needs 4.7 MiB of disk space, and 1.0 MiB are left" unshare -m bash -c \
        'mount -t tmpfs -o size=1m none "$1" || exit 77
         "$2" quantize --model tiny-mixtral --experts q8 -o "$1/q8" || { ls "$1"; exit 1; }' \
        - "$folder/small" "$moelab"
fi
absent "$out"
absent "$out.part"

# Ended while it writes weights: by Ctrl-C nothing is left, after a kill nothing that is a model.
ended() {
    local signal=$1 try pid code
    for try in $(seq 40); do
        rm -rf "$folder/cut"*
        "$moelab" quantize --model tiny-mixtral --experts q8 -o "$folder/cut" 2>"$folder/cut.err" &
        pid=$!
        until compgen -G "$folder/cut.*.part/model*" >/dev/null || ! kill -0 $pid 2>/dev/null; do
            :
        done
        kill -"$signal" $pid 2>/dev/null
        wait $pid 2>/dev/null
        code=$?
        [ $code = 0 ] || break
    done
    return $code
}
ended INT
holds "Ctrl-C: exit code $?" [ $? = 1 ]
holds "Ctrl-C: $(cat "$folder/cut.err")" grep -q "interrupted" "$folder/cut.err"
absent "$folder/cut"
absent "$folder/cut.part"
ended KILL
holds "killed: exit code $?" [ $? = 137 ]
absent "$folder/cut"
left=$(compgen -G "$folder/cut.*.part")
if [ -e "$left/config.json" ]; then # killed before it had its name
    holds "what has a config.json is whole" diff -r "$folder/q8" "$left"
else
    expect 1 "cannot open" "$moelab" run --model "$left" -p x -n 1
fi
mkdir "$folder/cut.$$.part" "$folder/cut.x.part" # of a process that runs, of none
for out in "$folder/cut" "$folder/cut/"; do
    rm -rf "$folder/cut"
    expect 0 "moelab: '$left' belongs to a process that is not running here: if it was killed, \
remove that folder" \
        "$moelab" quantize --model tiny-mixtral --experts q8 -o "$out"
done
holds "the same bytes beside what a kill left" diff -r "$folder/q8" "$folder/cut"
rm -rf "$folder/cut" "$left"
lines=$("$moelab" quantize --model tiny-mixtral --experts q8 -o "$folder/cut" 2>&1 | wc -l)
holds "nothing else is told: $lines lines" [ "$lines" = 1 ]
finish
