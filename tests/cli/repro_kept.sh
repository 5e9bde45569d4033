#!/usr/bin/env bash
# The kept tables of the paper (experiments/results/repro) are what this program gives. Quick ones
# are compared in full, of Fig. 5 and "beyond" only the points chosen here; the rest is only checked
# when experiments/paper/update computes everything.
# shellcheck disable=SC2016,SC2317 # awk's $1; functions are called by `expect` and `holds`
. tests/cli/lib/check.bash
kept=$PWD/experiments/results/repro
anew="(if not: experiments/paper/update)"

near() { # the files are equal, numbers to nine digits; kept files have no "# sources" line
    LC_ALL=C awk -F'\t' 'NR == FNR { a[FNR] = $0; n = FNR; next }
        { split(a[FNR], x, "\t") }
        { for (i = 1; i <= NF; i++) if ($i != x[i]) {
            d = $i - x[i]; if (!(d * d < 1e-18 * $i * $i)) exit bad = 1 } }
        END { exit bad || n != FNR || n == 0 }' \
        <(grep -v '^# sources: ' "$1") <(grep -v '^# sources: ' "$2")
}
columns() { # FILE NAME...: these columns, without a header line
    local file=$1
    shift
    awk -F'\t' -v names="$*" '/^#/ { next }
        !n { n = split(names, want, " "); for (i = 1; i <= NF; i++) at[$i] = i; next }
        { for (i = 1; i <= n; i++) printf "%s%s", $at[want[i]], i < n ? "\t" : "\n" }' "$file"
}
sweep() { # NAME [OPTION]...: experiments/NAME.yaml of the tree, into NAME.tsv
    (cd "$tree" && "$program" sweep "experiments/$1.yaml" --no-plot --jobs 2 -o "$1.tsv" "${@:2}")
}

program=$(realpath "$moelab")
tree=$folder/tree
mkdir "$tree"
cp -r experiments plots "$tree/"

in_full() { (cd "$tree" && "$program" repro "$@" --no-plot -o full); }
expect 0 "" in_full fig3 fig6 tab1 tab2 variants
for f in {,compare-}{fig3,fig6} compare-{tab1,tab2} fig6-closed-form {variants,cold}-cost; do
    holds "kept $f.tsv is what the program gives $anew" near "$tree/full/$f.tsv" "$kept/$f.tsv"
done

# Fig. 5 (a): every eighth point.
expect 0 "" sweep fig5-mixtral --shard 3/8
grep -v '^#' "$tree/fig5-mixtral.tsv" | grep -v '^point' >"$folder/part"
cut -f1 "$folder/part" | grep -F -f - "$kept/fig5-mixtral.tsv" >"$folder/same"
holds "every eighth point of fig5-mixtral.tsv $anew" near "$folder/part" "$folder/same"
holds "which are 13 or 14" test "$(wc -l <"$folder/same")" -ge 13

# Fig. 5 (b): the bars of 24 threads, all geometries, localities and variants.
sed -i 's/threads: \[1, 2, 4, 8, 16, 24\]/threads: [24]/' "$tree/experiments/fig5-phi.yaml"
expect 0 "" sweep fig5-phi
best() { # STRATEGY...: the best medium one of the first, the lowest and highest best of all
    columns "$tree/fig5-phi.tsv" strategy trace tokens_per_s | awk -F'\t' -v all="$*" '
        { split($2, repeat, /[=,]/); at = $1 " " repeat[4]; if ($3 > best[at]) best[at] = $3 }
        END { split(all, s, " "); low = 1e9
              for (at in best) { split(at, k, " "); if (k[1] ~ /^collab/) {
                  if (best[at] < low) low = best[at]; if (best[at] > high) high = best[at] } }
              print best[s[1] " 0.5"] "\t" best[s[2] " 0.5"] "\t" low "\t" high }'
}
best collab collab-reference >"$folder/part"
columns "$kept/fig5-best.tsv" model threads text code lowest highest |
    awk -F'\t' '$1 == "phi-3.5-moe" && $2 == 24' | cut -f3- >"$folder/same"
holds "24 threads of Phi in fig5-best.tsv $anew" near "$folder/part" "$folder/same"

# Beyond: the named points again, and of the others every twentieth: none is better than the best.
for model in mixtral-8x7b phi-3.5-moe; do
    stem=beyond
    [ $model = phi-3.5-moe ] && stem=beyond-phi
    columns "$kept/beyond-best.tsv" model threads geometry differences tokens_per_s j_per_token \
        share_of_bound_percent | grep "^$model" >"$folder/named"
    {
        grep -vE '^ |^grids' "$tree/experiments/$stem.yaml"
        echo grids:
        while IFS=$'\t' read -r _ threads geometry what _; do
            [ "$what" = "as the text has it" ] && what="policy=lru"
            printf '  - {set: {%s}, axes: {threads: [%s], geometry: ["%s"]}}\n' \
                "${what//=/: }" "$threads" "$geometry"
        done <"$folder/named"
    } >"$tree/experiments/named-$stem.yaml"
    expect 0 "" sweep named-$stem
    columns "$tree/named-$stem.tsv" tokens_per_s j_per_token share_of_bound_percent >"$folder/part"
    cut -f5- "$folder/named" >"$folder/same"
    holds "the named points of $stem $anew" near "$folder/part" "$folder/same"
    expect 0 "" sweep $stem --shard 7/20
    columns "$tree/$stem.tsv" status threads policy tokens_per_s >"$folder/part"
    holds "no point of $stem beats the best $anew" awk -F'\t' '
        NR == FNR { of = $2 " " ($4 ~ /policy=opt/); if ($5 > best[of]) best[of] = $5; next }
        $1 == "ok" { n++; if ($4 > best[$2 " " ($3 ~ /^opt/)] * (1 + 1e-9)) exit bad = 1 }
        END { exit bad || n < 25 }' "$folder/named" "$folder/part"
done
finish
