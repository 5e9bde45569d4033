// RMSNorm and LayerNorm of a token by one block, after the residual. The deterministic order is
// that of exec/norm.c: eight partial sums in double, each by one thread.
#include "exec/cuda/launch.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP, LANES = 8 };

struct norm_args {
    float *x, *u;
    const float *add, *scale, *shift;
    float eps;
    uint32_t d;
    bool ordered;
};

static __device__ double sum_ordered(const float *x, uint32_t d, float centre, bool squares,
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

static __device__ double sum_fast(const float *x, uint32_t d, float centre, bool squares,
                                  double *lane)
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
    double all = 0;
    for (uint32_t w = 0; w < WARPS; w++)
        all += lane[w];
    return all;
}

static __global__ void __launch_bounds__(THREADS) norm_kernel(const struct norm_args a)
{
    __shared__ double lane[2][WARPS];
    const size_t token = static_cast<size_t>(blockIdx.x) * a.d;
    float *x = a.x + token, *u = a.u + token, centre = 0;
    if (a.add) {
        for (uint32_t i = threadIdx.x; i < a.d; i += THREADS)
            x[i] += a.add[token + i];
        __syncthreads();
    }
    if (a.shift) {
        const double sum = a.ordered ? sum_ordered(x, a.d, 0, false, lane[0])
                                     : sum_fast(x, a.d, 0, false, lane[0]);
        centre = static_cast<float>(sum / a.d);
    }
    const double squares = a.ordered ? sum_ordered(x, a.d, centre, true, lane[1])
                                     : sum_fast(x, a.d, centre, true, lane[1]);
    const float scale = static_cast<float>(1.0 / sqrt(squares / a.d + static_cast<double>(a.eps)));
    for (uint32_t i = threadIdx.x; i < a.d; i += THREADS) {
        const float y = (x[i] - centre) * scale * a.scale[i];
        u[i] = a.shift ? y + a.shift[i] : y;
    }
}

cudaError_t moe_cuda_load_norm()
{
    return load_kernels(norm_kernel);
}

void moe_cuda_norm(const struct moe_cuda_context *cuda, const struct moe_llm_config *config,
                   const struct moe_norm *norm, float *x, const float *add, uint32_t n_tokens,
                   float *u)
{
    const struct norm_args a = {x,
                                u,
                                add,
                                norm->scale,
                                norm->shift,
                                config->norm_eps,
                                config->d_model,
                                cuda->order.lanes != 0};
    MOE_LAUNCH(norm_kernel, n_tokens, THREADS, 0, cuda->stream, a);
}
