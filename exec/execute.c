#include "exec/hybrid.h"

#include "exec/stage.h"
#include "policies/cost.h"
#include "policies/trace_run.h"

#include <string.h>

/* Everything that a run owns. */
struct run {
    const struct moe_execute_input *input;
    struct moe_model shape;
    struct moe_trace_run trace;
    struct moe_stage stage;
    struct moe_costs costs;
    char device_name[288];
    uint32_t context, chunk;
    struct moe_joules at, used; /* at the end of the latest step; of decode so far */
};

/* The longest step and the furthest position that the run will come to. */
static void find_sizes(struct run *run)
{
    const struct moe_trace_extent extent =
        moe_trace_extent(run->input->trace, run->input->max_tokens);
    run->context = extent.context < UINT32_MAX ? (uint32_t)extent.context : UINT32_MAX;
    run->chunk = extent.chunk < UINT32_MAX ? (uint32_t)extent.chunk : UINT32_MAX;
}

static enum moe_status check_context(const struct run *run, struct moe_err *err)
{
    const uint32_t most = run->input->llm->config.max_context;
    if (run->context <= most)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "the trace comes to position %u, model '%s' to %u: its sequences are too long "
                    "for this model",
                    run->context, run->input->llm->name, most);
}

/* What was used since the last reading belongs to the step that has just ended. */
static void after_step(void *user, const struct moe_step *step, uint64_t ns)
{
    struct run *run = user;
    (void)ns;
    if (!run->input->options.power)
        return;
    const struct moe_joules now = moe_power_read(run->input->options.power);
    if (step->phase == MOE_DECODE) {
        run->used.cpu += now.cpu - run->at.cpu;
        run->used.gpu += now.gpu - run->at.gpu;
    }
    run->at = now;
}

static enum moe_status prepare(struct run *run, struct moe_err *err)
{
    const struct moe_execute_input *in = run->input;
    const struct moe_hybrid_options *o = &in->options;
    struct moe_trace_run_spec spec = {.trace = in->trace,
                                      .max_tokens = in->max_tokens,
                                      .progress = in->progress,
                                      .decisions = o->decisions,
                                      .path = true,
                                      .after_step = after_step,
                                      .user = run};
    moe_llm_shape(in->llm, &run->shape);
    find_sizes(run);
    enum moe_status s =
        moe_stage_spec(&run->stage, in->device, in->llm, o->strategy, &run->shape, run->context,
                       run->chunk, run->device_name, &spec.setup, err);
    if (o->platform) {
        moe_costs_init(&run->costs, &run->shape, o->platform, o->strategy->threads);
        spec.setup.costs = &run->costs;
    }
    if (!s)
        s = moe_trace_run_prepare(&run->trace, &spec, err);
    if (s)
        return s;
    s = check_context(run, err);
    if (s)
        moe_trace_run_release(&run->trace);
    return s;
}

static enum moe_status attach(struct run *run, struct moe_err *err)
{
    const struct moe_hybrid_options *o = &run->input->options;
    enum moe_status s = moe_stage_build(&run->stage, o, &run->trace.setup, &run->trace.spec.setup,
                                        run->context, run->chunk, run->trace.next_use, err);
    if (s)
        return s;
    if (o->platform)
        run->costs.model = &run->trace.model; /* with the trace's top-k */
    return moe_trace_run_attach(&run->trace, &moe_exec_machine_ops, run->stage.machine,
                                o->platform ? &run->costs : NULL, err);
}

static enum moe_status fill_result(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    moe_result_init(r);
    enum moe_status s = moe_result_add_times(r, &run->trace.times, err);
    if (s)
        return s;
    moe_result_add_usage(r, moe_exec_machine_usage(run->stage.machine, MOE_DECODE),
                         run->stage.layout.bytes);
    moe_result_add_counts(r, run->trace.setup.cache, &run->trace.setup.geometry);
    r->rerouted = run->trace.loop.reroute.done;
    if (run->input->options.power)
        moe_result_add_joules(r, run->used.cpu, run->used.gpu, run->input->device->sm != 0);
    if (run->input->token_ms)
        memcpy(run->input->token_ms, run->trace.times.token_ms,
               run->trace.times.n_decode * sizeof *run->input->token_ms);
    return MOE_OK;
}

enum moe_status moe_execute(const struct moe_execute_input *input, struct moe_result *out,
                            struct moe_allocation *allocation, struct moe_err *err)
{
    struct run run = {.input = input};
    struct moe_result result;
    enum moe_status s = prepare(&run, err);
    if (s)
        return s;
    s = attach(&run, err);
    if (!s && input->options.power)
        run.at = moe_power_read(input->options.power);
    if (!s)
        s = moe_trace_run_steps(&run.trace, err);
    if (!s)
        s = fill_result(&run, &result, err);
    if (!s && allocation)
        moe_stage_allocation(&run.stage, &run.trace.setup, allocation);
    moe_stage_release(&run.stage);
    moe_trace_run_release(&run.trace);
    if (!s)
        *out = result;
    return s;
}
