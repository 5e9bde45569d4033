#include "cli/run_trace.h"

#include "base/progress.h"
#include "policies/result_table.h"
#include "sim/bound.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct state {
    const struct cli_run_trace *run;
    struct cli_hybrid hybrid;
    struct cli_traced traced;
    struct moe_result result;
    struct moe_allocation allocation;
    bool interrupted; /* the result covers only the steps done, and lacks a bound */
};

static enum moe_status open_all(struct state *st, struct moe_err *err)
{
    const struct cli_run_trace *run = st->run;
    enum moe_status s = cli_traced_check(run->traced, run->inference->model, err);
    if (!s)
        s = cli_hybrid_open(&st->hybrid, run->call, run->hybrid, run->inference->kernels,
                            run->inference->threads, err);
    if (!s)
        s = cli_traced_open(&st->traced, run->traced, run->inference->model,
                            moe_strategy_parts(&st->hybrid.strategy), st->hybrid.device, err);
    st->hybrid.alone = !s && *run->hybrid->platform &&
                       strcmp(run->hybrid->device.device, "auto") == 0 &&
                       !moe_platform_has_gpu(&st->hybrid.platform);
    if (s || st->hybrid.alone)
        return s;
    struct moe_trace_extent extent = moe_trace_extent(&st->traced.trace, run->traced->max_tokens);
    return cli_hybrid_fit(&st->hybrid, st->traced.llm, extent.context, extent.chunk, err);
}

static enum moe_status execute(struct state *st, struct moe_err *err)
{
    const struct cli_run_trace *run = st->run;
    struct moe_progress packing, steps;
    struct moe_execute_input input = {.device = st->hybrid.alone ? NULL : st->hybrid.device,
                                      .llm = st->traced.llm,
                                      .trace = &st->traced.trace,
                                      .options = cli_hybrid_settings(&st->hybrid, run->inference),
                                      .max_tokens = run->traced->max_tokens,
                                      .interrupted = &st->interrupted};
    uint64_t experts = st->traced.shape.n_layers * st->traced.shape.n_experts;
    moe_progress_begin(&packing, "packing experts", "experts", experts);
    moe_progress_begin(&steps, "running", "tokens", st->traced.trace.tokens.n_tokens);
    input.options.progress = &packing;
    input.progress = &steps;
    enum moe_status s = moe_execute(&input, &st->result, &st->allocation, err);
    moe_progress_end(&packing);
    moe_progress_end(&steps);
    return s ? cli_hybrid_explain(&st->hybrid, err) : MOE_OK;
}

/* With a platform: adds what no schedule can beat, and the share of it that was reached. After an
 * interrupt without the bound that needs a replay of everything that was run. */
static enum moe_status add_bound(struct state *st, struct moe_err *err)
{
    struct moe_costs costs;
    struct moe_model model = st->traced.shape;
    if (!*st->run->hybrid->platform)
        return MOE_OK;
    model.top_k = st->traced.trace.info.top_k;
    moe_costs_init(&costs, &model, &st->hybrid.platform, st->hybrid.strategy.threads);
    if (st->interrupted) {
        moe_bound_add_schedule(&st->traced.trace, &costs, &st->result);
        return MOE_OK;
    }
    enum moe_status s = moe_bound_add(&st->traced.trace, &costs, &st->result, err);
    st->interrupted = s == MOE_ERR_INTERRUPTED;
    return st->interrupted ? MOE_OK : s;
}

/* Warns if the run was faster than a bound, which means that the platform describes a slower
 * machine. */
static void warn_beaten(const struct state *st)
{
    double share = fmax(st->result.bound_share, st->result.schedule_bound_share); /* or NaN */
    if (share > 1)
        moe_log("faster than its bound on '%s', which is %.1f %% of the time taken: that platform "
                "is slower than this machine; calibrate again, with nothing else running",
                st->run->hybrid->platform, 100 * share);
}

static enum moe_status show(struct state *st, struct moe_err *err)
{
    const struct cli_run_trace *run = st->run;
    char weights[128], energy[600], device[300];
    struct moe_table *table = cli_table_new(run->call);
    cli_hybrid_log(&st->hybrid, &st->allocation);
    moe_log("weights: %s", cli_traced_weights(&st->traced, weights, sizeof weights));
    warn_beaten(st);
    moe_log("%s", cli_hybrid_energy(&st->hybrid, &st->result, energy, sizeof energy));
    cli_traced_note(&st->traced, run->traced, table);
    cli_hybrid_note(&st->hybrid, &st->allocation, table);
    if (*run->hybrid->platform)
        moe_table_note(table, "bound_on", "%s", run->hybrid->platform);
    if (st->interrupted)
        moe_table_note(table, "interrupted", "after %" PRIu64 " decode token%s",
                       st->result.decode_tokens, moe_plural(st->result.decode_tokens));
    moe_table_row(table);
    moe_result_labels(table, &st->traced.trace.info, &st->traced.shape,
                      st->hybrid.alone ? st->hybrid.platform.name
                                       : cli_device_name(st->hybrid.device, device, sizeof device),
                      &st->hybrid.strategy);
    moe_result_cells(table, &st->result);
    if (moe_reroute_is_early(&st->hybrid.strategy.reroute))
        moe_early_cells(table, &st->result);
    enum moe_status s = cli_table_end(table, MOE_OK, run->format, "-", err);
    return s ? s : cli_hybrid_finish(&st->hybrid, st->traced.shape.name, err);
}

/* After an interrupt without a result: keeps timeline and decisions up to then, as runs with a
 * prompt do. */
static void keep_watched(struct state *st)
{
    const struct cli_hybrid *h = &st->hybrid;
    struct moe_err err = {0};
    if (!h->decisions.n_events && !(h->timeline && moe_timeline_count(h->timeline)))
        return; /* interrupted before the first step */
    if (cli_hybrid_finish(&st->hybrid, st->traced.shape.name, &err))
        moe_log("%s", err.text);
}

enum moe_status cli_run_trace(const struct cli_run_trace *run, struct moe_err *err)
{
    struct state st = {.run = run};
    enum moe_status s = open_all(&st, err);
    if (!s)
        s = execute(&st, err);
    if (s == MOE_ERR_INTERRUPTED)
        keep_watched(&st);
    if (!s)
        s = add_bound(&st, err);
    if (!s)
        s = show(&st, err);
    if (!s && st.interrupted)
        s = moe_fail(err, MOE_ERR_INTERRUPTED,
                     "interrupted after %" PRIu64 " decode token%s: the result ends there",
                     st.result.decode_tokens, moe_plural(st.result.decode_tokens));
    cli_traced_close(&st.traced);
    cli_hybrid_close(&st.hybrid);
    return s;
}
