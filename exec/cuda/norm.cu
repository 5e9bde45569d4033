// RMSNorm and LayerNorm of a row (a token, or one of its heads) by one block, after the residual.
// The deterministic order is that of exec/norm.c: eight partial sums in double, each by one thread.
// The fast one is all float, as consumer cards have a sixty-fourth of the rate in double.
#include "exec/cuda/launch.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP, LANES = 8 };

struct norm_args {
    float *x, *u;
    const float *add, *scale, *shift;
    float eps;
    uint32_t d;
};

static __device__ double sum_of(const float *x, uint32_t d, float centre, bool squares,
                                double *lane)
{
    if (threadIdx.x < LANES) {
        double sum = 0;
        for (uint32_t i = threadIdx.x; i < d; i += LANES) {
            const double v = squares ? x[i] - centre : x[i];
            sum += squares ? v * v : v;
        }
        lane[threadIdx.x] = sum;
    }
    __syncthreads();
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) +
           ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static __device__ float sum_of(const float *x, uint32_t d, float centre, bool squares, float *lane)
{
    float sum = 0;
    for (uint32_t i = threadIdx.x; i < d; i += THREADS) {
        const float v = x[i] - centre;
        sum = squares ? fmaf(v, v, sum) : sum + v;
    }
    sum = sum_of_lanes(sum, WARP);
    if (lane_of_warp() == 0)
        lane[warp_of_block()] = sum;
    __syncthreads();
    float all = 0;
    for (uint32_t w = 0; w < WARPS; w++)
        all += lane[w];
    return all;
}

// REAL: double in the deterministic order, float in the fast one.
template <typename REAL>
static __global__ void __launch_bounds__(THREADS) norm_kernel(const struct norm_args a)
{
    __shared__ REAL lane[2][WARPS];
    const size_t row = static_cast<size_t>(blockIdx.x) * a.d;
    float *x = a.x + row, *u = a.u + row, centre = 0;
    if (a.add) {
        for (uint32_t i = threadIdx.x; i < a.d; i += THREADS)
            x[i] += a.add[row + i];
        __syncthreads();
    }
    const REAL d = static_cast<REAL>(a.d), one = 1;
    if (a.shift)
        centre = static_cast<float>(sum_of(x, a.d, 0, false, lane[0]) / d);
    const REAL squares = sum_of(x, a.d, centre, true, lane[1]);
    const float scale = static_cast<float>(one / sqrt(squares / d + static_cast<REAL>(a.eps)));
    for (uint32_t i = threadIdx.x; i < a.d; i += THREADS) {
        const float y = (x[i] - centre) * scale * a.scale[i];
        u[i] = a.shift ? y + a.shift[i] : y;
    }
}

cudaError_t moe_cuda_load_norm()
{
    return load_kernels(norm_kernel<float>, norm_kernel<double>);
}

void moe_cuda_norm(const struct moe_cuda_context *cuda, float eps, const struct moe_norm *norm,
                   uint32_t width, float *x, const float *add, uint32_t n_rows, float *u)
{
    const struct norm_args a = {x, u, add, norm->scale, norm->shift, eps, width};
    if (cuda->order.lanes)
        MOE_LAUNCH(norm_kernel<double>, n_rows, THREADS, 0, cuda->stream, a);
    else
        MOE_LAUNCH(norm_kernel<float>, n_rows, THREADS, 0, cuda->stream, a);
}
