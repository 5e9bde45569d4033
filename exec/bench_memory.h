/* Memory used as weights in measurements: a block larger than the caches, used piece after piece,
 * so that no cache holds the next piece. For exec/bench.c and exec/calibrate*.c. */
#ifndef MOELAB_EXEC_BENCH_MEMORY_H
#define MOELAB_EXEC_BENCH_MEMORY_H

#include "exec/pool.h"

#include <stdatomic.h>

struct moe_bench_memory {
    uint8_t *data; /* pageable; numbers of moderate size in every weight type */
    uint64_t bytes;
    uint64_t at;              /* where the next piece starts */
    atomic_uint_fast64_t sum; /* of what was read, so that the compiler keeps the reads */
};

/* Maps the memory and fills it with all cores. Errors: MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. */
enum moe_status moe_bench_memory_init(struct moe_bench_memory *memory, uint64_t bytes,
                                      struct moe_err *err);
void moe_bench_memory_release(struct moe_bench_memory *memory); /* all zero: no-op */

/* Fills other memory in the same way, e.g. pinned memory. */
enum moe_status moe_bench_memory_fill(void *to, uint64_t bytes, struct moe_err *err);

/* The next piece of `bytes` <= memory->bytes; after the end it starts again at the beginning. */
const uint8_t *moe_bench_memory_next(struct moe_bench_memory *memory, uint64_t bytes);

/* Seconds that the pool takes to read the next piece without computing. */
double moe_bench_read_seconds(struct moe_bench_memory *memory, struct moe_pool *pool,
                              uint64_t bytes);

/* Sets w1, w3, w2 of the job to an expert's matrices that lie one behind the other from `at` on. */
void moe_bench_expert_at(struct moe_ffn_job *job, const uint8_t *at, enum moe_dtype dtype,
                         uint32_t d_model, uint32_t d_ffn);

/* Bytes of an expert's 3 D F weights. */
uint64_t moe_bench_expert_bytes(enum moe_dtype dtype, uint32_t d_model, uint32_t d_ffn);

/* Time since start (moe_clock_ns), at least 1 ns. */
double moe_bench_seconds_since(uint64_t start_ns);

#endif
