#!/usr/bin/env bash
# tests/gpu/run with programs that only pretend to do the steps: steps chosen by name run in its own
# order, several calls write one summary, and every way to end has its verdict.
# shellcheck disable=SC2016 # the quoted text is of other programs
. tests/cli/lib/check.bash
bin=$folder/bin results=$folder/results
mkdir "$bin"

# pretend PROGRAM LINE...: makes PROGRAM a shell script of these lines.
pretend() {
    local program=$1
    shift
    printf '%s\n' '#!/usr/bin/env bash' "$@" >"$bin/$program"
    chmod +x "$bin/$program"
}
pretend moelab '[[ $1 == version ]] && printf "moelab\ndevice cuda:0 Pretended GPU, 1 core\n"'
pretend test_device_cuda 'echo "100%: Checks: 1, Failures: 0"'
pretend test_machine_cuda 'exit 3'
pretend gpu_hold true

run=(tests/gpu/run --bin "$bin")
expect 2 "no step 'device2'; there are: environment device bits" "${run[@]}" \
    --steps "bits device2" "$results"
expect 2 "usage: tests/gpu/run" "${run[@]}" --steps
absent "$results"

expect 0 "0 steps did not pass" "${run[@]}" --steps "device environment" "$results"
expect 1 "2 steps did not pass" "${run[@]}" --steps "bench-kernels bits machine" "$results"
printf '%s\n' step:verdict environment:passed device:passed bits:passed \
    'machine:ran, missed a tolerance' 'bench-kernels:failed (1)' >"$folder/want"
cut -f 1,2 --output-delimiter=: "$results/summary.tsv" >"$folder/got"
same "$folder/want" "$folder/got"
holds "few steps get more time" awk -F '\t' '$1 == "bits" { good = $4 == 60 * 520 / 160 }
    END { exit !good }' "$results/summary.tsv"
holds "a log a step" grep -q "Checks: 1" "$results/bits.log"

# Counters: of the expert's kernels and of the others; a driver that forbids them is no failure.
counted=$folder/counted
pretend ncu 'echo "$*" "DRAM Throughput % 91"'
expect 0 "0 steps did not pass" env PATH="$bin:$PATH" "${run[@]}" --steps profile "$counted"
holds "both kinds of kernels" awk '/regex:linear_kernel .* bench device/ { a = 1 }
    /regex:.*norm.*_kernel .* bench device/ { b = 1 } END { exit !(a && b) }' "$counted/profile.log"
pretend ncu 'echo "==ERROR== ERR_NVGPUCTRPERM"' 'exit 1'
expect 0 "0 steps did not pass" env PATH="$bin:$PATH" "${run[@]}" --steps profile "$counted"
pretend ncu 'exit 1'
expect 1 "1 steps did not pass" env PATH="$bin:$PATH" "${run[@]}" --steps profile "$counted"
printf '%s\n' step:verdict profile:passed profile:skipped 'profile:failed (1)' >"$folder/want2"
cut -f 1,2 --output-delimiter=: "$counted/summary.tsv" >"$folder/got2"
same "$folder/want2" "$folder/got2"

pretend moelab 'echo moelab'
expect 0 "nothing was run" "${run[@]}" --steps bits "$results"
same "$folder/want" <(cut -f 1,2 --output-delimiter=: "$results/summary.tsv")
finish
