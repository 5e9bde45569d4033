# What the tests of failing requests share. A test is `bash tests/fault/NAME.sh MOELAB LIBRARY`,
# where LIBRARY is built from tests/fault/fault.c. Inputs are made once; a command runs in a fresh
# copy.
. tests/cli/lib/check.bash
library=$2
moelab=$(realpath "$moelab")
mkdir "$folder/in"
export OMP_WAIT_POLICY=passive MOELAB_FAULT_NOT=$folder/foreign
nm -S --defined-only "$moelab" | awk '/ [tT] libcudart_static_/ { print $1, $2 }' | sort \
    >"$MOELAB_FAULT_NOT"

make_inputs() {
    local here=$PWD
    ln -s "$here/experiments" "$folder/in/experiments"
    cp tests/golden/import/{tokens.jsonl,route.csv,expert_choices.csv,vllm.npz} "$folder/in"
    ln -s "$here/plots" "$folder/in/plots"
    cp -r tests/golden/import/npy "$folder/in"
    (
        cd "$folder/in" || exit
        printf '{"prompt":"Who are you?"}\n{"prompt":"What now?"}\n' >p.jsonl
        printf '%s\n' "experiment: x" "kind: sim" "trace: g.h5" "model: tiny-mixtral" \
            "platform: laptop-4060" "strategy: collab" "axes:" "  geometry: [8x2]" \
            "  threads: [2]" "  policy: [lru, lfu]" >x.yaml
        mkdir in-page
        "$moelab" trace synth uniform:layers=4,experts=8,top_k=2,tokens=64,sequences=2 -o t.h5
        "$moelab" replay t.h5 --geometry 4x2 --format tsv -o in-page/r.tsv
        "$moelab" record --model tiny-mixtral --chat none --prompts p.jsonl -n 4 --out g.h5
    ) >"$folder/made" 2>&1 || failed "inputs: $(cat "$folder/made")"
}

# faulty FAULT COMMAND...: runs it in $folder/run, with files out, err and count beside that folder.
# Returns its exit code.
faulty() {
    local fault=$1
    shift
    rm -rf "$folder/run" "$folder/count"
    cp -r "$folder/in" "$folder/run"
    (
        cd "$folder/run" || exit
        timeout -k 5 20 env LD_PRELOAD="$library" MOELAB_FAULT="$fault" \
            MOELAB_FAULT_COUNT="$folder/count" "$moelab" "$@" </dev/null >../out 2>../err
    ) 2>"$folder/shell"
}

# without_fault NAME COMMAND...: runs it without a fault to get the right files, and sets n to its
# count of NAME (memory, site, disk).
without_fault() {
    local what=$1
    shift
    faulty "$what:0" "$@" || failed "exit $? without a fault: $* -> $(cat "$folder/err")"
    rm -rf "$folder/right"
    mv "$folder/run" "$folder/right"
    mv "$folder/err" "$folder/notes"
    mv "$folder/out" "$folder/said"
    # shellcheck disable=SC2034 # for the caller
    n=$(awk -v what="$what" 'NR == 1 { for (i = 1; i < NF; i++) if ($i == what) print $(i + 1) }' \
        "$folder/count")
}

# Every file left is equal to that of the run without a fault. Exceptions: a journal, from which the
# same command goes on, and a recording, which may have fewer sequences but must verify.
nothing_half_written() {
    local file name
    while IFS= read -r -d '' file; do
        name=${file#"$folder/run/"}
        case $name in
        *.journal) ;;
        rec.h5) "$moelab" trace verify "$file" >/dev/null 2>&1 || failed "$* -> $name is broken" ;;
        *) cmp -s "$file" "$folder/right/$name" || failed "$* -> $name was left half-written" ;;
        esac
    done < <(find "$folder/run" -type f -print0)
}

# one_reason REGEX CODE COMMAND...: CODE is 1, and stderr has one line that matches the extended
# regex and that the run without a fault lacks.
one_reason() {
    local regex=$1 code=$2 lines
    shift 2
    lines=$(grep -vxFf "$folder/notes" "$folder/err" | grep -cEi "$regex")
    if [ "$code" != 1 ] || [ "$lines" != 1 ]; then
        failed "exit $code, $lines reasons: $* -> $(cat "$folder/err" "$folder/shell")"
    else
        passed
    fi
}
