#include "sim/simulate.h"

#include "base/progress.h"
#include "base/units.h"
#include "policies/future.h"
#include "policies/step.h"
#include "sim/bound.h"
#include "sim/energy.h"
#include "sim/machine.h"

#include <inttypes.h>
#include <stdlib.h>

/* Everything that a run owns. The model of a run routes to as many experts as the trace has:
 * engines can be told to use fewer than the model was trained with. */
struct run {
    const struct moe_sim_input *input;
    struct moe_model model; /* with the trace's top-k */
    struct moe_costs costs;
    uint64_t *layer_bytes; /* [L] of one expert */
    struct moe_geometry geometry;
    struct moe_cache *cache;
    uint32_t *next_use;
    struct moe_sim_machine *machine;
    struct moe_loop loop;
    double *token_ms; /* [decode tokens] */
    struct moe_run_times times;
    uint64_t n_tokens; /* of the trace that were run */
    uint64_t dense_ns; /* decode */
};

static enum moe_status check_shape(const struct moe_sim_input *in, struct moe_err *err)
{
    const struct moe_trace_info *info = &in->trace->info;
    const struct moe_model *model = in->model;
    if (info->n_layers == model->n_layers && info->n_experts == model->n_experts &&
        info->top_k <= model->top_k)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "trace of '%s' has %" PRIu32 " layers, %" PRIu32 " experts, top %" PRIu32
                    ", but model '%s' has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                    info->model, info->n_layers, info->n_experts, info->top_k, model->name,
                    model->n_layers, model->n_experts, model->top_k);
}

/* Weights outside the experts and, where misses are computed on the GPU, two staging buffers. */
static uint64_t reserved_bytes(const struct run *run)
{
    const struct moe_strategy *strategy = run->input->strategy;
    bool streams = strategy->miss == MOE_MISS_WAIT || strategy->prefill == MOE_PREFILL_STREAM;
    return moe_cost_dense_bytes(run->input->model) + (streams ? 2 * run->costs.expert_bytes : 0);
}

static enum moe_status resolve_geometry(struct run *run, struct moe_err *err)
{
    const struct moe_sim_input *in = run->input;
    uint32_t n_layers = (uint32_t)in->model->n_layers;
    run->layer_bytes = malloc(n_layers * sizeof *run->layer_bytes);
    if (!run->layer_bytes)
        return moe_fail_memory(err, "the experts' sizes");
    for (uint32_t l = 0; l < n_layers; l++)
        run->layer_bytes[l] = run->costs.expert_bytes;
    enum moe_status s = /* NOLINT(clang-analyzer-unix.Malloc): the caller releases the run */
        moe_geometry_parse(in->strategy->geometry, n_layers, (uint32_t)in->model->n_experts,
                           run->layer_bytes, &run->geometry, err);
    if (s)
        return s;
    uint64_t cache = moe_geometry_bytes(&run->geometry), memory = in->platform->gpu.memory_bytes;
    uint64_t other = reserved_bytes(run);
    if (other <= memory && cache <= memory - other)
        return MOE_OK;
    char a[32], b[32], c[32];
    return moe_fail(err, MOE_ERR_USAGE,
                    "geometry '%s' takes %s and the rest of model '%s' %s: more than the %s of the "
                    "GPU of platform '%s'",
                    in->strategy->geometry, moe_format_bytes(cache, a, sizeof a), in->model->name,
                    moe_format_bytes(other, b, sizeof b), moe_format_bytes(memory, c, sizeof c),
                    in->platform->name);
}

static enum moe_status find_future(struct run *run, struct moe_err *err)
{
    const struct moe_sim_input *in = run->input;
    const struct moe_trace_info *info = &in->trace->info;
    if (!(in->strategy->policy.ops->needs & MOE_NEEDS_FUTURE))
        return MOE_OK;
    /* The cache sees prompts only where the strategy says so. */
    enum moe_phases phases =
        in->strategy->prefill == MOE_PREFILL_CACHE ? MOE_PHASES_BOTH : MOE_PHASES_DECODE;
    return moe_future_build(&in->trace->tokens, info->n_layers, info->n_experts, info->top_k,
                            MOE_CONTRACT_EVENT, MOE_ORDER_STEP, phases, &run->next_use, err);
}

static uint64_t count_decode(const struct moe_tokens *tokens)
{
    uint64_t n = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n += tokens->phase[t] == MOE_DECODE;
    return n;
}

static enum moe_status prepare(struct run *run, struct moe_err *err)
{
    const struct moe_sim_input *in = run->input;
    const struct moe_model *model = &run->model;
    enum moe_status s = check_shape(in, err);
    if (!s)
        s = moe_policy_check_parts(&in->strategy->policy, moe_tokens_parts(&in->trace->tokens),
                                   err);
    if (s)
        return s;
    run->model = *in->model;
    run->model.top_k = in->trace->info.top_k;
    uint64_t n_decode = count_decode(&in->trace->tokens);
    if (n_decode == 0)
        return moe_fail(err, MOE_ERR_USAGE, "the trace has no decode tokens to time");
    run->token_ms = malloc(n_decode * sizeof *run->token_ms);
    if (!run->token_ms)
        return moe_fail_memory(err, "the times of the tokens");
    run->times.token_ms = run->token_ms;
    moe_costs_init(&run->costs, model, in->platform, in->strategy->threads);
    s = resolve_geometry(run, err);
    if (!s)
        s = find_future(run, err);
    if (!s)
        s = moe_cache_new(&run->cache, &run->geometry, (uint32_t)model->top_k,
                          &in->strategy->policy, in->strategy->seed, err);
    struct moe_sim_setup setup = {.costs = &run->costs,
                                  .cache = run->cache,
                                  .n_slots = run->geometry.n_slots,
                                  .next_use = run->next_use,
                                  .timeline = in->timeline};
    if (!s)
        s = moe_sim_machine_new(&run->machine, &setup, err);
    if (!s)
        s = moe_loop_init(&run->loop, in->strategy, &moe_sim_machine_ops, run->machine, run->cache,
                          (uint32_t)model->n_layers, (uint32_t)model->n_experts,
                          (uint32_t)model->top_k, err);
    if (!s)
        moe_loop_preload(&run->loop);
    return s;
}

static void release(struct run *run)
{
    moe_loop_release(&run->loop);
    moe_sim_machine_free(run->machine);
    moe_cache_free(run->cache);
    moe_geometry_release(&run->geometry);
    free(run->layer_bytes);
    free(run->next_use);
    free(run->token_ms);
}

static void record(struct run *run, const struct moe_step *step, uint64_t ns)
{
    const struct moe_costs *costs = &run->costs;
    uint64_t n = step->n_tokens;
    if (step->phase == MOE_PREFILL) {
        run->times.n_prefill += n;
        run->times.prefill_ns += ns;
        return;
    }
    uint64_t layer = costs->layer_overhead_ns + moe_cost_attend_ns(costs, n, step->context);
    run->dense_ns += costs->model->n_layers * layer;
    run->dense_ns += costs->token_overhead_ns + moe_cost_head_ns(costs, n);
    run->times.decode_ns += ns;
    for (uint64_t i = 0; i < n; i++)
        run->token_ms[run->times.n_decode++] = (double)ns / (double)n * 1e-6;
}

static enum moe_status run_steps(struct run *run, struct moe_err *err)
{
    const struct moe_tokens *tokens = &run->input->trace->tokens;
    uint64_t most = run->input->max_tokens ? run->input->max_tokens : UINT64_MAX;
    uint64_t sequence_start = 0;
    for (uint64_t t = 0; t < tokens->n_tokens && run->times.n_decode < most;) {
        if (run->input->progress)
            moe_progress_update(run->input->progress, t);
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %" PRIu64 " tokens", t);
        if (t == 0 || tokens->sequence[t] != tokens->sequence[t - 1]) {
            moe_cache_begin_sequence(run->cache);
            sequence_start = t;
        }
        uint64_t end = moe_step_end(tokens, t);
        uint64_t context =
            tokens->position[t] >= 0 ? (uint64_t)tokens->position[t] : t - sequence_start;
        struct moe_step step = {.tokens = tokens,
                                .first = t,
                                .n_tokens = end - t,
                                .phase = (enum moe_phase)tokens->phase[t],
                                .context = (uint32_t)context};
        uint64_t before = moe_sim_machine_ops.now(run->machine);
        enum moe_status s = moe_loop_step(&run->loop, &step, err);
        if (s)
            return s;
        record(run, &step, moe_sim_machine_ops.now(run->machine) - before);
        t = end;
        run->n_tokens = end;
    }
    return MOE_OK;
}

static void add_energy(const struct run *run, const struct moe_usage *usage, struct moe_result *r)
{
    struct moe_energy energy = moe_energy_of(run->input->platform, run->costs.threads, usage);
    r->energy_j = energy.joules;
    r->cpu_w = energy.cpu_w;
    r->gpu_w = energy.gpu_w;
    r->j_per_token = energy.joules / (double)run->times.n_decode;
}

static enum moe_status add_bound(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    if (!run->input->bound)
        return MOE_OK;
    struct moe_bound_case bound = {
        .costs = &run->costs, .dense_ns = run->dense_ns, .uses = r->cpu_experts + r->gpu_experts};
    enum moe_status s = moe_bound_hits(run->input->trace, run->n_tokens, run->geometry.n_slots,
                                       &bound.max_hits, err);
    if (s)
        return s;
    bound.max_hits += r->preloads.experts;
    r->bound_ms = (double)moe_bound_ns(&bound) * 1e-6 / (double)run->times.n_decode;
    r->bound_share = r->bound_ms / r->ms_mean;
    return MOE_OK;
}

static enum moe_status fill_result(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    const struct moe_usage *usage = moe_sim_machine_usage(run->machine, MOE_DECODE);
    moe_result_init(r);
    enum moe_status s = moe_result_add_times(r, &run->times, err);
    if (s)
        return s;
    moe_result_add_usage(r, usage, run->costs.expert_bytes);
    moe_result_add_counts(r, run->cache, &run->geometry);
    add_energy(run, usage, r);
    return add_bound(run, r, err);
}

enum moe_status moe_simulate(const struct moe_sim_input *input, struct moe_result *out,
                             struct moe_err *err)
{
    struct run run = {.input = input};
    struct moe_result result;
    enum moe_status s = prepare(&run, err);
    if (!s)
        s = run_steps(&run, err);
    if (!s)
        s = fill_result(&run, &result, err);
    release(&run);
    if (!s)
        *out = result;
    return s;
}
