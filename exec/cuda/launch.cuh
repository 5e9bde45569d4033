// What every kernel file begins with. The kernels keep to a narrow part of CUDA C++ that the
// emulation of tests/cuda/ has too, so that they are tested without a device.
//
// Operations are fused only where fmaf is written (-fmad=false): the device then rounds as the CPU
// does.
#ifndef MOELAB_EXEC_CUDA_LAUNCH_CUH
#define MOELAB_EXEC_CUDA_LAUNCH_CUH

// The headers of the C side include these, which must not come first inside extern "C".
#include <cmath>
#include <cstring>
#include <math.h>

extern "C" {
#include "exec/device.h"
}
#include "exec/cuda/kernels.h"

#include <cuda_runtime.h>
#include <initializer_list>

#ifdef __CUDACC__
#define MOE_LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    (kernel)<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define MOE_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define MOE_CUBLAS_NAMES               "libcublas.so.13", "libcublas.so.12", "libcublas.so.11"
#endif

enum { WARP = 32 };

static __device__ __forceinline__ uint32_t lane_of_warp()
{
    return threadIdx.x % WARP;
}

static __device__ __forceinline__ uint32_t warp_of_block()
{
    return threadIdx.x / WARP;
}

// Every lane of each group of `lanes` neighbours (a power of two) gets the sum, by halving: lane i
// adds lane i + lanes / 2, and so on, as the CPU sets sum a vector.
static __device__ __forceinline__ float sum_of_lanes(float v, uint32_t lanes)
{
    for (uint32_t step = lanes / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, static_cast<int>(step));
    return v;
}

static __device__ __forceinline__ float max_of_warp(float v)
{
    for (uint32_t step = WARP / 2; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, static_cast<int>(step)));
    return v;
}

// a + b * c as the order wants it.
static __device__ __forceinline__ float add_product(float a, float b, float c, bool fused)
{
    return fused ? fmaf(b, c, a) : a + b * c;
}

static inline uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

static inline cudaError_t first_error(std::initializer_list<cudaError_t> errors)
{
    for (const cudaError_t error : errors)
        if (error != cudaSuccess)
            return error;
    return cudaSuccess;
}

// To ask for a kernel's attributes loads it.
template <typename... KERNELS> static inline cudaError_t load_kernels(KERNELS... kernels)
{
    struct cudaFuncAttributes unused;
    return first_error(
        {cudaFuncGetAttributes(&unused, reinterpret_cast<const void *>(kernels))...});
}

// What moe_cuda_load consists of: each loads the kernels of its file.
cudaError_t moe_cuda_load_attention();
cudaError_t moe_cuda_load_gemm();
cudaError_t moe_cuda_load_linear();
cudaError_t moe_cuda_load_norm();
cudaError_t moe_cuda_load_routes();
cudaError_t moe_cuda_load_words();

// The launchers that several files use; shapes as in exec/activations.h.

// y[T, rows] = x[T, cols] w^T + bias, or for gate and up, h[T, rows] = silu(x gate^T) * (x up^T).
struct moe_cuda_linear {
    const struct moe_matrix *w, *up; // up NULL: linear
    const float *bias;               // [rows] or NULL
    float *y;
};

enum { MOE_CUDA_LINEARS_MAX = 3 };

// n_jobs <= MOE_CUDA_LINEARS_MAX matrices of one number of columns, on the same x.
void moe_cuda_linears(const struct moe_cuda_context *cuda, const struct moe_cuda_linear *jobs,
                      uint32_t n_jobs, const float *x, uint32_t n_tokens);

// x[n_rows, width] += add (unless NULL), then u = norm(x); u may be x.
void moe_cuda_norm(const struct moe_cuda_context *cuda, float eps, const struct moe_norm *norm,
                   uint32_t width, float *x, const float *add, uint32_t n_rows, float *u);

// Turns q and k, puts k and v into the cache, and attends.
void moe_cuda_attention(const struct moe_cuda_context *cuda, const struct moe_attend_job *job);

// From scores to experts, weights, the box, groups and gathered rows.
void moe_cuda_routes(const struct moe_cuda_context *cuda, const struct moe_attend_job *job);

#endif
