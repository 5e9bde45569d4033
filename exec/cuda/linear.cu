// Matrix times few vectors: linear layers, and gate and up of an expert in one pass. The fast order
// is bound by memory: a warp reads two rows (gate and up of one, or two neighbours) in loads of 16
// bytes, so that what it reads of the activations serves twice. Short matrices split a pair of rows
// among up to four warps, so that all multiprocessors read.
//
// Reasoned from the code of nvcc 13.0 for sm 80 to 120 and from datasheets, not measured (`moelab
// bench device` measures it). One token of BF16: in a round eight loads of weights and the eight of
// the activations that belong to them are queued before the first is used, so that a warp waits for
// the memory once a round, also if hits of the first cache have to queue behind its misses. That
// takes 86 to 88 registers: 5 blocks fit, up to 80 KiB of weights on their way to a multiprocessor.
// Latency times rate wants 18 KB (H100 SXM: 3.35 TB/s over 132, 0.7 us), 26 KB (H200), 6 KB (RTX
// 4090). A round is 200 to 290 instructions for 4 KB, of what a multiprocessor can issue at the
// memory's rate a quarter (H100), a third (H200); the first cache, which gives eight neighbouring
// activations in two steps, is busy a third, a half. Waves are no loss, as a block is a small part
// of what its multiprocessor reads; to start and drain a kernel takes 2 to 3 us. An expert then
// takes, of it the time at the datasheet's rate:
//     Mixtral-8x7B (352 MB): H100 112 us (94 %), H200 80 us (92 %), RTX 4090 356 us (98 %);
//     Phi-3.5-MoE (157 MB): H100 53 us (88 %), H200 39 us (85 %), RTX 4090 162 us (96 %);
// a larger share of what a copy reaches, since that is below the datasheet's. Of D 2048 and F 768
// (9 MB) the two kernels' 5 us outweigh the H100's 3 us.
//
// One token of Q8 or Q4, from the code as well, estimated and not measured: a round is 8 loads of 8
// bytes a lane, or 16 of 4, of four rows, with 80 to 96 registers: 5 blocks, 40 KiB and more on
// their way. A weight of Q8 takes 4.3 to 4.8 instructions, 1.5 of them integer ones, of Q4 3.7
// and 1.7. At the memory's rate Q8 takes half of what a multiprocessor can issue (H100), three
// quarters (H200), Q4 three quarters (H100) and all of it (H200), where it is what limits; an RTX
// 4090 issues a sixth. An expert of Mixtral-8x7B then takes, of it the time at the datasheet's
// rate:
//     Q8 (187 MB): H100 62 us (90 %), H200 46 us (85 %), RTX 4090 191 us (97 %);
//     Q4 (99 MB): H100 35 us (85 %), H200 28 us (75 %), RTX 4090 102 us (96 %).
#include "exec/cuda/weights.cuh"

#include "exec/cuda/gemm.h"

enum { WARPS = 4, BLOCK = WARPS * WARP, FEW_TOKENS = 8, GEMM_ROWS = 512, ORDERED_TOKENS = 4 };
enum { DEEP = 4 }; // loads of a row in flight, for one token in the fast order

// Rows that a warp reads at once in the fast order. Loads of Q8 and Q4 are small, which more rows
// make up for; all rows share the activations that are read.
template <moe_dtype TYPE, bool WIDE> static __host__ __device__ constexpr int rows_at_once()
{
    return weight_type<TYPE>::QUANT && WIDE ? 4 : 2;
}

// Loads of a row in flight in the fast order.
template <moe_dtype TYPE, int TOKENS> static __host__ __device__ constexpr int depth()
{
    if (TOKENS > 1)
        return weight_type<TYPE>::QUANT ? 1 : 2;
    return TYPE == MOE_Q8 ? 2 : DEEP;
}

// Blocks at once on a multiprocessor, such that registers suffice for the loads in flight.
template <moe_dtype TYPE, bool WIDE, int TOKENS>
static __host__ __device__ constexpr int blocks_at_once()
{
    return (TOKENS == 1   ? 5
            : TOKENS == 4 ? 4
                          : 3) -
           (weight_type<TYPE>::QUANT && WIDE && TOKENS > 1);
}

struct part {
    const void *w, *up;
    const float *bias;
    float *y;
    uint32_t rows;
};

struct linear_args {
    struct part part[MOE_CUDA_LINEARS_MAX];
    uint32_t n_parts, cols, n_tokens;
    uint32_t rows;       // of all parts
    uint32_t groups;     // of tokens; neighbouring blocks take the same rows for all groups
    uint32_t split_bits; // 2^split_bits warps share a pair of rows
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

// The activations of token `first + t`, or of the last one for those behind it.
static __device__ __forceinline__ const float *token_at(const struct linear_args &a, uint32_t first,
                                                        uint32_t t)
{
    const uint32_t at = first + t < a.n_tokens ? first + t : a.n_tokens - 1;
    return a.x + static_cast<size_t>(at) * a.cols;
}

// All activations for DEPTH loads of one token, zeros behind the row.
template <int DEPTH, int PARTS>
static __device__ __forceinline__ void load_token(const float *x, uint32_t from, uint32_t step,
                                                  uint32_t n, float4 (&v)[DEPTH][PARTS])
{
#pragma unroll
    for (int k = 0; k < DEPTH; k++)
#pragma unroll
        for (int q = 0; q < PARTS; q++) {
            v[k][q] = float4{0, 0, 0, 0};
            if (from + k * step < n)
                v[k][q] = __ldg(reinterpret_cast<const float4 *>(x) +
                                static_cast<size_t>(from + k * step) * PARTS + q);
        }
}

static __device__ __forceinline__ float add_four(float sum, const float *f, const float4 &v)
{
    return fmaf(f[3], v.w, fmaf(f[2], v.z, fmaf(f[1], v.y, fmaf(f[0], v.x, sum))));
}

// sum += the products of loads `from`, from + step ... of the rows. One token's activations are
// asked for together with the weights, not when these have come: hits of the first cache may have
// to wait behind its misses.
template <moe_dtype TYPE, int ROWS, int TOKENS>
static __device__ __forceinline__ void
add_wide(const struct linear_args &a, const void *const (&row)[ROWS], uint32_t token, uint32_t from,
         uint32_t step, float (&sum)[ROWS][TOKENS])
{
    constexpr int N = weight_type<TYPE>::PER_LOAD, PARTS = N / 4;
    constexpr int DEPTH = depth<TYPE, TOKENS>();
    const uint32_t n = a.cols / N;
    const uint4 *next[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        next[r] = static_cast<const uint4 *>(row[r]) + from;
    for (uint32_t i = from; i < n; i += DEPTH * step) {
        float4 ahead[DEPTH][PARTS]; // of one token
        uint4 w[DEPTH][ROWS];
        if (TOKENS == 1)
            load_token(token_at(a, token, 0), i, step, n, ahead);
#pragma unroll
        for (int k = 0; k < DEPTH; k++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                w[k][r] = uint4{0, 0, 0, 0};
                if (i + k * step < n)
                    w[k][r] = __ldcs(next[r]);
                next[r] += step;
            }
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            if (TOKENS > 1 && i + k * step >= n)
                break;
            float f[ROWS][N];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                unpack<TYPE>(w[k][r], f[r]);
#pragma unroll
            for (int t = 0; t < TOKENS; t++) {
                const float4 *x = reinterpret_cast<const float4 *>(token_at(a, token, t)) +
                                  static_cast<size_t>(i + k * step) * PARTS;
#pragma unroll
                for (int q = 0; q < PARTS; q++) {
                    const float4 v = TOKENS == 1 ? ahead[k][q] : __ldg(x + q);
#pragma unroll
                    for (int r = 0; r < ROWS; r++)
                        sum[r][t] = add_four(sum[r][t], f[r] + 4 * q, v);
                }
            }
        }
    }
}

// The 8 weights of load i of a row of Q8 or Q4 belong to two times 4 activations: neighbours of Q8;
// 16 columns apart with Q4, where lanes of every second block take the later ones first, so that
// eight lanes read of all banks of the cache at once.
struct columns {
    uint32_t first, second; // float4 of the row of activations
    uint32_t turn[2];       // of Q4 (halves_of)
};

template <moe_dtype TYPE> static __device__ __forceinline__ struct columns columns_of(uint32_t i)
{
    if (TYPE == MOE_Q8)
        return {2 * i, 2 * i + 1, {}};
    const uint32_t at = i / 4 * 8 + i % 4, later = i / 4 % 2;
    return {at + 4 * later, at + 4 * (1 - later), {later ? 31u : 3u, later ? 3u : 31u}};
}

static __device__ __forceinline__ float sum_of_four(const float4 &v)
{
    return (v.x + v.y) + (v.z + v.w);
}

// sum += the products of loads i, i + WARP ... of rows of Q8 or Q4, all queued before the first is
// used; with one token of Q4 a 32nd of them, which is taken times 32 in the end.
template <moe_dtype TYPE, int DEPTH, int ROWS, int TOKENS>
static __device__ __forceinline__ void add_blocks(const struct linear_args &a,
                                                  const void *const (&row)[ROWS], uint32_t token,
                                                  uint32_t i, float (&sum)[ROWS][TOKENS])
{
    typedef typename weight_type<TYPE>::load load;
    constexpr uint32_t N = weight_type<TYPE>::PER_LOAD;
    constexpr float CENTER = weight_type<TYPE>::CENTER, UNIT = weight_type<TYPE>::UNIT;
    const struct columns at = columns_of<TYPE>(i); // WARP loads further they are 2 WARP further
    float4 x[DEPTH][TOKENS][2];
    load w[DEPTH][ROWS];
    unsigned short scale[DEPTH][ROWS];
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float4 *from = reinterpret_cast<const float4 *>(token_at(a, token, t));
            x[k][t][0] = __ldg(from + at.first + 2 * WARP * k);
            x[k][t][1] = __ldg(from + at.second + 2 * WARP * k);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            w[k][r] = __ldcs(static_cast<const load *>(row[r]) + i + WARP * k);
            scale[k][r] =
                __ldg(scale_at<TYPE>(row[r], a.cols, N * i) + WARP * N / MOE_QUANT_BLOCK * k);
        }
    }
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        const float start = -CENTER * (sum_of_four(x[k][0][0]) + sum_of_four(x[k][0][1]));
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float unit = f16_of(scale[k][r]);
            float f[N];
            numbers_of(w[k][r], at.turn, f);
            if constexpr (TOKENS == 1) {
                const float of_block = add_four(add_four(start, f, x[k][0][0]), f + 4, x[k][0][1]);
                sum[r][0] = fmaf(unit, of_block, sum[r][0]);
            } else {
#pragma unroll
                for (uint32_t c = 0; c < N; c++)
                    f[c] = (f[c] - CENTER) * (UNIT * unit);
#pragma unroll
                for (int t = 0; t < TOKENS; t++)
                    sum[r][t] = add_four(add_four(sum[r][t], f, x[k][t][0]), f + 4, x[k][t][1]);
            }
        }
    }
}

// The products of a piece of the rows: every split-th round of `depth` loads a lane.
template <moe_dtype TYPE, int ROWS, int TOKENS>
static __device__ __forceinline__ void
add_quantized(const struct linear_args &a, const void *const (&row)[ROWS], uint32_t token,
              uint32_t piece, uint32_t split, float (&sum)[ROWS][TOKENS])
{
    constexpr uint32_t DEPTH = depth<TYPE, TOKENS>();
    const uint32_t n = a.cols / weight_type<TYPE>::PER_LOAD;
    uint32_t i = piece * DEPTH * WARP + lane_of_warp();
    for (; i + (DEPTH - 1) * WARP < n; i += split * DEPTH * WARP)
        add_blocks<TYPE, DEPTH>(a, row, token, i, sum);
#pragma unroll 1
    for (; i < n; i += WARP) // the last round, if it is not a whole one
        add_blocks<TYPE, 1>(a, row, token, i, sum);
    if (TOKENS == 1)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            sum[r][0] *= weight_type<TYPE>::UNIT;
}

// The same one by one, for rows at any address.
template <moe_dtype TYPE, int ROWS, int TOKENS>
static __device__ __forceinline__ void
add_narrow(const struct linear_args &a, const void *const (&row)[ROWS], uint32_t token,
           uint32_t from, uint32_t step, float (&sum)[ROWS][TOKENS])
{
#pragma unroll 4
    for (uint32_t i = from; i < a.cols; i += step) {
        float f[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            f[r] = weight_at<TYPE>(row[r], a.cols, i);
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float v = __ldg(token_at(a, token, t) + i);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                sum[r][t] = fmaf(f[r], v, sum[r][t]);
        }
    }
}

static __device__ __forceinline__ void write(const struct part &p, uint32_t row, uint32_t token,
                                             float sum)
{
    p.y[static_cast<size_t>(token) * p.rows + row] = p.bias ? sum + p.bias[row] : sum;
}

static __device__ __forceinline__ void write_gated(const struct part &p, uint32_t row,
                                                   uint32_t token, float gate, float up)
{
    p.y[static_cast<size_t>(token) * p.rows + row] = moe_silu(gate) * up;
}

// A warp, or several, read a row of gate and the same of up, or two neighbours, or twice as many;
// the last one reads the last row again for those behind it.
template <moe_dtype TYPE, bool WIDE, bool GATED, int TOKENS>
static __global__ void __launch_bounds__(BLOCK, blocks_at_once<TYPE, WIDE, TOKENS>())
    linear_kernel(const struct linear_args a)
{
    constexpr int ROWS = rows_at_once<TYPE, WIDE>(), OF_ONE = GATED ? 2 : 1;
    __shared__ float partial[WARPS][ROWS][TOKENS];
    const uint32_t groups = TOKENS == 1 ? 1 : a.groups; // one token without a division
    const uint32_t token = blockIdx.x % groups * TOKENS;
    const uint32_t split = 1u << a.split_bits, piece = warp_of_block() & (split - 1);
    const uint32_t first =
        ((blockIdx.x / groups * WARPS + warp_of_block()) >> a.split_bits) * (ROWS / OF_ONE);
    const bool live = first < a.rows;
    float sum[ROWS][TOKENS] = {};
    if (live) {
        const void *rows[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            uint32_t row = first + r / OF_ONE < a.rows ? first + r / OF_ONE : a.rows - 1;
            const struct part p = part_of(a, &row);
            rows[r] = row_at<TYPE>(r % OF_ONE ? p.up : p.w, row, a.cols);
        }
        const uint32_t from = piece * WARP + lane_of_warp(), step = split * WARP;
        if constexpr (WIDE && weight_type<TYPE>::QUANT)
            add_quantized<TYPE>(a, rows, token, piece, split, sum);
        else if constexpr (WIDE)
            add_wide<TYPE>(a, rows, token, from, step, sum);
        else
            add_narrow<TYPE>(a, rows, token, from, step, sum);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            const float all = sum_of_lanes(sum[r][t], WARP);
            if (lane_of_warp() == 0)
                partial[warp_of_block()][r][t] = all;
        }
    __syncthreads();
    // A lane writes a token of a row, or of both where they are gate and up.
    const uint32_t t = lane_of_warp() % TOKENS, r = lane_of_warp() / TOKENS;
    uint32_t row = first + r;
    if (!live || piece > 0 || token + t >= a.n_tokens || r >= ROWS / OF_ONE || row >= a.rows)
        return;
    float all = 0, up = 0;
#pragma unroll 1
    for (uint32_t w = 0; w < split; w++) {
        all += partial[warp_of_block() + w][OF_ONE * r][t];
        if (GATED)
            up += partial[warp_of_block() + w][OF_ONE * r + OF_ONE - 1][t];
    }
    const struct part p = part_of(a, &row);
    if (GATED)
        write_gated(p, row, token + t, all, up);
    else
        write(p, row, token + t, all);
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
                const float f = inside ? weight_at<TYPE>(rows[s], a.cols, i) : 0;
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
        if (!live || threadIdx.x % a.lanes > 0 || token + t >= a.n_tokens)
            continue;
        if (STREAMS == 2)
            write_gated(p, row, token + t, all[0], all[STREAMS - 1]);
        else
            write(p, row, token + t, all[0]);
    }
}

static __global__ void bias_kernel(float *y, const float *bias, uint32_t rows)
{
    const uint32_t r = blockIdx.y * blockDim.x + threadIdx.x;
    if (r < rows)
        y[static_cast<size_t>(blockIdx.x) * rows + r] += bias[r];
}

// Splits the rows that are read at once among up to four warps, as long as multiprocessors would
// otherwise have too few warps to hide the memory's latency, and each warp still has loads for one
// round of the deep kernel.
static uint32_t choose_split_bits(uint32_t groups, uint32_t loads_of_row, uint32_t deep,
                                  uint32_t cores)
{
    const uint64_t wanted = static_cast<uint64_t>(cores ? cores : 1) * 64;
    uint32_t bits = 0;
    while (1u << bits < WARPS && static_cast<uint64_t>(groups) << bits < wanted &&
           loads_of_row >> bits > deep * WARP)
        bits++;
    return bits;
}

template <moe_dtype TYPE, bool WIDE, bool GATED, int TOKENS>
static void launch_tokens(const struct moe_cuda_context *cuda, struct linear_args a)
{
    auto *const kernel = linear_kernel<TYPE, WIDE, GATED, TOKENS>;
    const uint32_t rows = rows_at_once<TYPE, WIDE>() / (GATED ? 2 : 1);
    const uint32_t groups = ceil_div(a.rows, rows);
    a.groups = ceil_div(a.n_tokens, TOKENS);
    a.split_bits = choose_split_bits(groups, a.cols / (WIDE ? weight_type<TYPE>::PER_LOAD : 1),
                                     depth<TYPE, 1>(), cuda->cores);
    MOE_LAUNCH(kernel, ceil_div(groups, WARPS >> a.split_bits) * a.groups, BLOCK, 0, cuda->stream,
               a);
}

template <moe_dtype TYPE, int STREAMS>
static void launch(const struct moe_cuda_context *cuda, struct linear_args a, bool wide)
{
    if (a.lanes) {
        auto *const kernel = ordered_kernel<TYPE, STREAMS>;
        a.groups = ceil_div(a.n_tokens, ORDERED_TOKENS);
        MOE_LAUNCH(kernel, ceil_div(a.rows, BLOCK / a.lanes) * a.groups, BLOCK, 0, cuda->stream, a);
    } else if (!wide) {
        launch_tokens<TYPE, false, STREAMS == 2, 4>(cuda, a);
    } else if (a.n_tokens == 1) {
        launch_tokens<TYPE, true, STREAMS == 2, 1>(cuda, a);
    } else if (a.n_tokens <= 4) {
        launch_tokens<TYPE, true, STREAMS == 2, 4>(cuda, a);
    } else {
        launch_tokens<TYPE, true, STREAMS == 2, FEW_TOKENS>(cuda, a);
    }
}

// aligned: x and the matrices.
template <moe_dtype TYPE>
static void launch_type(const struct moe_cuda_context *cuda, const struct linear_args &a,
                        bool aligned)
{
    const bool wide =
        aligned && row_bytes<TYPE>(a.cols) % sizeof(typename weight_type<TYPE>::load) == 0;
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
    return load_kernels(ordered_kernel<TYPE, STREAMS>, linear_kernel<TYPE, false, STREAMS == 2, 4>,
                        linear_kernel<TYPE, true, STREAMS == 2, 1>,
                        linear_kernel<TYPE, true, STREAMS == 2, 4>,
                        linear_kernel<TYPE, true, STREAMS == 2, FEW_TOKENS>);
}

cudaError_t moe_cuda_load_linear()
{
    return first_error({load<MOE_F32, 1>(), load<MOE_F32, 2>(), load<MOE_BF16, 1>(),
                        load<MOE_BF16, 2>(), load<MOE_F16, 1>(), load<MOE_F16, 2>(),
                        load<MOE_Q8, 1>(), load<MOE_Q8, 2>(), load<MOE_Q4, 1>(), load<MOE_Q4, 2>(),
                        load_kernels(bias_kernel)});
}

// Matrices of one type.
static void launch_jobs(const struct moe_cuda_context *cuda, const struct moe_cuda_linear *jobs,
                        uint32_t n_jobs, const float *x, uint32_t n_tokens)
{
    struct linear_args a = {};
    a.cols = jobs[0].w->cols;
    a.n_parts = n_jobs;
    a.n_tokens = n_tokens;
    a.x = x;
    a.lanes = cuda->order.lanes;
    a.fused = cuda->order.fused;
    bool aligned = is_aligned(x);
    for (uint32_t i = 0; i < n_jobs; i++) {
        a.part[i] = {jobs[i].w->data, jobs[i].up ? jobs[i].up->data : nullptr, jobs[i].bias,
                     jobs[i].y, jobs[i].w->rows};
        a.rows += jobs[i].w->rows;
        aligned = aligned && is_aligned(a.part[i].w) && is_aligned(a.part[i].up);
    }
    static void (*const launch_of[])(const struct moe_cuda_context *, const struct linear_args &,
                                     bool) = {launch_type<MOE_F32>, launch_type<MOE_BF16>,
                                              launch_type<MOE_F16>, launch_type<MOE_Q8>,
                                              launch_type<MOE_Q4>}; // in the order of moe_dtype
    launch_of[jobs[0].w->dtype](cuda, a, aligned);
}

// Uses cuBLAS if that is worthwhile. False: it is not, or it failed.
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
