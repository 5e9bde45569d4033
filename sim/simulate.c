#include "sim/simulate.h"

#include "policies/trace_run.h"
#include "sim/bound.h"
#include "sim/energy.h"
#include "sim/machine.h"

#include <stdio.h>
#include <string.h>

/* Everything that a run owns. */
struct run {
    const struct moe_sim_input *input;
    struct moe_trace_run trace;
    struct moe_costs costs;
    struct moe_sim_machine *machine;
    char device[96]; /* as messages name it */
};

static enum moe_status prepare(struct run *run, struct moe_err *err)
{
    const struct moe_sim_input *in = run->input;
    snprintf(run->device, sizeof run->device, "the GPU of platform '%s'", in->platform->name);
    moe_costs_init(&run->costs, in->model, in->platform, in->strategy->threads);
    struct moe_trace_run_spec spec = {
        .trace = in->trace,
        .setup = {.strategy = in->strategy,
                  .model = in->model,
                  .expert_bytes = moe_model_expert_bytes(in->model),
                  .dense_bytes = run->costs.no_gpu ? 0 : moe_cost_dense_bytes(in->model),
                  .memory_bytes = in->platform->gpu.memory_bytes,
                  .host_expert_bytes = run->costs.shares_dram ? run->costs.expert_bytes : 0,
                  .device = run->device,
                  .costs = &run->costs},
        .max_tokens = in->max_tokens,
        .progress = in->progress,
        .decisions = in->decisions,
        .path = in->bound,
    };
    enum moe_status s = moe_trace_run_prepare(&run->trace, &spec, err);
    if (s)
        return s;
    run->costs.model = &run->trace.model; /* with the trace's top-k */
    struct moe_sim_setup setup = {.costs = &run->costs,
                                  .cache = run->trace.setup.cache,
                                  .n_slots = run->trace.setup.geometry.n_slots,
                                  .next_use = run->trace.next_use,
                                  .timeline = in->timeline,
                                  .instant_fills = in->instant_fills};
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

/* What beside the CPU's experts and the reading side of copies comes from or goes to the DRAM. */
static void add_dram(const struct run *run, struct moe_result *r)
{
    const struct moe_costs *costs = &run->costs;
    const double expert = (double)costs->expert_bytes;
    double bytes = moe_bound_case_of(run->input->trace, costs, r).dense_bytes;
    bytes += (double)r->gpu_experts * moe_cost_gpu_expert_dram_bytes(costs);
    bytes += (double)r->h2d_bytes / expert * (moe_cost_copy_dram_bytes(costs) - expert);
    r->dram_gb_per_s += bytes / (double)r->decode_ns;
}

static enum moe_status fill_result(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    const struct moe_usage *usage = moe_sim_machine_usage(run->machine, MOE_DECODE);
    moe_result_init(r);
    enum moe_status s = moe_result_add_times(r, &run->trace.times, err);
    if (s)
        return s;
    moe_result_add_usage(r, usage, run->costs.expert_bytes);
    if (run->costs.no_gpu || run->costs.shares_dram)
        add_dram(run, r);
    moe_result_add_counts(r, run->trace.setup.cache, &run->trace.setup.geometry);
    r->rerouted = run->trace.loop.reroute.done;
    add_energy(run, usage, r);
    if (run->input->token_ms)
        memcpy(run->input->token_ms, run->trace.times.token_ms,
               r->decode_tokens * sizeof *run->input->token_ms);
    return run->input->bound ? moe_bound_add(run->input->trace, &run->costs, r, err) : MOE_OK;
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
