#!/usr/bin/env bash
# The documented example in Python: its block parses, and the command below it imports a file as the
# block's last line writes it.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
page=docs/run-and-record.md
awk '/^```/ { inside = /python/; next } inside' $page >"$folder/record.py"
awk '/^## / { here = /vLLM and SGLang/ } /^```/ { inside = /python/; next } here && inside' $page \
    >"$folder/engines.py"
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

# Replies of engines, made up in their forms: 2 layers, top 2, prompts of 3 and 2 tokens.
line=$(grep '^    moelab trace import --format vllm ' "$OLDPWD/$page")
read -ra words <<<"$line"
holds "one command: $line" test "$(wc -l <<<"$line")" = 1
cat >reply.py <<'PYTHON'
from types import SimpleNamespace
exec(open("engines.py").read())
ids = np.array([[[t, 7], [9, t]] for t in range(5)], "<i4")
vllm = SimpleNamespace(outputs=[SimpleNamespace(routed_experts=ids)], prompt_token_ids=[1, 2, 3])
apart = SimpleNamespace(outputs=[SimpleNamespace(routed_experts=ids[3:])],
                        prompt_routed_experts=ids[:3], prompt_token_ids=[1, 2, 3])
info = {"prompt_tokens": 2, "routed_experts": base64.b64encode(ids[:4].tobytes()).decode()}
save([from_vllm(vllm), from_vllm(apart), from_sglang({"meta_info": info}, 2, 2)])
PYTHON
if python3 -c 'import numpy' 2>/dev/null; then
    expect 0 "" python3 reply.py
    expect 0 "3 sequences, 14 tokens, 2 layers, 128 experts" "$moelab" "${words[@]:1}"
    "$moelab" trace cat engine.h5 | awk -F'\t' '$7 == 1 && $2 != 1 { print $2 "," $6 "," $8 }' >got
    printf '%s\n' 0,prefill,"9,0" 0,prefill,"9,1" 0,prefill,"9,2" 0,decode,"9,3" 0,decode,"9,4" \
        2,prefill,"9,0" 2,prefill,"9,1" 2,decode,"9,2" 2,decode,"9,3" >want
    same got want
    "$moelab" trace cat engine.h5 | awk -F'\t' '$2 == 0' | cut -f3- >want
    "$moelab" trace cat engine.h5 | awk -F'\t' '$2 == 1' | cut -f3- >got
    same got want
else
    echo "no numpy: what is made of engines' replies is not tried"
fi
finish
