#include "exec/hybrid.h"

#include "exec/stage.h"
#include "policies/trace_run.h"

#include <string.h>

/* Everything that a run owns. */
struct run {
    const struct moe_execute_input *input;
    struct moe_trace_run trace;
    struct moe_stage stage;
};

/* Sizes the KV cache and the chunk by the furthest position and the longest step of the run. */
static void find_sizes(struct run *run)
{
    const struct moe_trace_extent extent =
        moe_trace_extent(run->input->trace, run->input->max_tokens);
    run->stage.context = extent.context < UINT32_MAX ? (uint32_t)extent.context : UINT32_MAX;
    run->stage.chunk = extent.chunk < UINT32_MAX ? (uint32_t)extent.chunk : UINT32_MAX;
}

static enum moe_status check_context(const struct run *run, struct moe_err *err)
{
    const uint32_t most = run->input->llm->config.max_context;
    if (run->stage.context <= most)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "the trace reaches position %u, model '%s' ends at %u: the sequences are too "
                    "long for this model",
                    run->stage.context, run->input->llm->name, most);
}

static void after_step(void *user, const struct moe_step *step, uint64_t ns)
{
    struct run *run = user;
    (void)ns;
    moe_stage_add_energy(&run->stage, step->phase);
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
    run->stage.device = in->device;
    run->stage.llm = in->llm;
    find_sizes(run);
    enum moe_status s = moe_stage_spec(&run->stage, o->strategy, o->platform, &spec.setup, err);
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
                                        run->trace.next_use, err);
    if (s)
        return s;
    if (o->platform)
        run->stage.costs.model = &run->trace.model; /* with the trace's top-k */
    const struct moe_costs *costs = o->platform ? &run->stage.costs : NULL;
    if (run->stage.alone)
        return moe_trace_run_attach(&run->trace, &moe_alone_machine_ops, run->stage.alone, costs,
                                    err);
    return moe_trace_run_attach(&run->trace, &moe_exec_machine_ops, run->stage.machine, costs, err);
}

static enum moe_status fill_result(const struct run *run, struct moe_result *r, struct moe_err *err)
{
    moe_result_init(r);
    enum moe_status s = moe_result_add_times(r, &run->trace.times, err);
    if (s)
        return s;
    moe_stage_result(&run->stage, &run->trace.setup, r);
    r->rerouted = run->trace.loop.reroute.done;
    if (run->input->token_ms)
        memcpy(run->input->token_ms, run->trace.times.token_ms,
               run->trace.times.n_decode * sizeof *run->input->token_ms);
    return MOE_OK;
}

/* Did an interrupt end the run, and does the caller want the result of the steps done before? */
static bool is_partial(const struct run *run, enum moe_status status)
{
    return status == MOE_ERR_INTERRUPTED && run->input->interrupted && run->trace.times.n_decode;
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
    moe_stage_begin_energy(&run.stage, input->options.power);
    if (!s)
        s = moe_trace_run_steps(&run.trace, err);
    const bool partial = is_partial(&run, s);
    if (!s || partial)
        s = fill_result(&run, &result, err);
    if (!s && allocation)
        moe_stage_allocation(&run.stage, &run.trace.setup, allocation);
    moe_stage_release(&run.stage);
    moe_trace_run_release(&run.trace);
    if (s)
        return s;
    *out = result;
    if (input->interrupted)
        *input->interrupted = partial;
    return MOE_OK;
}
