#!/usr/bin/env bash
# `moelab run --strategy` and `run --trace`, on the host device: the same text as without a strategy
# for every strategy, geometry, policy, store and thread count; memory too small; faults; Ctrl-C.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
text="It was generally agreed in the village"

# answer NAME MODEL OPTION...: standard output of a run into $folder/NAME.
answer() {
    local name=$1 model=$2
    shift 2
    "$moelab" run --model "$model" --chat none -n 24 -p "$text" "$@" \
        >"$folder/$name" 2>"$folder/$name.err" ||
        failed "run $model $* -> $(cat "$folder/$name.err")"
}

# same_text MODEL OPTION...: a run with these options gives the text of the CPU alone.
same_text() {
    local model=$1
    shift
    answer got "$model" --device host "$@"
    holds "$model $*: $(cat "$folder/got")" cmp -s "$folder/$model" "$folder/got"
}

# Does it need to know the future? Then its refusal must say so.
refers_to_a_trace() {
    ! "$moelab" run --model tiny-mixtral -p x -n 1 --device host --platform paper-4090 \
        --geometry 3x2 "$@" >/dev/null 2>"$folder/err" &&
        grep -q "which only a trace tells" "$folder/err"
}

# Small: one or two values of each axis.
geometries=(none 3x2 all)
other_geometries=(global:7 "per-layer:1,0,5" ncmoe:3 global:600KiB 2x1)
threads=(1 2 3) seeds=(1 2 3) copies=(1 40 60 70 80 100 150)
if [ "$size" = small ]; then
    geometries=(3x2) other_geometries=("per-layer:1,0,5" ncmoe:3) threads=(2) seeds=(1)
    copies=(40 80 150)
fi

n_strategies=0
for model in tiny-mixtral tiny-phimoe; do
    answer $model $model
    for file in experiments/strategies/*.yaml; do
        strategy=$(basename "$file" .yaml)
        if grep -q '^reroute:' "$file"; then # another text, by intention: tests/cli/lossy.sh
            expect 2 "is lossy" "$moelab" run --model $model -p x -n 1 --device host \
                --platform paper-4090 --geometry 3x2 --strategy "$strategy"
            continue
        fi
        if refers_to_a_trace --strategy "$strategy"; then
            passed
            continue
        fi
        n_strategies=$((n_strategies + 1))
        [ "$size" = whole ] || [ $model = tiny-mixtral ] || ((n_strategies % 3 == 0)) || continue
        for geometry in "${geometries[@]}"; do
            same_text $model --strategy "$strategy" --geometry "$geometry" --platform paper-4090
        done
    done
    for geometry in "${other_geometries[@]}"; do
        same_text $model --strategy collab --geometry "$geometry"
        same_text $model --strategy collab-reference --geometry "$geometry"
    done
    for n in "${threads[@]}"; do
        same_text $model --strategy collab --geometry 3x2 --threads "$n" --chunk 3
    done
    for store in pinned ring pageable; do
        same_text $model --strategy on-demand --geometry 2x2 --store $store
        same_text $model --strategy collab --geometry 2x2 --store $store \
            --set fill.memory=pageable
    done
    same_text $model --strategy collab --geometry 3x2 --deterministic
    same_text $model --strategy collab --geometry 3x2 --set prefill=stream \
        --set dispatch.in_flight=cpu
    same_text $model --strategy collab --geometry 4x2 --set prefill=auto --platform paper-4090
    for seed in "${seeds[@]}"; do
        same_text $model --strategy collab-reference --geometry global:5 \
            --device host:delay_us=300,seed="$seed"
    done
done

holds "only $n_strategies strategies ran" [ $n_strategies -ge 14 ]

# Every registered policy; those that know the future say what they lack.
n_policies=0
for policy in $("$moelab" list policies | sed -n 's/^  \([a-z][a-z0-9-]*\) .*/\1/p'); do
    n_policies=$((n_policies + 1))
    [ "$size" = whole ] || ((n_policies % 4 == 0)) || continue
    refers_to_a_trace --strategy collab --policy "$policy" && [[ $policy = opt* ]] && continue
    same_text tiny-mixtral --strategy collab --geometry global:6 --policy "$policy"
done
holds "only $n_policies policies listed" [ $n_policies -ge 20 ]

run=("$moelab" run --model tiny-mixtral --chat none -n 24 -p "$text")
hybrid=("${run[@]}" --strategy collab)
fits=("${hybrid[@]}" --geometry 3x2 --device host)

# What was allocated comes before the text, what it came to after it.
expect 0 "geometry 3x2, 6 slots of 96.0 KiB = 576 KiB; policy lru" "${fits[@]}"
expect 0 "experts in host memory: pinned: 6.0 MiB" "${fits[@]}"
expect 0 "% hits (" "${fits[@]}"
expect 0 "ms/token: device " "${fits[@]}"
expect 0 "strategy collab: geometry" "${fits[@]}" --stats
"${fits[@]}" --format json >"$folder/json" 2>/dev/null
for word in '"text": "' '"strategy": {' '"slots": "6 of 98304 bytes"' '"hit_rate_percent": ' \
    '"copy_wait_ms_per_token": ' '"store": "pinned'; do
    holds "no $word in $(cat "$folder/json")" grep -qF "$word" "$folder/json"
done

# A geometry that does not fit, and --fit.
small=host:memory_bytes=2MiB
expect 2 "geometry '8x8' takes 6.0 MiB" "${hybrid[@]}" --geometry 8x8 --device $small
expect 2 "--fit makes it '1x" "${hybrid[@]}" --geometry 8x8 --device $small
expect 0 "does not fit, '1x" "${hybrid[@]}" --geometry 8x8 --device $small --fit
for geometry in 8x8 all global:64 per-layer:8,8,8 global:6MiB 8x1; do
    same_text tiny-mixtral --strategy collab --geometry $geometry --fit --device $small
done
expect 0 "geometry none, 0 slots" "${hybrid[@]}" --geometry all --device $small --fit
expect 2 "--fit makes it 'none'" "${hybrid[@]}" --geometry all --device $small
# Too small for the weights beside the experts: the same clear line, with --fit or without.
for fit in --fit --no-fit; do
    expect 2 "without any slot: more than the 1.0 MiB" "${hybrid[@]}" --geometry 3x2 $fit \
        --device host:memory_bytes=1MiB
    holds "contradiction" test "$("${hybrid[@]}" --geometry 3x2 $fit \
        --device host:memory_bytes=1MiB 2>&1 | grep -c 'does not fit')" = 0
done
expect 2 "indexes 9 exceeds" "${hybrid[@]}" --geometry 9x2 --device host
expect 0 "" "${hybrid[@]}" --geometry 3x2 --device host:memory_bytes=3MiB --context 64

# Devices and options that are wrong.
expect 2 "host" "${hybrid[@]}" --device hots
expect 2 "link_gb_per_s" "${hybrid[@]}" --device host:link_gb_per=1
expect 1 "cuda" "${hybrid[@]}" --device cuda:15
expect 2 "99 is outside" "${hybrid[@]}" --device cuda:99
expect 2 "collab" "${run[@]}" --strategy colab
expect 2 "unknown" "${hybrid[@]}" --device host --set polcy=lru
expect 2 "--geometry needs --strategy" "${run[@]}" --geometry 3x2
expect 2 "--set needs --strategy" "${run[@]}" --set policy=lru
expect 2 "--trace needs --strategy" "$moelab" run --model tiny-mixtral --trace x.h5
expect 2 "exclude each other" "${hybrid[@]}" --trace x.h5
routes=("$moelab" run --trace x.h5 --strategy collab)
expect 2 "exclude each other" "${routes[@]}" --model tiny-mixtral --shape tiny-mixtral
expect 2 "--model FOLDER or --shape" "${routes[@]}"
for option in "-n 3" "--chunk 512" "--temperature 1" "--top-k 2" "--seed 1" "--context 9" \
    "--stats" "--no-ignore-eos" "--chat none" "--system x" "--show-special"; do
    read -ra words <<<"$option"
    expect 2 "has no effect with --trace" "${routes[@]}" --model tiny-mixtral "${words[@]}"
done
one_line "${routes[@]}" --model tiny-mixtral --chunk 4
expect 2 "--layers needs --shape" "${routes[@]}" --model tiny-mixtral --layers 2
expect 2 "--shape needs --trace" "$moelab" run --shape tiny-mixtral --strategy collab -p x
expect 2 "prefill" "${hybrid[@]}" --geometry 3x2 --device host --set prefill=auto
one_line "${run[@]}" --strategy colab

# A copy that fails: one line, exit code 1, and nothing but right text before it.
for n in "${copies[@]}"; do
    "${hybrid[@]}" --geometry 3x2 --device host:fail_copy="$n" >"$folder/out" 2>"$folder/err"
    code=$?
    head -c "$(wc -c <"$folder/out")" "$folder/tiny-mixtral" >"$folder/prefix"
    holds "fail_copy=$n: wrong text $(cat "$folder/out")" cmp -s "$folder/out" "$folder/prefix"
    holds "fail_copy=$n: exit $code: $(cat "$folder/err")" [ $code -le 1 ]
done
expect 1 "copy" "${hybrid[@]}" --geometry 3x2 --device host:fail_copy=1
"${hybrid[@]}" --geometry 3x2 --device host:fail_copy=60 --decisions "$folder/d.txt" \
    --timeline "$folder/t.json" >/dev/null 2>&1
absent "$folder/d.txt"
absent "$folder/d.txt.part"
absent "$folder/t.json"

# Watching files; the model's own routes and a trace of them decide alike.
"${hybrid[@]}" --geometry 3x2 --device host --decisions "$folder/own.txt" \
    --timeline "$folder/own.json" >/dev/null 2>&1
holds "no timeline" grep -q '"expert"' "$folder/own.json"
printf '%s\n' "$text" >"$folder/p.txt"
"$moelab" record --model tiny-mixtral --chat none -n 24 --prompts "$folder/p.txt" \
    --out "$folder/t.h5" >/dev/null 2>&1
for strategy in cpu-only on-demand static-hot ncmoe; do
    options=(--strategy "$strategy" --geometry 4x3)
    "${run[@]}" "${options[@]}" --device host --decisions "$folder/a.txt" >/dev/null 2>&1
    "$moelab" run --model tiny-mixtral --trace "$folder/t.h5" "${options[@]}" --device host \
        --decisions "$folder/b.txt" >/dev/null 2>&1
    "$moelab" sim "$folder/t.h5" "${options[@]}" --decisions "$folder/c.txt" >/dev/null 2>&1
    holds "$strategy: no decisions" [ -s "$folder/a.txt" ]
    same "$folder/a.txt" "$folder/b.txt"
    same "$folder/b.txt" "$folder/c.txt"
done

# Trace-driven: the columns of `sim`, and what the weights are.
traced=("$moelab" run --trace "$folder/t.h5" --strategy collab --geometry 2x3 --device host)
columns() { grep -v '^#' | head -1; }
"${traced[@]}" --model tiny-mixtral --format tsv >"$folder/run.tsv" 2>/dev/null
"$moelab" sim "$folder/t.h5" --geometry 2x3 --format tsv >"$folder/sim.tsv"
holds "columns differ" [ "$(columns <"$folder/run.tsv")" = "$(columns <"$folder/sim.tsv")" ]
holds "weights" grep -qF "# weights: the model's own" "$folder/run.tsv"
# share COLUMN: of the table's row.
share() {
    awk -F'\t' -v name="share_of_$1_percent" '!/^#/ && !at { for (at = NF; $at != name;) at--
        next }
        !/^#/ { print $at }' "$folder/run.tsv"
}
for bound in bound schedule_bound; do
    holds "no $bound without a platform" [ "$(share $bound)" = nan ]
done
"${traced[@]}" --model tiny-mixtral --platform paper-4090 --format tsv >"$folder/run.tsv" \
    2>/dev/null
for bound in bound schedule_bound; do
    holds "a $bound with one" grep -qE '^[0-9.]+$' <<<"$(share $bound)"
done
# A platform of a second for each token: no bound of this machine.
sed 's/token_overhead_us: {value: [0-9.]*/token_overhead_us: {value: 1000000/' \
    experiments/platforms/laptop-4060.yaml >"$folder/slow.yaml"
"${traced[@]}" --model tiny-mixtral --platform "$folder/slow.yaml" >/dev/null 2>"$folder/err"
holds "a bound that was beaten" grep -qF 'slower than this machine; calibrate again' "$folder/err"
"${traced[@]}" --shape tiny-mixtral --layers 3 --buffers 5 --max-tokens 7 --format json \
    >"$folder/shape.json" 2>/dev/null
for word in 'SYNTHETIC, made in memory: 5 buffers for 24 experts' 'first 3 of 8 layers' \
    '"decode_tokens": 7' '"routing": "recorded"'; do
    holds "no $word in $(cat "$folder/shape.json")" grep -qF "$word" "$folder/shape.json"
done
expect 2 "8 experts" "${traced[@]}" --shape tiny-phimoe --layers 2
shape=$("${traced[@]}" --shape tiny-phimoe --layers 2 --geometry 2x16 --device $small 2>&1)
holds "--fit mends no shape: $shape" [ "${shape/--fit/}" = "$shape" ]
expect 2 "--fit makes it" "${traced[@]}" --model tiny-mixtral --geometry 8x8 --device $small
expect 0 "does not fit" "${traced[@]}" --model tiny-mixtral --geometry 8x8 --device $small --fit
expect 1 "x.h5" "${routes[@]}" --model tiny-mixtral --device host

# A reader that goes away: the program ends as by SIGPIPE, silently, and nothing is left half-done.
"${run[@]}" --ignore-eos -n 1500 --strategy collab --geometry 3x2 --device host \
    --decisions "$folder/pipe.txt" --timeline "$folder/pipe.json" 2>"$folder/pipe.err" |
    head -c 1 >/dev/null
holds "SIGPIPE: ended by ${PIPESTATUS[0]}" [ "${PIPESTATUS[0]}" = 141 ]
holds "SIGPIPE: $(cat "$folder/pipe.err")" test "$(grep -c 'cannot write' "$folder/pipe.err")" = 0
absent "$folder/pipe.txt"
absent "$folder/pipe.txt.part"
absent "$folder/pipe.json"

# More misses of one layer that are waited for one by one than the CPU has room for at a time.
sed -e 's/^n_experts:.*/n_experts: 100/' -e 's/^n_layers:.*/n_layers: 1/' \
    -e 's/^top_k:.*/top_k: 4/' experiments/models/tiny-phimoe.yaml >"$folder/many.yaml"
expect 0 "cpu_experts_per_token" "$moelab" run --shape "$folder/many.yaml" --strategy collab \
    --geometry 1x100 --device host --trace "synth:$(
    )uniform:layers=1,experts=100,top_k=4,tokens=150,sequences=1,prompt=140" \
    --set prefill=cache --set fill.memory=pageable --set fill.when=at-once

# Ctrl-C while a trace runs: the result of the whole steps done, marked, in every format; one line,
# exit code 1, and what was watched is kept. Interrupted when the first decisions are there; the
# file grows beside its name until it is whole.
interrupt_trace() {
    local try pid
    for try in 1 2 3 4 5 6 7 8; do
        rm -f "$folder"/kept.*
        "$moelab" run --model tiny-mixtral --strategy collab --geometry 2x3 \
            --device host:launch_us=300 --threads 2 \
            --trace synth:uniform:layers=8,experts=8,top_k=2,tokens=3000,sequences=2 \
            --decisions "$folder/kept.txt" --timeline "$folder/kept.json" "$@" \
            >"$folder/kept.out" 2>"$folder/kept.err" &
        pid=$!
        while kill -0 "$pid" 2>/dev/null && ! [ -s "$(compgen -G "$folder/kept.txt.*.part")" ]; do
            sleep 0.01
        done
        kill -INT "$pid" 2>/dev/null
        wait "$pid"
        interrupted=$?
        [ $interrupted = 0 ] || break
    done
}
for format in text tsv json; do
    interrupt_trace --format $format --platform laptop-4060
    holds "Ctrl-C on a trace: exit $interrupted, $(cat "$folder/kept.err")" [ "$interrupted" = 1 ]
    done=$(sed -n 's/^moelab: interrupted after \([0-9]*\) decode .*/\1/p' "$folder/kept.err")
    holds "Ctrl-C on a trace: $(cat "$folder/kept.err")" [ "${done:-0}" -gt 0 ]
    holds "decisions not kept" test -s "$folder/kept.txt"
    holds "timeline not kept" grep -q '"expert"' "$folder/kept.json"
    absent "$folder/kept.txt.part"
    # Whole steps: as many events as tokens have layers.
    holds "$format: not $done tokens of 8 layers" \
        [ "$(grep -c '^[0-9]' "$folder/kept.txt")" = $((8 * ${done:-0})) ]
    case $format in
    text)
        holds "text: not $done" grep -qE "^decode_tokens +$done\$" "$folder/kept.out"
        holds "text: a bound" grep -qE '^bound_ms_per_token +(nan|-)$' "$folder/kept.out"
        holds "text: no bound" grep -qE '^schedule_bound_ms_per_token +[0-9.]+$' "$folder/kept.out"
        ;;
    tsv)
        holds "tsv: not marked" grep -qx "# interrupted: after $done decode tokens" \
            "$folder/kept.out"
        ;;
    json)
        holds "json: not marked" grep -q "\"interrupted\": \"after $done decode tokens\"" \
            "$folder/kept.out"
        holds "json: not $done" grep -q "\"decode_tokens\": $done," "$folder/kept.out"
        ;;
    esac
done

# Ctrl-C in a step
interrupted "$moelab" run --model tiny-phimoe --ignore-eos -n 1500 -p x --strategy collab \
    --geometry 4x2 --device host:launch_us=100 --decisions "$folder/int.txt" \
    --timeline "$folder/int.json"
holds "decisions not kept" test -s "$folder/int.txt"
holds "timeline not kept" grep -q '"expert"' "$folder/int.json"
# Whole passes only: of each, eight events and two uses in each of them. Interrupted as above.
for _ in 1 2 3; do
    rm -f "$folder"/kept.*
    "$moelab" run --model tiny-mixtral --chat none --ignore-eos -n 480 -p x --strategy collab \
        --geometry 8x2 --device host:launch_us=300 --decisions "$folder/kept.txt" \
        >"$folder/kept.out" 2>"$folder/kept.err" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && ! [ -s "$(compgen -G "$folder/kept.txt.*.part")" ]; do
        sleep 0.01
    done
    kill -INT "$pid"
    wait "$pid"
    passes=$(sed -n 's/^moelab: decode: \([0-9]*\) pass.*/\1/p' "$folder/kept.err")
    uses=$(sed -n 's/^moelab: experts:.* of \([0-9]*\) uses.*/\1/p' "$folder/kept.err")
    holds "Ctrl-C: $uses uses in $passes passes" [ "${uses:-none}" = $((16 * ${passes:-1})) ]
    holds "Ctrl-C: events of $passes passes" \
        [ "$(grep -c ' decode ' "$folder/kept.txt")" = $((8 * ${passes:-1})) ]
done
finish
