#include "sim/bound.h"

#include "policies/geometry.h"
#include "sim/replay.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* How many operations of `ns` each fit into time; `most` if they take none. */
static double fits(double time, uint64_t ns, double most)
{
    return ns ? time / (double)ns : most;
}

static uint64_t fastest_copy_ns(const struct moe_costs *costs)
{
    return costs->copy_ns[costs->copy_ns[1] < costs->copy_ns[0]];
}

/* Can x + y + z reach all uses in that time? (sim/bound.h) */
static bool feasible(const struct moe_bound_case *bound, uint64_t time_ns)
{
    const struct moe_costs *costs = bound->costs;
    double uses = (double)bound->uses, time = (double)time_ns;
    double beside = (double)(time_ns - bound->dense_ns);
    uint64_t copy_ns = fastest_copy_ns(costs);
    double gpu = fits(beside, costs->gpu_expert_ns, uses);
    double dram = (time * costs->platform->dram.read_gb_per_s - bound->dense_bytes) /
                  (double)costs->expert_bytes;
    double x = fmin(fits(beside, costs->cpu_expert_ns, uses), dram);
    double y = fmin((double)bound->max_hits, gpu), left = dram - x;
    if (costs->shares_dram) { /* a hit reads it as well; a copy thrice: read, written, used */
        y = fmin(y, left);
        left = (left - y) / 3;
    }
    double z = fmin(fits(time, copy_ns, uses), fmin(gpu - y, left));
    double rounding = 1e-6;
    return (costs->no_gpu ? x : x + y + z) + rounding >= uses;
}

uint64_t moe_bound_ns(const struct moe_bound_case *bound)
{
    const struct moe_costs *costs = bound->costs;
    double uses = (double)bound->uses;
    double on_cpu = (double)bound->dense_ns + uses * (double)costs->cpu_expert_ns;
    double read = (uses * (double)costs->expert_bytes + bound->dense_bytes) /
                  costs->platform->dram.read_gb_per_s;
    /* Everything on the CPU is a schedule, so this much is enough; the margin covers rounding. */
    double enough = fmax(on_cpu, read) * (1 + 1e-9) + 2;
    uint64_t low = bound->dense_ns, high = enough < 0x1p63 ? (uint64_t)enough : INT64_MAX;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (feasible(bound, middle))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint64_t moe_bound_prompts(const struct moe_trace *trace, uint64_t n_tokens)
{
    const uint8_t *phase = trace->tokens.phase;
    uint64_t n = 0;
    for (uint64_t t = 1; t < n_tokens; t++)
        n += phase[t] == MOE_DECODE && phase[t - 1] == MOE_PREFILL;
    return n;
}

enum moe_status moe_bound_hits_in(const struct moe_trace *trace, uint64_t n_tokens,
                                  const struct moe_geometry *geometry, uint64_t *hits,
                                  struct moe_err *err)
{
    struct moe_trace part = *trace; /* a view: nothing in it is released */
    struct moe_policy_spec opt;
    struct moe_replay_options options = {
        .contract = MOE_CONTRACT_EVENT, .order = MOE_ORDER_STEP, .phases = MOE_PHASES_DECODE};
    struct moe_replay_result result;
    part.tokens.n_tokens = n_tokens;
    enum moe_status s = moe_policy_parse("opt", &opt, err);
    if (!s)
        s = moe_replay(&part, geometry, &opt, &options, &result, err);
    if (s)
        return s;
    *hits = result.total[MOE_DECODE].hits;
    moe_replay_release(&result);
    return MOE_OK;
}

enum moe_status moe_bound_hits(const struct moe_trace *trace, uint64_t n_tokens, uint32_t slots,
                               uint64_t *max_hits, struct moe_err *err)
{
    char text[32] = "none";
    struct moe_geometry geometry;
    uint64_t hits;
    if (slots)
        snprintf(text, sizeof text, "global:%" PRIu32, slots);
    enum moe_status s =
        moe_geometry_parse(text, trace->info.n_layers, trace->info.n_experts, NULL, &geometry, err);
    if (s)
        return s;
    s = moe_bound_hits_in(trace, n_tokens, &geometry, &hits, err);
    moe_geometry_release(&geometry);
    if (!s)
        *max_hits = hits + slots * moe_bound_prompts(trace, n_tokens);
    return s;
}

/* The dense parts of the decode steps in the first n_tokens tokens: dense_ns and dense_bytes. */
static void add_dense(const struct moe_trace *trace, uint64_t n_tokens,
                      struct moe_bound_case *bound)
{
    const struct moe_tokens *tokens = &trace->tokens;
    const struct moe_costs *costs = bound->costs;
    for (uint64_t t = 0, start = 0, end; t < n_tokens; t = end) {
        end = moe_step_end(tokens, t);
        if (t == 0 || tokens->sequence[t] != tokens->sequence[t - 1])
            start = t;
        if (tokens->phase[t] == MOE_PREFILL)
            continue;
        uint64_t cached = moe_step_context(tokens, t, start).all;
        bound->dense_ns += moe_cost_dense_ns(costs, end - t, cached);
        bound->dense_bytes += moe_cost_dense_dram_bytes(costs, end - t, cached);
    }
}

struct moe_bound_case moe_bound_case_of(const struct moe_trace *trace,
                                        const struct moe_costs *costs,
                                        const struct moe_result *result)
{
    uint64_t n_tokens = result->prefill_tokens + result->decode_tokens;
    struct moe_bound_case bound = {.costs = costs,
                                   .uses = result->cpu_experts + result->gpu_experts};
    add_dense(trace, n_tokens, &bound);
    return bound;
}

uint64_t moe_bound_schedule_ns(const struct moe_trace *trace, const struct moe_costs *costs,
                               const struct moe_result *result)
{
    uint64_t n_tokens = result->prefill_tokens + result->decode_tokens;
    uint64_t landed = result->h2d_bytes / costs->expert_bytes;
    uint64_t prompts = moe_bound_prompts(trace, n_tokens);
    uint64_t copies = landed > prompts ? landed - prompts : 0;
    uint64_t link_ns = copies * fastest_copy_ns(costs);
    const struct moe_bound_case dense = moe_bound_case_of(trace, costs, result);
    double expert = (double)costs->expert_bytes;
    double read = (double)(result->cpu_experts + copies) * expert;
    if (costs->shares_dram) /* what the GPU computes, and what copies write */
        read += (double)(result->gpu_experts + copies) * expert;
    read = (read + dense.dense_bytes) / costs->platform->dram.read_gb_per_s;
    uint64_t longest = link_ns > result->path_ns ? link_ns : result->path_ns;
    return read > (double)longest ? (uint64_t)read : longest;
}

void moe_bound_add_schedule(const struct moe_trace *trace, const struct moe_costs *costs,
                            struct moe_result *result)
{
    if (!result->path_ns)
        return;
    double ns = (double)moe_bound_schedule_ns(trace, costs, result);
    result->schedule_bound_ms = ns * 1e-6 / (double)result->decode_tokens;
    result->schedule_bound_share = result->schedule_bound_ms / result->ms_mean;
}

enum moe_status moe_bound_add(const struct moe_trace *trace, const struct moe_costs *costs,
                              struct moe_result *result, struct moe_err *err)
{
    uint64_t n_tokens = result->prefill_tokens + result->decode_tokens;
    struct moe_bound_case bound = moe_bound_case_of(trace, costs, result);
    moe_bound_add_schedule(trace, costs, result);
    if (result->rerouted.events_moved || result->rerouted.early_used)
        return MOE_OK;
    enum moe_status s =
        moe_bound_hits(trace, n_tokens, (uint32_t)result->cache_slots, &bound.max_hits, err);
    if (s)
        return s;
    bound.max_hits += result->preloads.experts;
    result->bound_ms = (double)moe_bound_ns(&bound) * 1e-6 / (double)result->decode_tokens;
    result->bound_share = result->bound_ms / result->ms_mean;
    return MOE_OK;
}
