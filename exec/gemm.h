/* Matrix products by OpenBLAS, to compare speeds with. Unlike those of exec/kernels.h, its results
 * for a token depend on the tokens beside it, and its weights have to be float32.
 *
 * The library is loaded at run time: if linked, it would start a thread for every core, and take
 * memory for it, in each run of the program. */
#ifndef MOELAB_EXEC_GEMM_H
#define MOELAB_EXEC_GEMM_H

#include "base/error.h"

#include <stdint.h>

struct moe_gemm {
    void *library;
    void (*set_threads)(int n);
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
};

/* Errors: MOE_ERR_UNSUPPORTED (no OpenBLAS: the reason of the loader). */
enum moe_status moe_gemm_open(struct moe_gemm *out, struct moe_err *err);
void moe_gemm_close(struct moe_gemm *gemm); /* also one that is all zero */

/* y[T, rows] = x[T, cols] w[rows, cols]^T, all float32, with `threads` threads of its own. */
void moe_gemm_f32(const struct moe_gemm *gemm, const float *w, uint32_t rows, uint32_t cols,
                  const float *x, uint32_t n_tokens, float *y, uint32_t threads);

#endif
