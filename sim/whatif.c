#include "sim/whatif.h"

#include "base/units.h"
#include "policies/cost.h"
#include "policies/geometry_fit.h"
#include "policies/setup.h"
#include "sim/threads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOUND = MOE_WHATIF_LINES }; /* a task that asks for the bound of all slots that fit */

/* One simulation. */
struct task {
    size_t value;
    int line;
    char *geometry;
    struct moe_result result;
    struct moe_err failed;
};

struct runner {
    struct moe_whatif *w;
    const struct moe_whatif_spec *spec;
    uint64_t context; /* longest of the tokens that are simulated */
    size_t n;
    struct task *task;
};

/* --- geometries ----------------------------------------------------------------------------- */

struct list {
    char **text;
    size_t n;
};

static enum moe_status put(struct list *list, const char *text, struct moe_err *err)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->text[i], text) == 0)
            return MOE_OK;
    char **more = realloc(list->text, (list->n + 1) * sizeof *more);
    if (!more)
        return moe_fail_memory(err, "geometries");
    list->text = more;
    more[list->n] = strdup(text);
    return more[list->n++] ? MOE_OK : moe_fail_memory(err, "geometries");
}

static void free_list(struct list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->text[i]);
    free(list->text);
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Steps that grow with the number: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... */
static uint64_t next_ways(uint64_t ways)
{
    return ways < 4 ? ways + 1 : (ways & (ways - 1)) == 0 ? ways + ways / 2 : ways / 3 * 4;
}

static enum moe_status put_grid(struct list *list, const struct moe_model *model, uint64_t slots,
                                uint64_t ways, struct moe_err *err)
{
    const uint64_t n = slots / ways < model->n_layers ? slots / ways : model->n_layers;
    char text[64];
    snprintf(text, sizeof text, "%" PRIu64 "x%" PRIu64, n, ways);
    return put(list, text, err);
}

/* N x M with the most ways that all layers can have, and with more ways for fewer layers. */
static enum moe_status put_grids(struct list *list, const struct moe_model *model, uint64_t slots,
                                 struct moe_err *err)
{
    const uint64_t n_experts = model->n_experts, share = slots / model->n_layers;
    const uint64_t equal = share < n_experts ? share : n_experts;
    const uint64_t most = slots < n_experts ? slots : n_experts;
    enum moe_status s = equal ? put_grid(list, model, slots, equal, err) : MOE_OK;
    for (uint64_t ways = 1; !s && ways < most; ways = next_ways(ways))
        if (ways > equal)
            s = put_grid(list, model, slots, ways, err);
    return !s && most ? put_grid(list, model, slots, most, err) : s;
}

/* The largest one pool, or the most whole layers. */
static enum moe_status put_largest(struct list *list, const char *given,
                                   const struct moe_model *model, uint64_t slots,
                                   struct moe_err *err)
{
    const uint64_t all = model->n_layers * model->n_experts;
    const uint64_t pool = slots < all ? slots : all;
    const bool one_pool = begins(given, "global:");
    char text[64];
    if (pool == all)
        snprintf(text, sizeof text, "all");
    else if (one_pool)
        snprintf(text, sizeof text, "global:%" PRIu64, pool);
    else
        snprintf(text, sizeof text, "ncmoe:%" PRIu64, model->n_layers - pool / model->n_experts);
    return pool == 0 || (!one_pool && pool < model->n_experts) ? MOE_OK : put(list, text, err);
}

/* Copies the geometry; in ncmoe:N, N is at most the layers of the model. */
static void keep_layers(const char *given, const struct moe_model *model, char *buf, size_t size)
{
    uint64_t on_cpu;
    snprintf(buf, size, "%s", given);
    if (begins(given, "ncmoe:") &&
        moe_parse_u64(given + strlen("ncmoe:"), 0, UINT32_MAX, &on_cpu, NULL) == MOE_OK &&
        on_cpu > model->n_layers)
        snprintf(buf, size, "ncmoe:%" PRIu64, model->n_layers);
}

/* The strategy's own, unless it was written for a model with more layers or experts. */
static enum moe_status put_own(struct list *list, const char *given, const struct moe_model *model,
                               uint64_t slots, struct moe_err *err)
{
    enum { MANY_LAYERS = 32768, MANY_EXPERTS = 65535 };
    char own[1024], fitted[1024];
    const uint64_t expert = moe_model_expert_bytes(model);
    keep_layers(given, model, own, sizeof own);
    enum moe_status s = moe_geometry_fit(own, (uint32_t)model->n_layers, (uint32_t)model->n_experts,
                                         expert, slots, fitted, sizeof fitted, NULL);
    if (!s)
        return put(list, fitted, err);
    /* Only a geometry that is wrong for any model is an error. */
    return moe_geometry_fit(own, MANY_LAYERS, MANY_EXPERTS, expert, UINT64_MAX, fitted,
                            sizeof fitted, err);
}

enum moe_status moe_whatif_geometries(const char *given, const struct moe_model *model,
                                      uint64_t slots, char ***out, size_t *n, struct moe_err *err)
{
    struct list list = {0};
    enum moe_status s = put_own(&list, given, model, slots, err);
    const bool whole = begins(given, "all") || begins(given, "ncmoe:");
    if (!s && (whole || begins(given, "global:")))
        s = put_largest(&list, given, model, slots, err);
    else if (!s && strcmp(given, "none") != 0)
        s = put_grids(&list, model, slots, err);
    if (!s && list.n == 0)
        s = put(&list, "none", err);
    if (s) {
        free_list(&list);
        return s;
    }
    *out = list.text;
    *n = list.n;
    return MOE_OK;
}

/* --- tasks ---------------------------------------------------------------------------------- */

static uint64_t take(uint64_t from, uint64_t bytes)
{
    return from > bytes ? from - bytes : 0;
}

/* Slots that fit beside dense weights, keys and values of the longest context and what the strategy
 * stages. */
static uint64_t slots_of(const struct runner *r, const struct moe_whatif_value *v,
                         const struct moe_strategy *strategy)
{
    const uint64_t expert = moe_model_expert_bytes(&v->model);
    const uint64_t all = v->model.n_layers * v->model.n_experts;
    const struct moe_setup_spec setup = {.strategy = strategy, .expert_bytes = expert};
    uint64_t left = take(v->platform.gpu.memory_bytes, moe_cost_dense_bytes(&v->model));
    left = take(left, moe_model_kv_cache_bytes(&v->model, r->context));
    left = take(left, moe_setup_staging_bytes(&setup)) / expert;
    return left < all ? left : all;
}

/* Takes the geometry over; NULL: there was no memory for it. */
static enum moe_status add_task(struct runner *r, size_t value, int line, char *geometry,
                                struct moe_err *err)
{
    struct task *more = geometry ? realloc(r->task, (r->n + 1) * sizeof *more) : NULL;
    if (!more) {
        free(geometry);
        return moe_fail_memory(err, "simulations");
    }
    r->task = more;
    more[r->n++] = (struct task){.value = value, .line = line, .geometry = geometry};
    return MOE_OK;
}

static enum moe_status add_line(struct runner *r, size_t value, int line, struct moe_err *err)
{
    const struct moe_whatif_value *v = &r->w->value[value];
    const struct moe_strategy *strategy = r->spec->strategy[line];
    struct list list = {0};
    enum moe_status s = moe_whatif_geometries(strategy->geometry, &v->model,
                                              slots_of(r, v, strategy), &list.text, &list.n, err);
    for (size_t i = 0; !s && i < list.n; i++) {
        s = add_task(r, value, line, list.text[i], err);
        list.text[i] = NULL;
    }
    free_list(&list);
    return s;
}

/* The default rules, none of which takes memory beside the slots. */
static void bound_strategy(struct moe_strategy *out)
{
    moe_strategy_default(out);
}

static enum moe_status add_bound(struct runner *r, size_t value, struct moe_err *err)
{
    struct moe_strategy strategy;
    char text[64] = "none";
    bound_strategy(&strategy);
    const uint64_t slots = slots_of(r, &r->w->value[value], &strategy);
    if (slots)
        snprintf(text, sizeof text, "global:%" PRIu64, slots);
    return add_task(r, value, BOUND, strdup(text), err);
}

/* The value whose simulations stand for this one: what the platform has is the same machine on
 * every axis, and simulated once. */
static size_t simulated_as(const struct moe_whatif *w, size_t value)
{
    size_t first = value;
    for (size_t i = value; w->value[value].own && i-- > 0;)
        if (w->value[i].own)
            first = i;
    return first;
}

static enum moe_status add_tasks(struct runner *r, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < r->w->n; i++) {
        if (simulated_as(r->w, i) != i)
            continue;
        for (int line = 0; !s && line < MOE_WHATIF_LINES; line++)
            s = add_line(r, i, line, err);
        if (!s)
            s = add_bound(r, i, err);
    }
    return s;
}

/* --- simulation ----------------------------------------------------------------------------- */

/* The strategy of a line at a value. */
static enum moe_status strategy_of(const struct runner *r, size_t value, int line,
                                   const char *geometry, struct moe_strategy *out,
                                   struct moe_err *err)
{
    const uint64_t threads = r->w->value[value].threads;
    if (line == BOUND)
        bound_strategy(out);
    else
        *out = *r->spec->strategy[line];
    out->threads = threads ? threads : r->spec->strategy[MOE_WHATIF_STRATEGY]->threads;
    return moe_strategy_set(out, "geometry", geometry, err);
}

static enum moe_status run_task(const struct runner *r, struct task *task, struct moe_err *err)
{
    const struct moe_whatif_value *v = &r->w->value[task->value];
    struct moe_strategy strategy;
    enum moe_status s = strategy_of(r, task->value, task->line, task->geometry, &strategy, err);
    const struct moe_sim_input input = {.trace = r->spec->trace,
                                        .model = &v->model,
                                        .platform = &v->platform,
                                        .strategy = &strategy,
                                        .max_tokens = r->spec->max_tokens,
                                        .bound = task->line == BOUND};
    return s ? s : moe_simulate(&input, &task->result, err);
}

/* Does it end the run, rather than fail the rows of one value? */
static bool is_fatal(enum moe_status s)
{
    return s == MOE_ERR_MEMORY || s == MOE_ERR_INTERRUPTED;
}

static enum moe_status run_tasks(struct runner *r, struct moe_err *err)
{
    struct moe_progress progress;
    struct moe_err fatal = {0};
    uint64_t done = 0;
    int stop = 0;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): read by the OpenMP clause below */
    const int threads = moe_threads_for(r->n, r->spec->jobs);
    moe_progress_begin(&progress, "what if", "simulations", r->n);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t i = 0; i < r->n; i++) {
        int stopped;
#pragma omp atomic read
        stopped = stop;
        if (stopped)
            continue;
        enum moe_status s = run_task(r, &r->task[i], &r->task[i].failed);
        if (is_fatal(s)) {
#pragma omp atomic write
            stop = 1;
        }
#pragma omp critical(whatif)
        {
            if (is_fatal(s) && !fatal.status)
                fatal = r->task[i].failed;
            moe_progress_update(&progress, ++done);
        }
    }
    moe_progress_end(&progress);
    r->w->simulations = r->n;
    if (fatal.status == MOE_ERR_INTERRUPTED)
        return moe_fail(err, fatal.status, "interrupted: none of the %zu simulations begun is kept",
                        (size_t)done);
    if (fatal.status)
        *err = fatal;
    return fatal.status;
}

/* --- rows ----------------------------------------------------------------------------------- */

static bool better(const struct task *a, const struct task *b)
{
    if (!b || a->failed.status || b->failed.status)
        return !b || (b->failed.status && !a->failed.status);
    return a->result.decode_ns < b->result.decode_ns;
}

/* The fastest of a line at a value, the first of equals; where none runs, the first. */
static const struct task *best_of(const struct runner *r, size_t value, int line)
{
    const struct task *best = NULL;
    for (size_t i = 0; i < r->n; i++)
        if (r->task[i].value == value && r->task[i].line == line && better(&r->task[i], best))
            best = &r->task[i];
    return best;
}

static enum moe_status fill_row(const struct runner *r, size_t value, int line, struct moe_err *err)
{
    struct moe_whatif_row *row = &r->w->row[value][line];
    const size_t as = simulated_as(r->w, value);
    const struct task *best = best_of(r, as, line), *bound = best_of(r, as, BOUND);
    if (!best || !bound)
        return moe_fail_memory(err, "simulations");
    row->failed = best->failed;
    moe_result_init(&row->result);
    enum moe_status s = strategy_of(r, as, line, best->geometry, &row->strategy, err);
    if (s || row->failed.status)
        return s;
    row->result = best->result;
    /* The bound is of the routers' choices, which a lossy rule has changed. */
    if (bound->failed.status || best->result.rerouted.events_moved)
        return MOE_OK;
    row->result.bound_ms = bound->result.bound_ms;
    row->result.bound_share = row->result.bound_ms / row->result.ms_mean;
    return MOE_OK;
}

static enum moe_status fill_rows(const struct runner *r, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    r->w->row = calloc(r->w->n + 1, sizeof *r->w->row);
    if (!r->w->row)
        return moe_fail_memory(err, "the rows");
    for (size_t i = 0; !s && i < r->w->n; i++)
        for (int line = 0; !s && line < MOE_WHATIF_LINES; line++)
            s = fill_row(r, i, line, err);
    return s;
}

/* Simulates a token of the line with the first geometry that is tried where every expert fits. */
static enum moe_status check_line(const struct moe_whatif_spec *spec, int line,
                                  const struct moe_platform *platform, struct moe_err *err)
{
    struct moe_strategy strategy = *spec->strategy[line];
    struct moe_result result;
    struct list list = {0};
    const struct moe_sim_input input = {.trace = spec->trace,
                                        .model = spec->model,
                                        .platform = platform,
                                        .strategy = &strategy,
                                        .max_tokens = 1};
    enum moe_status s = moe_whatif_geometries(strategy.geometry, spec->model,
                                              spec->model->n_layers * spec->model->n_experts,
                                              &list.text, &list.n, err);
    if (!s)
        s = moe_strategy_set(&strategy, "geometry", list.text[0], err);
    free_list(&list);
    return s ? s : moe_simulate(&input, &result, err);
}

/* Finds faults that every value would have: on the platform, but with unlimited GPU memory. */
static enum moe_status check(const struct moe_whatif_spec *spec, struct moe_err *err)
{
    struct moe_platform platform = *spec->platform;
    enum moe_status s = MOE_OK;
    if (!moe_platform_has_gpu(&platform)) /* the other lines may need one */
        return check_line(spec, MOE_WHATIF_STRATEGY, &platform, err);
    platform.gpu.memory_bytes = UINT64_MAX / 2;
    for (int line = 0; !s && line < MOE_WHATIF_LINES; line++)
        s = check_line(spec, line, &platform, err);
    return s;
}

enum moe_status moe_whatif_run(struct moe_whatif *w, const struct moe_whatif_spec *spec,
                               struct moe_err *err)
{
    struct runner r = {.w = w, .spec = spec};
    enum moe_status s = check(spec, err);
    if (s)
        return s;
    r.context = moe_trace_extent(spec->trace, spec->max_tokens).caches;
    s = add_tasks(&r, err);
    if (!s)
        s = run_tasks(&r, err);
    if (!s)
        s = fill_rows(&r, err);
    for (size_t i = 0; i < r.n; i++)
        free(r.task[i].geometry);
    free(r.task);
    return s;
}
