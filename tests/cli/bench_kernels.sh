#!/usr/bin/env bash
# The benchmark of kernels at tiny sizes: every case has a row; refusals.
. tests/cli/lib/check.bash
# shellcheck disable=SC2054 # commas belong to the lists
tiny=(--d-model 64 --d-ffn 96 --experts 2 --repeats 2 --threads 1,2)
out=$folder/k.tsv
expect 0 "" "$moelab" bench kernels "${tiny[@]}" --tokens 2,5 --format tsv -o "$out"
header=$(grep -v '^#' "$out" | head -n 1)
wanted=$(printf 'case\tkernels\tdtype\tthreads\ttokens\tgb_per_s\tshare_of_read_rate_percent\t')
wanted+=$(printf 'gflop_per_s\tspread_percent')
holds "columns are $header" [ "$header" = "$wanted" ]
# rows CASE KERNELS: the number of rows of this case and kernel set.
rows() {
    awk -F'\t' -v c="$1" -v k="$2" '$1 == c && $2 == k' "$out" | wc -l
}
holds "two rows of read" [ "$(rows read -)" = 2 ]
holds "portable: 5 types, 2 numbers of threads" [ "$(rows expert portable)" = 10 ]
holds "and 2 numbers of tokens" [ "$(rows matrix portable)" = 20 ]
holds "OpenBLAS in every matrix case" [ "$(rows matrix OpenBLAS)" = 20 ]
# shellcheck disable=SC2016 # the quoted text is awk's
holds "rates are positive" awk -F'\t' '
    !/^#/ && $1 != "case" && !($6 > 0) { bad = 1 }
    END { exit bad }' "$out"
# The bytes of a weight are 2 / (gflop_per_s / gb_per_s) where there is one token.
# shellcheck disable=SC2016 # the quoted text is awk's
holds "bytes of a weight are the type's" awk -F'\t' '
    BEGIN { bytes["F32"] = 4; bytes["BF16"] = bytes["F16"] = 2
            bytes["Q8"] = 34 / 32; bytes["Q4"] = 18 / 32 }
    $1 == "expert" || $1 == "matrix" {
        ratio = 2 * $5 * $6 / $8 / bytes[$3]
        if (!(ratio > 0.999 && ratio < 1.001)) bad = 1
        cases++ }
    END { exit bad || cases < 50 }' "$out"

expect 0 "expert" "$moelab" bench kernels "${tiny[@]}" --dtype f32 --kernels portable --tokens none
expect 0 '"gflop_per_s"' "$moelab" bench kernels "${tiny[@]}" --kernels auto --no-peers \
    --format json
expect 0 "Q4" "$moelab" bench kernels "${tiny[@]}" --dtype q4 --kernels portable --tokens none
expect 2 "unknown dtype 'q5'; known: bf16, f16, f32, q8, q4" "$moelab" bench kernels --dtype bf16,q5
expect 2 "d_ffn 100 is no multiple of 32, as dtype Q8 needs" \
    "$moelab" bench kernels --d-model 64 --d-ffn 100
expect 2 "d_model 16 is no multiple of 32, as dtype Q4 needs" \
    "$moelab" bench kernels --d-model 16 --d-ffn 96 --dtype bf16,q4
expect 0 "F16" "$moelab" bench kernels --d-model 10 --d-ffn 10 --experts 2 --dtype f16 --tokens none
expect 2 "unknown kernels 'mmx'" "$moelab" bench kernels --kernels mmx
expect 2 "threads" "$moelab" bench kernels --threads 0
expect 2 "tokens" "$moelab" bench kernels --tokens 8,1
expect 2 "threads" "$moelab" bench kernels --threads 1,,2
expect 2 "more than 16" "$moelab" bench kernels --threads 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
expect 2 "known: sim, kernels, device" "$moelab" bench kernel
expect 1 "" "$moelab" bench kernels "${tiny[@]}" -o "$folder/no/such/file"
finish
