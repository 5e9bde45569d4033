#!/usr/bin/env bash
# `moelab calibrate` on the host device with a tiny shape: `sim` can read its file; bad input;
# nothing is left behind after Ctrl-C or on a full disk.
. tests/cli/lib/check.bash
quick=(--device host --shape tiny-mixtral --repeats 1 --power-seconds 0.05)
file=$folder/here.yaml
trace=synth:uniform:tokens=20,layers=8,experts=8,top_k=2,model=tiny-mixtral

"$moelab" calibrate "${quick[@]}" -o "$file" --format tsv >"$folder/table" 2>"$folder/err" ||
    failed "calibrate: $(cat "$folder/err")"
holds "columns" grep -q "^constant	value	unit	spread_percent	share_of_read_rate_percent	origin" \
    "$folder/table"
n=$(grep -c -E '^(link|dram|cpu|gpu|power)\.' "$folder/table")
holds "a row for each constant, not $n" [ "$n" -ge 20 ]
holds "the link's rate is measured" grep -q -E "^link.h2d_pinned_gb_per_s	.*	measured$" \
    "$folder/table"
holds "no GPU, said: $(cat "$folder/err")" grep -q "power.gpu_idle_w is a guess: there is no GPU" \
    "$folder/err"
holds "the file names its whole command" grep -qF \
    "# Measured by \`moelab calibrate ${quick[*]} -o $file --format tsv\` on " "$file"
holds "an origin for each" [ "$(grep -c 'origin: "\(measured\|guess\): ' "$file")" = 20 ]
expect 0 "tokens_per_s" "$moelab" sim "$trace" --platform "$file" --geometry 8x2 --threads 1

# Compared with its own file the constants agree, with one where all are far off they do not.
expect 0 "difference_percent" "$moelab" calibrate "${quick[@]}" --check "$file" --tolerance 1e9
expect 3 "constants differ from" "$moelab" calibrate "${quick[@]}" --check paper-4090
# Nor with a platform of the other kind of memory. One without a GPU has no GPU rates to compare.
sed 's/^name: .*/&\nmemory: unified/' "$file" >"$folder/unified.yaml"
expect 3 "memory is separate here, '$folder/unified.yaml' says unified" "$moelab" calibrate \
    "${quick[@]}" --check "$folder/unified.yaml" --tolerance 1e9
expect 2 "platform 'laptop-no-gpu' has no GPU: --no-gpu compares" "$moelab" calibrate \
    "${quick[@]}" --check laptop-no-gpu
expect 0 "difference_percent" "$moelab" calibrate "${quick[@]}" --no-gpu --check laptop-no-gpu \
    --tolerance 1e9
"$moelab" calibrate "${quick[@]}" -o - >"$folder/stdout.yaml" 2>"$folder/err"
expect 0 "" "$moelab" sim "$trace" --platform "$folder/stdout.yaml" --geometry 8x2 --threads 1
expect 0 "" "$moelab" calibrate --device host --model tiny-phimoe --quick --repeats 2 \
    -o "$folder/model.yaml"
holds "steps of the model itself" grep -q "^# Whole steps: tiny-phimoe," "$folder/model.yaml"

# Experts in the type of the shape; of one type a file.
for bits in 8.5:52224:Q8 4.5:27648:Q4; do
    IFS=: read -r bits bytes type <<<"$bits"
    sed "s/^expert_weight_bits: 16.*/expert_weight_bits: $bits/; s/^name:.*/name: tiny-$type/" \
        experiments/models/tiny-mixtral.yaml >"$folder/$type.yaml"
    expect 0 "1 thread, $bytes bytes" "$moelab" calibrate --device host --repeats 1 \
        --power-seconds 0.05 --shape "$folder/$type.yaml" -o "$folder/here-$type.yaml"
    holds "the type is said" grep -q "; $type, [0-9]* tokens" "$folder/here-$type.yaml"
    expect 0 "tokens_per_s" "$moelab" sim "$trace" --model "$folder/$type.yaml" \
        --platform "$folder/here-$type.yaml" --geometry 8x2 --threads 1
done
expect 2 "model 'tiny-Q4' has expert weights of 4.5 bits, 'tiny-mixtral' of 16: a platform has" \
    "$moelab" calibrate --device host --shape "tiny-mixtral,$folder/Q4.yaml" -o "$folder/x"
sed 's/^d_ffn: .*/d_ffn: 144/' "$folder/Q4.yaml" >"$folder/odd.yaml"
expect 2 "experts of 128 x 144, no multiples of the 32 weights that share a scale in Q4" \
    "$moelab" calibrate --device host --shape "$folder/odd.yaml" -o "$folder/x"

expect 2 "'--output' is required" "$moelab" calibrate "${quick[@]}"
expect 2 "unknown" "$moelab" calibrate --device hots -o "$folder/x"
expect 2 "tiny-mixtral" "$moelab" calibrate --device host --shape tiny-mixtrel -o "$folder/x"
expect 2 "empty or too long" "$moelab" calibrate --device host --shape tiny-mixtral,,x \
    -o "$folder/x"
expect 2 "4.25 bits" "$moelab" calibrate --device host --shape gpt-oss-20b -o "$folder/x"
expect 2 "paper-4090" "$moelab" calibrate "${quick[@]}" --check paper-409
expect 2 "repeats" "$moelab" calibrate "${quick[@]}" --repeats 0 -o "$folder/x"
expect 1 "description only" "$moelab" calibrate --device host --model mixtral-8x7b -o "$folder/x"
expect 1 "no expert fits" "$moelab" calibrate --device host:memory_bytes=1MiB --shape mixtral-8x7b \
    -o "$folder/x"
one_line "$moelab" calibrate "${quick[@]}" -o "$folder/no/such/file"
one_line "$moelab" calibrate --device host:fail_copy=2000 --shape tiny-mixtral --quick \
    -o "$folder/x"
absent "$folder/x"
absent "$folder/x.part"

# Ctrl-C in the middle: one line, exit code 1, no file. On a busy machine the signal may come before
# the program has begun; then it is tried again with a later one.
for pause in 1 4 16; do
    "$moelab" calibrate --device host --shape tiny-mixtral --repeats 99 -o "$folder/int.yaml" \
        >"$folder/int.out" 2>"$folder/int.err" &
    pid=$!
    sleep $pause
    kill -INT "$pid"
    wait "$pid"
    code=$?
    [ "$code" = 1 ] && break
done
holds "Ctrl-C: exit code $code" [ "$code" = 1 ]
holds "Ctrl-C: $(cat "$folder/int.err")" grep -q "interrupted" "$folder/int.err"
absent "$folder/int.yaml"
absent "$folder/int.yaml.part"

# A full disk: the measurement is shown, the file is not there.
expect 1 "cannot write" bash -c "ulimit -f 2; exec \"\$@\"" - "$moelab" calibrate "${quick[@]}" \
    --check "$file" --tolerance 1e9 -o "$folder/full.yaml"
absent "$folder/full.yaml"
absent "$folder/full.yaml.part"
finish
