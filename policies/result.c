#include "policies/result.h"

#include "base/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void moe_result_init(struct moe_result *r)
{
    *r = (struct moe_result){.energy_j = NAN,
                             .cpu_w = NAN,
                             .gpu_w = NAN,
                             .j_per_token = NAN,
                             .bound_ms = NAN,
                             .bound_share = NAN,
                             .schedule_bound_ms = NAN,
                             .schedule_bound_share = NAN};
}

enum moe_status moe_result_add_times(struct moe_result *r, const struct moe_run_times *times,
                                     struct moe_err *err)
{
    size_t n = times->n_decode;
    double *sorted = malloc(n * sizeof *sorted + 1);
    if (!sorted)
        return moe_fail_memory(err, "the times of the tokens");
    if (n)
        memcpy(sorted, times->token_ms, n * sizeof *sorted);
    moe_sort_f64(sorted, n);
    r->prefill_tokens = times->n_prefill;
    r->decode_tokens = n;
    r->prefill_ns = times->prefill_ns;
    r->decode_ns = times->decode_ns;
    r->path_ns = times->path_ns;
    r->tokens_per_s = (double)n / ((double)times->decode_ns * 1e-9);
    r->ms_mean = (double)times->decode_ns * 1e-6 / (double)n;
    r->ms_p50 = moe_quantile(sorted, n, 0.5);
    r->ms_p95 = moe_quantile(sorted, n, 0.95);
    r->ms_p99 = moe_quantile(sorted, n, 0.99);
    free(sorted);
    return MOE_OK;
}

void moe_result_add_usage(struct moe_result *r, const struct moe_usage *usage,
                          uint64_t expert_bytes)
{
    double ns = (double)r->decode_ns;
    moe_usage_causes(usage, &r->cause);
    r->routed_experts = usage->cpu_experts + usage->gpu_experts;
    r->cpu_experts = usage->cpu_experts;
    r->gpu_experts = usage->gpu_experts;
    r->h2d_bytes = usage->h2d_copies * expert_bytes;
    r->gpu_busy = (double)moe_usage_lane_ns(usage, MOE_LANE_GPU) / ns;
    r->cpu_busy = (double)moe_usage_lane_ns(usage, MOE_LANE_CPU) / ns;
    r->h2d_busy = (double)moe_usage_lane_ns(usage, MOE_LANE_H2D) / ns;
    r->dram_gb_per_s = (double)(usage->cpu_experts + usage->cpu_unused + usage->h2d_copies) *
                       (double)expert_bytes / ns;
}

void moe_result_add_joules(struct moe_result *r, double cpu, double gpu, bool has_gpu)
{
    const double seconds = (double)r->decode_ns * 1e-9;
    r->cpu_w = cpu / seconds;
    r->gpu_w = has_gpu ? gpu / seconds : NAN;
    r->energy_j = has_gpu ? cpu + gpu : cpu;
    r->j_per_token = r->energy_j / (double)r->decode_tokens;
}

void moe_result_add_counts(struct moe_result *r, const struct moe_cache *cache,
                           const struct moe_geometry *geometry)
{
    for (uint32_t l = 0; l < geometry->n_layers; l++) {
        if (!moe_cache_covers(cache, l))
            continue;
        moe_counts_add(&r->decode, moe_cache_counts(cache, l, MOE_DECODE));
        moe_counts_add(&r->prefill, moe_cache_counts(cache, l, MOE_PREFILL));
    }
    r->preloads = moe_cache_preloads(cache);
    r->prefetches = moe_cache_prefetches(cache, MOE_DECODE);
    if (geometry->expert_bytes)
        r->prefetch_wasted_bytes = r->prefetches.wasted * geometry->expert_bytes[0];
    r->cache_slots = geometry->n_slots;
    r->cache_bytes = moe_geometry_bytes(geometry);
}
