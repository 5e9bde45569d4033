#include "sim/prefetch_value.h"

#include <math.h>

/* What a right prefetch saves beside the copy, in ns. */
static double gain_ns(const struct moe_strategy *strategy, const struct moe_costs *costs,
                      double copied_share)
{
    uint64_t beside =
        costs->layer_overhead_ns + moe_cost_attend_ns(costs, 1, 0) + costs->gpu_expert_ns;
    double copy =
        fmin((double)costs->copy_ns[strategy->fill_memory == MOE_FILL_PAGEABLE], (double)beside);
    double cpu = (double)costs->cpu_expert_ns - (double)costs->gpu_expert_ns;
    switch ((enum moe_dispatch_miss)strategy->miss) {
    case MOE_MISS_CPU:
        return cpu;
    case MOE_MISS_WAIT:
        return copy;
    case MOE_MISS_ADMITTED:
        return copied_share * copy + (1 - copied_share) * cpu;
    case MOE_MISS_FASTEST:
        break;
    }
    return fmin(cpu, copy);
}

enum moe_status moe_prefetch_value(const struct moe_sim_input *input,
                                   struct moe_prefetch_value *out, struct moe_err *err)
{
    struct moe_strategy plain = *input->strategy;
    struct moe_sim_input without = *input;
    struct moe_prefetch_value value;
    struct moe_costs costs;
    enum moe_status s = moe_prefetcher_parse("none", &plain.prefetcher, err);
    without.strategy = &plain;
    without.timeline = NULL;
    without.decisions = NULL;
    without.token_ms = NULL;
    if (!s)
        s = moe_simulate(&without, &value.without, err);
    if (s)
        return s;
    moe_costs_init(&costs, input->model, input->platform, plain.threads);
    double copies = (double)value.without.h2d_bytes / (double)costs.expert_bytes;
    double misses = (double)value.without.decode.misses;
    double copy = (double)costs.copy_ns[plain.fill_memory == MOE_FILL_PAGEABLE];
    value.copied_share = misses > 0 ? fmin(1, copies / misses) : 0;
    double gain = gain_ns(&plain, &costs, value.copied_share);
    double saved = gain + value.copied_share * copy;
    value.copy_ms = copy * 1e-6;
    value.gain_ms = gain * 1e-6;
    value.break_even = saved > 0 ? copy / saved : INFINITY;
    *out = value;
    return MOE_OK;
}
