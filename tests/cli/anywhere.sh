#!/usr/bin/env bash
# The program finds its models, platforms, strategies, statistics and plots from any folder, and
# every command has help.
. tests/cli/lib/check.bash
moelab=$(realpath "$moelab")
data=experiments/data/mixtral-8x7b-decode-stats.json
stats="synth:stats:file=$data,tokens=64,model=mixtral-8x7b"
commands=("trace import" "trace info" "trace stats" "trace verify" "trace synth" "trace export"
    "trace cat" "trace batch" run record quantize replay mrc sim sweep "sweep merge" tune whatif
    repro report calibrate validate list bench "bench kernels" "bench device" version)
cd "$folder" || exit 1
expect 0 "SYNTHETIC" "$moelab" sim "$stats"
# Not in `small`: it fits to statistics again, which takes seconds under a sanitizer.
[ "$size" = whole ] || stats="synth:sticky:tokens=64,model=mixtral-8x7b"
expect 0 "lookups" "$moelab" replay "$stats" --geometry 14x4
expect 1 "experiments/data/none.json" "$moelab" replay "synth:stats:file=experiments/data/none.json"
"$moelab" help >overview
holds "help: not ${#commands[@]} commands" [ "$(grep -c '^  [a-z]' overview)" = ${#commands[@]} ]
for word in help --help -h; do
    expect 0 "usage: moelab COMMAND" "$moelab" help $word
done
for words in "help trace" "trace --help" "trace"; do
    read -ra words <<<"$words"
    expect 2 "'trace' needs one of import, info" "$moelab" "${words[@]}"
done
# a command is listed before its subcommands
for command in bench sweep; do
    first=$(grep -m 1 "^  $command " overview)
    holds "help: not $command first: $first" grep -q "^  $command  " <<<"$first"
done
expect 0 "moelab version" grep -x "moelab version" <("$moelab" help version)
expect 2 "usage: moelab version" "$moelab" version extra
for command in "${commands[@]}"; do
    read -ra words <<<"$command"
    expect 0 "moelab $command" "$moelab" "${words[@]}" --help
    expect 0 "moelab $command" "$moelab" help "${words[@]}"
done
cat >x.yaml <<YAML
experiment: x
trace: "$stats"
model: mixtral-8x7b
platform: paper-4090
strategy: collab
axes: {threads: [1, 24]}
plot: throughput-bars
YAML
if command -v gnuplot >/dev/null; then
    expect 0 "results/x.svg" "$moelab" sweep x.yaml
    for plot in results/x.svg results/x.png; do
        if [ -s "$plot" ]; then passed; else failed "$plot is missing or empty"; fi
    done
else
    expect 0 "results/x.tsv" "$moelab" sweep x.yaml
fi
list=experiments/data/mixtral-8x7b-hot-synthetic.txt
sed -i "s|^axes: .*|axes: {strategy: [static-hot]}|; /^strategy\|^plot/d" x.yaml
echo "set: {policy.list: $list}" >>x.yaml
expect 0 "results/x.tsv" "$moelab" sweep x.yaml
expect 0 "lookups" "$moelab" replay "$stats" --policy "static:list=$list" --geometry 32x2
expect 1 "cannot open 'experiments/data/none.txt'" "$moelab" replay "$stats" --geometry 32x2 \
    --policy static:list=experiments/data/none.txt
expect 0 "static-hot" "$moelab" list strategies
expect 0 "collab-reference" "$moelab" list
expect 0 "32 layers of 8 experts, top 2; an expert 336 MiB at 16 bits, all 84.0 GiB" \
    "$moelab" list models
expect 0 "link 25.1 GB/s (pageable 10), 24 cores, memory 150 GB/s" "$moelab" list platforms
expect 2 "usage: moelab bench sim|kernels|device" "$moelab" bench
expect 0 "link_gb_per_s=NUMBER" "$moelab" calibrate --help
expect 0 "link_gb_per_s=NUMBER" "$moelab" bench device --help
expect 0 "as --device host it has 1.0 GiB unless memory_bytes=SIZE" "$moelab" version
expect 0 "" "$moelab" trace synth uniform:layers=8,experts=8,top_k=2,tokens=20000 -o long.h5
"$moelab" trace cat long.h5 --count 0 2>cat.err | head -1 >cat.out
holds "cat | head: ended by ${PIPESTATUS[0]}" test "${PIPESTATUS[0]}" = 141
holds "cat | head: $(cat cat.err)" test ! -s cat.err
holds "cat | head" grep -q "^token" cat.out
expect 2 "nothing to list" "$moelab" list everything
finish
