#!/usr/bin/env bash
# The benchmark of devices on `host` at tiny sizes: every case has a row; refusals.
. tests/cli/lib/check.bash
tiny=(--device host --shapes tiny-mixtral --walk 1MiB --rounds 2 --context 16)
out=$folder/d.tsv
expect 0 "" "$moelab" bench device "${tiny[@]}" --max-tokens 8 --format tsv -o "$out"
header=$(grep -v '^#' "$out" | head -n 1)
wanted=$(printf 'case\tshape\ttokens\tbytes\tus\tspread_percent\tgb_per_s\tgflop_per_s\t')
wanted+=$(printf 'share_percent\taim_percent')
holds "columns are $header" [ "$header" = "$wanted" ]
# rows CASE: the number of rows of this case.
rows() {
    awk -F'\t' -v c="$1" '$1 == c' "$out" | wc -l
}
holds "copies up: 64 KiB and an expert" [ "$(rows 'h2d pinned')" = 2 ]
holds "copies down: a token's and an expert" [ "$(rows 'd2h pinned')" = 2 ]
holds "copies within the device" [ "$(rows d2d)" = 1 ]
holds "an expert on 1, 2 and 8 tokens" [ "$(rows expert)" = 3 ]
# shellcheck disable=SC2016 # the quoted text is awk's
holds "times are positive" awk -F'\t' '
    !/^#/ && $1 != "case" && !($5 > 0) { bad = 1 }
    END { exit bad }' "$out"
holds "the weights are said to be made up" grep -q '^# weights: SYNTHETIC' "$out"

expect 0 '"share_percent"' "$moelab" bench device "${tiny[@]}" --shapes tiny-mixtral,tiny-phimoe \
    --max-tokens 1 --format json
expect 2 "unknown device 'gpu'" "$moelab" bench device --device gpu
expect 2 "nosuch" "$moelab" bench device --device host --shapes nosuch
expect 2 "rounds" "$moelab" bench device --rounds 100
expect 1 "shape 'tiny-mixtral'" "$moelab" bench device "${tiny[@]}" \
    --device host:memory_bytes=100KB
expect 1 "fail_copy" "$moelab" bench device "${tiny[@]}" --device host:fail_copy=40
expect 1 "" "$moelab" bench device "${tiny[@]}" -o "$folder/no/such/file"
finish
