#!/usr/bin/env bash
# The paper's figures at reduced size: every table is written, the checks hold, plots are drawn or
# the reason is said; the committed page is what the committed tables give. (Whether this program
# still gives those tables: repro_kept.sh.)
# shellcheck disable=SC2317 # the functions are called by `expect`
. tests/cli/lib/check.bash
one_line "$moelab" repro fig7
expect 2 "unknown figure 'fig22' (did you mean 'fig2'?)" "$moelab" repro fig22 -o "$folder/none"
absent "$folder/none"

# The page: from the committed tables, byte for byte.
cp -r experiments/results/repro "$folder/kept"
rm -f "$folder/kept/paper-repro.md"
expect 0 "" "$moelab" repro page -o "$folder/kept"
same "$folder/kept/paper-repro.md" paper-repro.md
rm "$folder/kept/fig6.tsv"
expect 1 "fig6.tsv" "$moelab" repro page -o "$folder/kept"
mkdir -p "$folder/elsewhere/experiments/paper"
cp -r experiments/results/repro "$folder/elsewhere/r"
page_of() { # the page of a template that is $1
    printf '%s\n' "$1" >"$folder/elsewhere/experiments/paper/page.md"
    cp experiments/paper/expected.tsv "$folder/elsewhere/experiments/paper/"
    (cd "$folder/elsewhere" && "$program" repro page -o r)
}
program=$(realpath "$moelab")
expect 0 "" page_of "@table fig6 model,geometry=How_many policy=opt"
printf '%s\n' '| model | How many |' '|---|---|' '| mixtral | 7x8 |' >"$folder/small.md"
head -n 3 "$folder/elsewhere/r/paper-repro.md" >"$folder/begin.md"
same "$folder/begin.md" "$folder/small.md"
expect 1 "'fig6.tsv' has no column 'lairs'" page_of "@table fig6 model,lairs"
expect 1 "unknown directive '@tabel" page_of "@tabel fig6 model"
expect 1 "@table needs a stem and columns" page_of "@table fig6"

# The list of Fiddler's rule is what the generator gives with another seed.
stats="synth:stats:file=experiments/data/mixtral-8x7b-decode-stats.json"
expect 0 "" "$moelab" trace stats "$stats,tokens=2048,sequences=4,seed=2,model=mixtral-8x7b" \
    --no-layers --hot-list "$folder/hot.txt"
grep -v '^#' "$folder/hot.txt" >"$folder/made"
grep -v '^#' experiments/data/mixtral-8x7b-hot-synthetic.txt >"$folder/kept.txt"
same "$folder/made" "$folder/kept.txt"

# Everything, reduced, in a tree of its own, so that no recording of another run is used.
tree=$folder/tree
mkdir "$tree"
cp -r experiments plots "$tree/"
if [ "$size" = small ]; then # without fits to statistics: seconds each, and one was just made
    sed -i 's/"synth:stats:file=[^,]*,/"synth:sticky:repeat=0.3,/' "$tree"/experiments/*.yaml
fi
figures() { (cd "$tree" && "$program" repro "$@" --reduced -o out); }
said=$(figures all --jobs 2 2>&1 </dev/null)
holds "every figure: $said" grep -qx "results in out" <<<"$said"
warnings=$(grep -i warning <<<"$said")
holds "nobody, gnuplot neither, has anything to warn of: $warnings" test -z "$warnings"
for f in fig2 fig2-mean fig3 fig4 fig4-host fig5-mixtral fig5-phi fig5-summary fig5-consistency \
    fig5-needed-hits fig5-fixed-time-best fig6 fig6-closed-form fig6-mixtral fig6-phi tab1 tab2 \
    tab4 tab5 variants-cost cold-cost beyond-best real{,-kinds,-bands} \
    compare-{fig2,fig3,fig5,fig6,tab1,tab2,tab4,tab5}; do
    holds "$f.tsv has rows" test "$(grep -vc '^#' "$tree/out/$f.tsv")" -gt 1
done
holds "the page is there" test -s "$tree/out/paper-repro.md"
holds "a status of every figure, that says how it was run" test \
    "$(grep -c 'moelab repro [a-z0-9]* --reduced' "$tree/out/status.tsv")" = 12
holds "every row of recorded routing names its trace" test \
    "$(grep -v '^#' "$tree/out/real.tsv" | cut -f1 | grep -c .)" = \
    "$(grep -vc '^#' "$tree/out/real.tsv")"
n_rows() { grep -vcE '^(#|trace)' "$tree/out/$1.tsv"; }
holds "answers of each kind and of all, by position, of both models" test \
    "$(n_rows real-kinds),$(n_rows real-bands)" = 10,6
for f in fig5-best variants-cost beyond-best tab5; do
    holds "$f.tsv says that its routing is synthetic" grep -q '^# synthetic: yes' "$tree/out/$f.tsv"
done
holds "every published value is compared or said not to be obtained" test \
    "$(grep -vhE '^(#|id)' "$tree"/out/compare-*.tsv | cut -f1 | LC_ALL=C sort -u | wc -l)" = \
    "$(grep -vcE '^(#|id)' experiments/paper/expected.tsv)"
if grep -q 'not obtained' "$tree"/out/compare-*.tsv; then
    failed "not obtained: $(grep -h 'not obtained' "$tree"/out/compare-*.tsv | cut -f1)"
else
    passed
fi
expect 0 "static random at most" cat "$tree/out/fig6.tsv"

# The same again runs nothing anew and gives the same tables.
cp -r "$tree/out" "$folder/first"
expect 0 "" figures fig2 fig5 --no-plot --jobs 1
for f in "$folder"/first/{fig2,fig5-mixtral,compare-fig5,fig5-best}.tsv; do
    same "$f" "$tree/out/${f##*/}"
done

# Without gnuplot: said once, and the data are there.
mkdir "$folder/empty"
no_gnuplot() { (cd "$tree" && PATH=$folder/empty "$program" repro fig3 --reduced -o bare); }
expect 0 "gnuplot is not installed" no_gnuplot
absent "$tree/bare/fig3.png"
same "$tree/bare/fig3.tsv" "$tree/out/fig3.tsv"
if command -v gnuplot >/dev/null; then
    cp -r "$tree/bare" "$tree/bob's"
    quoted() { (cd "$tree" && "$program" repro fig3 --reduced -o "bob's"); }
    expect 2 "a quote (') in its name" quoted
    for f in fig2 fig3 fig4 fig4-host fig5-mixtral fig5-phi fig6; do
        for form in svg png pdf; do
            holds "$f.$form is drawn" test -s "$tree/out/$f.$form"
        done
    done
fi

# A failed check is exit code 3 and names the value; a broken file of published values is told.
sed -i 's/^\(tab3.mixtral.copy\t\)28.02\t28.02/\130\t30/' "$tree/experiments/paper/expected.tsv"
expect 3 "tab3.mixtral.copy is 28.02" figures tab1
sed -i 's/^\(tab3.mixtral.copy\t\)30/\1thirty/' "$tree/experiments/paper/expected.tsv"
expect 1 "low 'thirty' is not a number" figures tab1
# A full disk, from the first file on, leaves no folder that was not there.
rm -r "$tree/results"
said=$(
    trap '' XFSZ
    ulimit -f 1
    cd "$tree" && "$program" repro tab2 --reduced --no-plot -o "$folder/new/deep" 2>&1
)
holds "a full disk: exit code $?, '$said'" [ $? = 1 ]
absent "$folder/new"
absent "$tree/results"
finish
