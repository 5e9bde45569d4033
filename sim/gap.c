#include "sim/gap.h"

#include "sim/bound.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Decode time at each step of the ladder. */
struct ladder {
    const struct moe_sim_input *input;
    const struct moe_result *result;
    struct moe_model model; /* with the trace's top-k */
    struct moe_costs costs;
    struct moe_bound_case bound;
    uint64_t ns[MOE_N_GAP_PARTS + 1];
};

/* The bound with so many hits. What prompts leave in the strategy's slots, and its initial content,
 * are added alike in all bounds. */
static uint64_t bound_with(const struct ladder *l, uint64_t hits)
{
    const struct moe_result *r = l->result;
    struct moe_bound_case bound = l->bound;
    uint64_t prompts = moe_bound_prompts(l->input->trace, r->prefill_tokens + r->decode_tokens);
    bound.max_hits = hits + r->cache_slots * prompts + r->preloads.experts;
    return moe_bound_ns(&bound);
}

static enum moe_status bound_of(const struct ladder *l, const char *geometry_text, uint64_t *ns,
                                struct moe_err *err)
{
    const struct moe_trace_info *info = &l->input->trace->info;
    const struct moe_result *r = l->result;
    struct moe_geometry geometry;
    uint64_t hits, *bytes = malloc(info->n_layers * sizeof *bytes + 1);
    if (!bytes)
        return moe_fail_memory(err, "the experts' sizes");
    for (uint32_t i = 0; i < info->n_layers; i++)
        bytes[i] = l->costs.expert_bytes;
    enum moe_status s =
        moe_geometry_parse(geometry_text, info->n_layers, info->n_experts, bytes, &geometry, err);
    free(bytes);
    if (s)
        return s;
    s = moe_bound_hits_in(l->input->trace, r->prefill_tokens + r->decode_tokens, &geometry, &hits,
                          err);
    moe_geometry_release(&geometry);
    if (!s)
        *ns = bound_with(l, hits);
    return s;
}

static enum moe_status add_bounds(struct ladder *l, struct moe_err *err)
{
    char pool[32] = "none";
    if (l->result->cache_slots)
        snprintf(pool, sizeof pool, "global:%" PRIu64, l->result->cache_slots);
    l->bound = moe_bound_case_of(l->input->trace, &l->costs, l->result);
    l->ns[MOE_GAP_COLD] = bound_with(l, l->bound.uses);
    enum moe_status s = bound_of(l, "all", &l->ns[MOE_GAP_CAPACITY], err);
    if (!s)
        s = bound_of(l, pool, &l->ns[MOE_GAP_CONFLICT], err);
    return s ? s : bound_of(l, l->input->strategy->geometry, &l->ns[MOE_GAP_DISPATCH], err);
}

static enum moe_status simulate(const struct ladder *l, const struct moe_strategy *strategy,
                                uint64_t *ns, struct moe_err *err)
{
    struct moe_sim_input input = *l->input;
    struct moe_result result;
    input.strategy = strategy;
    input.timeline = NULL;
    input.decisions = NULL;
    input.token_ms = NULL;
    input.max_tokens = l->result->decode_tokens;
    input.bound = false;
    input.instant_fills = true;
    enum moe_status s = moe_simulate(&input, &result, err);
    if (!s)
        *ns = result.decode_ns;
    return s;
}

/* The strategy's rules come back one after the other. */
static enum moe_status add_simulations(struct ladder *l, struct moe_err *err)
{
    const struct moe_strategy *real = l->input->strategy;
    struct moe_strategy plain = *real;
    enum moe_status s = moe_policy_parse("opt", &plain.policy, err);
    if (!s)
        s = moe_admission_parse("always", &plain.admission, err);
    if (!s)
        s = moe_prefetcher_parse("none", &plain.prefetcher, err);
    if (!s)
        s = simulate(l, &plain, &l->ns[MOE_GAP_VICTIM], err);
    plain.policy = real->policy;
    if (!s)
        s = simulate(l, &plain, &l->ns[MOE_GAP_ADMISSION], err);
    plain.admission = real->admission;
    if (!s)
        s = simulate(l, &plain, &l->ns[MOE_GAP_PREFETCH], err);
    plain.prefetcher = real->prefetcher;
    return s ? s : simulate(l, &plain, &l->ns[MOE_GAP_LATE_FILL], err);
}

enum moe_status moe_gap_split(const struct moe_sim_input *input, const struct moe_result *result,
                              struct moe_gap *out, struct moe_err *err)
{
    struct ladder l = {.input = input, .result = result, .model = *input->model};
    if (moe_strategy_is_lossy(input->strategy))
        return moe_fail(err, MOE_ERR_USAGE,
                        "--gap cannot be used with reroute '%s': the gap starts from the bound of "
                        "the original routes, but the strategy computes others",
                        input->strategy->reroute.ops->name);
    l.model.top_k = input->trace->info.top_k;
    moe_costs_init(&l.costs, &l.model, input->platform, input->strategy->threads);
    enum moe_status s = add_bounds(&l, err);
    if (!s)
        s = add_simulations(&l, err);
    if (s)
        return s;
    l.ns[MOE_N_GAP_PARTS] = result->decode_ns;
    out->floor_ns = l.ns[MOE_GAP_COLD];
    out->bound_ns = l.ns[MOE_GAP_CONFLICT];
    out->decode_ns = result->decode_ns;
    for (int i = 0; i < MOE_N_GAP_PARTS; i++)
        out->part_ns[i] = (int64_t)l.ns[i + 1] - (int64_t)l.ns[i];
    return MOE_OK;
}

static void add_cell(struct moe_table *table, const char *name, double ns, uint64_t tokens)
{
    char column[64];
    snprintf(column, sizeof column, "gap_%s_ms_per_token", name);
    moe_table_f64(table, column, ns * 1e-6 / (double)tokens);
}

void moe_gap_cells(struct moe_table *table, const struct moe_gap *gap, uint64_t decode_tokens)
{
    static const char *const names[MOE_N_GAP_PARTS] = {
        "cold", "capacity", "conflict", "dispatch", "victim", "admission", "prefetch", "late_fill"};
    add_cell(table, "floor", (double)gap->floor_ns, decode_tokens);
    for (int i = 0; i < MOE_N_GAP_PARTS; i++)
        add_cell(table, names[i], (double)gap->part_ns[i], decode_tokens);
}
