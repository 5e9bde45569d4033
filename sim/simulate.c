#include "sim/simulate.h"

#include "policies/trace_run.h"
#include "sim/bound.h"
#include "sim/energy.h"
#include "sim/machine.h"

#include <stdio.h>

/* Everything that a run owns. */
struct run {
    const struct moe_sim_input *input;
    struct moe_trace_run trace;
    struct moe_costs costs;
    struct moe_sim_machine *machine;
    uint64_t dense_ns; /* decode */
    char device[96];   /* as messages name it */
};

/* The dense parts of decode, which the bound needs. */
static void add_dense(void *user, const struct moe_step *step, uint64_t ns)
{
    struct run *run = user;
    const struct moe_costs *costs = &run->costs;
    (void)ns;
    if (step->phase == MOE_PREFILL)
        return;
    uint64_t layer =
        costs->layer_overhead_ns + moe_cost_attend_ns(costs, step->n_tokens, step->context);
    run->dense_ns += costs->model->n_layers * layer;
    run->dense_ns += costs->token_overhead_ns + moe_cost_head_ns(costs, step->n_tokens);
}

static enum moe_status prepare(struct run *run, struct moe_err *err)
{
    const struct moe_sim_input *in = run->input;
    snprintf(run->device, sizeof run->device, "the GPU of platform '%s'", in->platform->name);
    struct moe_trace_run_spec spec = {
        .trace = in->trace,
        .setup = {.strategy = in->strategy,
                  .model = in->model,
                  .expert_bytes = moe_model_expert_bytes(in->model),
                  .dense_bytes = moe_cost_dense_bytes(in->model),
                  .memory_bytes = in->platform->gpu.memory_bytes,
                  .device = run->device},
        .max_tokens = in->max_tokens,
        .progress = in->progress,
        .decisions = in->decisions,
        .after_step = add_dense,
        .user = run,
    };
    enum moe_status s = moe_trace_run_prepare(&run->trace, &spec, err);
    if (s)
        return s;
    moe_costs_init(&run->costs, &run->trace.model, in->platform, in->strategy->threads);
    struct moe_sim_setup setup = {.costs = &run->costs,
                                  .cache = run->trace.setup.cache,
                                  .n_slots = run->trace.setup.geometry.n_slots,
                                  .next_use = run->trace.next_use,
                                  .timeline = in->timeline};
    s = moe_sim_machine_new(&run->machine, &setup, err);
    return s ? s
             : moe_trace_run_attach(&run->trace, &moe_sim_machine_ops, run->machine, &run->costs,
                                    err);
}

static void release(struct run *run)
{
    moe_sim_machine_free(run->machine);
    moe_trace_run_release(&run->trace);
}

static void add_energy(const struct run *run, const struct moe_usage *usage, struct moe_result *r)
{
    struct moe_energy energy = moe_energy_of(run->input->platform, run->costs.threads, usage);
    r->energy_j = energy.joules;
    r->cpu_w = energy.cpu_w;
    r->gpu_w = energy.gpu_w;
    r->j_per_token = energy.joules / (double)run->trace.times.n_decode;
}

static enum moe_status add_bound(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    if (!run->input->bound)
        return MOE_OK;
    struct moe_bound_case bound = {
        .costs = &run->costs, .dense_ns = run->dense_ns, .uses = r->cpu_experts + r->gpu_experts};
    enum moe_status s = moe_bound_hits(run->input->trace, run->trace.n_tokens,
                                       run->trace.setup.geometry.n_slots, &bound.max_hits, err);
    if (s)
        return s;
    bound.max_hits += r->preloads.experts;
    r->bound_ms = (double)moe_bound_ns(&bound) * 1e-6 / (double)run->trace.times.n_decode;
    r->bound_share = r->bound_ms / r->ms_mean;
    return MOE_OK;
}

static enum moe_status fill_result(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    const struct moe_usage *usage = moe_sim_machine_usage(run->machine, MOE_DECODE);
    moe_result_init(r);
    enum moe_status s = moe_result_add_times(r, &run->trace.times, err);
    if (s)
        return s;
    moe_result_add_usage(r, usage, run->costs.expert_bytes);
    moe_result_add_counts(r, run->trace.setup.cache, &run->trace.setup.geometry);
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
        s = moe_trace_run_steps(&run.trace, err);
    if (!s)
        s = fill_result(&run, &result, err);
    release(&run);
    if (!s)
        *out = result;
    return s;
}
