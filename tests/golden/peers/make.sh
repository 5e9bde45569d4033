#!/bin/bash
# Makes misses.tsv, by hand: make.sh MOE_CACHE_EVAL MOE_INFINITY PYTHON > misses.tsv
#
# MOE_CACHE_EVAL is a checkout of github.com/shijiuzhang/moe-cache-eval at commit b8c702f, whose
# moe_controller/simulation.py runs as it is under PYTHON, which needs numpy; what its events.py
# imports beside that is left out. MOE_INFINITY is one of github.com/TorchMoE/MoE-Infinity at
# cca059c: of its core/parallel/expert_dispatcher.cpp, the block that evicts and counts is compiled
# into dispatcher.cc here, with nodes that hold nothing; what a hit takes from the free budget is
# given back.
set -eu
eval_root=$(realpath "$1") infinity=$(realpath "$2") python=$3
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -std=gnu17 -I"$root" -o "$work/write" "$root/tests/golden/libcachesim/write_streams.c" \
    "$root/base/rng.c"
sed -n '/!expert_node->node->device.is_cuda() &&/,/cache_sizes_\[gpu_id\] -= /p' \
    "$infinity/core/parallel/expert_dispatcher.cpp" >"$work/block.inc"
c++ -O1 -w -I"$work" -o "$work/dispatcher" "$here/dispatcher.cc"
cd "$work"
./write
echo "# moe-cache-eval b8c702f and MoE-Infinity cca059c, made by tests/golden/peers/make.sh:" \
    "misses in 10000 requests"
printf 'stream\tpolicy\tslots\tmisses\n'
for stream in skewed layers shifting; do
    "$python" "$here/replay.py" "$eval_root" $stream.oracleGeneral.bin $stream
    for slots in 8 32 64 128; do
        printf '%s\tmoe-infinity-code\t%d\t' $stream $slots
        ./dispatcher $slots <$stream.oracleGeneral.bin
    done
done
