// Attention over the KV cache: a block takes one token and up to eight of the query heads that
// share a key-value head, in blocks of 32 keys as exec/attention.c does. In the fast order a long
// context is divided among blocks, whose softmaxes are merged by a second kernel.
#include "exec/cuda/launch.cuh"

enum {
    BLOCK = 128,
    WARPS = BLOCK / WARP,
    KEYS = 32, // of a block of keys, which ends at a multiple of them
    HEADS = 8,
    KEYS_AT_ONCE = 4,    // fast order: keys of a warp, and
    DIMS_AT_ONCE = 4,    // elements of each key of a lane, whose loads are in flight at once
    VALUES_AT_ONCE = 16, // loads of values that a thread has in flight
    SPLITS_MAX = 64,
    PLACE_THREADS = 128
};

// What every device gives a block without being asked for more; the rest of it is static.
static_assert(2 * HEADS * MOE_HEAD_DIM_MAX * sizeof(float) + 2048 <= 48 << 10, "shared memory");

struct place_args {
    float *q, *k;
    const float *v, *cosine, *sine;
    float *keys, *values;
    uint32_t n_heads, n_kv_heads, head_dim, context, length;
};

// Block (token, head): query heads first, then key-value heads, whose result goes into the cache.
// (Only the first dimension of a grid holds more than 65535.)
static __global__ void __launch_bounds__(PLACE_THREADS) place_kernel(const struct place_args a)
{
    const uint32_t t = blockIdx.x, half = a.head_dim / 2;
    const bool is_query = blockIdx.y < a.n_heads;
    const uint32_t h = is_query ? blockIdx.y : blockIdx.y - a.n_heads;
    const uint32_t n = is_query ? a.n_heads : a.n_kv_heads;
    const size_t from = (static_cast<size_t>(t) * n + h) * a.head_dim;
    float *x = (is_query ? a.q : a.k) + from;
    for (uint32_t i = threadIdx.x; i < half; i += PLACE_THREADS) {
        const float c = a.cosine[static_cast<size_t>(t) * half + i];
        const float s = a.sine[static_cast<size_t>(t) * half + i];
        const float low = x[i], high = x[i + half];
        x[i] = low * c - high * s;
        x[i + half] = high * c + low * s;
    }
    if (is_query)
        return; // all threads of the block
    __syncthreads();
    const size_t to = (static_cast<size_t>(h) * a.context + a.length + t) * a.head_dim;
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += PLACE_THREADS) {
        a.keys[to + i] = x[i];
        a.values[to + i] = a.v[from + i];
    }
}

struct attention_args {
    const float *q, *keys, *values;
    float *y;                        // [T, H, hd]
    float *partial;                  // [T, H, splits, hd + 2]: sum of values, softmax's max and sum
    uint32_t n_heads, group, pieces; // pieces: blocks that share the heads of a group
    uint32_t head_dim, window, context, length, splits;
    uint32_t lanes;
    bool fused;
};

// The keys of one block, and what the threads share of its heads.
struct tile {
    const float *keys, *values; // of the first key
    uint32_t n, heads;
    float *q, *acc;          // [heads, hd]
    float (*score)[KEYS];    // [heads]
    float *max, *sum, *keep; // [heads]; keep: factor of what was summed before
};

// As tile_scores of exec/kernels_tile.h with a.lanes lanes: four partial sums a lane. All threads
// of the block take part.
static __device__ void score_ordered(const struct attention_args &a, const struct tile &s,
                                     float shrink)
{
    const uint32_t groups = BLOCK / a.lanes, lane = threadIdx.x % a.lanes;
    for (uint32_t i = threadIdx.x / a.lanes; i < s.heads * KEYS; i += groups) {
        const uint32_t h = i / KEYS, key = i % KEYS;
        float acc[4] = {0, 0, 0, 0};
        if (key < s.n) {
            const float *q = s.q + h * a.head_dim;
            const float *k = s.keys + static_cast<size_t>(key) * a.head_dim;
            uint32_t d = 0;
            for (; d + 4 * a.lanes <= a.head_dim; d += 4 * a.lanes)
#pragma unroll
                for (int p = 0; p < 4; p++) {
                    const uint32_t at = d + p * a.lanes + lane;
                    acc[p] = add_product(acc[p], q[at], k[at], a.fused);
                }
            for (; d < a.head_dim; d += a.lanes) {
                const bool inside = d + lane < a.head_dim;
                acc[0] = add_product(acc[0], inside ? q[d + lane] : 0, inside ? k[d + lane] : 0,
                                     a.fused);
            }
        }
        const float all = sum_of_lanes((acc[0] + acc[1]) + (acc[2] + acc[3]), a.lanes);
        if (lane == 0)
            s.score[h][key] = all * shrink;
    }
}

// acc += the products of elements d, d + WARP ... of a few keys and of all heads.
static __device__ __forceinline__ void add_keys(const struct attention_args &a,
                                                const struct tile &s, uint32_t first, uint32_t d,
                                                float (&acc)[KEYS_AT_ONCE][HEADS])
{
    float k[DIMS_AT_ONCE][KEYS_AT_ONCE];
#pragma unroll
    for (int j = 0; j < DIMS_AT_ONCE; j++)
#pragma unroll
        for (int i = 0; i < KEYS_AT_ONCE; i++)
            k[j][i] = first + i < s.n && d + j * WARP < a.head_dim
                          ? s.keys[static_cast<size_t>(first + i) * a.head_dim + d + j * WARP]
                          : 0;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (static_cast<uint32_t>(h) >= s.heads)
            break; // the same for the whole warp
#pragma unroll
        for (int j = 0; j < DIMS_AT_ONCE; j++) {
            const float q = d + j * WARP < a.head_dim ? s.q[h * a.head_dim + d + j * WARP] : 0;
#pragma unroll
            for (int i = 0; i < KEYS_AT_ONCE; i++)
                acc[i][h] = fmaf(q, k[j][i], acc[i][h]);
        }
    }
}

// Each warp takes a few keys at once for all heads.
static __device__ void score_fast(const struct attention_args &a, const struct tile &s,
                                  float shrink)
{
    for (uint32_t first = warp_of_block() * KEYS_AT_ONCE; first < s.n;
         first += WARPS * KEYS_AT_ONCE) {
        float acc[KEYS_AT_ONCE][HEADS] = {};
        for (uint32_t d = lane_of_warp(); d < a.head_dim; d += DIMS_AT_ONCE * WARP)
            add_keys(a, s, first, d, acc);
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int i = 0; i < KEYS_AT_ONCE; i++) {
                if (static_cast<uint32_t>(h) >= s.heads)
                    continue; // the same for the whole warp
                const float all = sum_of_lanes(acc[i][h], WARP);
                if (lane_of_warp() == 0)
                    s.score[h][first + i] = all * shrink;
            }
    }
}

// Scores become exp(score - max); max, sum and keep follow. One warp a head, one lane a key.
static __device__ void soften(const struct tile &s, bool ordered)
{
    const uint32_t i = lane_of_warp();
    for (uint32_t h = warp_of_block(); h < s.heads; h += WARPS) {
        const float score = i < s.n ? s.score[h][i] : -INFINITY, old = s.max[h];
        const float top = fmaxf(max_of_warp(score), old);
        const float keep = top > old ? moe_expf(old - top) : 1;
        const float p = i < s.n ? moe_expf(score - top) : 0;
        float sum = s.sum[h] * keep;
        if (ordered) {
            for (uint32_t k = 0; k < s.n; k++)
                sum += __shfl_sync(0xffffffffu, p, static_cast<int>(k));
        } else {
            sum += sum_of_lanes(p, WARP);
        }
        s.score[h][i] = p;
        __syncwarp(); // all have read what lane 0 now writes
        if (i == 0) {
            s.max[h] = top;
            s.sum[h] = sum;
            s.keep[h] = keep;
        }
    }
}

// Each thread owns the same elements of the sums of values throughout, and adds a value to those of
// all heads.
static __device__ void add_values(const struct attention_args &a, const struct tile &s, bool fused)
{
    for (uint32_t d = threadIdx.x; d < a.head_dim; d += BLOCK) {
        float acc[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            acc[h] = static_cast<uint32_t>(h) < s.heads ? s.acc[h * a.head_dim + d] * s.keep[h] : 0;
        for (uint32_t from = 0; from < s.n; from += VALUES_AT_ONCE) {
            float v[VALUES_AT_ONCE];
#pragma unroll
            for (int i = 0; i < VALUES_AT_ONCE; i++)
                v[i] =
                    from + i < s.n ? s.values[static_cast<size_t>(from + i) * a.head_dim + d] : 0;
#pragma unroll
            for (int h = 0; h < HEADS; h++)
                if (static_cast<uint32_t>(h) < s.heads)
#pragma unroll
                    for (int i = 0; i < VALUES_AT_ONCE; i++)
                        if (from + i < s.n)
                            acc[h] = add_product(acc[h], s.score[h][from + i], v[i], fused);
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            if (static_cast<uint32_t>(h) < s.heads)
                s.acc[h * a.head_dim + d] = acc[h];
    }
}

// Blocks of keys [*first, *end) that split blockIdx.z of token t takes.
static __device__ void share_of_split(const struct attention_args &a, uint32_t lowest,
                                      uint32_t highest, uint32_t *first, uint32_t *end)
{
    const uint32_t from = lowest / KEYS, n = (highest - 1) / KEYS + 1 - from;
    *first = from + static_cast<uint32_t>(static_cast<uint64_t>(n) * blockIdx.z / a.splits);
    *end = from + static_cast<uint32_t>(static_cast<uint64_t>(n) * (blockIdx.z + 1) / a.splits);
}

template <bool ORDERED>
static __global__ void __launch_bounds__(BLOCK, ORDERED ? 4 : 5)
    attention_kernel(const struct attention_args a)
{
    __shared__ float score[HEADS][KEYS], max[HEADS], sum[HEADS], keep[HEADS];
    MOE_DYNAMIC_SHARED(float, heads); // [2, HEADS, hd]
    const uint32_t t = blockIdx.x, kv = blockIdx.y / a.pieces;
    const uint32_t in_group = blockIdx.y % a.pieces * HEADS;
    const uint32_t left = a.group - in_group, most = HEADS;
    const uint32_t n_heads = left < most ? left : most;
    const uint32_t head = kv * a.group + in_group, end = a.length + t + 1;
    const uint32_t lowest = a.window && end > a.window ? end - a.window : 0;
    const size_t row = static_cast<size_t>(kv) * a.context * a.head_dim;
    const size_t at = (static_cast<size_t>(t) * a.n_heads + head) * a.head_dim;
    const float shrink = 1 / sqrtf(static_cast<float>(a.head_dim));
    struct tile s = {nullptr, nullptr, 0,   n_heads, heads, heads + n_heads * a.head_dim,
                     score,   max,     sum, keep};
    uint32_t first, last;
    share_of_split(a, lowest, end, &first, &last);
    for (uint32_t i = threadIdx.x; i < n_heads * a.head_dim; i += BLOCK) {
        s.q[i] = a.q[at + i];
        s.acc[i] = 0;
    }
    if (threadIdx.x < n_heads) {
        max[threadIdx.x] = -INFINITY;
        sum[threadIdx.x] = 0;
    }
    __syncthreads();
    for (uint32_t b = first; b < last; b++) {
        const uint32_t from = b * KEYS > lowest ? b * KEYS : lowest;
        s.n = (end < (b + 1) * KEYS ? end : (b + 1) * KEYS) - from;
        s.keys = a.keys + row + static_cast<size_t>(from) * a.head_dim;
        s.values = a.values + row + static_cast<size_t>(from) * a.head_dim;
        if (ORDERED)
            score_ordered(a, s, shrink);
        else
            score_fast(a, s, shrink);
        __syncthreads();
        soften(s, ORDERED);
        __syncthreads();
        add_values(a, s, ORDERED ? a.fused : true);
        __syncthreads();
    }
    for (uint32_t i = threadIdx.x; i < n_heads * a.head_dim; i += BLOCK) {
        const uint32_t h = i / a.head_dim, d = i % a.head_dim;
        if (a.splits == 1) {
            a.y[at + i] = s.acc[i] * (1 / sum[h]);
            continue;
        }
        const size_t place =
            (static_cast<size_t>(t) * a.n_heads + head + h) * a.splits + blockIdx.z;
        float *out = a.partial + place * (a.head_dim + 2);
        out[d] = s.acc[i];
        if (d == 0) {
            out[a.head_dim] = max[h];
            out[a.head_dim + 1] = sum[h];
        }
    }
}

// Block (token, head). The first warp finds what each split counts for.
static __global__ void __launch_bounds__(BLOCK) merge_kernel(const struct attention_args a)
{
    __shared__ float part_of_all[SPLITS_MAX];
    const size_t head = static_cast<size_t>(blockIdx.x) * a.n_heads + blockIdx.y;
    const uint32_t stride = a.head_dim + 2;
    const float *part = a.partial + head * a.splits * stride;
    if (warp_of_block() == 0) {
        float max[SPLITS_MAX / WARP], top = -INFINITY, sum = 0;
#pragma unroll
        for (int k = 0; k < SPLITS_MAX / WARP; k++) {
            const uint32_t i = k * WARP + lane_of_warp();
            max[k] = i < a.splits ? part[i * stride + a.head_dim] : -INFINITY;
            top = fmaxf(top, max[k]);
        }
        top = max_of_warp(top);
#pragma unroll
        for (int k = 0; k < SPLITS_MAX / WARP; k++) {
            const uint32_t i = k * WARP + lane_of_warp();
            max[k] = moe_expf(max[k] - top);
            sum += i < a.splits ? part[i * stride + a.head_dim + 1] * max[k] : 0;
        }
        sum = sum_of_lanes(sum, WARP);
#pragma unroll
        for (int k = 0; k < SPLITS_MAX / WARP; k++)
            part_of_all[k * WARP + lane_of_warp()] = max[k] / sum;
    }
    __syncthreads();
    for (uint32_t d = threadIdx.x; d < a.head_dim; d += BLOCK) {
        float y = 0;
#pragma unroll 8
        for (uint32_t i = 0; i < a.splits; i++)
            y = fmaf(part[i * stride + d], part_of_all[i], y);
        a.y[head * a.head_dim + d] = y;
    }
}

cudaError_t moe_cuda_load_attention()
{
    return load_kernels(place_kernel, attention_kernel<true>, attention_kernel<false>,
                        merge_kernel);
}

// Blocks that share the keys of a token: enough for all multiprocessors where a block has enough to
// do and the scratch memory holds what they found.
static uint32_t choose_splits(const struct moe_cuda_context *cuda, const struct attention_args &a,
                              uint32_t n_tokens, uint32_t blocks)
{
    uint32_t keys = a.length + n_tokens;
    if (a.window && keys > a.window)
        keys = a.window;
    const uint64_t one = static_cast<uint64_t>(n_tokens) * a.n_heads * (a.head_dim + 2) * 4;
    const uint64_t room = cuda->partial ? cuda->partial_bytes / one : 1;
    uint64_t splits = keys / KEYS;
    const uint64_t wanted = static_cast<uint64_t>(cuda->cores) * 4 / blocks;
    splits = splits < wanted ? splits : wanted;
    splits = splits < room ? splits : room;
    const uint64_t most = SPLITS_MAX;
    splits = splits < most ? splits : most;
    return cuda->order.lanes || splits < 2 ? 1 : static_cast<uint32_t>(splits);
}

static void launch_attention(const struct moe_cuda_context *cuda, const struct moe_attend_job *job)
{
    const struct moe_llm_config *c = job->config;
    const struct moe_activations *act = job->a;
    struct attention_args a = {};
    a.q = act->q;
    a.keys = job->keys;
    a.values = job->values;
    a.y = act->attended;
    a.partial = cuda->partial;
    a.n_heads = c->n_heads;
    a.group = c->n_heads / c->n_kv_heads;
    a.pieces = ceil_div(a.group, HEADS);
    a.head_dim = c->head_dim;
    a.window = c->sliding_window;
    a.context = job->context;
    a.length = act->length;
    a.lanes = cuda->order.lanes;
    a.fused = cuda->order.fused;
    const uint32_t blocks = c->n_kv_heads * a.pieces;
    const uint32_t most = HEADS, heads = a.group < most ? a.group : most;
    const size_t shared = static_cast<size_t>(2) * heads * a.head_dim * sizeof(float);
    a.splits = choose_splits(cuda, a, act->n, blocks * act->n);
    const dim3 grid(act->n, blocks, a.splits);
    if (a.lanes)
        MOE_LAUNCH(attention_kernel<true>, grid, BLOCK, shared, cuda->stream, a);
    else
        MOE_LAUNCH(attention_kernel<false>, grid, BLOCK, shared, cuda->stream, a);
    if (a.splits > 1)
        MOE_LAUNCH(merge_kernel, dim3(act->n, a.n_heads), BLOCK, 0, cuda->stream, a);
}

void moe_cuda_attention(const struct moe_cuda_context *cuda, const struct moe_attend_job *job)
{
    const struct moe_llm_config *c = job->config;
    const struct moe_activations *a = job->a;
    const struct place_args place = {a->q,          a->k,        a->v,         a->cosine,
                                     a->sine,       job->keys,   job->values,  c->n_heads,
                                     c->n_kv_heads, c->head_dim, job->context, a->length};
    MOE_LAUNCH(place_kernel, dim3(a->n, c->n_heads + c->n_kv_heads), PLACE_THREADS, 0, cuda->stream,
               place);
    launch_attention(cuda, job);
}
