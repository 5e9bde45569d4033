// From router scores to experts (exec/router.c, to the bit in every order), the box in the host's
// memory, groups and gathered rows; and the sum of the experts.
#include "exec/cuda/launch.cuh"

extern "C" {
#include "traces/model.h"
}

enum { THREADS = 256, WARPS = THREADS / WARP, EXPERTS_MAX = MOE_MAX_EXPERTS };

struct route_args {
    const float *score, *ahead; // [T, E]; ahead NULL: none
    float *share;               // [T, E] scratch
    moe_expert *expert;
    float *weight;
    const moe_expert *forced;
    const float *forced_weight;
    uint32_t *count, *first, *row;
    uint32_t n, n_experts, top_k;
    float jitter;
    bool sparsemixer, renormalise;
    struct moe_route_box box;
};

// Is expert e with value v before the best so far? Numbers by size, NaN behind them, ties by index.
static __device__ __forceinline__ bool is_before(float v, uint32_t e, float best, uint32_t at,
                                                 uint32_t none)
{
    if (e == none || at == none)
        return at == none && e != none;
    if (isnan(v) || isnan(best))
        return isnan(v) == isnan(best) ? e < at : isnan(best);
    return v > best || (v == best && e < at);
}

// The best of those not taken, for all threads. taken: [E] in shared memory.
static __device__ uint32_t best_left(const float *value, uint32_t n, const uint8_t *taken)
{
    __shared__ float best_value[WARPS];
    __shared__ uint32_t best_at[WARPS];
    float v = 0;
    uint32_t at = n;
    for (uint32_t e = threadIdx.x; e < n; e += THREADS)
        if (!taken[e] && is_before(value[e], e, v, at, n)) {
            v = value[e];
            at = e;
        }
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, v, step);
        const uint32_t other_at = __shfl_xor_sync(0xffffffffu, at, step);
        if (is_before(other, other_at, v, at, n)) {
            v = other;
            at = other_at;
        }
    }
    __syncthreads(); // the arrays' readers of the call before are done
    if (lane_of_warp() == 0) {
        best_value[warp_of_block()] = v;
        best_at[warp_of_block()] = at;
    }
    __syncthreads();
    v = best_value[0];
    at = best_at[0];
    for (uint32_t w = 1; w < WARPS; w++)
        if (is_before(best_value[w], best_at[w], v, at, n)) {
            v = best_value[w];
            at = best_at[w];
        }
    return at;
}

static __device__ void top_k(const struct route_args &a, const float *score, float *share,
                             uint8_t *taken, moe_expert *expert, float *weight)
{
    __shared__ float all;
    const float top = score[best_left(score, a.n_experts, taken)];
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS)
        share[e] = moe_expf(score[e] - top);
    __syncthreads();
    if (threadIdx.x == 0) { // one after the other, as on the CPU
        float sum = 0;
        for (uint32_t e = 0; e < a.n_experts; e++)
            sum += share[e];
        all = sum;
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS)
        share[e] /= all;
    __syncthreads();
    for (uint32_t k = 0; k < a.top_k; k++) {
        const uint32_t e = best_left(share, a.n_experts, taken);
        if (threadIdx.x == 0) {
            expert[k] = static_cast<moe_expert>(e);
            weight[k] = share[e];
            taken[e] = 1;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        float chosen = 0;
        for (uint32_t k = 0; k < a.top_k; k++)
            chosen += weight[k];
        for (uint32_t k = 0; k < a.top_k && a.renormalise; k++)
            weight[k] /= chosen;
    }
}

static __device__ void sparsemixer(const struct route_args &a, const float *score, float *share,
                                   uint8_t *taken, moe_expert *expert, float *weight)
{
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t best = best_left(score, a.n_experts, taken);
        const float top = score[best];
        for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS) {
            const float distance = (top - score[e]) / fmaxf(fabsf(score[e]), top);
            const bool kept = !taken[e] && !(distance > 2 * a.jitter);
            share[e] = kept ? moe_expf(score[e] - top) : 0; // + 0 changes no sum
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            float sum = 0;
            for (uint32_t e = 0; e < a.n_experts; e++)
                sum += share[e];
            expert[k] = static_cast<moe_expert>(best);
            weight[k] = 1 / sum;
            taken[best] = 1;
        }
        __syncthreads();
    }
}

// Everything that the box holds of a token; the flag comes later.
static __device__ void fill_box(const struct route_args &a, uint32_t t)
{
    const size_t choice = static_cast<size_t>(t) * a.top_k,
                 at = static_cast<size_t>(t) * a.n_experts;
    for (uint32_t k = threadIdx.x; k < a.top_k; k += THREADS) {
        a.box.expert[choice + k] = a.expert[choice + k];
        a.box.weight[choice + k] = a.weight[choice + k];
    }
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS) {
        if (a.box.score)
            a.box.score[at + e] = a.score[at + e];
        if (a.box.ahead && a.ahead)
            a.box.ahead[at + e] = a.ahead[at + e];
    }
    __threadfence_system();
}

// By the whole block, after what the flag announces.
static __device__ void raise_flag(const struct route_args &a)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence_system();
        *static_cast<volatile uint64_t *>(a.box.flag) = a.box.ticket;
    }
}

// count, first and row. In a warp's turn the choices of 32 lanes are placed at once: each behind
// those of lower lanes that have its expert.
static __device__ void group(const struct route_args &a, uint32_t *number)
{
    const uint32_t n_choices = a.n * a.top_k, none = EXPERTS_MAX;
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS)
        number[e] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_choices; i += THREADS)
        atomicAdd(&number[a.expert[i]], 1u);
    __syncthreads();
    if (threadIdx.x == 0)
        for (uint32_t e = 0, row = 0; e < a.n_experts; e++) {
            const uint32_t count = number[e];
            a.count[e] = count;
            a.first[e] = row;
            number[e] = row;
            row += count;
        }
    __syncthreads();
    if (warp_of_block() > 0)
        return;
    const uint32_t lower = (1u << lane_of_warp()) - 1;
    for (uint32_t from = 0; from < n_choices; from += WARP) {
        const uint32_t i = from + lane_of_warp(), e = i < n_choices ? a.expert[i] : none;
        const uint32_t same = __match_any_sync(0xffffffffu, e);
        const uint32_t before = static_cast<uint32_t>(__popc(same & lower));
        if (e != none)
            a.row[i] = number[e] + before;
        __syncwarp(); // all have read what the first of each expert now changes
        if (e != none && before == 0)
            number[e] += static_cast<uint32_t>(__popc(same));
        __syncwarp();
    }
}

// One block a token. A pass of one token is finished here; of several, by finish_kernel.
static __global__ void __launch_bounds__(THREADS) route_kernel(const struct route_args a)
{
    __shared__ uint8_t taken[EXPERTS_MAX];
    __shared__ uint32_t number[EXPERTS_MAX];
    const uint32_t t = blockIdx.x;
    const size_t at = static_cast<size_t>(t) * a.n_experts,
                 choice = static_cast<size_t>(t) * a.top_k;
    moe_expert *expert = a.expert + choice;
    float *weight = a.weight + choice;
    for (uint32_t e = threadIdx.x; e < a.n_experts; e += THREADS)
        taken[e] = 0;
    __syncthreads();
    if (a.forced) {
        for (uint32_t k = threadIdx.x; k < a.top_k; k += THREADS) {
            expert[k] = a.forced[choice + k];
            weight[k] = a.forced_weight[choice + k];
        }
    } else if (a.sparsemixer) {
        sparsemixer(a, a.score + at, a.share + at, taken, expert, weight);
    } else {
        top_k(a, a.score + at, a.share + at, taken, expert, weight);
    }
    __syncthreads();
    fill_box(a, t);
    if (a.n > 1)
        return; // every block
    raise_flag(a);
    group(a, number);
}

static __global__ void __launch_bounds__(THREADS) finish_kernel(const struct route_args a)
{
    __shared__ uint32_t number[EXPERTS_MAX];
    raise_flag(a);
    group(a, number);
}

// Block i is a choice: its token's vector goes to its row.
static __global__ void __launch_bounds__(THREADS)
    gather_kernel(const float *u, const uint32_t *row, uint32_t top_k, uint32_t d, float *to)
{
    const float *from = u + static_cast<size_t>(blockIdx.x / top_k) * d;
    to += static_cast<size_t>(row[blockIdx.x]) * d;
    for (uint32_t i = threadIdx.x; i < d; i += THREADS)
        to[i] = from[i];
}

// The experts are added to each other before they are added to x, without fused operations.
static __global__ void __launch_bounds__(THREADS)
    combine_kernel(const struct moe_activations a, uint32_t top_k, uint32_t d)
{
    const uint32_t i = blockIdx.y * THREADS + threadIdx.x, t = blockIdx.x;
    if (i >= d)
        return;
    float sum = 0;
    for (uint32_t k = t * top_k; k < (t + 1) * top_k; k++)
        sum += a.weight[k] * a.ffn_y[static_cast<size_t>(a.row[k]) * d + i];
    a.x[static_cast<size_t>(t) * d + i] += sum;
}

cudaError_t moe_cuda_load_routes()
{
    return load_kernels(route_kernel, finish_kernel, gather_kernel, combine_kernel);
}

void moe_cuda_routes(const struct moe_cuda_context *cuda, const struct moe_attend_job *job)
{
    const struct moe_llm_config *c = job->config;
    const struct moe_activations *act = job->a;
    const struct route_args a = {act->score,
                                 job->next_router ? act->ahead : nullptr,
                                 act->share,
                                 act->expert,
                                 act->weight,
                                 job->forced,
                                 job->forced_weight,
                                 act->count,
                                 act->first,
                                 act->row,
                                 act->n,
                                 c->n_experts,
                                 c->top_k,
                                 c->router_jitter,
                                 c->arch == MOE_ARCH_PHIMOE,
                                 c->renormalise,
                                 job->box};
    MOE_LAUNCH(route_kernel, act->n, THREADS, 0, cuda->stream, a);
    if (act->n > 1)
        MOE_LAUNCH(finish_kernel, 1, THREADS, 0, cuda->stream, a);
    MOE_LAUNCH(gather_kernel, act->n * c->top_k, THREADS, 0, cuda->stream, act->u, act->row,
               c->top_k, c->d_model, act->ffn_x);
}

void moe_cuda_combine(const struct moe_cuda_context *cuda, const struct moe_combine_job *job)
{
    const struct moe_llm_config *c = job->config;
    MOE_LAUNCH(combine_kernel, dim3(job->a->n, ceil_div(c->d_model, THREADS)), THREADS, 0,
               cuda->stream, *job->a, c->top_k, c->d_model);
}
