/* Matrix products for many tokens with cuBLAS, which is loaded at run time: a program that links it
 * would not start without it, and the static library is hundreds of megabytes. */
#ifndef MOELAB_EXEC_CUDA_GEMM_H
#define MOELAB_EXEC_CUDA_GEMM_H

#include "exec/weights.h"

struct CUstream_st;
struct moe_cuda_gemm; /* opaque: cuBLAS handle, its workspace and ours */

enum { MOE_CUDA_GEMM_BYTES = 96 << 20 }; /* device memory that one takes */

#ifdef __cplusplus
extern "C" {
#endif

/* On the current device, for work on `stream`. names: file names of the library, ended by NULL, of
 * which the first that starts is taken; or NULL for the usual ones. Errors: MOE_ERR_UNSUPPORTED (no
 * cuBLAS: the loader's reason, or cuBLAS's own error at its start), MOE_ERR_MEMORY. */
enum moe_status moe_cuda_gemm_open(struct moe_cuda_gemm **out, struct CUstream_st *stream,
                                   const char *const *names, struct moe_err *err);
void moe_cuda_gemm_close(struct moe_cuda_gemm *gemm); /* NULL: no-op */

/* y[T, rows] = x[T, cols] w^T, queued. Activations keep 16 bits of mantissa with BF16 weights and
 * all 24 with the others. False: the library failed, and y is undefined. */
bool moe_cuda_gemm_run(struct moe_cuda_gemm *gemm, const struct moe_matrix *w, const float *x,
                       uint32_t n_tokens, float *y);

/* h[T, F] = silu(x w1^T) * (x w3^T), queued. */
bool moe_cuda_gemm_gate_up(struct moe_cuda_gemm *gemm, const struct moe_matrix *w1,
                           const struct moe_matrix *w3, const float *x, uint32_t n_tokens,
                           float *h);

#ifdef __cplusplus
}
#endif

#endif
