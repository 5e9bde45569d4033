#!/usr/bin/env bash
# Lossy strategies: refused by every command until --lossy (in experiments: lossy: yes), named by
# every result, decided alike by simulator and executor; rules that change nothing give the same
# text.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
t=$folder/t.h5
"$moelab" record --model tiny-mixtral --prompts experiments/prompts/demo.jsonl --limit 2 -n 16 \
    --out "$t" >/dev/null 2>&1
lossy=(--lossy --set reroute=cache-prior)
sim=("$moelab" sim "$t" --model tiny-mixtral --geometry 8x3)
run=("$moelab" run --model tiny-mixtral --device host --strategy collab --geometry 8x3)
validate=("$moelab" validate --model tiny-mixtral --trace "$t" --platform paper-4090 --repeats 1
    --device host --tolerance 1e9 --tolerance-p95 1e9)

expect 0 "LOSSY: needs --lossy" "$moelab" list reroutes
expect 0 "LOSSY: changes which experts" "$moelab" list strategies
for rule in cache-prior max-rank cumulative substitute daop pre-calculation; do
    expect 2 "is lossy" "${sim[@]}" --set reroute=$rule
    expect 2 "is lossy" "$moelab" replay "$t" --reroute $rule
    expect 2 "is lossy" "${run[@]}" -p x -n 1 --set reroute=$rule
done
one_line "${sim[@]}" --strategy daop
expect 2 "is lossy" "${validate[@]}" --strategy daop --geometry 8x3
expect 2 "is lossy" "${run[@]}" --trace "$t" --set reroute=max-rank
expect 2 "chooses the rest itself" "$moelab" tune "$t" --model tiny-mixtral --platform paper-4090 \
    --set reroute=max-rank -o "$folder/best.yaml"
expect 2 "unknown strategy key 'lossy'" "${sim[@]}" --set lossy=yes
expect 2 "did you mean 'cache-prior'?" "${sim[@]}" --lossy --set reroute=cache-prio
expect 2 "needs the router's scores" "$moelab" replay \
    "synth:sticky:layers=2,experts=4,top_k=2,tokens=50" --reroute max-rank --lossy
expect 2 "future" "${sim[@]}" "${lossy[@]}" --policy opt
expect 2 "--gap cannot be used with reroute" "${sim[@]}" "${lossy[@]}" --gap

# column NAME FILE: the values of a column of a TSV.
column() {
    awk -F'\t' -v name="$1" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) if ($i == name) n = i; next }
        { print $n }' "$2"
}

# What the results say.
"${sim[@]}" --format tsv -o "$folder/plain.tsv" --decisions "$folder/plain.txt"
"${sim[@]}" --lossy --set reroute=max-rank:rank=0 --format tsv -o "$folder/idle.tsv" \
    --decisions "$folder/idle.txt"
"${sim[@]}" "${lossy[@]}" --format tsv -o "$folder/busy.tsv" --decisions "$folder/busy.txt"
same "$folder/plain.txt" "$folder/idle.txt"
holds "lossless is said" [ "$(column lossy "$folder/plain.tsv")" = no ]
holds "the rule is said" [ "$(column lossy "$folder/idle.tsv")" = max-rank:rank=0 ]
holds "idle is as fast" [ "$(column ms_per_token "$folder/plain.tsv")" = \
    "$(column ms_per_token "$folder/idle.tsv")" ]
for name in rerouted_percent weight_moved_percent gate_mass_lost_percent; do
    holds "$name of none" [ "$(column $name "$folder/plain.tsv")" = 0 ]
    x=$(column $name "$folder/busy.tsv")
    holds "$name: $x" awk -v x="$x" 'BEGIN { exit !(x > 0 && x < 100) }'
done
holds "no bound of routes that were not computed" \
    [ "$(column bound_ms_per_token "$folder/busy.tsv")" = nan ]
holds "events are marked" grep -q " lossy:[0-9]*,[0-9]*$" "$folder/busy.txt"
holds "lossless events are not" [ "$(grep -c lossy "$folder/plain.txt")" = 0 ]

# Pre-calculation: the same routes, some experts on an older input.
early=(--lossy --strategy fiddler --geometry 8x3 --set reroute=pre-calculation)
"${sim[@]}" "${early[@]}" --format tsv -o "$folder/early.tsv" --decisions "$folder/early.txt" \
    --timeline "$folder/early.json" --timeline-tokens 4
for name in pre_calculated_per_token pre_calculation_precision_percent \
    pre_calculation_wasted_ms_per_token; do
    x=$(column $name "$folder/early.tsv")
    holds "$name: $x" awk -v x="$x" 'BEGIN { exit !(x > 0 && x < 100) }'
    holds "$name of others" [ -z "$(column $name "$folder/plain.tsv")" ]
done
holds "no route is changed" [ "$(column rerouted_percent "$folder/early.tsv")" = 0 ]
holds "no bound beside experts begun early" \
    [ "$(column bound_ms_per_token "$folder/early.tsv")" = nan ]
holds "decisions say what was begun" grep -q ":early:.* early:[0-9]" "$folder/early.txt"
holds "the timeline shows it" grep -q '"early"' "$folder/early.json"
expect 2 "dispatch.overlap=on" "${sim[@]}" "${early[@]}" --set dispatch.overlap=off
expect 2 "future" "${sim[@]}" "${early[@]}" --policy opt
expect 0 "LOSSY: " "$moelab" replay "$t" --geometry 8x3 --reroute pre-calculation --lossy
expect 0 "LOSSY: " "$moelab" replay "$t" --geometry 8x3 --reroute max-rank --lossy
expect 0 '"lossy": "max-rank"' "$moelab" replay "$t" --geometry 8x3 --reroute max-rank --lossy \
    --format json
expect 0 '"lossy": "no"' "$moelab" replay "$t" --geometry 8x3 --format json
for contract in event access; do
    "$moelab" replay "$t" --geometry 8x3 --contract $contract --no-layers >"$folder/a" 2>&1
    "$moelab" replay "$t" --geometry 8x3 --contract $contract --no-layers --lossy \
        --reroute substitute:below=0 2>&1 | sed '/^LOSSY/d; s/^[^ ]* *//' | tr -s ' ' >"$folder/b"
    holds "idle under $contract" diff <(tr -s ' ' <"$folder/a") "$folder/b"
done
"$moelab" replay "$t" --geometry 8x3 --reroute max-rank --lossy --no-layers >"$folder/a"
"$moelab" replay "$t" --geometry 8x3 --reroute max-rank --lossy --no-layers --stream >"$folder/b"
same "$folder/a" "$folder/b"
holds "a report says so" "$moelab" report "$folder" -o "$folder/r.html"
holds "a badge" grep -q '>LOSSY</span>' "$folder/r.html"

# The real machine: another text, and it is said; idle, the same text.
text="It was generally agreed in the village"
answer() { "${run[@]}" --chat none --temperature 0 -n 24 -p "$text" "$@" 2>"$folder/err"; }
answer >"$folder/plain"
answer --lossy --set reroute=cache-prior:lambda=0 >"$folder/idle"
answer --lossy --strategy fiddler --set prefill=cache --set reroute=pre-calculation \
    >"$folder/early"
holds "begun experts are said" grep -q "LOSSY: [0-9]* experts started .*; [0-9]* of them used" \
    "$folder/err"
holds "another text" [ "$(cat "$folder/plain")" != "$(cat "$folder/early")" ]
answer --lossy --set reroute=daop:first=1 >"$folder/busy"
same "$folder/plain" "$folder/idle"
holds "it is said" grep -q "LOSSY: .* % of the router's choices replaced" "$folder/err"
holds "the text is another" [ "$(cat "$folder/plain")" != "$(cat "$folder/busy")" ]
expect 0 '"lossy": "daop:first=1"' "${run[@]}" --lossy --set reroute=daop:first=1 -p x -n 2 \
    --format json

# Simulated and real: the same decisions where nothing depends on when copies land.
"${validate[@]}" --lossy --strategy static-hot,static-random,on-demand,cpu-only --geometry 3x2,8x3 \
    --set reroute=daop:first=2 --format tsv -o "$folder/v.tsv" 2>"$folder/err"
holds "decisions: $(column decisions "$folder/v.tsv") $(cat "$folder/err")" \
    [ "$(column decisions "$folder/v.tsv" | sort -u)" = equal ]
holds "eight points" [ "$(column decisions "$folder/v.tsv" | wc -l)" = 8 ]
holds "marked" [ "$(column lossy "$folder/v.tsv" | sort -u)" = daop:first=2 ]
"${validate[@]}" --lossy --strategy daop,collab-cache-prior,collab-substitute --geometry 8x3 \
    --format tsv -o "$folder/v.tsv" 2>"$folder/err"
holds "peers decide alike: $(column decisions "$folder/v.tsv") $(cat "$folder/err")" \
    [ -z "$(column decisions "$folder/v.tsv" | grep DIFFER)" ]
holds "peers ran" [ "$(column decisions "$folder/v.tsv" | wc -l)" = 3 ]
for rule in pre-calculation daop:first=1,pre_calculation=on; do
    "${validate[@]}" --lossy --strategy static-hot,fiddler,cpu-only --geometry 3x2,8x3 \
        --set reroute=$rule --format tsv -o "$folder/v.tsv" 2>"$folder/err"
    holds "$rule: $(column decisions "$folder/v.tsv") $(cat "$folder/err")" \
        [ "$(column decisions "$folder/v.tsv" | sort -u)" = equal ]
    holds "$rule is counted" [ "$(column pre_calculated_per_token "$folder/v.tsv" | wc -l)" = 6 ]
done

# Sweeps.
cat >"$folder/x.yaml" <<YAML
experiment: x
trace: $t
model: tiny-mixtral
platform: paper-4090
strategy: collab
set: {geometry: 8x3}
axes:
  reroute: [none, max-rank, "cache-prior:lambda=1"]
YAML
expect 2 "is lossy" "$moelab" sweep "$folder/x.yaml" -o "$folder/x.tsv"
sed -i 's/^trace/lossy: yes\ntrace/' "$folder/x.yaml"
expect 0 "LOSSY strategies among them" "$moelab" sweep "$folder/x.yaml" -o "$folder/x.tsv" \
    --no-plot
holds "the file says so" grep -q '^# lossy: yes' "$folder/x.tsv"
holds "the rows say so" [ "$(column lossy "$folder/x.tsv" | tr '\n' ' ')" = \
    "no max-rank cache-prior:lambda=1 " ]
sed "s|^trace: .*|trace: $t|" experiments/league-lossy.yaml >"$folder/league.yaml"
expect 0 "19 points" "$moelab" sweep "$folder/league.yaml" -o "$folder/league.tsv" --no-plot
holds "all of the league run" [ "$(column status "$folder/league.tsv" | sort -u)" = ok ]
holds "lossless ones among them" [ "$(column lossy "$folder/league.tsv" | grep -c '^no$')" = 5 ]
if command -v gnuplot >/dev/null; then # none of them waits for copies, and no paper states one
    said=$("$moelab" sweep "$folder/league.yaml" -o "$folder/league.tsv" 2>&1 >/dev/null)
    holds "drawn without a warning: $said" test -s "$folder/league.png" -a -z "$said"
fi
mkdir "$folder/sweep"
cp "$folder/x.tsv" "$folder/sweep"
expect 0 "" "$moelab" report "$folder/sweep" -o "$folder/x.html"
holds "the fastest that computes what the model says" \
    grep -q 'Fastest:.*LOSSY, with another text' \
    "$folder/x.html"
finish
