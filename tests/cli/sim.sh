#!/usr/bin/env bash
# The decision log: same bytes when run twice and with a timeline; nothing is left when a run fails.
# The gap split; rules that need costs.
. tests/cli/lib/check.bash
trace="synth:sticky:layers=8,experts=8,top_k=2,tokens=64"
# shellcheck disable=SC2317 # called by expect
sim() { "$moelab" sim "$trace" --model tiny-mixtral --geometry 4x2 --no-bound "$@"; }
expect 0 "tokens_per_s" sim --decisions "$folder/a.txt"
expect 0 "tokens_per_s" sim --decisions "$folder/b.txt" --max-tokens 64 \
    --timeline "$folder/t.json"
same "$folder/a.txt" "$folder/b.txt"
holds "a line for every event" [ "$(wc -l <"$folder/a.txt")" = $((64 * 8)) ]
holds "the first event misses" grep -qE '^0 0 decode [0-7]:miss:-:cpu:0 [0-7]:miss:-:cpu:1$' \
    "$folder/a.txt"
expect 1 "cannot write '/dev/full'" sim --decisions /dev/full
expect 2 "geometry" "$moelab" sim "$trace" --model tiny-mixtral --geometry 9x2 \
    --decisions "$folder/c.txt"
absent "$folder/c.txt"
absent "$folder/c.txt.part"

# A generator without a shape makes the shape of the model that is given, for every command.
shapeless=synth:zipf:tokens=9
shape="olmoe-1b-7b, 16 layers, 64 experts, top-8"
for command in sim mrc "replay --geometry 16x2"; do
    # shellcheck disable=SC2086 # words
    expect 0 "# trace_model: $shape" "$moelab" $command "$shapeless" --format tsv \
        --model olmoe-1b-7b
done
expect 0 "# trace_model: unknown, 32 layers, 8 experts, top-2" \
    "$moelab" mrc "$shapeless" --format tsv
expect 2 "trace of 'unknown' has 3 layers, 64 experts, top 8, but model 'olmoe-1b-7b' has 16" \
    "$moelab" sim "$shapeless,layers=3" --model olmoe-1b-7b

# A file's ending tells the form of the table in it.
expect 0 "" sim --output "$folder/r.tsv"
expect 0 "" sim --output "$folder/r.json"
expect 0 "" sim --output "$folder/text" --format text
holds "TSV" grep -q "^# program: moelab" "$folder/r.tsv"
holds "JSON" grep -q '^{' "$folder/r.json"
holds "text" grep -qE '^tokens_per_s +[0-9]' "$folder/text"

# The gap split, and rules that need a platform.
expect 0 "gap_late_fill_ms_per_token" sim --gap
expect 0 "tokens_per_s" sim --policy opt-time --set admission=q-star
expect 2 "policy 'opt-time' needs a platform" "$moelab" replay "$trace" --geometry 4x2 \
    --policy opt-time
expect 2 "admission 'pay-back' needs a platform" "$moelab" replay "$trace" --geometry 4x2 \
    --admission pay-back
expect 0 "depends on timing" "$moelab" list admissions

# With a timeline every operation goes through the event engine; without, most layers are sums.
trace="synth:sticky:layers=8,experts=8,top_k=2,tokens=60,sequences=3,prompt=9"
n=0
for strategy in $("$moelab" list strategies | sed -nE 's/^  ([a-z0-9-]+) .*/\1/p'); do
    for geometry in none 4x2 global:20 all; do
        timed() { sim --geometry "$geometry" --strategy "$strategy" --format tsv "$@" 2>/dev/null; }
        timed --max-tokens 999 >"$folder/summed" || continue
        expect 0 "" timed --timeline "$folder/t.json" --max-tokens 999 --output "$folder/each"
        holds "$strategy, $geometry: summed" cmp -s <(grep -v '^# command' "$folder/summed") \
            <(grep -v '^# command' "$folder/each")
        n=$((n + 1))
    done
done
holds "strategies were compared" [ "$n" -gt 40 ]

# A model's folder, as `record` and `run` take it, stands for its shape: by its path, and by the
# name that a trace has. The result is that of a description with the same values.
embedded=$PWD/experiments/models/tiny-mixtral
mkdir "$folder/own"
cp "$embedded"/*.json "$embedded"/*.safetensors "$folder/own"
# shellcheck disable=SC2317 # called by expect
shaped() { (cd "$folder" && "$moelab" sim --max-tokens 20 --geometry 4x2 "$@"); }
sed 's/^n_layers/kv_bits: 32\n&/; s/^name:.*/name: own/' "$embedded.yaml" >"$folder/shape.yaml"
expect 0 "" shaped "$trace" --model own/ --output folder.txt
expect 0 "" shaped "$trace" --model shape.yaml --output file.txt
same "$folder/folder.txt" "$folder/file.txt"
expect 0 "own" shaped "$trace,model=own"
mkdir "$folder/empty"
one_line shaped "$trace" --model "$folder/empty"
expect 1 "config.json" shaped "$trace" --model "$folder/empty"

# More threads than cores: said, and computed with the cores.
sim --threads 24 >"$folder/24" 2>"$folder/said"
holds "nothing to say of as many threads as cores" test ! -s "$folder/said"
expect 0 "threads 4096 exceeds the 24 cores of platform 'paper-4090': simulated with 24" \
    sim --threads 4096 --output "$folder/4096"
same "$folder/24" "$folder/4096"

# What differs from what was asked for, or was left out, is said.
expect 0 "it keeps the first ones by number" sim --platform paper-4090 --strategy fiddler \
    --threads 8
"$moelab" sim "$trace" --model tiny-mixtral --platform paper-4090 --strategy ncmoe --threads 8 \
    --geometry ncmoe:4 2>"$folder/quiet" >/dev/null
holds "whole layers need no list: $(cat "$folder/quiet")" test ! -s "$folder/quiet"
row='[[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]'
printf '{"moelab_trace": 1, "n_layers": 8, "n_experts": 8, "top_k": 2, "expert_bytes": %s}\n' \
    "[1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000]" >"$folder/sized.jsonl"
printf '{"layers": %s}\n' "$row" "$row" >>"$folder/sized.jsonl"
expect 0 "the trace's experts have 1000 B each, those of model 'tiny-mixtral' 96.0 KiB" \
    "$moelab" sim "jsonl:$folder/sized.jsonl" --model tiny-mixtral --platform paper-4090 \
    --threads 8
replay=("$moelab" replay "jsonl:$folder/sized.jsonl" --geometry global:100KiB)
expect 2 "exceed the 64000 bytes of all experts" "${replay[@]}"
expect 0 "hit_rate_percent" "${replay[@]}" --model tiny-mixtral

# Bytes of fills: a number where the experts' sizes are known, unknown elsewhere and not 0.
sed 's/, "expert_bytes": [^]]*]//' "$folder/sized.jsonl" >"$folder/unsized.jsonl"
for file in sized unsized; do
    replay=("$moelab" replay "jsonl:$folder/$file.jsonl" --geometry 8x1 --no-layers)
    "${replay[@]}" --format tsv | tail -1 | cut -f16
    "${replay[@]}" --format json | grep -m 1 -o '"fill_bytes": [^,]*'
done >"$folder/bytes"
printf '%s\n' 8000 '"fill_bytes": 8000' nan '"fill_bytes": null' >"$folder/wanted"
same "$folder/bytes" "$folder/wanted"
finish
