#!/usr/bin/env bash
# `moelab validate` on the host device: simulator and executor decide alike, whatever the times;
# output formats; bad input. The times themselves are not checked.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
t=$folder/t.h5
"$moelab" record --model tiny-mixtral --prompts experiments/prompts/demo.jsonl --limit 2 -n 12 \
    --out "$t" >/dev/null 2>&1
any=(--tolerance 1e9 --tolerance-p95 1e9)
base=("$moelab" validate --model tiny-mixtral --trace "$t" --platform paper-4090 --repeats 2
    --device host)

# column NAME FILE: the values of a column of a TSV.
column() {
    awk -F'\t' -v name="$1" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) if ($i == name) n = i; next }
        { print $n }' "$2"
}

# of_fixed NAME: this column and the strategy, for the rows of all.tsv whose slots do not change.
of_fixed() {
    paste <(column strategy "$folder/all.tsv") <(column "$1" "$folder/all.tsv") | grep -v collab
}

# Six strategies, six geometries: where copies are waited for, or none is made, byte for byte.
strategies=cpu-only,on-demand,static-hot,static-random,ncmoe,collab
geometries=none,3x2,8x3,global:9,per-layer:2,0,5,all
"${base[@]}" "${any[@]}" --strategy $strategies --geometry $geometries --max-tokens 10 \
    --format tsv -o "$folder/all.tsv" 2>"$folder/err"
code=$?
holds "36 points: exit code $code, $(cat "$folder/err")" [ $code = 0 ]
holds "36 points" [ "$(column strategy "$folder/all.tsv" | wc -l)" = 36 ]
holds "geometries" [ "$(column geometry "$folder/all.tsv" | sort -u | wc -l)" = 6 ]
holds "a list of ways is one geometry" grep -qF "per-layer:2,0,5" "$folder/all.tsv"
decisions=$(column decisions "$folder/all.tsv")
holds "tokens of fixed contents have the work that was predicted" \
    [ "$(of_fixed decided_alike_percent | cut -f2 | sort -u)" = 100 ]
holds "then their errors are all errors" \
    cmp -s <(of_fixed decided_alike_error_p95_percent) <(of_fixed token_error_p95_percent)
fixed=$(of_fixed decisions | cut -f2 | sort -u)
holds "fixed contents decide alike: $decisions" [ "$fixed" = equal ]
holds "no decision differs without a reason" [ -z "$(grep DIFFER <<<"$decisions")" ]
holds "every event is compared" [ "$(column events "$folder/all.tsv" | sort -u | wc -l)" = 1 ]
holds "there are events" [ "$(column events "$folder/all.tsv" | head -1)" -ge 80 ]
holds "hit rates" \
    cmp -s <(of_fixed hit_rate_percent_predicted) <(of_fixed hit_rate_percent_measured)

# Copies that are late on one side: flights, or what follows from time; never DIFFER.
"${base[@]}" "${any[@]}" --geometry 8x3,global:9 --device host:link_gb_per_s=0.02 \
    --max-tokens 10 --set dispatch.in_flight=cpu --format tsv -o "$folder/late.tsv" 2>/dev/null
code=$?
holds "late copies: exit code $code" [ $code = 0 ]
holds "late copies show: $(column decisions "$folder/late.tsv")" \
    grep -qE 'flights|by time' "$folder/late.tsv"
while read -r different percent; do
    holds "late copies: $different events differ, $percent % of the tokens alike" \
        [ "$((different > 0))" = "$(awk -v p="$percent" 'BEGIN { print p < 100 }')" ]
done < <(paste <(column different_events_timeless "$folder/late.tsv") \
    <(column decided_alike_percent "$folder/late.tsv"))

# Experts of Q8 and Q4, of a folder and made in memory: slots of their size, the decisions of that
# shape, a recording that is simulated as it runs.
# copied FILE OPTION...: GB that a token copies on demand, from the sizes of the model.
copied() {
    "$moelab" sim "$1" --strategy on-demand --no-bound --format tsv "${@:2}" \
        >"$folder/copied.tsv" 2>/dev/null
    column copied_gb_per_token "$folder/copied.tsv"
}
for type in q8:8.5:52224 q4:4.5:27648; do
    IFS=: read -r name bits bytes <<<"$type"
    tiny=$folder/tiny-$name
    "$moelab" quantize --model tiny-mixtral --experts "$name" -o "$tiny" 2>"$folder/err" ||
        failed "quantize: $(cat "$folder/err")"
    "$moelab" record --model "$tiny" --prompts experiments/prompts/demo.jsonl --limit 2 -n 12 \
        --out "$tiny.h5" >/dev/null 2>&1
    sed "s/^expert_weight_bits: 16.*/expert_weight_bits: $bits/; s/^name:.*/name: tiny-$name/" \
        experiments/models/tiny-mixtral.yaml >"$tiny.yaml"
    for weights in "--model $tiny" "--shape $tiny.yaml"; do
        # shellcheck disable=SC2086 # an option and its value
        "$moelab" validate $weights --trace "$tiny.h5" --platform paper-4090 --device host \
            --repeats 1 "${any[@]}" --strategy cpu-only,on-demand,static-random,collab \
            --geometry none,3x2,global:9,all --max-tokens 8 --format tsv -o "$folder/all.tsv" \
            2>"$folder/err" || failed "validate $weights: $(cat "$folder/err")"
        holds "$weights: 16 points" [ "$(column strategy "$folder/all.tsv" | wc -l)" = 16 ]
        holds "$weights: fixed contents decide alike: $(of_fixed decisions)" \
            [ "$(of_fixed decisions | cut -f2 | sort -u)" = equal ]
        holds "$weights: $(column decisions "$folder/all.tsv")" \
            [ -z "$(column decisions "$folder/all.tsv" | grep DIFFER)" ]
    done
    got=$(copied "$tiny.h5" --model "$tiny")
    holds "$name: simulated with the shape of its files" \
        [ "$got" = "$(copied "$tiny.h5" --model "$tiny.yaml")" ]
    want=$(copied "$tiny.h5" --model tiny-mixtral)
    holds "$name: $got GB a token, BF16 $want" awk -v a="$got" -v b="$want" -v n="$bytes" \
        'BEGIN { d = a / b - n / 98304; exit !(a > 0 && d * d < 1e-12) }'
done

# Forms of the result.
expect 0 "predicted_ms_per_token" "${base[@]}" "${any[@]}" --geometry 2x2
expect 0 "ms of a token by cause, predicted / measured" "${base[@]}" "${any[@]}" --geometry 2x2
expect 0 "1 of 1 points within" "${base[@]}" "${any[@]}" --geometry 2x2
"${base[@]}" "${any[@]}" --geometry 2x2 --format json >"$folder/json" 2>/dev/null
for word in '"decisions": "' '"summary": "1 of 1' '"gpu_ms_predicted": ' '"gpu_ms_measured": ' \
    '"repeats": 2' '"weights": "the model' '"token_error_p95_percent": '; do
    holds "no $word in $(cat "$folder/json")" grep -qF "$word" "$folder/json"
done
expect 0 "SYNTHETIC, made in memory: 4 buffers for 16 experts" "$moelab" validate \
    --shape tiny-mixtral --layers 2 --buffers 4 --trace "$t" --platform paper-4090 --repeats 1 \
    --device host "${any[@]}" --geometry 2x2 --max-tokens 5
expect 0 "" "${base[@]}" "${any[@]}" --geometry 2x2 --timeline "$folder/line"
for what in exec sim; do
    holds "timeline of $what" grep -q '"expert"' "$folder/line-$what.json"
done

# A tolerance that nothing meets: exit code 3, after the table.
"${base[@]}" --tolerance 0 --geometry 2x2 --format tsv -o "$folder/strict.tsv" 2>"$folder/err"
holds "tolerance 0" grep -q "1 of 1 points miss the tolerance of 0 % median" "$folder/err"
expect 3 "miss the tolerance" "${base[@]}" --tolerance 0 --geometry 2x2
holds "the result is written" [ "$(column within_tolerance "$folder/strict.tsv")" = no ]

# Bad input.
expect 2 "'--platform' is required" "$moelab" validate --model tiny-mixtral --trace "$t"
expect 2 "moelab calibrate" "$moelab" validate --model tiny-mixtral --trace "$t"
expect 2 "'--trace' is required" "$moelab" validate --model tiny-mixtral --platform paper-4090
expect 2 "--model FOLDER or --shape" "$moelab" validate --trace "$t" --platform paper-4090
expect 2 "empty item" "${base[@]}" --strategy collab,,cpu-only
expect 2 "empty item" "${base[@]}" --geometry 2x2,
expect 2 "indexes 9 exceeds" "${base[@]}" --geometry 2x2,9x1
expect 2 "does not fit" "${base[@]}" --geometry 2x2,8x8 --device host:memory_bytes=3MiB
expect 2 "--timeline is for one" "${base[@]}" --geometry 2x2,3x2 --timeline "$folder/x"
expect 2 "colab" "${base[@]}" --strategy colab
expect 1 "nowhere" "${base[@]}" --trace "$folder/nowhere.h5"
expect 2 "8 experts" "$moelab" validate --model tiny-phimoe --trace "$t" \
    --platform paper-4090 --device host
expect 1 "copy" "${base[@]}" "${any[@]}" --geometry 2x2 --device host:fail_copy=1
"${base[@]}" "${any[@]}" --geometry 2x2 --device host:fail_copy=1 -o "$folder/none" >/dev/null 2>&1
absent "$folder/none"
one_line "$moelab" validate --trace "$t" --platform paper-4090

# Ctrl-C while it runs: one line, exit code 1, no result. A run that was over before the signal
# came proves nothing, so try again with more repeats.
interrupted=no
for repeats in 200 400 800 1000; do
    "${base[@]}" "${any[@]}" --geometry 2x2 --repeats $repeats --device host:launch_us=100 \
        -o "$folder/int" >/dev/null 2>"$folder/int.err" &
    pid=$!
    until [ -s "$folder/int.err" ] || ! kill -0 "$pid" 2>/dev/null; do :; done
    kill -INT "$pid" 2>/dev/null
    wait "$pid"
    code=$?
    [ $code = 0 ] && continue
    [ $code = 1 ] && grep -q "interrupted" "$folder/int.err" && interrupted=yes
    break
done
holds "Ctrl-C: exit $code, $(cat "$folder/int.err")" [ $interrupted = yes ]
absent "$folder/int"
finish
