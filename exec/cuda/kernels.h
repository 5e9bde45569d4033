/* The kernels of the CUDA device, as exec/cuda/device.cu launches them. Every function queues on
 * the stream and returns; launch errors are left for cudaGetLastError. Arrays are device memory;
 * shapes as in exec/activations.h. No CUDA header is needed to read this one. */
#ifndef MOELAB_EXEC_CUDA_KERNELS_H
#define MOELAB_EXEC_CUDA_KERNELS_H

#include "exec/device.h"

struct CUstream_st; /* cudaStream_t points to it */

/* Whose order of sums: `lanes` is 0 for the fast one, or the number of partial sums (4, 8, 16) of
 * the CPU kernel set whose bits are wanted, with its `fused` (struct moe_kernels). */
struct moe_cuda_order {
    uint32_t lanes;
    bool fused;
};

struct moe_cuda_gemm; /* exec/cuda/gemm.h: what many tokens need */

struct moe_cuda_context {
    struct CUstream_st *stream;
    struct moe_cuda_order order;
    uint32_t cores;             /* multiprocessors, for the sizes of grids; 0: as if 1 */
    struct moe_cuda_gemm *gemm; /* NULL: the kernels for few tokens are used for any number */
    float *partial;             /* device memory, scratch of attention over long contexts; NULL: one
                                   block goes over all keys of its heads */
    uint64_t partial_bytes;     /* MOE_CUDA_PARTIAL_BYTES is enough */
};

enum { MOE_CUDA_PARTIAL_BYTES = 4 << 20 };

/* Copies of activations up to this size may be made by a kernel instead of a copy engine. */
enum { MOE_CUDA_WORDS_BYTES = 1 << 20 };

#ifdef __cplusplus
extern "C" {
#endif

/* Loads all kernels into the current device. CUDA would do it when each is first launched, in the
 * midst of a step, and may wait there for what is queued. Returns a cudaError_t; 0: done. */
int moe_cuda_load(void);

void moe_cuda_attend(const struct moe_cuda_context *cuda, const struct moe_attend_job *job);
void moe_cuda_expert(const struct moe_cuda_context *cuda, const struct moe_expert_job *job);
void moe_cuda_combine(const struct moe_cuda_context *cuda, const struct moe_combine_job *job);
void moe_cuda_head(const struct moe_cuda_context *cuda, const struct moe_head_job *job);

/* Copies bytes > 0 on a stream by a kernel; both sides are pinned or device memory. */
void moe_cuda_words(struct CUstream_st *stream, void *to, const void *from, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
