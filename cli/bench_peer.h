/* libCacheSim beside moelab: the same access stream, the same pool, in turn. */
#ifndef MOELAB_CLI_BENCH_PEER_H
#define MOELAB_CLI_BENCH_PEER_H

#include "base/error.h"
#include "base/table.h"

#include <stdint.h>

/* Is libCacheSim's program `cachesim` on the PATH? */
int cli_peer_present(void);

/* Adds two rows to the table: LRU over one pool by moelab and by libCacheSim, medians of
 * interleaved repeats on a synthetic Mixtral-shaped stream of `tokens` tokens, with their miss
 * ratios. Uses a folder in /tmp for the stream (24 bytes an access). */
enum moe_status cli_bench_peer(struct moe_table *table, uint64_t tokens, uint32_t repeats,
                               struct moe_err *err);

#endif
