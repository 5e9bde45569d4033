#!/usr/bin/env bash
# The documented way from Python: its block parses, and the file that its last line writes goes in
# by the command beneath it, as the text there says.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
page=docs/run-and-record.md
awk '/^```/ { inside = /python/; next } inside' $page >"$folder/record.py"
holds "a block of Python that saves ids.npy" grep -q '^np.save("ids.npy", .*astype("u2"))$' \
    "$folder/record.py"
if command -v python3 >/dev/null; then
    expect 0 "" python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' \
        "$folder/record.py"
fi
line=$(grep '^    moelab trace import --format npy ' $page)
read -ra words <<<"$line"
holds "one command: $line" test "$(wc -l <<<"$line")" = 1

# What numpy saves of [T = 5, L = 2, K = 2] ids of two bytes: token t uses t, 7 and 7 - t, 3.
cd "$folder" || exit 1
header="{'descr': '<u2', 'fortran_order': False, 'shape': (5, 2, 2), }"
{
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header"
    for t in 0 1 2 5 6; do
        printf '%b' "\\x0$t\\x00\\x07\\x00\\x0$((7 - t))\\x00\\x03\\x00"
    done
} >ids.npy
expect 0 "wrote mine.h5" "$moelab" "${words[@]:1}"
"$moelab" trace cat mine.h5 | cut -f2,3,6- >got
{
    printf 'sequence\tstep\tphase\tlayer\texperts\n'
    step=0
    for t in 0 1 2 5 6; do # a decode pass of its own each
        printf '0\t%d\tdecode\t0\t%d,7\n0\t%d\tdecode\t1\t%d,3\n' $step $t $step $((7 - t))
        step=$((step + 1))
    done
} >want
same got want

# Divided into sequences, by the header line that the page gives.
# shellcheck disable=SC2016 # those of Markdown
columns=$(grep -o '`n_tokens,n_prompt,category`' "$OLDPWD/$page" | tr -d '`')
printf '%s\n3,2,first\n2,0,second\n' "$columns" >s.csv
expect 0 "2 sequences, 5 tokens" "$moelab" "${words[@]:1}" --sequences s.csv
"$moelab" trace cat mine.h5 | awk -F'\t' '$7 == 0 { print $2 "," $3 "," $6 }' >got
printf '%s\n' 0,0,prefill 0,0,prefill 0,1,decode 1,0,decode 1,1,decode >want
same got want
finish
