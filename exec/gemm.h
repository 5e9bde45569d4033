/* Matrix products by OpenBLAS, for comparison: the kernels of exec/kernels.h give a token the same
 * bits whatever stands beside it, OpenBLAS does not, and its weights have to be float32. */
#ifndef MOELAB_EXEC_GEMM_H
#define MOELAB_EXEC_GEMM_H

#include <stdint.h>

/* y[T, rows] = x[T, cols] w[rows, cols]^T, all float32, with `threads` threads of its own. */
void moe_gemm_f32(const float *w, uint32_t rows, uint32_t cols, const float *x, uint32_t n_tokens,
                  float *y, uint32_t threads);

#endif
