#!/usr/bin/env bash
# The tuner: its predictions equal `sim` on the held-out part; same bytes for any number of threads;
# the executor runs its file; refusals and interrupts leave nothing behind.
. tests/cli/lib/check.bash
t=$folder/t.h5
cd "$folder" || exit 1
ln -s "$OLDPWD/experiments" experiments
case $moelab in /*) ;; *) moelab=$OLDPWD/$moelab ;; esac
mixtral="model=mixtral-8x7b,layers=32,experts=8"
few=(--max-points 120 --finalists 5)
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:$mixtral,top_k=2,tokens=600,sequences=24,prompt=4,alpha=1.2" -o "$t"

# cell FILE COLUMN: the value in the row of the chosen strategy.
cell() {
    awk -F'\t' -v name="$2" '/^#/ { next }
        !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
        $c["chosen"] == "yes" { print $c[name]; exit }' "$1"
}

# round_trip PLATFORM OPTIONS...: tunes, then simulates the written strategy on the held-out part.
round_trip() {
    local platform=$1 got want
    shift
    rm -f best.* held.h5
    expect 0 "" "$moelab" tune "$t" --platform "$platform" "${few[@]}" "$@" --format tsv \
        --table table.tsv --held-out held.h5 -o best.yaml
    want=$(cell table.tsv tokens_per_s)
    got=$("$moelab" sim held.h5 --platform "$platform" --strategy best.yaml --format tsv |
        awk -F'\t' '/^#/ { next } !n { for (i = 1; i <= NF; i++) c[$i] = i; n = 1; next }
            { print $c["tokens_per_s"] }')
    holds "$platform $*: predicted $want, simulated $got" test "$got" = "$want"
    holds "$platform $*: a number" test -n "$got"
    expect 0 "predicted: " grep "^# predicted" best.yaml
}
round_trip laptop-4060
if [ "$size" = whole ]; then
    round_trip paper-4090
    round_trip paper-4090 --budget 2GiB --seed 7
fi
round_trip paper-4090 --budget 1MiB
expect 0 "verdict: do not cache: no expert (336 MiB) fits; without slots" cat best.yaml
round_trip desktop-5090 --set threads=2 --set fill.memory=pageable
expect 0 'threads: "2"' cat best.yaml
expect 0 'memory: "pageable"' cat best.yaml
expect 0 "threads 4096 exceeds the 8 cores of platform 'laptop-4060': simulated with 8" "$moelab" \
    tune "$t" --platform laptop-4060 "${few[@]}" --set threads=4096 -o best.yaml
expect 0 'threads: "8"' cat best.yaml
# the strategy's name is no form of the table, and none of the table's is one of a strategy
expect 2 ".tsv is not what '--output' writes: strategy file to write (best.yaml)" \
    "$moelab" tune "$t" --platform laptop-4060 "${few[@]}" -o best.tsv
expect 0 "strategy: geometry" "$moelab" tune "$t" --platform laptop-4060 "${few[@]}" -o best.new

# Room for few experts, used very unevenly, over a slow link: a placement, with its list in a file.
expect 0 "SYNTHETIC" "$moelab" trace synth \
    "zipf:$mixtral,top_k=1,tokens=600,sequences=24,alpha=6" -o "$t"
round_trip paper-4090 --set platform.link.h2d_pinned_gb_per_s=0.1
expect 0 "best.hot" cat best.yaml
holds "the list" test -s best.hot
# Both moved, and used from another folder.
mkdir -p moved && cp best.yaml best.hot moved && mv best.hot away.hot
expect 0 "tokens_per_s" "$moelab" sim "$t" --platform paper-4090 --strategy moved/best.yaml
(cd moved && ln -s ../experiments . && "$moelab" sim "$t" --platform paper-4090 \
    --strategy best.yaml >../inside 2>&1)
expect 0 "tokens_per_s" cat inside
expect 1 "best.hot" "$moelab" sim "$t" --platform paper-4090 --strategy best.yaml
mv away.hot best.hot

# The text names all that the result is held against.
expect 0 "" "$moelab" tune "$t" --platform paper-4090 "${few[@]}" --table text
for word in "SYNTHETIC routing" "over collab NxM" "over static" "over ncmoe" "over cpu-only" \
    "over on-demand" "finalists may be as fast" "resamplings of 12 sequences" \
    "judged by 12 others" "hold no error of the machine model"; do
    expect 0 "$word" cat text
done
[ "$size" = small ] ||
    expect 0 '"verdict"' "$moelab" tune "$t" --platform paper-4090 "${few[@]}" --format json

# A CPU faster than the link and the GPU: the verdict, and a strategy that does without.
expect 0 "do not cache" "$moelab" tune "$t" --platform paper-4090 "${few[@]}" -o none.yaml \
    --set platform.gpu.expert_launch_us=100000 --set platform.link.h2d_pinned_gb_per_s=0.01
expect 0 'geometry: "none"' cat none.yaml
absent none.hot

# Any number of threads: the same bytes, but for the command line that made them.
jobs_tried=(1 5)
[ "$size" = whole ] || jobs_tried=()
for jobs in "${jobs_tried[@]}"; do
    mkdir -p "jobs$jobs"
    (cd "jobs$jobs" && ln -s ../experiments . && "$moelab" tune "$t" \
        --platform paper-4090 "${few[@]}" \
        --jobs "$jobs" --format tsv --table table.tsv -o best.yaml)
    for file in table.tsv best.yaml; do
        grep -v "^# command" "jobs$jobs/$file" >"jobs$jobs/$file.rows"
        same "jobs1/$file.rows" "jobs$jobs/$file.rows"
    done
done

# One sequence: divided in time, and it says so.
expect 0 "" "$moelab" trace synth \
    "zipf:$mixtral,top_k=2,tokens=200" -o one.h5
expect 0 "the trace has one sequence" "$moelab" tune one.h5 --platform paper-4090 "${few[@]}" \
    --table -
expect 0 "runs of tokens" "$moelab" tune one.h5 --platform paper-4090 "${few[@]}"

# One held-out token has no interval: no verdict, neither way, and no number that is none.
expect 0 "" "$moelab" trace synth "zipf:$mixtral,top_k=2,tokens=2" -o two.h5
expect 0 "" "$moelab" tune two.h5 --platform paper-4090 "${few[@]}" --table short
expect 0 "cannot tell whether to cache" cat short
expect 0 "(no interval)" cat short
holds "the fastest was chosen" grep -qE '^ +1 +yes ' short
holds "no verdict on one token" test "$(head -4 short | grep -c -e "do not cache" -e nan)" = 0

# What was found runs for real, unchanged.
shape=$(sed -n 's/^n_layers: *\([0-9]*\).*/\1/p' experiments/models/tiny-mixtral.yaml)
experts=$(sed -n 's/^n_experts: *\([0-9]*\).*/\1/p' experiments/models/tiny-mixtral.yaml)
expect 0 "" "$moelab" trace synth \
    "zipf:layers=$shape,experts=$experts,top_k=2,tokens=400,sequences=20,model=tiny-mixtral" \
    -o tiny.h5
expect 0 "" "$moelab" tune tiny.h5 --platform paper-4090 --budget 1MiB "${few[@]}" -o tiny.yaml
plain=$("$moelab" run --model tiny-mixtral -p "Who are you?" -n 12 --temperature 0 2>/dev/null)
tuned=$("$moelab" run --model tiny-mixtral -p "Who are you?" -n 12 --temperature 0 \
    --strategy tiny.yaml --platform paper-4090 2>run.err)
holds "run says: $(cat run.err)" test -n "$tuned"
holds "the same text with the tuned strategy" test "$plain" = "$tuned"

# Refusals: one line, and nothing written.
one_line "$moelab" tune "$t" -o bad.yaml
expect 2 "budget 99.0 TiB exceeds the" "$moelab" tune "$t" --platform paper-4090 --budget 99TiB \
    -o bad.yaml
one_line "$moelab" tune "$t" --platform paper-4090 -o -
one_line "$moelab" tune "$t" --platform paper-4090 --set policy=lru -o bad.yaml
one_line "$moelab" tune "$t" --platform no-such -o bad.yaml
one_line "$moelab" tune no-such.h5 --platform paper-4090 -o bad.yaml
expect 2 "no platform" "$moelab" tune "$t"
expect 2 "dense weights and KV cache" "$moelab" tune "$t" --platform paper-4090 \
    --set platform.gpu.memory_bytes=1GiB
expect 2 "exceeds the" "$moelab" tune "$t" --platform paper-4090 --budget 99TiB
expect 2 "chooses the rest itself" "$moelab" tune "$t" --platform paper-4090 --set geometry=none
one_line "$moelab" tune "$t" --platform paper-4090 "${few[@]}" -o no/such/folder/bad.yaml
absent bad.yaml
absent bad.hot

# Ctrl-C in the search.
"$moelab" tune "$t" --platform paper-4090 --max-points 1000000 --held-out bad.h5 --table bad.tsv \
    -o bad.yaml 2>interrupted &
pid=$!
# As soon as it is moelab (the shell that becomes it catches signals too) and catches SIGINT (bit 1
# of the mask); the search is far longer than that.
until [ "$(cat /proc/$pid/comm)" = "$(basename "$moelab")" ]; do :; done
until [ $((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' /proc/$pid/status) & 2)) != 0 ]; do :; done
kill -INT $pid
wait $pid
holds "interrupted: not a success" test $? != 0
expect 0 "interrupted" cat interrupted
for file in bad.yaml bad.hot bad.h5 bad.tsv; do
    absent $file
    absent $file.part
done
finish
