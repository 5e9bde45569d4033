#!/usr/bin/env bash
# Prefetchers and the strategies of other projects: what they gain, refusals, the league table.
. tests/cli/lib/check.bash
trace="synth:sticky:layers=8,experts=8,top_k=2,tokens=64"
# shellcheck disable=SC2317 # called by expect
sim() { "$moelab" sim "$trace" --model tiny-mixtral --geometry global:12 --no-bound "$@"; }

# value FILE STRATEGY COLUMN
value() {
    awk -F'\t' -v s="$2" -v k="$3" '/^#/ {next}
        !n {for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next}
        $c["strategy"] == s {print $c[k]}' "$1"
}
# between WHAT LOW VALUE HIGH
between() {
    holds "$1: $3 is not in $2..$4" awk -v l="$2" -v v="$3" -v h="$4" \
        'BEGIN {exit !(v != "" && v + 0 >= l && v + 0 <= h)}'
}

expect 0 "break_even_precision_percent" sim --set prefetcher=oracle:accuracy=0.8 --prefetch-stats
expect 0 "prefetch_copies_used_percent" sim --set prefetcher=markov
expect 2 "needs lookahead scores" sim --set prefetcher=gate-lookahead
expect 2 "did you mean 'markov'" sim --set prefetcher=makrov
expect 2 "accuracy" sim --set prefetcher=oracle:accuracy=1.5
expect 2 "needs to know the future" \
    "$moelab" run --model tiny-mixtral --strategy pre-gated -p x -n 2
expect 0 "gate-lookahead" "$moelab" list prefetchers

# The real machine decides as the simulated one, whatever it takes (the platform is another's: no
# word about times). 0 DIFFER also where decisions follow time.
# shellcheck disable=SC2317 # called by expect
validate() {
    "$moelab" validate --model tiny-mixtral --trace "$trace,model=tiny-mixtral" \
        --platform paper-4090 --geometry global:12 --threads 1 --repeats 1 --device host \
        --tolerance 1e9 --tolerance-p95 1e9 "$@"
}
expect 0 " 0 DIFFER" validate --strategy pre-gated,pre-gated-ideal,moe-infinity,brainstorm,freetoken
expect 0 " 0 DIFFER" validate --strategy collab --set dispatch.miss=fastest \
    --set dispatch.in_flight=fastest --set prefetcher=markov
expect 0 " 0 DIFFER" validate --strategy on-demand --set dispatch.miss=fastest

# One row for every strategy; the ones that the paper derives by arithmetic come out near it: 32
# layers of two copies, 28.02 ms each, are 1.1 tokens/s; the CPU alone is 260 ms a token.
league=$folder/league.tsv
sweep=("$moelab" sweep experiments/league.yaml --no-plot --output "$league")
if [ "$size" = small ]; then
    sed 's/^trace: .*/trace: "synth:sticky:tokens=64,model=mixtral-8x7b"/' \
        experiments/league.yaml >"$folder/league.yaml"
    sweep[2]=$folder/league.yaml
fi
expect 0 "19 points" "${sweep[@]}"
expect 0 "accelerate " "${sweep[@]}"
"${sweep[@]}" | sed 1,3d | awk '{print $5}' >"$folder/ranks"
holds "best first" sort -c -g -r "$folder/ranks"
sed 's/^show: .*/show: strategy, tokens_per_z/' experiments/league.yaml >"$folder/wrong.yaml"
expect 2 "did you mean 'tokens_per_s'" \
    "$moelab" sweep "$folder/wrong.yaml" --no-plot --output "$league"
holds "every point is ok" [ "$(grep -v '^#' "$league" | cut -f2 | grep -c '^ok$')" = 19 ]
[ "$size" = whole ] || finish
between "pre-gated, ideal" 1.09 "$(value "$league" pre-gated-ideal tokens_per_s)" 1.12
between "pre-gated" 1.07 "$(value "$league" pre-gated tokens_per_s)" 1.12
between "on demand" 1.05 "$(value "$league" on-demand tokens_per_s)" 1.10
between "the CPU alone" 3.7 "$(value "$league" cpu-only tokens_per_s)" 3.9
between "one LRU below a token's demand" 0 "$(value "$league" llama-cpp-lru hit_rate_percent)" 0
finish
