/* Speed of the CPU kernels on this machine, for `moelab bench kernels`: experts on one token,
 * compared with the rate at which the same threads read the same memory; many tokens, compared with
 * OpenBLAS. */
#ifndef MOELAB_EXEC_BENCH_H
#define MOELAB_EXEC_BENCH_H

#include "exec/gemm.h"
#include "exec/kernels.h"

struct moe_kernel_bench {
    uint32_t d_model, d_ffn; /* multiples of every dtype's block */
    uint32_t n_experts;      /* size of the memory that all cases work on, in experts of BF16 (6 D F
                                bytes each) */
    uint32_t repeats;        /* of each case, 1..99, after one that is not counted */
    bool dtype[MOE_N_DTYPES];
    const struct moe_kernels *only; /* NULL: every usable set */
    const uint32_t *threads;        /* [n_threads], each 1..1024 */
    uint32_t n_threads;
    const uint32_t *tokens; /* [n_tokens] numbers of tokens for "matrix", each 2..4096 */
    uint32_t n_tokens;
    const struct moe_gemm *peer; /* also measure OpenBLAS; NULL: do not */
};

struct moe_kernel_bench_row {
    const char *what;    /* "read", "expert" or "matrix" */
    const char *kernels; /* set, "OpenBLAS", or "-" for "read" */
    const char *dtype;   /* of the weights; "-" for "read" */
    uint32_t threads, tokens;
    double gb_per_s;    /* weights read a second (1e9 bytes), median */
    double read_share;  /* "expert": its rate over the read rate, measured alternately; median; NaN
                           for others */
    double gflop_per_s; /* median; NaN for "read" */
    double spread;      /* (largest - smallest) / median */
};

/* Calls row for every case as it is done. "expert": one expert, one token. "matrix": weights [2048
 * or F if less, D]; OpenBLAS's time includes the conversion to float32. Errors: MOE_ERR_MEMORY,
 * MOE_ERR_INTERRUPTED, those of moe_pool_new. */
enum moe_status moe_bench_kernels(const struct moe_kernel_bench *bench,
                                  void (*row)(void *context,
                                              const struct moe_kernel_bench_row *row),
                                  void *context, struct moe_err *err);

#endif
