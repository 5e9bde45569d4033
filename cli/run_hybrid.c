#include "cli/run_hybrid.h"

#include "base/numbers.h"
#include "base/progress.h"
#include "policies/result_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum moe_status cli_run_hybrid_begin(struct cli_run_hybrid *run,
                                     const struct cli_inference *inference,
                                     struct moe_session *session, bool stats, struct moe_err *err)
{
    const struct moe_llm *llm = moe_session_llm(session);
    const struct moe_llm_config *c = &llm->config;
    struct moe_progress progress;
    enum moe_status s = cli_hybrid_fit(&run->base, llm, moe_session_context(session),
                                       moe_session_chunk(session), err);
    if (s)
        return s;
    struct moe_hybrid_options options = cli_hybrid_settings(&run->base, inference);
    moe_progress_begin(&progress, "packing experts", "experts",
                       (uint64_t)c->n_layers * c->n_experts);
    options.progress = &progress;
    s = moe_hybrid_new(&run->hybrid, run->base.device, session, &options, err);
    moe_progress_end(&progress);
    if (s)
        return cli_hybrid_explain(&run->base, err);
    moe_hybrid_allocation(run->hybrid, &run->allocation);
    cli_hybrid_log(&run->base, &run->allocation);
    run->stats = stats && isatty(STDERR_FILENO);
    run->below = run->stats && isatty(STDOUT_FILENO);
    return MOE_OK;
}

/* Terminal codes of ECMA-48 and DEC's VT100: save and restore the cursor, move down, erase the
 * line. Index and reverse index make sure that there is a line below. Wrapping is turned off, so a
 * line that is too long is cut. */
#define BELOW   "\033D\033M\0337\033[B"
#define BACK    "\0338"
#define ERASE   "\r\033[K"
#define NO_WRAP "\033[?7l"
#define WRAP    "\033[?7h"

void cli_run_hybrid_hide(struct cli_run_hybrid *run)
{
    if (!run->drawn)
        return;
    fputs(run->below ? BELOW ERASE BACK : ERASE, stderr);
    fflush(stderr);
    run->drawn = false;
}

static void write_line(struct cli_run_hybrid *run, const struct moe_result *r)
{
    const struct moe_counts *c = &r->decode;
    uint64_t hits = c->hits + c->inflight_hits;
    int n = snprintf(run->line, sizeof run->line,
                     "%.1f tokens/s, hits %.1f %% (now %.1f %%), %" PRIu64
                     " fills, waits for copies %.2f ms/token",
                     r->tokens_per_s, moe_percent(hits, c->lookups),
                     moe_percent(hits - run->hits, c->lookups - run->lookups), c->fills,
                     (double)r->cause.copy_wait_ns * 1e-6 / (double)r->decode_tokens);
    if (n > 0 && (size_t)n < sizeof run->line && isfinite(r->j_per_token))
        snprintf(run->line + n, sizeof run->line - (size_t)n, ", %.3g J/token", r->j_per_token);
    run->hits = hits;
    run->lookups = c->lookups;
}

/* Draws the line at most twice a second, as computing a result takes longer than a token of a small
 * model. */
static void renew_line(struct cli_run_hybrid *run)
{
    struct moe_result result;
    uint64_t now = moe_clock_ns();
    if (now - run->written_ns < 500000000u)
        return;
    if (moe_hybrid_result(run->hybrid, &result, NULL) || result.decode_tokens == 0)
        return;
    run->written_ns = now;
    write_line(run, &result);
}

void cli_run_hybrid_show(struct cli_run_hybrid *run)
{
    if (!run->stats)
        return;
    renew_line(run);
    fprintf(stderr, "%s" ERASE NO_WRAP "%s" WRAP "%s", run->below ? BELOW : "", run->line,
            run->below ? BACK : "");
    fflush(stderr);
    run->drawn = true;
}

static void log_result(const struct cli_run_hybrid *run, const struct moe_result *r)
{
    const struct moe_counts *c = &r->decode;
    const struct moe_time_by_cause *t = &r->cause;
    double each = r->decode_tokens ? 1e-6 / (double)r->decode_tokens : 0;
    char energy[600];
    moe_log("experts: %.1f %% hits (%" PRIu64 " of %" PRIu64 " uses, %" PRIu64
            " of them in flight), %" PRIu64 " misses, %" PRIu64 " fills; %" PRIu64
            " computed on the device, %" PRIu64 " on the CPU",
            moe_percent(c->hits + c->inflight_hits, c->lookups), c->hits + c->inflight_hits,
            c->lookups, c->inflight_hits, c->misses, c->fills, r->gpu_experts, r->cpu_experts);
    const struct moe_rerouted_shares share = moe_rerouted_shares(&r->rerouted);
    if (moe_strategy_is_lossy(&run->base.strategy))
        moe_log("LOSSY: %.4g %% of the router's choices replaced, %.4g %% of their weight moved, "
                "%.4g %% of their gate mass lost",
                share.replaced, share.weight_moved, share.mass_lost);
    if (moe_reroute_is_early(&run->base.strategy.reroute))
        moe_log("LOSSY: %" PRIu64
                " experts started during the previous layer, on its input; %" PRIu64
                " of them used",
                r->rerouted.early, r->rerouted.early_used);
    if (r->decode_tokens == 0)
        return;
    moe_log("ms/token: device %.3f, CPU %.3f, both %.3f; waiting for copies %.3f, for activations "
            "%.3f, host %.3f; %s",
            (double)t->gpu_ns * each, (double)t->cpu_ns * each, (double)t->both_ns * each,
            (double)t->copy_wait_ns * each, (double)t->state_ns * each, (double)t->host_ns * each,
            cli_hybrid_energy(&run->base, r, energy, sizeof energy));
}

enum moe_status cli_run_hybrid_log(struct cli_run_hybrid *run, struct moe_err *err)
{
    struct moe_result result;
    cli_run_hybrid_hide(run);
    enum moe_status s = moe_hybrid_result(run->hybrid, &result, err);
    if (s)
        return s;
    moe_hybrid_allocation(run->hybrid, &run->allocation);
    log_result(run, &result);
    return cli_hybrid_finish(&run->base, "own routes", err);
}

enum moe_status cli_run_hybrid_json(struct cli_run_hybrid *run, const struct cli_call *call,
                                    const struct moe_llm *llm, struct moe_err *err)
{
    struct moe_table *table = cli_table_new(call);
    struct moe_trace_info info = {0};
    struct moe_result result;
    struct moe_model shape;
    char device[300];
    moe_llm_shape(llm, &shape);
    cli_hybrid_note(&run->base, &run->allocation, table);
    moe_table_row(table);
    moe_result_labels(table, &info, &shape,
                      cli_device_name(run->base.device, device, sizeof device),
                      &run->base.strategy);
    moe_table_text(table, "routing", "the model's own");
    enum moe_status s = moe_hybrid_result(run->hybrid, &result, err);
    if (!s) {
        moe_result_cells(table, &result);
        if (moe_reroute_is_early(&run->base.strategy.reroute))
            moe_early_cells(table, &result);
        s = moe_table_write_json(table, stdout, err);
    }
    moe_table_free(table);
    return s;
}

void cli_run_hybrid_leave(struct cli_run_hybrid *run)
{
    cli_run_hybrid_hide(run);
    moe_hybrid_free(run->hybrid);
    run->hybrid = NULL;
}

void cli_run_hybrid_end(struct cli_run_hybrid *run)
{
    cli_run_hybrid_leave(run);
    cli_hybrid_close(&run->base);
    *run = (struct cli_run_hybrid){0};
}
