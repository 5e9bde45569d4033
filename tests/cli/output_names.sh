#!/usr/bin/env bash
# Output files whose ending does not fit the format to be written are refused by every command.
. tests/cli/lib/check.bash
t=$folder/t.h5
expect 0 "" "$moelab" trace synth "uniform:layers=4,experts=8,top_k=2,tokens=40,sequences=4" -o "$t"
cp "$t" "$folder/kept.h5"
cd "$folder" || exit 1

# refused COMMAND... OPTION ENDING...: OPTION x.ENDING is refused before the work, and not written.
refused() {
    local command=$1 option=$2 ending
    shift 2
    for ending; do
        # shellcheck disable=SC2086 # words
        expect 2 "'x.$ending': .$ending is not what '--$option' writes: " \
            "$moelab" $command --"$option" "x.$ending"
        # shellcheck disable=SC2086 # words
        one_line "$moelab" $command --"$option" "x.$ending"
        absent "x.$ending"
    done
}
model="--model mixtral-8x7b"
for form in "tsv json" "json tsv" "text tsv"; do
    # shellcheck disable=SC2086 # words
    set -- $form
    expect 2 "--format $1, but the name of 'y.$2' ends in .$2" "$moelab" trace info t.h5 \
        --format "$1" -o "y.$2"
    absent "y.$2"
done
expect 0 "" "$moelab" trace info t.h5 --format json -o y.json
for command in "replay t.h5" "mrc t.h5" "sim t.h5 $model" "trace info t.h5" "trace stats t.h5" \
    "bench sim" "bench kernels" "bench device" "validate"; do
    refused "$command" output yaml PNG csv h5 pdf xml
done
refused "mrc t.h5" plot svg tsv
refused "trace stats t.h5" plot png
refused "trace stats t.h5" hot-list json h5
refused "sim t.h5 $model" timeline tsv html pdf
refused "sim t.h5 $model" decisions json
refused "validate" timeline json
refused "run --model tiny-mixtral -p x" timeline txt
refused "tune t.h5 $model --platform paper-4090" output tsv json
refused "tune t.h5 $model --platform paper-4090" table yaml
refused "tune t.h5 $model --platform paper-4090" held-out tsv
refused "sweep none.yaml" output json csv Json
refused "sweep merge a.tsv" output json
refused "whatif t.h5 $model --platform paper-4090" output tsv svg
refused "repro tab5" output html
refused "report ." output pdf md
refused "calibrate" output json tsv
refused "trace synth uniform:tokens=9" output csv tsv
refused "trace import --format jsonl x" output jsonl
refused "record --model tiny-mixtral --prompts x" output jsonl txt
refused "trace export t.h5" output h5 png
expect 2 "'x.csv' would be JSON lines: --format route-csv or expert-choices writes CSV" \
    "$moelab" trace export t.h5 -o x.csv
expect 2 "is not what '--output' writes: file for the result: text, x.tsv or x.json" \
    "$moelab" mrc t.h5 -o x.pdf

# What is written, in any case; endings that promise nothing known; a dot of a folder.
mkdir v1.pdf
for name in x.tsv X.TSV x.json x.JSON x.txt x.2024 x v1.pdf/x; do
    expect 0 "" "$moelab" replay t.h5 -o $name
    holds "$name" test -s $name
done
same x.json x.JSON
expect 0 "# command" head -3 X.TSV

# What standard output or error goes to is written there, behind what it has, and not replaced.
for name in /dev/stdout /proc/self/fd/1 log.txt; do
    echo first >log.txt
    "$moelab" replay t.h5 --format tsv -o $name >>log.txt
    holds "$name: lost what was there" test "$(head -1 log.txt)" = first
    holds "$name: not written" grep -q '^# command' log.txt
done
echo first >log.txt
"$moelab" replay t.h5 --format tsv -o /dev/stderr 2>>log.txt
holds "/dev/stderr: lost what was there" test "$(head -1 log.txt)" = first
holds "/dev/stderr: not written" grep -q '^# command' log.txt
expect 0 "# command" "$moelab" replay t.h5 --format tsv -o /dev/stdout
expect 0 "# command" bash -c "'$moelab' replay t.h5 --format tsv -o /dev/stdout | cat"
expect 0 "# command" bash -c "'$moelab' replay t.h5 --format tsv -o /dev/stderr 2>&1 >log.txt |
    cat"
expect 1 "cannot write '/dev/full': No space left" \
    bash -c "'$moelab' replay t.h5 -o /dev/full >/dev/full"
expect 0 "" bash -c "'$moelab' replay t.h5 -o /dev/null >/dev/null"

# A file that is replaced keeps its mode; a new one has that of the umask.
for mode in 600 444 755; do
    rm -f mode.tsv
    "$moelab" replay t.h5 -o mode.tsv
    holds "mode of a new file" [ "$(stat -c %a mode.tsv)" = "$(printf %o $((0666 & ~$(umask))))" ]
    chmod $mode mode.tsv
    "$moelab" replay t.h5 -o mode.tsv
    holds "mode $mode: now $(stat -c %a mode.tsv)" [ "$(stat -c %a mode.tsv)" = $mode ]
done

# A standard stream that is closed: no file takes its place, and what it would have said is missed.
tiny="'$moelab' run --model tiny-mixtral --strategy collab --threads 2 -p Once -n 8"
expect 1 "cannot write to standard output: Bad file descriptor" \
    bash -c "$tiny --decisions uses.txt >&-"
absent uses.txt
bash -c "$tiny --decisions uses.txt 2>&-" >/dev/null
holds "the log is missed: exit $?" test -s uses.txt
holds "the log is in a file" test -z "$(grep '^moelab: ' uses.txt)"
for closed in ">&-" "<&- >&-" "<&- >&- 2>&-"; do
    expect 1 "" bash -c "'$moelab' replay t.h5 $closed"
    expect 1 "" bash -c "'$moelab' replay t.h5 -o /dev/stdout $closed"
    expect 0 "" bash -c "'$moelab' replay t.h5 -o /dev/null $closed"
done
expect 1 "cannot read standard input: Bad file descriptor" bash -c \
    "'$moelab' run --model tiny-mixtral -p - <&-"

# One file for two of them, two files for one, and an input.
expect 2 "'-o' is given twice: only one of them would be written" \
    "$moelab" replay t.h5 -o 1.tsv -o 2.tsv
absent 1.tsv
absent 2.tsv
expect 2 "'x.json' is to be written by --timeline and by --output" "$moelab" sim t.h5 \
    --model mixtral-8x7b --timeline x.json -o x.json
expect 2 "it would be lost" "$moelab" tune t.h5 --model mixtral-8x7b --platform paper-4090 \
    --held-out t.h5
same t.h5 kept.h5
# By other names, and where none of them is there yet.
sim=("$moelab" sim t.h5 --model mixtral-8x7b)
rm x.json
for name in ./x.json .//x.json v1.pdf/../x.json "$folder/x.json"; do
    expect 2 "is to be written by --timeline and by --output" "${sim[@]}" --timeline x.json \
        -o "$name"
done
expect 2 "is to be written by" "${sim[@]}" --timeline /x.json -o /./x.json
ln -s x.txt x-link
expect 2 "is to be written by --decisions" "${sim[@]}" --decisions x.txt -o x-link
expect 0 "" "$moelab" trace synth uniform:layers=32,tokens=64 -o long.h5
# Beside a stem.
for option in "-o st.tsv" "--output ./st.tsv" "--format tsv -o $folder/st.tsv"; do
    # shellcheck disable=SC2086 # words
    expect 2 "st.tsv' is to be written by --plot and by --output" \
        "$moelab" mrc t.h5 --plot st $option
done
expect 2 "'st.tsv' is to be written by --plot and by --hot-list" "$moelab" trace stats t.h5 \
    --plot st --hot-list st.tsv
for ending in sim exec; do
    expect 2 "'st-$ending.json' is to be written by --timeline and by --output" "$moelab" validate \
        --timeline st -o st-$ending.json
done
absent st.tsv
# of one name in two folders
expect 0 "" "$moelab" trace stats long.h5 -o v1.pdf/hot.txt --hot-list hot.txt
# An input by its key.
cp hot.txt kept.txt
expect 0 "" "$moelab" replay long.h5 --policy static:list=hot.txt --geometry 8x2 -o cold.txt
for options in "--policy static:list=hot.txt --geometry 8x2" \
    "--geometry 8x2 --policy static:list=./hot.txt,x=y" \
    "--policy static --geometry 8x2 --set policy.list=hot.txt"; do
    # shellcheck disable=SC2086 # words
    expect 2 "output 'hot.txt' is the input" "$moelab" replay long.h5 $options -o hot.txt
done
same hot.txt kept.txt
cp "$OLDPWD/experiments/data/mixtral-8x7b-decode-stats.json" stats.json
cp stats.json kept.json
for option in -o --timeline; do
    expect 2 "output './stats.json' is the input 'stats.json'" "$moelab" sim \
        synth:stats:file=stats.json,tokens=20 --model mixtral-8x7b --platform paper-4090 \
        --strategy fiddler $option ./stats.json
done
same stats.json kept.json
cp hot.txt list.tsv
expect 2 "output 'list.tsv' is the input 'list.tsv'" "$moelab" trace stats \
    synth:stats:file=list.tsv,tokens=20 --plot list
same list.tsv hot.txt
finish
