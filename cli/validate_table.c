#include "cli/validate_table.h"

#include "base/numbers.h"
#include "policies/result_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_CAUSES = 6 };

static double hit_rate(const struct moe_result *r)
{
    return moe_percent(r->decode.hits + r->decode.inflight_hits, r->decode.lookups);
}

static struct {
    const char *name;
    size_t offset;
} const causes[N_CAUSES] = {
    {"gpu", offsetof(struct moe_time_by_cause, gpu_ns)},
    {"cpu", offsetof(struct moe_time_by_cause, cpu_ns)},
    {"cpu_and_gpu", offsetof(struct moe_time_by_cause, both_ns)},
    {"copy_wait", offsetof(struct moe_time_by_cause, copy_wait_ns)},
    {"state_transfer", offsetof(struct moe_time_by_cause, state_ns)},
    {"host", offsetof(struct moe_time_by_cause, host_ns)},
};

static double cause_ms(const struct moe_result *r, size_t i)
{
    uint64_t ns;
    memcpy(&ns, (const char *)&r->cause + causes[i].offset, sizeof ns);
    return (double)ns * 1e-6 / (double)r->decode_tokens;
}

static void add_point(struct moe_table *table, const struct cli_point *p,
                      const struct cli_validation *v)
{
    moe_table_text(table, "strategy", p->strategy.name);
    char lossy[1200];
    moe_table_text(table, "lossy",
                   moe_strategy_is_lossy(&p->strategy)
                       ? moe_reroute_format(&p->strategy.reroute, lossy, sizeof lossy)
                       : "no");
    moe_table_text(table, "geometry", p->strategy.geometry);
    moe_table_text(table, "decisions", cli_point_decisions(p));
    moe_table_f64(table, "predicted_ms_per_token", p->times.predicted_ms);
    moe_table_f64(table, "measured_ms_per_token", p->times.measured_ms);
    moe_table_f64(table, "error_percent", p->times.error_percent);
    moe_table_f64(table, "token_error_median_percent", p->times.median_percent);
    moe_table_f64(table, "token_error_p95_percent", p->times.p95_percent);
    moe_table_f64(table, "repeats_spread_percent", p->spread_percent);
    moe_table_text(table, "within_tolerance", cli_point_times_pass(p, v) ? "yes" : "no");
}

static void add_rest(struct moe_table *table, const struct cli_point *p,
                     const struct cli_validation *v)
{
    const struct moe_result *sim = &p->simulated, *exec = &p->executed;
    char policy[1200], name[64];
    moe_table_text(table, "policy", moe_policy_format(&p->strategy.policy, policy, sizeof policy));
    moe_table_u64(table, "threads", p->strategy.threads);
    moe_table_u64(table, "repeats", v->repeats);
    moe_table_u64(table, "decode_tokens", sim->decode_tokens);
    moe_table_u64(table, "events", p->decisions.n_events);
    moe_table_u64(table, "different_events", p->decisions.n_different);
    moe_table_u64(table, "different_events_timeless", p->timeless.n_different);
    moe_table_f64(table, "token_repeat_p95_percent", p->causes.repeat_p95_percent);
    moe_table_f64(table, "decided_alike_percent", p->causes.same_percent);
    moe_table_f64(table, "decided_alike_error_median_percent", p->causes.same_median_percent);
    moe_table_f64(table, "decided_alike_error_p95_percent", p->causes.same_p95_percent);
    for (size_t i = 0; i < N_CAUSES; i++) {
        snprintf(name, sizeof name, "%s_ms_predicted", causes[i].name);
        moe_table_f64(table, name, cause_ms(sim, i));
        snprintf(name, sizeof name, "%s_ms_measured", causes[i].name);
        moe_table_f64(table, name, cause_ms(exec, i));
    }
    moe_table_f64(table, "prefill_s_predicted", (double)sim->prefill_ns * 1e-9);
    moe_table_f64(table, "prefill_s_measured", (double)exec->prefill_ns * 1e-9);
    moe_table_f64(table, "hit_rate_percent_predicted", hit_rate(sim));
    moe_table_f64(table, "hit_rate_percent_measured", hit_rate(exec));
    moe_table_u64(table, "inflight_hits_predicted", sim->decode.inflight_hits);
    moe_table_u64(table, "inflight_hits_measured", exec->decode.inflight_hits);
    moe_table_f64(table, "j_per_token_predicted", sim->j_per_token);
    moe_table_f64(table, "j_per_token_measured", exec->j_per_token);
    moe_table_f64(table, "bound_ms_per_token", sim->bound_ms);
    moe_table_f64(table, "share_of_bound_percent", 100 * sim->bound_ms / p->times.measured_ms);
    moe_table_f64(table, "schedule_bound_ms_per_token", exec->schedule_bound_ms);
    moe_table_f64(table, "share_of_schedule_bound_percent", 100 * exec->schedule_bound_share);
    moe_rerouted_cells(table, &exec->rerouted);
    if (moe_reroute_is_early(&p->strategy.reroute))
        moe_early_cells(table, exec);
    moe_table_u64(table, "slots", p->allocation.slots);
    moe_table_u64(table, "redirected_experts", p->allocation.redirected);
}

void cli_validate_rows(struct moe_table *table, const struct cli_point *points, size_t n,
                       const struct cli_validation *v, bool whole)
{
    for (size_t i = 0; i < n; i++) {
        moe_table_row(table);
        add_point(table, &points[i], v);
        if (whole)
            add_rest(table, &points[i], v);
    }
}

void cli_validate_causes(struct moe_table *table, const struct cli_point *points, size_t n)
{
    char cell[64];
    for (size_t i = 0; i < n; i++) {
        moe_table_row(table);
        moe_table_text(table, "strategy", points[i].strategy.name);
        moe_table_text(table, "geometry", points[i].strategy.geometry);
        for (size_t c = 0; c < N_CAUSES; c++) {
            snprintf(cell, sizeof cell, "%.3g / %.3g", cause_ms(&points[i].simulated, c),
                     cause_ms(&points[i].executed, c));
            moe_table_text(table, causes[c].name, cell);
        }
    }
}

/* Points whose times pass, the worst errors, and points by what became of their decisions. */
struct totals {
    size_t times, equal, flights, by_time, differ;
    double median, p95;
    double alike, repeat; /* 95th percentiles: of what was decided as predicted; of repeats */
};

static struct totals total(const struct cli_point *points, size_t n, const struct cli_validation *v)
{
    struct totals t = {0};
    for (size_t i = 0; i < n; i++) {
        const struct cli_point *p = &points[i];
        t.times += cli_point_times_pass(p, v);
        t.equal += p->decisions.n_different == 0;
        t.flights += p->decisions.n_different != 0 && p->timeless.n_different == 0;
        t.by_time += p->timeless.n_different != 0 && p->time_may_differ;
        t.differ += !cli_point_decisions_pass(p);
        t.median = fmax(t.median, p->times.median_percent);
        t.p95 = fmax(t.p95, p->times.p95_percent);
        t.alike = fmax(t.alike, p->causes.same_p95_percent);
        t.repeat = fmax(t.repeat, p->causes.repeat_p95_percent);
    }
    return t;
}

void cli_validate_summary(const struct cli_point *points, size_t n, const struct cli_validation *v,
                          char *buf, size_t size)
{
    struct totals t = total(points, n, v);
    snprintf(buf, size,
             "%zu of %zu points within %g %% median, %g %% p95 (worst: %.1f %%, %.1f %%; p95 of "
             "tokens decided as predicted %.1f %%, of repeats from their median %.1f %%); "
             "decisions: %zu equal, %zu equal but for flights, %zu differ by time, %zu DIFFER",
             t.times, n, v->tolerance, v->tolerance_p95, t.median, t.p95, t.alike, t.repeat,
             t.equal, t.flights, t.by_time, t.differ);
}

static enum moe_status fail_decisions(const struct cli_point *p, struct moe_err *err)
{
    return moe_fail(err, MOE_ERR_CHECK,
                    "strategy '%s' with geometry '%.60s': decisions differ at event %" PRIu64
                    ", and no copy was under way: predicted '%s', done '%s'",
                    p->strategy.name, p->strategy.geometry, p->timeless.first, p->timeless.first_a,
                    p->timeless.first_b);
}

enum moe_status cli_validate_verdict(const struct cli_point *points, size_t n,
                                     const struct cli_validation *v, struct moe_err *err)
{
    struct totals t = total(points, n, v);
    for (size_t i = 0; i < n; i++)
        if (!cli_point_decisions_pass(&points[i]))
            return fail_decisions(&points[i], err);
    if (t.times == n)
        return MOE_OK;
    /* If repeats differ by more than the tolerance, no prediction can be within it for all. */
    const bool unsteady = t.repeat > v->tolerance_p95;
    /* A guess: no machine was seen to drift so far from its own calibration; another machine's
     * differs more. */
    const bool foreign = t.median > 50 && t.median > 2 * t.repeat;
    return moe_fail(err, MOE_ERR_CHECK,
                    "%zu of %zu points miss the tolerance of %g %% median or %g %% p95: worst "
                    "%.1f %%, %.1f %%, where repeats lie %.1f %% from their median (p95): %s",
                    n - t.times, n, v->tolerance, v->tolerance_p95, t.median, t.p95, t.repeat,
                    foreign                 ? "is this the platform of this machine and device?"
                    : unsteady && v->asleep ? "run nothing else, raise --repeats, give 'host' the "
                                              "key awake=on"
                    : unsteady              ? "run nothing else, raise --repeats"
                                            : "the machine may have changed: calibrate again");
}
