#!/usr/bin/env bash
# Makes one allocation fail at every place of the program that allocates, and all from some places
# on. The command must exit with 1 and one line that names memory, or with 0 and the right result;
# every file is whole and all memory freed.
. tests/fault/lib/faults.bash
make_inputs

# refused FAULT COMMAND...
refused() {
    local fault=$1 code left
    shift
    faulty "$fault" "$@"
    code=$?
    nothing_half_written "$fault $*"
    left=$(awk 'NR == 1 { print $10 }' "$folder/count" 2>/dev/null)
    if [ "$code" != 0 ]; then
        one_reason memory $code "$fault $*"
        holds "no block left: $fault $* -> $(grep left "$folder/count")" test "$left" = 0
    else # the program went on without: a smaller store, a busy time missing in the statistics
        holds "exit 0 and the right files: $fault $*" diff -rq "$folder/right" "$folder/run"
    fi
}

# everywhere COMMAND...: one failure at every place that no earlier command reached; and, from each
# of two of its places on, failure of every allocation.
declare -A tried
everywhere() {
    local n i place
    without_fault site "$@"
    mapfile -t place < <(awk '/^place/ { print $2 }' "$folder/count")
    for ((i = 1; i <= n; i++)); do
        [ -z "${tried[${place[i - 1]}]:-}" ] || continue
        tried[${place[i - 1]}]=yes
        refused "site:$i" "$@"
    done
    refused "from:$((n / 2))" "$@"
    refused "from:$((n * 3 / 4))" "$@"
}

tiny=(--model tiny-mixtral --platform laptop-4060)
here=(--strategy collab --geometry 3x2 --device host)
for policy in lru opt arc lecar lfru moe-infinity; do
    everywhere replay t.h5 --geometry 4x2 --policy $policy -o r.tsv
done
everywhere replay t.h5 --geometry global:6 --contract access --admission quota -o r.json \
    --format json
everywhere trace synth zipf:layers=8,experts=8,top_k=2,tokens=60,sequences=3,prompt=6 -o s.h5
everywhere trace synth sticky:layers=8,experts=8,top_k=2,tokens=60,sequences=3 -o s.h5
everywhere trace import --format jsonl tokens.jsonl -o i.h5
everywhere trace import --format route-csv route.csv -o i.h5
everywhere trace import --format npy npy -o i.h5
everywhere trace import --format vllm vllm.npz -o i.h5
everywhere trace import --format expert-choices expert_choices.csv -o i.h5
everywhere trace export g.h5 -o e.jsonl
everywhere trace stats g.h5 -o st.tsv --hot-list hot.tsv
everywhere trace batch t.h5 --size 2 -o b.h5
everywhere mrc g.h5 -o m.tsv
everywhere sim g.h5 "${tiny[@]}" --strategy collab --geometry 8x2 -o s.tsv --timeline s.json
everywhere sweep x.yaml -o x.tsv --jobs 1
everywhere tune g.h5 "${tiny[@]}" --max-points 12 --finalists 2 --jobs 1 -o best.yaml \
    --table best.tsv --held-out held.h5
everywhere whatif g.h5 "${tiny[@]}" --max-tokens 2 --no-plot --jobs 1 -o w
everywhere record --model tiny-mixtral --chat none --prompts p.jsonl -n 2 --threads 1 \
    --created 2026-01-01T00:00:00Z --out rec.h5
everywhere quantize --model experiments/models/tiny-phimoe --experts q4 --threads 2 -o q4
everywhere run --model tiny-phimoe -n 2 -p hello --threads 2
everywhere run --model tiny-mixtral -n 2 -p hello "${here[@]}"
everywhere run --model tiny-mixtral --trace g.h5 "${here[@]}"
everywhere validate --trace g.h5 "${tiny[@]}" "${here[@]}" --repeats 1 --tolerance 1e9 \
    --tolerance-p95 1e9
echo "${#tried[@]} places that allocate"
finish
