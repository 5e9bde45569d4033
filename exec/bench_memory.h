/* Memory that stands for weights, and what measurements do with it: a block larger than the caches,
 * walked through from piece to piece so that no cache holds what comes next. For exec/bench.c and
 * exec/calibrate*.c. */
#ifndef MOELAB_EXEC_BENCH_MEMORY_H
#define MOELAB_EXEC_BENCH_MEMORY_H

#include "exec/pool.h"

#include <stdatomic.h>

struct moe_bench_memory {
    uint8_t *data; /* modest numbers in every weight type; pageable */
    uint64_t bytes;
    uint64_t at;              /* where the next piece starts */
    atomic_uint_fast64_t sum; /* keeps the reading from being left out */
};

/* Mapped and filled by all cores. Errors: MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. */
enum moe_status moe_bench_memory_init(struct moe_bench_memory *memory, uint64_t bytes,
                                      struct moe_err *err);
void moe_bench_memory_release(struct moe_bench_memory *memory); /* of zeros: no-op */

/* Fills any memory in the same way (pinned). */
enum moe_status moe_bench_memory_fill(void *to, uint64_t bytes, struct moe_err *err);

/* The next piece, bytes <= memory->bytes; from the start again where the end is reached. */
const uint8_t *moe_bench_memory_next(struct moe_bench_memory *memory, uint64_t bytes);

/* Seconds in which the pool reads the next piece and does nothing with it. */
double moe_bench_read_seconds(struct moe_bench_memory *memory, struct moe_pool *pool,
                              uint64_t bytes);

/* The matrices of an expert at `at`, packed one behind the other, into job (w1, w3, w2 only). */
void moe_bench_expert_at(struct moe_ffn_job *job, const uint8_t *at, enum moe_dtype dtype,
                         uint32_t d_model, uint32_t d_ffn);

/* 3 D F weights. */
uint64_t moe_bench_expert_bytes(enum moe_dtype dtype, uint32_t d_model, uint32_t d_ffn);

/* Time since start (moe_clock_ns), at least 1 ns. */
double moe_bench_seconds_since(uint64_t start_ns);

#endif
