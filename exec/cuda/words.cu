// Small copies between pinned and device memory, made by a kernel. A copy engine makes one copy at
// a time: activations, and with them the layer, would wait there behind an expert of hundreds of
// megabytes.
#include "exec/cuda/launch.cuh"

enum { THREADS = 256, BLOCKS_MAX = 64 };

template <typename WORD>
static __global__ void __launch_bounds__(THREADS) words_kernel(WORD *to, const WORD *from, size_t n)
{
    const size_t step = static_cast<size_t>(gridDim.x) * THREADS;
    for (size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        to[i] = from[i];
}

template <typename WORD>
static void launch(struct CUstream_st *stream, void *to, const void *from, uint64_t bytes)
{
    auto *const kernel = words_kernel<WORD>;
    const size_t n = static_cast<size_t>(bytes / sizeof(WORD));
    const size_t wanted = (n + THREADS - 1) / THREADS, most = BLOCKS_MAX;
    const uint32_t blocks = static_cast<uint32_t>(wanted < most ? wanted : most);
    MOE_LAUNCH(kernel, blocks, THREADS, 0, stream, static_cast<WORD *>(to),
               static_cast<const WORD *>(from), n);
}

cudaError_t moe_cuda_load_words()
{
    return load_kernels(words_kernel<uint4>, words_kernel<uint32_t>, words_kernel<uint8_t>);
}

void moe_cuda_words(struct CUstream_st *stream, void *to, const void *from, uint64_t bytes)
{
    const uintptr_t bits = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) |
                           static_cast<uintptr_t>(bytes);
    if (bits % sizeof(uint4) == 0)
        launch<uint4>(stream, to, from, bytes);
    else if (bits % sizeof(uint32_t) == 0)
        launch<uint32_t>(stream, to, from, bytes);
    else
        launch<uint8_t>(stream, to, from, bytes);
}
