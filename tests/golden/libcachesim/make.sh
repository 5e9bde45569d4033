#!/bin/bash
# Makes misses.tsv, by hand: make.sh CACHESIM CACHESIM_OUR_DRAWS > misses.tsv
#
# CACHESIM is bin/cachesim of github.com/1a1a11a/libCacheSim at commit aa0fc409, built with
#     cmake -DCMAKE_BUILD_TYPE=Release -DENABLE_TESTS=OFF
# CACHESIM_OUR_DRAWS is the same, but the draw of LeCaR (twice in LeCaR.c: a random number from 0 to
# 99 as a share of 100) is replaced by moe_rng_unit of a generator seeded as moelab seeds that of
# its first pool with seed 1: draws.h here. Nothing else in it is changed.
set -eu
plain=$(realpath "$1") draws=$(realpath "$2") root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -std=gnu17 -I"$root" -o "$work/write" "$root/tests/golden/libcachesim/write_streams.c" \
    "$root/base/rng.c"
cd "$work"
./write

# cachesim's own name and parameters, then moelab's; "draws" in front: the changed program.
quarter=fifo-size-ratio=0.25,ghost-size-ratio=0.5,move-to-main-threshold=1
table="lru||lru
fifo||fifo
clock||clock
lfu||lfu
belady||opt:admit=forced
slru||slru
slru|n-seg=2|slru:segments=2
arc||arc
s3fifo||s3-fifo
s3fifo|$quarter|s3-fifo:small=0.25,ghost=0.5,threshold=1
sieve||sieve
lecar|update-weight=0,lru-weight=1|lecar:learn=off,lru_weight=1
lecar|update-weight=0,lru-weight=0|lecar:learn=off,lru_weight=0
draws lecar||lecar"

echo "# libCacheSim aa0fc409, made by tests/golden/libcachesim/make.sh: misses in 10000 requests"
printf 'stream\tpolicy\tslots\tmisses\n'
for stream in skewed layers shifting; do
    while IFS='|' read -r name params ours; do
        program=$plain
        [ "${name% *}" = draws ] && program=$draws
        for slots in 8 32 64 128; do
            # its small queue of less than two objects takes none in: it misses always
            [ "$name" = s3fifo ] && [ $slots -lt 32 ] && continue
            ratio=$("$program" $stream.oracleGeneral.bin oracleGeneral "${name#* }" $slots \
                --ignore-obj-size 1 \
                ${params:+-e "$params"} 2>/dev/null |
                sed -n 's/.*miss ratio \([0-9.]*\),.*/\1/p' | tail -1)
            printf '%s\t%s\t%s\t%d\n' $stream "$ours" $slots $((10#${ratio/./}))
        done
    done <<<"$table"
done
