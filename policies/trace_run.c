#include "policies/trace_run.h"

#include "policies/future.h"

#include <inttypes.h>
#include <stdlib.h>

static enum moe_status find_future(struct moe_trace_run *run, struct moe_err *err)
{
    const struct moe_trace *trace = run->spec.trace;
    const struct moe_trace_info *info = &trace->info;
    const struct moe_strategy *strategy = run->spec.setup.strategy;
    if (!(strategy->policy.ops->needs & MOE_NEEDS_FUTURE))
        return MOE_OK;
    /* The cache sees prompts only where the strategy says so. */
    enum moe_phases phases =
        moe_strategy_caches_prompts(strategy) ? MOE_PHASES_BOTH : MOE_PHASES_DECODE;
    return moe_future_build(&trace->tokens, info->n_layers, info->n_experts, info->top_k,
                            MOE_CONTRACT_EVENT, MOE_ORDER_STEP, phases, &run->next_use, err);
}

static enum moe_status alloc_times(struct moe_trace_run *run, struct moe_err *err)
{
    const struct moe_tokens *tokens = &run->spec.trace->tokens;
    uint64_t n = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n += tokens->phase[t] == MOE_DECODE;
    if (n == 0)
        return moe_fail(err, MOE_ERR_USAGE, "the trace has no decode tokens to time");
    run->token_ms = malloc(n * sizeof *run->token_ms);
    if (!run->token_ms)
        return moe_fail_memory(err, "the times of the tokens");
    run->times.token_ms = run->token_ms;
    return MOE_OK;
}

static enum moe_status prepare(struct moe_trace_run *run, struct moe_err *err)
{
    struct moe_setup_spec *setup = &run->spec.setup;
    enum moe_status s = moe_model_check_trace(run->spec.setup.model, &run->spec.trace->info, err);
    if (s)
        return s;
    run->model = *setup->model;
    run->model.top_k = run->spec.trace->info.top_k;
    setup->model = &run->model;
    setup->parts = moe_tokens_parts(&run->spec.trace->tokens);
    setup->future = true;
    s = alloc_times(run, err);
    if (!s)
        s = moe_setup_init(&run->setup, setup, err);
    return s ? s : find_future(run, err);
}

enum moe_status moe_trace_run_prepare(struct moe_trace_run *run,
                                      const struct moe_trace_run_spec *spec, struct moe_err *err)
{
    *run = (struct moe_trace_run){.spec = *spec};
    enum moe_status s = prepare(run, err);
    if (s)
        moe_trace_run_release(run);
    return s;
}

static void observe(void *user, const struct moe_decision *decision)
{
    struct moe_trace_run *run = user;
    if (run->spec.decisions)
        moe_decision_log_write(run->spec.decisions, decision);
    if (run->path.costs)
        moe_path_event(&run->path, decision);
}

enum moe_status moe_trace_run_attach(struct moe_trace_run *run, const struct moe_machine_ops *ops,
                                     void *machine, const struct moe_costs *costs,
                                     struct moe_err *err)
{
    const struct moe_model *model = &run->model;
    enum moe_status s = moe_loop_init(&run->loop, run->spec.setup.strategy, ops, machine,
                                      run->setup.cache, costs, (uint32_t)model->n_layers,
                                      (uint32_t)model->n_experts, (uint32_t)model->top_k, err);
    if (s)
        return s;
    if (run->spec.path)
        run->path = (struct moe_path){
            .costs = costs, .pageable = run->loop.strategy->fill_memory == MOE_FILL_PAGEABLE};
    if (run->spec.decisions || run->path.costs) {
        run->loop.observer = observe;
        run->loop.observer_user = run;
    }
    moe_loop_preload(&run->loop);
    return MOE_OK;
}

static void record(struct moe_trace_run *run, const struct moe_step *step, uint64_t ns)
{
    struct moe_run_times *times = &run->times;
    uint64_t n = step->n_tokens;
    if (step->phase == MOE_PREFILL) {
        times->n_prefill += n;
        times->prefill_ns += ns;
        return;
    }
    times->decode_ns += ns;
    for (uint64_t i = 0; i < n; i++)
        run->token_ms[times->n_decode++] = (double)ns / (double)n * 1e-6;
}

/* The forward pass that begins with token t. */
static struct moe_step step_at(const struct moe_tokens *tokens, uint64_t t, uint64_t sequence_start)
{
    const struct moe_step_context context = moe_step_context(tokens, t, sequence_start);
    return (struct moe_step){.tokens = tokens,
                             .first = t,
                             .n_tokens = moe_step_end(tokens, t) - t,
                             .phase = (enum moe_phase)tokens->phase[t],
                             .context = (uint32_t)context.longest,
                             .cached = context.all,
                             .requests = context.n_requests};
}

static enum moe_status run_step(struct moe_trace_run *run, const struct moe_step *step,
                                struct moe_err *err)
{
    const struct moe_loop *loop = &run->loop;
    if (run->path.costs)
        moe_path_step(&run->path, step);
    moe_ns before = loop->ops->now(loop->machine);
    enum moe_status s = moe_loop_step(&run->loop, step, err);
    if (s)
        return s;
    uint64_t ns = loop->ops->now(loop->machine) - before;
    run->times.path_ns = run->path.decode_ns;
    record(run, step, ns);
    run->n_tokens += step->n_tokens;
    if (run->spec.after_step)
        run->spec.after_step(run->spec.user, step, ns);
    return MOE_OK;
}

enum moe_status moe_trace_run_steps(struct moe_trace_run *run, struct moe_err *err)
{
    const struct moe_tokens *tokens = &run->spec.trace->tokens;
    uint64_t most = run->spec.max_tokens ? run->spec.max_tokens : UINT64_MAX;
    uint64_t sequence_start = 0;
    for (uint64_t t; (t = run->n_tokens) < tokens->n_tokens && run->times.n_decode < most;) {
        if (run->spec.progress)
            moe_progress_update(run->spec.progress, t);
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted after %" PRIu64 " token%s", t,
                            moe_plural(t));
        if (t == 0 || tokens->sequence[t] != tokens->sequence[t - 1]) {
            moe_loop_sequence(&run->loop);
            sequence_start = t;
        }
        struct moe_step step = step_at(tokens, t, sequence_start);
        enum moe_status s = run_step(run, &step, err);
        if (s)
            return s;
    }
    return MOE_OK;
}

void moe_trace_run_release(struct moe_trace_run *run)
{
    moe_loop_release(&run->loop);
    moe_setup_release(&run->setup);
    free(run->next_use);
    free(run->token_ms);
    *run = (struct moe_trace_run){0};
}

void moe_trace_routes(const struct moe_step *step, const struct moe_model *model,
                      const uint32_t *next_use, uint32_t layer, struct moe_layer_routes *out)
{
    const struct moe_tokens *tokens = step->tokens;
    size_t row = step->first * model->n_layers + layer;
    size_t at = row * model->top_k, scores = row * model->n_experts;
    bool one = step->n_tokens == 1;
    *out = (struct moe_layer_routes){
        .layer = layer,
        .n_tokens = (uint32_t)step->n_tokens,
        .phase = step->phase,
        .top_k = (uint32_t)model->top_k,
        .expert = tokens->expert + at,
        .weight = tokens->weight ? tokens->weight + at : NULL,
        .next_use = next_use ? next_use + at : NULL,
        .stride = (size_t)(model->n_layers * model->top_k),
        .score = one && tokens->score ? tokens->score + scores : NULL,
        .lookahead = one && tokens->lookahead ? tokens->lookahead + scores : NULL,
    };
}
