#!/usr/bin/env bash
# Makes one change of a file fail (write, truncate, sync, close, rename), each in turn. The command
# must exit with 1 and one line that says why, or with 0 and the right files; every file is whole.
. tests/fault/lib/faults.bash
make_inputs
faulty disk:0 version
if [ $? = 77 ]; then
    echo "skipped: the system forbids seccomp, by which changes of files are made to fail"
    exit 77
fi

# each_change COMMAND...: for every odd change, the disk is full from it on; every even one fails
# alone. Some changes may fail without harm: testing whether a file can be written, exchanging two
# names.
each_change() {
    local n i code fault reason ended=0
    without_fault disk "$@"
    for ((i = 1; i <= n; i++)); do
        fault=full:$i reason="no space left on device"
        ((i % 2)) || fault=disk:$i reason="input/output error"
        faulty "$fault" "$@"
        code=$?
        nothing_half_written "$fault $*"
        if [ $code = 0 ]; then
            holds "exit 0, right files: $fault $*" diff -rq "$folder/right" "$folder/run"
        else
            ended=$((ended + 1))
            one_reason "$reason" $code "$fault $*"
        fi
    done
    holds "most changes matter ($ended of $n): $*" test $((ended * 2)) -ge "$n"
}

tiny=(--model tiny-mixtral --platform laptop-4060)
each_change replay t.h5 --geometry 4x2 -o r.tsv
each_change trace import --format route-csv route.csv -o i.h5
each_change trace export g.h5 -o e.jsonl
each_change trace export g.h5 --format npy -o e
each_change trace stats g.h5 -o st.tsv --hot-list hot.tsv
each_change trace batch t.h5 --size 2 -o b.h5
each_change mrc g.h5 -o m.json --format json
each_change sim g.h5 "${tiny[@]}" --strategy collab --geometry 8x2 -o s.tsv --timeline s.json
each_change sweep x.yaml -o x.tsv --jobs 1
each_change tune g.h5 "${tiny[@]}" --max-points 12 --finalists 2 --jobs 1 -o best.yaml \
    --table best.tsv --held-out held.h5
each_change whatif g.h5 "${tiny[@]}" --max-tokens 2 --no-plot --jobs 1 -o w
each_change record --model tiny-mixtral --chat none --prompts p.jsonl -n 2 --threads 1 \
    --created 2026-01-01T00:00:00Z --out rec.h5
each_change quantize --model experiments/models/tiny-phimoe --experts q4 --threads 1 -o q4
each_change report in-page -o page.html
finish
