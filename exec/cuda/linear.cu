// Matrix times few vectors: linear layers, and gate and up of an expert in one pass. The fast order
// is bound by memory: a warp reads a row (or one of gate and one of up) in loads of 16 bytes, 128
// bytes a thread on their way at once, while the activations come from the first cache. Short
// matrices split a row among up to four warps, so that all multiprocessors read.
//
// Reasoned from the code of nvcc 13.0 for sm 89 and 90 and from datasheets, not measured (`moelab
// bench device` measures it). One token of BF16: eight loads are queued before the first is used,
// in 72 registers, so that 7 blocks fit: up to 112 KiB on their way to a multiprocessor. Latency
// times rate wants 18 KB (H100 SXM: 3.35 TB/s over 132, 0.7 us), 26 KB (H200), 6 KB (RTX 4090). A
// warp issues 30 to 35 instructions for the 512 bytes of a load, nine cycles of a multiprocessor,
// where the memory gives them in 34 (H100, 1.7 GHz), 24 (H200). A block has 16 KB on its way, so
// only a multiprocessor's last block reads below the full rate: no loss by waves, but a tail.
// Mixtral: 3584 blocks of 64 KB for gate and up (tail 3 us), 4096 of 28 KB for w2 (1 us); starting
// and draining each kernel 2 to 3 us. Of the time at the datasheet's rate an expert then takes
//     Mixtral-8x7B (352 MB): H100 105 of 115 us (91 %), H200 73 of 83 (88 %), 4090 350 of 360;
//     Phi-3.5-MoE (157 MB): H100 47 of 55 (85 %), H200 33 of 41 (80 %), 4090 156 of 164;
// a larger share of what a copy reaches, since that is below the datasheet's.
#include "exec/cuda/weights.cuh"

#include "exec/cuda/gemm.h"

enum { WARPS = 4, BLOCK = WARPS * WARP, FEW_TOKENS = 8, GEMM_ROWS = 512, ORDERED_TOKENS = 4 };

struct part {
    const void *w, *up;
    const float *bias;
    float *y;
    uint32_t rows;
};

struct linear_args {
    struct part part[MOE_CUDA_LINEARS_MAX];
    uint32_t n_parts, cols, n_tokens;
    uint32_t rows;   // of all parts
    uint32_t groups; // of tokens; neighbouring blocks take the same rows for all groups
    uint32_t split;  // warps of a row
    const float *x;
    uint32_t lanes; // ordered
    bool fused;
};

// Row `row` of all parts as a row of its part.
static __device__ __forceinline__ struct part part_of(const struct linear_args &a, uint32_t *row)
{
    struct part p = a.part[0];
#pragma unroll
    for (int i = 1; i < MOE_CUDA_LINEARS_MAX; i++)
        if (static_cast<uint32_t>(i) < a.n_parts && *row >= p.rows) {
            *row -= p.rows;
            p = a.part[i];
        }
    return p;
}

template <moe_dtype TYPE>
static __device__ __forceinline__ const void *row_at(const void *w, uint32_t row, uint32_t cols)
{
    return static_cast<const char *>(w) + static_cast<size_t>(row) * cols * weight_type<TYPE>::SIZE;
}

// The activations of token `first + t`, or of the last one for those behind it.
static __device__ __forceinline__ const float *token_at(const struct linear_args &a, uint32_t first,
                                                        uint32_t t)
{
    const uint32_t at = first + t < a.n_tokens ? first + t : a.n_tokens - 1;
    return a.x + static_cast<size_t>(at) * a.cols;
}

// sum += the products of loads `from`, from + step ... of the rows.
template <moe_dtype TYPE, int STREAMS, int TOKENS>
static __device__ __forceinline__ void
add_wide(const struct linear_args &a, const void *const (&row)[STREAMS], uint32_t token,
         uint32_t from, uint32_t step, float (&sum)[STREAMS][TOKENS])
{
    constexpr int N = weight_type<TYPE>::PER_LOAD;
    constexpr int DEPTH = (TOKENS == 1 ? 8 : 4) / STREAMS;
    const uint32_t n = a.cols / N;
    for (uint32_t i = from; i < n; i += DEPTH * step) {
        uint4 w[DEPTH][STREAMS];
#pragma unroll
        for (int k = 0; k < DEPTH; k++)
#pragma unroll
            for (int s = 0; s < STREAMS; s++) {
                w[k][s] = uint4{0, 0, 0, 0};
                if (i + k * step < n)
                    w[k][s] = __ldcs(static_cast<const uint4 *>(row[s]) + i + k * step);
            }
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            if (i + k * step >= n)
                break;
            float f[STREAMS][N];
#pragma unroll
            for (int s = 0; s < STREAMS; s++)
                unpack<TYPE>(w[k][s], f[s]);
#pragma unroll
            for (int t = 0; t < TOKENS; t++) {
                const float4 *x = reinterpret_cast<const float4 *>(token_at(a, token, t)) +
                                  static_cast<size_t>(i + k * step) * (N / 4);
#pragma unroll
                for (int q = 0; q < N / 4; q++) {
                    const float4 v = __ldg(x + q);
#pragma unroll
                    for (int s = 0; s < STREAMS; s++) {
                        sum[s][t] = fmaf(f[s][4 * q], v.x, sum[s][t]);
                        sum[s][t] = fmaf(f[s][4 * q + 1], v.y, sum[s][t]);
                        sum[s][t] = fmaf(f[s][4 * q + 2], v.z, sum[s][t]);
                        sum[s][t] = fmaf(f[s][4 * q + 3], v.w, sum[s][t]);
                    }
                }
            }
        }
    }
}

// The same one by one, for rows at any address.
template <moe_dtype TYPE, int STREAMS, int TOKENS>
static __device__ __forceinline__ void
add_narrow(const struct linear_args &a, const void *const (&row)[STREAMS], uint32_t token,
           uint32_t from, uint32_t step, float (&sum)[STREAMS][TOKENS])
{
#pragma unroll 4
    for (uint32_t i = from; i < a.cols; i += step) {
        float f[STREAMS];
#pragma unroll
        for (int s = 0; s < STREAMS; s++)
            f[s] = weight_at<TYPE>(row[s], i);
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float v = __ldg(token_at(a, token, t) + i);
#pragma unroll
            for (int s = 0; s < STREAMS; s++)
                sum[s][t] = fmaf(f[s], v, sum[s][t]);
        }
    }
}

template <int STREAMS>
static __device__ __forceinline__ void write(const struct part &p, uint32_t row, uint32_t token,
                                             const float *sum, uint32_t stride)
{
    float *y = p.y + static_cast<size_t>(token) * p.rows + row;
    if (STREAMS == 2)
        *y = moe_silu(sum[0]) * sum[stride];
    else
        *y = p.bias ? sum[0] + p.bias[row] : sum[0];
}

// One token takes 72 registers, so that seven blocks fit; with a bound of seven the compiler would
// issue the last of the eight loads only when the first has come, and wait twice for the memory.
template <moe_dtype TYPE, bool WIDE, int STREAMS, int TOKENS>
static __global__ void __launch_bounds__(BLOCK, TOKENS == 1   ? 6
                                                : TOKENS == 4 ? 4
                                                              : 3)
    linear_kernel(const struct linear_args a)
{
    __shared__ float partial[WARPS][STREAMS][TOKENS];
    const uint32_t token = blockIdx.x % a.groups * TOKENS;
    const uint32_t piece = warp_of_block() % a.split;
    uint32_t row = blockIdx.x / a.groups * (WARPS / a.split) + warp_of_block() / a.split;
    const bool live = row < a.rows;
    const struct part p = part_of(a, &row);
    float sum[STREAMS][TOKENS] = {};
    if (live) {
        const void *rows[STREAMS];
        rows[0] = row_at<TYPE>(p.w, row, a.cols);
        if (STREAMS == 2)
            rows[STREAMS - 1] = row_at<TYPE>(p.up, row, a.cols);
        const uint32_t from = piece * WARP + lane_of_warp(), step = a.split * WARP;
        if (WIDE)
            add_wide<TYPE, STREAMS, TOKENS>(a, rows, token, from, step, sum);
        else
            add_narrow<TYPE, STREAMS, TOKENS>(a, rows, token, from, step, sum);
    }
#pragma unroll
    for (int s = 0; s < STREAMS; s++)
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float all = sum_of_lanes(sum[s][t], WARP);
            if (lane_of_warp() == 0)
                partial[warp_of_block()][s][t] = all;
        }
    __syncthreads();
    const uint32_t t = lane_of_warp();
    if (!live || piece > 0 || t >= TOKENS || token + t >= a.n_tokens)
        return;
    float all[STREAMS] = {};
    for (uint32_t w = 0; w < a.split; w++)
#pragma unroll
        for (int s = 0; s < STREAMS; s++)
            all[s] += partial[warp_of_block() + w][s][t];
    write<STREAMS>(p, row, token + t, all, STREAMS - 1);
}

// In the order of a CPU set: partial sum j takes columns j, j + lanes, ..., zeros up to a whole
// vector, and the sums are added by halving. A row belongs to `lanes` neighbouring threads.
template <moe_dtype TYPE, int STREAMS>
static __global__ void __launch_bounds__(BLOCK) ordered_kernel(const struct linear_args a)
{
    const uint32_t token = blockIdx.x % a.groups * ORDERED_TOKENS;
    uint32_t row = blockIdx.x / a.groups * (BLOCK / a.lanes) + threadIdx.x / a.lanes;
    const bool live = row < a.rows;
    const struct part p = part_of(a, &row);
    float sum[STREAMS][ORDERED_TOKENS] = {};
    if (live) {
        const void *rows[STREAMS];
        rows[0] = row_at<TYPE>(p.w, row, a.cols);
        if (STREAMS == 2)
            rows[STREAMS - 1] = row_at<TYPE>(p.up, row, a.cols);
        const uint32_t end = (a.cols + a.lanes - 1) / a.lanes * a.lanes;
#pragma unroll 4
        for (uint32_t i = threadIdx.x % a.lanes; i < end; i += a.lanes) {
            const bool inside = i < a.cols;
#pragma unroll
            for (int s = 0; s < STREAMS; s++) {
                const float f = inside ? weight_at<TYPE>(rows[s], i) : 0;
#pragma unroll
                for (int t = 0; t < ORDERED_TOKENS; t++) {
                    const float v = inside ? __ldg(token_at(a, token, t) + i) : 0;
                    sum[s][t] = add_product(sum[s][t], f, v, a.fused);
                }
            }
        }
    }
#pragma unroll
    for (int t = 0; t < ORDERED_TOKENS; t++) {
        float all[STREAMS];
#pragma unroll
        for (int s = 0; s < STREAMS; s++)
            all[s] = sum_of_lanes(sum[s][t], a.lanes);
        if (live && threadIdx.x % a.lanes == 0 && token + t < a.n_tokens)
            write<STREAMS>(p, row, token + t, all, STREAMS - 1);
    }
}

static __global__ void bias_kernel(float *y, const float *bias, uint32_t rows)
{
    const uint32_t r = blockIdx.y * blockDim.x + threadIdx.x;
    if (r < rows)
        y[static_cast<size_t>(blockIdx.x) * rows + r] += bias[r];
}

// Up to four warps a row, while that leaves multiprocessors without enough warps to hide the
// memory's latency, and a warp still has loads enough to be worth it.
static uint32_t choose_split(uint32_t rows, uint32_t loads_of_row, uint32_t cores)
{
    const uint64_t wanted = static_cast<uint64_t>(cores ? cores : 1) * 64;
    uint32_t split = 1;
    while (split < WARPS && static_cast<uint64_t>(rows) * split < wanted &&
           loads_of_row > 2 * WARP * split)
        split *= 2;
    return split;
}

template <moe_dtype TYPE, bool WIDE, int STREAMS, int TOKENS>
static void launch_tokens(const struct moe_cuda_context *cuda, struct linear_args a)
{
    auto *const kernel = linear_kernel<TYPE, WIDE, STREAMS, TOKENS>;
    a.groups = ceil_div(a.n_tokens, TOKENS);
    a.split = choose_split(a.rows, a.cols / (WIDE ? weight_type<TYPE>::PER_LOAD : 1), cuda->cores);
    MOE_LAUNCH(kernel, ceil_div(a.rows, WARPS / a.split) * a.groups, BLOCK, 0, cuda->stream, a);
}

template <moe_dtype TYPE, int STREAMS>
static void launch(const struct moe_cuda_context *cuda, struct linear_args a, bool wide)
{
    if (a.lanes) {
        auto *const kernel = ordered_kernel<TYPE, STREAMS>;
        a.groups = ceil_div(a.n_tokens, ORDERED_TOKENS);
        MOE_LAUNCH(kernel, ceil_div(a.rows, BLOCK / a.lanes) * a.groups, BLOCK, 0, cuda->stream, a);
    } else if (!wide) {
        launch_tokens<TYPE, false, STREAMS, 4>(cuda, a);
    } else if (a.n_tokens == 1) {
        launch_tokens<TYPE, true, STREAMS, 1>(cuda, a);
    } else if (a.n_tokens <= 4) {
        launch_tokens<TYPE, true, STREAMS, 4>(cuda, a);
    } else {
        launch_tokens<TYPE, true, STREAMS, FEW_TOKENS>(cuda, a);
    }
}

template <moe_dtype TYPE>
static void launch_type(const struct moe_cuda_context *cuda, const struct linear_args &a, bool wide)
{
    if (a.part[0].up)
        launch<TYPE, 2>(cuda, a, wide);
    else
        launch<TYPE, 1>(cuda, a, wide);
}

static bool is_aligned(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

template <moe_dtype TYPE, int STREAMS> static cudaError_t load()
{
    return load_kernels(ordered_kernel<TYPE, STREAMS>, linear_kernel<TYPE, false, STREAMS, 4>,
                        linear_kernel<TYPE, true, STREAMS, 1>,
                        linear_kernel<TYPE, true, STREAMS, 4>,
                        linear_kernel<TYPE, true, STREAMS, FEW_TOKENS>);
}

cudaError_t moe_cuda_load_linear()
{
    return first_error({load<MOE_BF16, 1>(), load<MOE_BF16, 2>(), load<MOE_F16, 1>(),
                        load<MOE_F16, 2>(), load<MOE_F32, 1>(), load<MOE_F32, 2>(),
                        load_kernels(bias_kernel)});
}

// Matrices of one type.
static void launch_jobs(const struct moe_cuda_context *cuda, const struct moe_cuda_linear *jobs,
                        uint32_t n_jobs, const float *x, uint32_t n_tokens)
{
    const enum moe_dtype type = jobs[0].w->dtype;
    struct linear_args a = {};
    a.cols = jobs[0].w->cols;
    a.n_parts = n_jobs;
    a.n_tokens = n_tokens;
    a.x = x;
    a.lanes = cuda->order.lanes;
    a.fused = cuda->order.fused;
    bool wide = is_aligned(x) && a.cols % (type == MOE_F32 ? 4 : 8) == 0;
    for (uint32_t i = 0; i < n_jobs; i++) {
        a.part[i] = {jobs[i].w->data, jobs[i].up ? jobs[i].up->data : nullptr, jobs[i].bias,
                     jobs[i].y, jobs[i].w->rows};
        a.rows += jobs[i].w->rows;
        wide = wide && is_aligned(a.part[i].w) && is_aligned(a.part[i].up);
    }
    if (type == MOE_BF16)
        launch_type<MOE_BF16>(cuda, a, wide);
    else if (type == MOE_F16)
        launch_type<MOE_F16>(cuda, a, wide);
    else
        launch_type<MOE_F32>(cuda, a, wide);
}

// With cuBLAS, where that is worth it and works.
static bool multiply(const struct moe_cuda_context *cuda, const struct moe_cuda_linear *job,
                     const float *x, uint32_t n_tokens)
{
    const uint32_t rows = job->w->rows;
    if (!cuda->gemm || cuda->order.lanes || n_tokens <= FEW_TOKENS || rows < GEMM_ROWS)
        return false;
    if (job->up)
        return moe_cuda_gemm_gate_up(cuda->gemm, job->w, job->up, x, n_tokens, job->y);
    if (!moe_cuda_gemm_run(cuda->gemm, job->w, x, n_tokens, job->y))
        return false;
    if (job->bias)
        MOE_LAUNCH(bias_kernel, dim3(n_tokens, ceil_div(rows, BLOCK)), BLOCK, 0, cuda->stream,
                   job->y, job->bias, rows);
    return true;
}

void moe_cuda_linears(const struct moe_cuda_context *cuda, const struct moe_cuda_linear *jobs,
                      uint32_t n_jobs, const float *x, uint32_t n_tokens)
{
    for (uint32_t i = 0, n; i < n_jobs; i += n) {
        n = 1;
        if (multiply(cuda, &jobs[i], x, n_tokens))
            continue;
        while (i + n < n_jobs && jobs[i + n].w->dtype == jobs[i].w->dtype)
            n++;
        launch_jobs(cuda, &jobs[i], n, x, n_tokens);
    }
}
