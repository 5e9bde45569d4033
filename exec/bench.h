/* Speed of the CPU kernels on this machine, for `moelab bench kernels`: experts at one token beside
 * the rate at which the same threads read the same memory, and many tokens beside OpenBLAS. */
#ifndef MOELAB_EXEC_BENCH_H
#define MOELAB_EXEC_BENCH_H

#include "exec/gemm.h"
#include "exec/kernels.h"

struct moe_kernel_bench {
    uint32_t d_model, d_ffn; /* whole blocks of every dtype */
    uint32_t n_experts; /* in BF16; their memory, 6 D F bytes each, is what all cases work on */
    uint32_t repeats;   /* of each case, 1..99, after one that is not counted */
    bool dtype[MOE_N_DTYPES];
    const struct moe_kernels *only; /* NULL: every usable set */
    const uint32_t *threads;        /* [n_threads], each 1..1024 */
    uint32_t n_threads;
    const uint32_t *tokens; /* [n_tokens], each 2..4096: many tokens */
    uint32_t n_tokens;
    const struct moe_gemm *peer; /* OpenBLAS as well; NULL: not */
};

struct moe_kernel_bench_row {
    const char *what;    /* "read", "expert" or "matrix" */
    const char *kernels; /* set, "OpenBLAS", or "-" for "read" */
    const char *dtype;   /* of the weights; "-" for "read" */
    uint32_t threads, tokens;
    double gb_per_s;    /* weights read a second (1e9 bytes), median */
    double read_share;  /* "expert": median of its rate over the read rate measured in turn with
                           it; NaN for others */
    double gflop_per_s; /* median; NaN for "read" */
    double spread;      /* (largest - smallest) / median */
};

/* Calls row for every case as it is done. "expert": one expert, one token. "matrix": [2048 or F if
 * less, D] of weights; OpenBLAS's time holds the conversion to float32. Errors: MOE_ERR_MEMORY,
 * MOE_ERR_INTERRUPTED, those of moe_pool_new. */
enum moe_status moe_bench_kernels(const struct moe_kernel_bench *bench,
                                  void (*row)(void *context,
                                              const struct moe_kernel_bench_row *row),
                                  void *context, struct moe_err *err);

#endif
