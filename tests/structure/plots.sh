#!/usr/bin/env bash
# Plot scripts contain neither data nor published values, and all use style.gp. $1: root.
set -euo pipefail
cd "${1:-.}"
rc=0
[[ -d plots ]] || exit 0
shopt -s nullglob

tell() { # REASON LINES
    echo "$2"
    echo "^ $1"
    rc=1
}

# Published values with a decimal point, except those below 1, which may be widths or offsets.
values=()
if [[ -f experiments/paper/expected.tsv ]]; then
    mapfile -t values < <(awk -F'\t' '/^#/ { next } !n++ { next }
        { for (i = 2; i <= 3; i++) if ($i ~ /\./ && $i > 1) print $i }' \
        experiments/paper/expected.tsv | LC_ALL=C sort -u)
fi
for script in plots/*.gp; do
    if found=$(grep -nE '<< *[A-Z]+|(plot|splot|replot|,) *["'\'']-["'\'']' "$script"); then
        tell "data stand in a result file, not in a plot script" "$script: $found"
    fi
    if [[ $script != plots/style.gp ]] && ! grep -q "load plots.'/style.gp'" "$script"; then
        tell "every plot has the one style" "$script"
    fi
    # style.gp's mark, where it is in the way, has to stand somewhere else.
    if grep -q "^ *set label 900 ''" "$script" && ! grep -q '(synthetic' "$script"; then
        tell "a plot of synthetic routing says so" "$script"
    fi
    # Sizes and gaps of the layout apart.
    size='\b(ps|lw|samplen|spacing|[tblr]margin|offset) *(\([^)]*\)|[-0-9.,]+)'
    rest=$(sed -E "s/$size//g" "$script")
    for value in "${values[@]+"${values[@]}"}"; do
        if found=$(grep -nE "(^|[^0-9.])${value//./\\.}([^0-9.]|$)" <<<"$rest"); then
            tell "a published value: those are in experiments/paper/expected.tsv" "$script: $found"
        fi
    done
done
exit $rc
