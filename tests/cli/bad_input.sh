#!/usr/bin/env bash
# Bad input is refused with one clear line and the right exit code; nothing is left half-written.
. tests/cli/lib/check.bash
spec=uniform:layers=4,experts=8,top_k=2,tokens=64,sequences=2
t=$folder/t.h5
expect 0 "SYNTHETIC" "$moelab" trace synth "$spec" -o "$t"

# another tool's log, shape and all, without a model
expect 0 '"lookups": 7,' "$moelab" replay jsonl:tests/fuzz/corpus/jsonl/valid --geometry 1x2 \
    --format json

# a file of each kind
expect 0 "SYNTHETIC, 1 sequence, 1 token, 1 layer, 2 experts, top-1" "$moelab" trace synth \
    uniform:layers=1,experts=2,top_k=1,tokens=1 -o "$folder/one.h5"
expect 0 "ok, 1 sequence, 1 token" "$moelab" trace verify "$folder/one.h5"
expect 0 "1 sequence, 0 prefill and 1 decode token, 1 layer, 2 experts" "$moelab" trace stats \
    "$folder/one.h5"

# names and options
expect 2 "usage: moelab" "$moelab"
expect 2 "did you mean 'replay'" "$moelab" repaly "$t"
expect 2 "did you mean 'trace import'" "$moelab" trace imprt
expect 2 "did you mean '--geometry'" "$moelab" replay "$t" --geometri 4x2
expect 2 "did you mean 'clock'" "$moelab" replay "$t" --policy clok
expect 2 "access" "$moelab" replay "$t" --contract acces
expect 2 "missing argument" "$moelab" replay
expect 2 "unexpected argument" "$moelab" replay "$t" "$t"
expect 2 "has no value" "$moelab" replay "$t" --geometry
expect 2 "is not of the form key=value" "$moelab" replay "$t" --set geometry
expect 2 "did you mean 'admission'" "$moelab" replay "$t" --set admision=never
# A key of a strategy that a replay has no use for is no key of it.
for set in dispatch.miss=wait fill.when=at-once prefill=cache threads=4 prefetcher=none; do
    expect 2 "--set ${set%%=*} has no effect on replay, which has no time: it uses geometry, \
policy.KEY, admission.KEY, reroute.KEY; 'moelab sim' uses all keys" "$moelab" replay "$t" --set $set
    one_line "$moelab" replay "$t" --set $set
done
expect 2 "--set seed has no effect on replay: write --seed 7" "$moelab" replay "$t" --set seed=7
expect 0 "" "$moelab" replay "$t" --set geometry=4x2 --set policy=paper-lru \
    --set policy.hazards=off --set admission=quota --set admission.quota=4
expect 2 "paper-4090" "$moelab" sim "$t" --platform papr-4090 --model mixtral-8x7b
expect 2 "mixtral-8x7b" "$moelab" sim "$t" --model mixtral-8x77b
expect 2 "layers" "$moelab" sim "$t" --model mixtral-8x7b
one_line "$moelab" replay "$t" --policy clok
expect 2 "did you mean 'lru'" "$moelab" replay "$t" --policy LRU
expect 2 "--max-tokens: '1e3' is not" "$moelab" sim "$t" --max-tokens 1e3
expect 2 "moelab: --threads: 0 is outside 1..4096" "$moelab" sim "$t" --model mixtral-8x7b \
    --threads 0
expect 2 "moelab: threads: 0 is outside 1..4096" "$moelab" sim "$t" --model mixtral-8x7b \
    --set threads=0
# A number of percent may have its sign, once.
expect 0 "" "$moelab" mrc "$t" --sample 50% -o "$folder/sign.tsv"
expect 0 "" "$moelab" mrc "$t" --sample 50 -o "$folder/none.tsv"
sed -i '/^# command/d' "$folder/sign.tsv" "$folder/none.tsv"
same "$folder/sign.tsv" "$folder/none.tsv"
expect 2 "is not a finite number" "$moelab" mrc "$t" --sample 50%%
expect 2 "--sample: '%' is not a finite number" "$moelab" mrc "$t" --sample %
expect 2 "--min-agreement needs --compare-log" "$moelab" replay "$t" --min-agreement 50
expect 2 "--hot-split needs --hot-list" "$moelab" trace stats "$t" --hot-split first:0.5
expect 2 "--first 64 is beyond the 64 tokens" "$moelab" trace cat "$t" --first 64
expect 0 "" "$moelab" trace cat "$t" --first 63
expect 1 "cannot open 'none.yml'" "$moelab" sim "$t" --platform none.yml

# a place that cannot be written shows before the work
nowhere=$folder/nowhere
for refused in "replay $t -o" "sim $t --model $folder/none.yaml --timeline" "mrc $t --plot" \
    "mrc $t -o" "trace stats $t --hot-list" "trace stats $t --plot" "trace synth $spec -o" \
    "tune $t --platform paper-4090 -o" "tune $t --platform paper-4090 --table" \
    "tune $t --platform paper-4090 --held-out"; do
    read -ra words <<<"$refused"
    expect 1 "cannot create '$nowhere/x" "$moelab" "${words[@]}" "$nowhere/x"
    one_line "$moelab" "${words[@]}" "$nowhere/x"
done
one_line "$moelab" trace stats "$t" --hot-list "$folder/x.tsv" --hot-split half

# an input is not written over, by whatever name
cp "$t" "$folder/kept.h5"
ln -s t.h5 "$folder/link.h5"
expect 2 "is the input '$t': it would be lost" "$moelab" trace stats "$t" -o "$folder/./t.h5"
expect 2 "it would be lost" "$moelab" replay "$folder/link.h5" -o "$t"
expect 2 "it would be lost" "$moelab" trace stats "$t" --hot-list "$t"
expect 2 "it would be lost" "$moelab" trace export "$t" -o "$t"
same "$t" "$folder/kept.h5"
expect 0 "" "$moelab" trace export "$t" -o "$folder/t.jsonl"
expect 2 "it would be lost" "$moelab" trace import --format jsonl "$folder/t.jsonl" \
    -o "$folder/t.jsonl"
expect 2 "it would be lost" "$moelab" replay "jsonl:$folder/t.jsonl" -o "$folder/t.jsonl"
# What another form has no place for is said, and nothing where it holds all.
prompts=synth:uniform:layers=2,experts=4,top_k=1,tokens=8,prompt=3
expect 0 "moelab: expert-choices cannot hold these and leaves them out: routes of \
prompts, weights, positions, labels; jsonl holds any trace" \
    "$moelab" trace export "$prompts" --format expert-choices -o "$folder/e.csv"
expect 0 "leaves them out: labels; " \
    "$moelab" trace export "$prompts" --format route-csv -o "$folder/r.csv"
for log in "jsonl $folder/t.jsonl" "expert-choices $folder/e.csv" "route-csv $folder/r.csv"; do
    read -r format file <<<"$log"
    "$moelab" trace export "$format:$file" --format "$format" -o "$folder/back" 2>"$folder/said" \
        >/dev/null
    holds "$format: $(cat "$folder/said")" test ! -s "$folder/said"
    same "$file" "$folder/back"
done
# So is a second turn: behind decode tokens npy has no prompts, and expert-choices no turns at all.
cat >"$folder/turns.jsonl" <<'ROWS'
{"phase": "prefill", "layers": [[0], [1]]}
{"phase": "decode", "layers": [[1], [0]]}
{"phase": "prefill", "layers": [[1], [1]]}
{"phase": "decode", "layers": [[0], [0]]}
ROWS
turns=jsonl:$folder/turns.jsonl
expect 0 "npy cannot hold these and leaves them out: which tokens are of a later prompt; jsonl \
holds any trace" \
    "$moelab" trace export "$turns" --format npy -o "$folder/turns"
expect 0 "expert-choices cannot hold these and leaves them out: routes of prompts, which tokens \
are of a later prompt; jsonl holds any trace" \
    "$moelab" trace export "$turns" --format expert-choices -o "$folder/turns.e"
sed 's/"phase"/"step": 0, "phase"/' "$folder/turns.jsonl" | sed '/prefill/d' >"$folder/shared.jsonl"
expect 1 "decode token 1 shares its pass with the token before it: route-csv cannot hold that" \
    "$moelab" trace export "jsonl:$folder/shared.jsonl" --format route-csv -o "$folder/shared.csv"
absent "$folder/shared.csv"
for format in jsonl route-csv; do
    "$moelab" trace export "$turns" --format $format -o "$folder/turns.x" \
        2>"$folder/said" >/dev/null
    holds "$format: $(cat "$folder/said")" test ! -s "$folder/said"
    "$moelab" trace import "$folder/turns.x" --format $format -o "$folder/turns.h5" >/dev/null
    holds "$format: the phases of two turns" [ "$("$moelab" trace cat "$folder/turns.h5" \
        --layer 0 | awk 'NR > 1 { printf "%s ", $6 }')" = "prefill decode prefill decode " ]
done
# An empty value is none: it does not stand for an option left out.
sim=("$moelab" sim synth:uniform:tokens=4 --model mixtral-8x7b)
expect 2 "threads: empty value where a whole number is expected" "${sim[@]}" --threads ""
expect 2 "geometry '': expected" "${sim[@]}" --geometry ""
expect 2 "empty policy name" "${sim[@]}" --policy=
expect 2 "empty policy name" "$moelab" run --model tiny-mixtral -p x --device host \
    --strategy collab --policy ""
expect 2 "--timeline: empty value where a name is expected" "${sim[@]}" --timeline ""
expect 2 "--output: empty value where a name is expected" "$moelab" replay "$t" -o ""
expect 2 "--hot-list: empty value" "$moelab" trace stats "$t" --hot-list=
expect 2 "the prompt is empty: standard input holds nothing" "$moelab" run --model tiny-mixtral -p -
# A generator's name as the other commands have it.
expect 0 "" "$moelab" trace synth synth:uniform:tokens=9 -o "$folder/a.h5"
expect 0 "" "$moelab" trace synth uniform:tokens=9 -o "$folder/b.h5"
same "$folder/a.h5" "$folder/b.h5"
# A file in the place of another; what is known is told.
expect 2 "file 't.h5' does not end in .yaml or .yml, as a file of platforms does" \
    bash -c "cd '$folder' && exec '$moelab' calibrate --check t.h5"
expect 2 "nothing to list called 'xyzzy'; usage: moelab list [policies|" "$moelab" list xyzzy
# A trace of another shape is refused before weights are made for it, which are 90 GB here.
expect 2 "trace of 'unknown' has 4 layers, 8 experts, top 2, but model 'mixtral-8x7b' has 32, 8," \
    timeout 20 "$moelab" run --shape mixtral-8x7b --strategy collab --device host --trace "$t"
cp experiments/platforms/paper-4090.yaml "$folder/p.yaml"
expect 2 "it would be lost" "$moelab" sim "$t" --model mixtral-8x7b --platform "$folder/p.yaml" \
    --timeline "$folder/p.yaml"
expect 0 "" "$moelab" replay "$t" -o "$folder/again.tsv"
expect 0 "" "$moelab" replay "$t" -o "$folder/again.tsv"
if [ -e /dev/full ]; then # the same name for it, whatever was to be written
    expect 1 "cannot write to standard output: No space left" \
        bash -c "exec '$moelab' help >/dev/full"
    expect 1 "cannot write to standard output: No space left" \
        bash -c "exec '$moelab' replay '$t' >/dev/full"
    expect 1 "standard output: cannot write table: No space left" \
        bash -c "exec '$moelab' replay 'synth:zipf:layers=99,tokens=9' --format tsv >/dev/full"
fi

# geometries
expect 2 "4" "$moelab" replay "$t" --geometry 5x2
expect 2 "8 experts" "$moelab" replay "$t" --geometry 4x9
expect 2 "global:33" "$moelab" replay "$t" --geometry global:33
expect 2 "geometry 'global:0': no slots; write 'none' for no cache" \
    "$moelab" replay "$t" --geometry global:0
expect 2 "geometry" "$moelab" replay "$t" --geometry global:4000MiB
expect 2 "geometry" "$moelab" replay "$t" --geometry 99999999999999999999x2
expect 2 "geometry" "$moelab" replay "$t" --geometry per-layer:2,,2

expect 2 "geometry 'ncmoe:5': 5 layers on the CPU exceed the 4 layers" \
    "$moelab" replay "$t" --geometry ncmoe:5

# statistics of prompts alone say so
printf '{"sequence":0,"position":0,"phase":"prefill","layers":[[0,1],[1,2]]}\n' >"$folder/p.jsonl"
expect 0 "mean over layers (prefill)" "$moelab" trace stats "jsonl:$folder/p.jsonl"
expect 0 "mean over layers (decode) " "$moelab" trace stats "$t"

# hot lists: what one trace's sequences say is replayed on the others
hot=$folder/hot.tsv
expect 0 "" "$moelab" trace stats "$t" --hot-list "$hot" --hot-split first:0.5
expect 0 "fitted_on: 1 of 2 sequences (first:0.5)" head -12 "$hot"
expect 0 '"preloaded_experts": 8,' "$moelab" replay "$t" --geometry 4x2 --format json \
    --policy "static:list=$hot"
expect 0 "preloaded_gb" "$moelab" sim "synth:uniform:layers=32,experts=8,top_k=2,tokens=8" \
    --model mixtral-8x7b --strategy static-hot
for split in first:0 last:2 half sequences:2 sequences:0,0 sequences:; do
    expect 2 "--hot-split '$split'" "$moelab" trace stats "$t" --hot-list "$folder/x.tsv" \
        --hot-split "$split"
done
absent "$folder/x.tsv"
# A recording interrupted in its first prompt has no sequence to fit a list on.
printf 'x\n' >"$folder/one.txt"
"$moelab" record --model tiny-mixtral --chat none --prompts "$folder/one.txt" -n 100000 \
    --ignore-eos --out "$folder/none-yet.h5" 2>"$folder/stderr" &
child=$!
until compgen -G "$folder/none-yet.h5*" >/dev/null || ! kill -0 $child 2>/dev/null; do :; done
kill -INT $child
wait $child
expect 0 "ok, 0 sequences" "$moelab" trace verify "$folder/none-yet.h5"
for split in all first:1 last:1 sequences:0 sequences:5; do
    expect 2 "--hot-list: trace '$folder/none-yet.h5' has no sequences" "$moelab" trace stats \
        "$folder/none-yet.h5" --hot-list "$folder/x.tsv" --hot-split "$split"
done
absent "$folder/x.tsv"
printf 'layer\texpert\n4\t0\n' >"$folder/layer.tsv"
expect 1 "layer.tsv':2: layer 4 is outside 0..3" "$moelab" replay "$t" \
    --policy "static:list=$folder/layer.tsv"
printf 'layer,expert\n1,0\n' >"$folder/commas.tsv"
expect 1 "separated by tabs" "$moelab" replay "$t" --policy "static:list=$folder/commas.tsv"
expect 1 "none.tsv" "$moelab" replay "$t" --policy "static:list=$folder/none.tsv"
expect 2 "did you mean 'list'" "$moelab" replay "$t" --policy "static:lst=$hot"

# files
expect 1 "$folder/none.h5" "$moelab" replay "$folder/none.h5"
printf 'not a trace\n' >"$folder/text.h5"
expect 1 "not an HDF5 file" "$moelab" trace info "$folder/text.h5"
: >"$folder/empty.h5"
expect 1 "empty.h5" "$moelab" trace info "$folder/empty.h5"
head -c 3000 "$t" >"$folder/short.h5"
expect 1 "short.h5" "$moelab" trace verify "$folder/short.h5"
expect 1 "" "$moelab" trace info "$folder"
expect 1 "cannot" "$moelab" trace synth "$spec" -o "$folder/no/such/folder/x.h5"
expect 1 "" "$moelab" trace synth "$spec" -o /dev/full
expect 2 "cannot go to standard output" "$moelab" trace synth "$spec" -o -
# Full from the first byte on: nothing is left behind.
said=$(
    trap '' XFSZ
    ulimit -f 0
    "$moelab" trace synth "$spec" -o "$folder/none.h5" 2>&1
)
holds "full at once: exit code $?, '$said'" [ $? = 1 ]
absent "$folder/none.h5"
absent "$folder/none.h5.part"
expect 1 "No space left" "$moelab" replay "$t" -o /dev/full
expect 1 "cannot" "$moelab" replay "$t" -o "$folder/no/such/folder/x.tsv"
one_line "$moelab" trace info "$folder/text.h5"
# A file on the way to an output.
: >"$folder/plain"
mkdir "$folder/inner"
for way in plain inner/../plain; do
    expect 1 "/y/x.tsv': '$folder/$way' is not a directory" \
        "$moelab" replay "$t" -o "$folder/$way/y/x.tsv"
    expect 1 "cannot make folder '$folder/$way': exists, not a directory" \
        "$moelab" repro tab5 -o "$folder/$way/x"
done
expect 1 "cannot open '$folder/plain/p.yaml': '$folder/plain' is not a directory" \
    "$moelab" sim "$t" --platform "$folder/plain/p.yaml"

# imports
log=$folder/log.csv
header='turn,phase,step,layer,slot,expert,weight'
printf '%s\n0,1,0,0,0,9,0.5\n' "# n_expert=8 n_layer=1 n_expert_used=2
$header" >"$log"
expect 1 "log.csv" "$moelab" trace import --format route-csv "$log" -o "$folder/x.h5"
absent "$folder/x.h5"
absent "$folder/x.h5.part"
printf '%s\n0,1,0,0,0,1,nan\n' "$header" >"$log"
expect 1 "log.csv" "$moelab" trace import --format route-csv "$log" -o "$folder/x.h5"
printf '%s\n0,1,0,0,0,1,0.5\n0,1,0,0,0,2,0.5\n' "$header" >"$log"
expect 1 "log.csv" "$moelab" trace import --format route-csv "$log" -o "$folder/x.h5"
expect 2 "did you mean 'route-csv'" \
    "$moelab" trace import --format route-cvs "$log" -o "$folder/x.h5"
expect 2 "--output" "$moelab" trace import --format route-csv "$log"

# configuration files
sed 's/^policy:/polcy:/' experiments/strategies/collab.yaml >"$folder/s.yaml"
expect 2 "did you mean 'policy'" "$moelab" sim "$t" --strategy "$folder/s.yaml"
expect 2 "s.yaml':" "$moelab" sim "$t" --strategy "$folder/s.yaml"
printf 'strategy: [unclosed\n' >"$folder/s.yaml"
expect 2 "s.yaml':" "$moelab" sim "$t" --strategy "$folder/s.yaml"
sed '/^dram:/,/^[a-z]*:/{/^dram:/d;/^  /d}' experiments/platforms/paper-4090.yaml >"$folder/p.yaml"
expect 2 "dram" "$moelab" sim "$t" --platform "$folder/p.yaml"
# What gzip made, where text or a trace is expected.
printf 'x\n' | gzip >"$folder/x.gz"
for command in "sim $folder/x.gz" "sweep $folder/x.gz" "sim synth:stats:file=$folder/x.gz" \
    "trace import --format jsonl $folder/x.gz -o $folder/o.h5" \
    "record --model tiny-mixtral --prompts $folder/x.gz --out $folder/o.h5"; do
    # shellcheck disable=SC2086 # words
    expect 1 "compressed by gzip; gunzip it first" "$moelab" $command
done
# What is read whole may come through a pipe; HDF5, which is read in parts, may not.
expect 0 "" "$moelab" trace export "$t" --format jsonl -o "$folder/t.jsonl"
expect 0 "" "$moelab" trace import --format jsonl "$folder/t.jsonl" --source s -o "$folder/1.h5"
expect 0 "" "$moelab" trace export "$folder/1.h5" --format jsonl -o "$folder/1.jsonl"
gzip <"$folder/t.jsonl" >"$folder/t.jsonl.gz"
for from in "<(zcat $folder/t.jsonl.gz)" "/dev/stdin < <(zcat $folder/t.jsonl.gz)"; do
    expect 0 "wrote" bash -c \
        "'$moelab' trace import --format jsonl --source s -o '$folder/2.h5' $from"
    expect 0 "" "$moelab" trace export "$folder/2.h5" --format jsonl -o "$folder/2.jsonl"
    same "$folder/1.jsonl" "$folder/2.jsonl"
done
expect 0 "wrote" bash -c \
    "cat '$folder/t.jsonl' | '$moelab' trace import --format jsonl -o '$folder/2.h5' /dev/stdin"
expect 0 "tokens_per_s" bash -c "'$moelab' sim synth:zipf:tokens=9 --format tsv \
    --model <(cat experiments/models/mixtral-8x7b.yaml) \
    --platform <(cat experiments/platforms/paper-4090.yaml) \
    --strategy <(cat experiments/strategies/collab.yaml)"
expect 1 "not a regular file" bash -c "'$moelab' replay <(cat '$t')"

# A strategy's own geometry that the model is too small for names the way out.
run=("$moelab" run --model tiny-mixtral -p x -n 1 --device host)
expect 2 "; use --geometry to replace that of strategy 'vllm-offload'" "${run[@]}" \
    --strategy vllm-offload
expect 2 "indexes 32 exceeds the 8 layers of the model" "${run[@]}" --strategy collab \
    --geometry 32x2

# More threads than cores are told of wherever they are simulated.
small="synth:uniform:layers=32,experts=8,top_k=2,tokens=8,model=mixtral-8x7b"
expect 0 "threads 24 exceeds the 8 cores of platform 'laptop-4060': simulated with 8" "$moelab" \
    whatif "$small" --platform laptop-4060 --strategy cpu-only --no-plot -o "$folder/w"
cat >"$folder/threads.yaml" <<X
experiment: threads
title: "x"
trace: "$small"
model: mixtral-8x7b
platform: laptop-4060
strategy: cpu-only
axes: {threads: [8, 9, 24]}
X
expect 0 "2 of 3 points have more threads than their platform cores, the first: 9 of 8, platform \
'laptop-4060'" "$moelab" sweep "$folder/threads.yaml" --no-plot -o "$folder/threads.tsv"
# shellcheck disable=SC2016 # awk's fields, not the shell's
expect 0 "8 8 8 " awk -F'\t' '/^#/ { next } !n { for (n = NF; $n != "threads";) n--; next }
    { printf "%s ", $n }' "$folder/threads.tsv"

# The whole command stands in a result, however long.
sets=()
for _ in {1..60}; do sets+=(--set platform.link.h2d_pinned_gb_per_s=25.147862); done
"$moelab" sim "$small" "${sets[@]}" --set seed=77 --format tsv -o "$folder/long.tsv" 2>/dev/null
holds "a long command" grep -q "^# command.*--set seed=77 --format tsv -o $folder/long.tsv$" \
    "$folder/long.tsv"
# A weight that is no number: the model's file and the tensor are named.
gate=model.layers.1.block_sparse_moe.gate.weight
cp -r experiments/models/tiny-mixtral "$folder/nan"
weights=$folder/nan/model.safetensors
header=$(od -An -t u8 -N 8 "$weights")
begin=$(grep -ao "\"$gate\":{[^}]*}" "$weights" | sed 's/.*"data_offsets":\[\([0-9]*\),.*/\1/')
printf '\300\177' |
    dd of="$weights" bs=1 seek=$((8 + header + begin + 2 * 5)) conv=notrunc 2>/dev/null
expect 1 "nan/model.safetensors': weight 5 of tensor '$gate' is NaN" "$moelab" run \
    --model "$folder/nan" -p x -n 1
printf 'x\n' >"$folder/x.txt"
expect 1 "is NaN" "$moelab" record --model "$folder/nan" --prompts "$folder/x.txt" -n 1 \
    --out "$folder/nan.h5"
finish
