#include "cli/validate.h"

#include "base/numbers.h"
#include "sim/bound.h"
#include "sim/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMELINE_OPERATIONS = 1 << 22 };

/* The decisions of one run as text. */
struct decisions {
    char *text, *timeless;
    size_t n_text, n_timeless;
    struct moe_decision_log log;
};

struct cli_point_runs {
    uint32_t n, room; /* repeats done; room for them */
    struct decisions simulated;
    double *predicted_ms;       /* [n_decode] */
    double **token_ms;          /* [repeats][n_decode] */
    bool **same;                /* [repeats][n_decode] decided as predicted, but for flights */
    bool *same_step;            /* [n_decode] scratch: the same for the steps of a repeat */
    struct moe_result *results; /* [repeats] */
};

static enum moe_status open_decisions(struct decisions *d, struct moe_err *err)
{
    *d = (struct decisions){0};
    d->log.stream = open_memstream(&d->text, &d->n_text);
    d->log.timeless_too = open_memstream(&d->timeless, &d->n_timeless);
    return d->log.stream && d->log.timeless_too ? MOE_OK : moe_fail_memory(err, "the decisions");
}

/* Ends writing; from here on the texts can be read. */
static enum moe_status close_decisions(struct decisions *d, struct moe_err *err)
{
    bool bad = false;
    if (d->log.stream)
        bad |= fclose(d->log.stream) != 0;
    if (d->log.timeless_too)
        bad |= fclose(d->log.timeless_too) != 0;
    d->log.stream = d->log.timeless_too = NULL;
    return bad ? moe_fail_memory(err, "the decisions") : MOE_OK;
}

static void release_decisions(struct decisions *d)
{
    (void)close_decisions(d, NULL);
    free(d->text);
    free(d->timeless);
    *d = (struct decisions){0};
}

static enum moe_status allocate(struct cli_point *point, const struct cli_validation *v,
                                struct moe_err *err)
{
    struct cli_point_runs *runs = point->runs = calloc(1, sizeof *runs);
    if (!runs)
        return moe_fail_memory(err, "the repeats");
    runs->room = v->repeats;
    bool ok = (runs->predicted_ms = calloc(v->n_decode, sizeof(double))) != NULL;
    ok &= (runs->token_ms = calloc(v->repeats, sizeof *runs->token_ms)) != NULL;
    ok &= (runs->results = calloc(v->repeats, sizeof *runs->results)) != NULL;
    ok &= (runs->same = calloc(v->repeats, sizeof *runs->same)) != NULL;
    ok &= (runs->same_step = calloc(v->n_decode, sizeof(bool))) != NULL;
    for (uint32_t r = 0; ok && r < v->repeats; r++)
        ok = (runs->token_ms[r] = calloc(v->n_decode, sizeof(double))) != NULL &&
             (runs->same[r] = calloc(v->n_decode, sizeof(bool))) != NULL;
    return ok ? MOE_OK : moe_fail_memory(err, "the repeats");
}

static struct moe_sim_input sim_input(const struct cli_point *point, const struct cli_validation *v)
{
    return (struct moe_sim_input){.trace = &v->traced->trace,
                                  .model = &v->traced->shape,
                                  .platform = &v->platform,
                                  .strategy = &point->strategy,
                                  .max_tokens = v->max_tokens};
}

static struct moe_execute_input exec_input(const struct cli_point *point,
                                           const struct cli_validation *v)
{
    struct moe_execute_input input = {.device = v->alone ? NULL : v->device,
                                      .llm = v->traced->llm,
                                      .trace = &v->traced->trace,
                                      .options = {.strategy = &point->strategy,
                                                  .platform = &v->platform,
                                                  .store = v->store,
                                                  .pool = v->pool},
                                      .max_tokens = v->max_tokens};
    input.options.pool.threads = (uint32_t)point->strategy.threads;
    return input;
}

enum moe_status cli_point_begin(struct cli_point *point, const struct cli_validation *v,
                                struct moe_err *err)
{
    enum moe_status s = allocate(point, v, err);
    if (s)
        return s;
    struct decisions *d = &point->runs->simulated;
    struct moe_sim_input input = sim_input(point, v);
    input.bound = true;
    input.decisions = &d->log;
    input.token_ms = point->runs->predicted_ms;
    s = open_decisions(d, err);
    if (!s)
        s = moe_simulate(&input, &point->simulated, err);
    return s ? s : close_decisions(d, err);
}

/* Was any event up to the first difference planned with copies under way, in either of the two
 * runs? */
static bool time_may_differ(const struct moe_decision_agreement *a, const struct decisions *x,
                            const struct decisions *y)
{
    return (x->log.n_copying && x->log.before_copying <= a->first) ||
           (y->log.n_copying && y->log.before_copying <= a->first);
}

/* 0: equal; 1: different, but timing explains it; 2: different. */
static int severity(const struct moe_decision_agreement *timeless, bool explained)
{
    return timeless->n_different == 0 ? 0 : explained ? 1 : 2;
}

/* Keeps the worst comparison over all repeats. */
static void compare_decisions(struct cli_point *point, const struct decisions *d)
{
    const struct decisions *sim = &point->runs->simulated;
    struct moe_decision_agreement plain, timeless;
    moe_decisions_compare(sim->text, sim->n_text, d->text, d->n_text, &plain);
    moe_decisions_compare(sim->timeless, sim->n_timeless, d->timeless, d->n_timeless, &timeless);
    bool explained = time_may_differ(&timeless, sim, d);
    int now = severity(&timeless, explained);
    int before = severity(&point->timeless, point->time_may_differ);
    bool first = point->runs->n == 0;
    if (first || plain.n_different > point->decisions.n_different)
        point->decisions = plain;
    if (first || now > before ||
        (now == before && timeless.n_different > point->timeless.n_different)) {
        point->timeless = timeless;
        point->time_may_differ = explained;
    }
}

/* Finds the tokens of this repeat whose step had the work that was predicted. */
static void compare_tokens(struct cli_point *point, const struct cli_validation *v,
                           const struct decisions *d)
{
    struct cli_point_runs *runs = point->runs;
    const struct decisions *sim = &runs->simulated;
    const struct moe_tokens *tokens = &v->traced->trace.tokens;
    size_t step = 0, n = 0;
    moe_decisions_same(sim->timeless, sim->n_timeless, d->timeless, d->n_timeless,
                       v->traced->trace.info.n_layers, runs->same_step, v->n_decode);
    for (uint64_t t = 0, end; t < tokens->n_tokens; t = end) {
        end = moe_step_end(tokens, t);
        if (tokens->phase[t] == MOE_PREFILL)
            continue;
        for (uint64_t i = t; i < end; i++)
            runs->same[runs->n][n++] = runs->same_step[step];
        step++;
    }
}

enum moe_status cli_point_repeat(struct cli_point *point, const struct cli_validation *v,
                                 struct moe_err *err)
{
    struct cli_point_runs *runs = point->runs;
    struct decisions d;
    struct moe_execute_input input = exec_input(point, v);
    input.options.power = v->power;
    input.options.decisions = &d.log;
    input.token_ms = runs->token_ms[runs->n];
    enum moe_status s = open_decisions(&d, err);
    if (!s)
        s = moe_execute(&input, &runs->results[runs->n], &point->allocation, err);
    if (!s)
        s = close_decisions(&d, err);
    if (!s) {
        compare_decisions(point, &d);
        compare_tokens(point, v, &d);
        runs->n++;
    }
    release_decisions(&d);
    return s;
}

static void add_schedule_bound(struct cli_point *point, const struct cli_validation *v)
{
    struct moe_costs costs;
    struct moe_model model = v->traced->shape;
    model.top_k = v->traced->trace.info.top_k;
    moe_costs_init(&costs, &model, &v->platform, point->strategy.threads);
    moe_bound_add_schedule(&v->traced->trace, &costs, &point->executed);
}

/* Takes the repeat with the median time, so that the parts of its time add up. */
static void take_middle(struct cli_point *point, const struct cli_validation *v, double *sorted)
{
    const struct cli_point_runs *runs = point->runs;
    for (uint32_t r = 0; r < runs->n; r++)
        sorted[r] = runs->results[r].ms_mean;
    moe_sort_f64(sorted, runs->n);
    double middle = sorted[runs->n / 2];
    for (uint32_t r = 0; r < runs->n; r++)
        if (runs->results[r].ms_mean == middle)
            point->executed = runs->results[r];
    add_schedule_bound(point, v);
    point->spread_percent = 100 * (sorted[runs->n - 1] - sorted[0]) / middle;
}

enum moe_status cli_point_end(struct cli_point *point, const struct cli_validation *v,
                              struct moe_err *err)
{
    const struct cli_point_runs *runs = point->runs;
    size_t n = point->simulated.decode_tokens;
    double *measured = calloc(n + v->repeats, sizeof *measured);
    if (!measured)
        return moe_fail_memory(err, "the medians");
    take_middle(point, v, measured + n);
    enum moe_status s =
        moe_times_median((const double *const *)runs->token_ms, runs->n, n, measured, err);
    if (!s)
        s = moe_times_compare(runs->predicted_ms, measured, n, &point->times, err);
    if (!s)
        s = moe_times_causes(runs->predicted_ms, (const double *const *)runs->token_ms,
                             (const bool *const *)runs->same, runs->n, n, &point->causes, err);
    free(measured);
    return s;
}

static enum moe_status write_timeline(const struct moe_timeline *timeline, const char *what,
                                      const struct cli_point *point, const char *stem,
                                      struct moe_err *err)
{
    char title[320], path[CLI_PATH_MAX + 16];
    snprintf(title, sizeof title, "moelab validate, %s: %s%s %.100s", what, point->strategy.name,
             cli_lossy_mark(&point->strategy), point->strategy.geometry);
    snprintf(path, sizeof path, "%s-%s.json", stem, what);
    return moe_timeline_write(timeline, title, path, err);
}

enum moe_status cli_point_draw(const struct cli_point *point, const struct cli_validation *v,
                               const char *stem, struct moe_err *err)
{
    struct moe_timeline *of_sim = NULL, *of_exec = NULL;
    struct moe_sim_input sim = sim_input(point, v);
    struct moe_execute_input exec = exec_input(point, v);
    struct moe_result ignored;
    enum moe_status s = moe_timeline_new(&of_sim, TIMELINE_OPERATIONS, err);
    if (!s)
        s = moe_timeline_new(&of_exec, TIMELINE_OPERATIONS, err);
    sim.timeline = of_sim;
    exec.options.timeline = of_exec;
    if (!s)
        s = moe_simulate(&sim, &ignored, err);
    if (!s)
        s = write_timeline(of_sim, "sim", point, stem, err);
    if (!s)
        s = moe_execute(&exec, &ignored, NULL, err);
    if (!s)
        s = write_timeline(of_exec, "exec", point, stem, err);
    moe_timeline_free(of_sim);
    moe_timeline_free(of_exec);
    return s;
}

void cli_point_release(struct cli_point *point)
{
    struct cli_point_runs *runs = point->runs;
    if (!runs)
        return;
    release_decisions(&runs->simulated);
    for (uint32_t r = 0; runs->token_ms && r < runs->room; r++)
        free(runs->token_ms[r]);
    for (uint32_t r = 0; runs->same && r < runs->room; r++)
        free(runs->same[r]);
    free(runs->same);
    free(runs->same_step);
    free(runs->token_ms);
    free(runs->predicted_ms);
    free(runs->results);
    free(runs);
    point->runs = NULL;
}

bool cli_point_times_pass(const struct cli_point *point, const struct cli_validation *v)
{
    return point->times.median_percent <= v->tolerance &&
           point->times.p95_percent <= v->tolerance_p95;
}

bool cli_point_decisions_pass(const struct cli_point *point)
{
    return point->timeless.n_different == 0 || point->time_may_differ;
}

const char *cli_point_decisions(const struct cli_point *point)
{
    if (point->decisions.n_different == 0)
        return "equal";
    if (point->timeless.n_different == 0)
        return "equal but for flights";
    return point->time_may_differ ? "differ by time" : "DIFFER";
}
