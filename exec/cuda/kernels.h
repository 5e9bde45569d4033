/* The kernels of the CUDA device, as exec/cuda/device.cu launches them. Every function queues on
 * the stream and returns; launch errors are left for cudaGetLastError. Arrays are device memory;
 * shapes as in exec/activations.h. `lanes` is 0 for the fast order of sums, or the number of
 * partial sums (4, 8, 16) and the fusing of the CPU kernel set whose bits are wanted. */
#ifndef MOELAB_EXEC_CUDA_KERNELS_H
#define MOELAB_EXEC_CUDA_KERNELS_H

#include "exec/device.h"

#include <cuda_runtime_api.h>

struct moe_cuda_order {
    uint32_t lanes; /* 0: fast */
    bool fused;     /* fused multiply-add, as in the sets of AVX2 and AVX-512 */
};

/* What many tokens need: cuBLAS and room for operands in BF16. NULL members: not available, and the
 * kernels for few tokens do all tokens. */
struct moe_cuda_gemm;

struct moe_cuda_context {
    cudaStream_t stream;
    struct moe_cuda_order order;
    struct moe_cuda_gemm *gemm; /* or NULL */
};

#ifdef __cplusplus
extern "C" {
#endif

void moe_cuda_attend(const struct moe_cuda_context *cuda, const struct moe_attend_job *job);
void moe_cuda_expert(const struct moe_cuda_context *cuda, const struct moe_llm_config *config,
                     const struct moe_expert_job *job);
void moe_cuda_combine(const struct moe_cuda_context *cuda, const struct moe_combine_job *job);
void moe_cuda_head(const struct moe_cuda_context *cuda, const struct moe_head_job *job);

#ifdef __cplusplus
}
#endif

#endif
