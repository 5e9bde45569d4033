/* The part of CUDA C++ that the kernels of exec/cuda/ use, so that they can be compiled as C++ and
 * run on a CPU. Blocks run one after another; the threads of a block are fibers that take turns,
 * and a fiber runs until it has to wait for others (__syncthreads, shuffles). Every second block
 * runs its threads from the last to the first, to reveal missing barriers. Waits that can never
 * end, misaligned vector loads and threads outside a shuffle's mask end the program with a message.
 * Names and meaning are CUDA's. */
#ifndef MOELAB_TESTS_CUDA_EMULATION_THREADS_H
#define MOELAB_TESTS_CUDA_EMULATION_THREADS_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

struct CUstream_st;

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

/* The built-in variables of the thread that is running. */
struct cuda_emulation_thread {
    dim3 grid, block, block_index, thread_index;
};
extern __thread struct cuda_emulation_thread cuda_emulation_now;
extern __thread void *cuda_emulation_shared; /* dynamic shared memory of the block */

#define gridDim   (cuda_emulation_now.grid)
#define blockDim  (cuda_emulation_now.block)
#define blockIdx  (cuda_emulation_now.block_index)
#define threadIdx (cuda_emulation_now.thread_index)

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...) /* concerns registers only */
#define __shared__             static thread_local

/* Replaces the definitions of launch.cuh. No real cuBLAS: it could not use emulated memory. */
#define MOE_CUBLAS_NAMES               "emulated libcublas"
#define MOE_DYNAMIC_SHARED(type, name) type *const name = (type *)cuda_emulation_shared
#define MOE_LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    cuda_emulation_launch(grid, block, shared, stream, reinterpret_cast<const void *>(kernel),     \
                          #kernel, cuda_emulation_call((kernel), __VA_ARGS__))

/* Binds the call to copies of its arguments, as on a device: the originals may be gone when the
 * kernel runs. */
template <typename... Parameters, typename... Arguments>
static inline std::function<void()> cuda_emulation_call(void (*kernel)(Parameters...),
                                                        Arguments... arguments)
{
    return [=] { kernel(arguments...); };
}

/* Queues the kernel on the stream; if stream is NULL it runs at once and may use any memory. Grids
 * and blocks that no device would accept end the program. */
void cuda_emulation_launch(dim3 grid, dim3 block, size_t shared, CUstream_st *stream,
                           const void *kernel, const char *name, std::function<void()> body);

void cuda_emulation_sync_block(void);
/* Waits until all lanes of the mask call it; returns the bits that lane `from` passed. */
uint32_t cuda_emulation_shuffle(uint32_t mask, uint32_t bits, uint32_t from);
[[noreturn]] void cuda_emulation_fail(const char *what);

static inline void __syncthreads()
{
    cuda_emulation_sync_block();
}

static inline void __syncwarp()
{
    cuda_emulation_shuffle(0xffffffffu, 0, threadIdx.x % 32);
}

static inline void __threadfence_system()
{
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float cuda_emulation_exchange(unsigned mask, float v, unsigned from)
{
    return __uint_as_float(cuda_emulation_shuffle(mask, __float_as_uint(v), from));
}

static inline float __shfl_xor_sync(unsigned mask, float v, int bits)
{
    return cuda_emulation_exchange(mask, v, (threadIdx.x % 32) ^ (unsigned)bits);
}

static inline unsigned __shfl_xor_sync(unsigned mask, unsigned v, int bits)
{
    return cuda_emulation_shuffle(mask, v, (threadIdx.x % 32) ^ (unsigned)bits);
}

static inline float __shfl_sync(unsigned mask, float v, int from)
{
    return cuda_emulation_exchange(mask, v, (unsigned)from % 32);
}

static inline unsigned __match_any_sync(unsigned mask, unsigned v)
{
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (cuda_emulation_shuffle(mask, v, lane) == v)
            same |= 1u << lane;
    return same;
}

/* Each hexadecimal digit of the selector picks a byte: 0 to 3 of x, 4 to 7 of y. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t both = (uint64_t)y << 32 | x;
    unsigned picked = 0;
    for (unsigned i = 0; i < 4; i++)
        picked |= (unsigned)(both >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return picked;
}

/* The upper half of high:low after a left shift by n % 32. */
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)(((uint64_t)high << 32 | low) << (n & 31) >> 32);
}

static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}

/* Need not be atomic: threads switch only where they wait for one another. */
static inline unsigned atomicAdd(unsigned *p, unsigned v)
{
    const unsigned before = *p;
    *p += v;
    return before;
}

template <typename T> static inline T cuda_emulation_load(const T *p)
{
    if ((uintptr_t)p % alignof(T) != 0)
        cuda_emulation_fail("a load from a misaligned address");
    return *p;
}

template <typename T> static inline T __ldg(const T *p)
{
    return cuda_emulation_load(p);
}

template <typename T> static inline T __ldcs(const T *p)
{
    return cuda_emulation_load(p);
}

#endif
