/* The first candidates of a search (tune_search.h): all of a small space, or a core and a sample.
 */
#include "sim/tune_search.h"

#include "base/progress.h"
#include "base/rng.h"
#include "policies/cost.h"
#include "sim/replay.h"
#include "sim/threads.h"

#include <math.h>
#include <stdlib.h>

/* --- hits, and the times estimated from them ------------------------------------------------ */

enum { REPLAY_ACCESSES = 100000, FEWEST_TOKENS = 32 };

/* What estimates are made from. */
struct estimates {
    const struct moe_tune_search *q;
    double *hits;   /* [geometries, policies] of a decode token, every miss admitted */
    double *cpu_ns; /* [threads] of one expert */
    double gpu_ns, copy_ns, uses;
};

/* The trace up to about REPLAY_ACCESSES, not copied. */
static struct moe_trace head_of(const struct moe_trace *trace)
{
    const uint64_t row = (uint64_t)trace->info.n_layers * trace->info.top_k;
    uint64_t want = REPLAY_ACCESSES / row > FEWEST_TOKENS ? REPLAY_ACCESSES / row : FEWEST_TOKENS;
    struct moe_trace head = *trace;
    uint64_t decode = 0, t = 0;
    while (t < trace->tokens.n_tokens && decode < want) {
        uint64_t end = moe_step_end(&trace->tokens, t);
        decode += trace->tokens.phase[t] == MOE_DECODE ? end - t : 0;
        t = end;
    }
    head.tokens.n_tokens = t;
    return head;
}

static enum moe_status replay_hits(const struct moe_tune_search *q, const struct moe_trace *head,
                                   struct moe_tune_point point, double *hits, struct moe_err *err)
{
    struct moe_strategy strategy;
    struct moe_geometry geometry;
    struct moe_replay_result result = {0};
    struct moe_replay_options options = {.phases = MOE_PHASES_DECODE, .seed = q->seed};
    enum moe_status s = moe_tune_strategy(q->space, point, &strategy, err);
    if (!s)
        s = moe_geometry_parse(strategy.geometry, head->info.n_layers, head->info.n_experts, NULL,
                               &geometry, err);
    if (s)
        return s;
    s = moe_replay(head, &geometry, &strategy.policy, &options, &result, err);
    if (!s)
        *hits = (double)result.total[MOE_DECODE].hits / (double)result.tokens;
    moe_replay_release(&result);
    moe_geometry_release(&geometry);
    return s;
}

static enum moe_status replay_all(struct estimates *x, struct moe_err *err)
{
    const struct moe_tune_search *q = x->q;
    const size_t policies = q->space->axis[MOE_TUNE_POLICY].n;
    const size_t n = q->space->axis[MOE_TUNE_GEOMETRY].n * policies;
    const struct moe_trace head = head_of(q->train);
    struct moe_err failed = {0};
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): read by the OpenMP clause below */
    const int threads = moe_threads_for(n, q->jobs);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t i = 0; i < n; i++) {
        struct moe_err own = {0};
        struct moe_tune_point point = {{0}};
        point.at[MOE_TUNE_GEOMETRY] = (uint16_t)(i / policies);
        point.at[MOE_TUNE_POLICY] = (uint16_t)(i % policies);
        if (moe_interrupted())
            continue;
        if (replay_hits(q, &head, point, &x->hits[i], &own)) {
#pragma omp critical(tune)
            failed = own;
        }
    }
    if (moe_interrupted())
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    if (failed.status)
        *err = failed;
    return failed.status;
}

static enum moe_status estimates_init(struct estimates *x, const struct moe_tune_search *q,
                                      struct moe_err *err)
{
    const struct moe_tune_values *threads = &q->space->axis[MOE_TUNE_THREADS];
    const size_t pairs =
        (size_t)q->space->axis[MOE_TUNE_GEOMETRY].n * q->space->axis[MOE_TUNE_POLICY].n;
    *x = (struct estimates){.q = q};
    x->hits = calloc(pairs, sizeof *x->hits);
    x->cpu_ns = calloc(threads->n, sizeof *x->cpu_ns);
    if (!x->hits || !x->cpu_ns)
        return moe_fail_memory(err, "estimates");
    for (uint32_t i = 0; i < threads->n; i++) {
        struct moe_strategy strategy;
        struct moe_tune_point point = {{0}};
        struct moe_costs costs;
        point.at[MOE_TUNE_THREADS] = (uint16_t)i;
        enum moe_status s = moe_tune_strategy(q->space, point, &strategy, err);
        if (s)
            return s;
        moe_costs_init(&costs, q->model, q->platform, strategy.threads);
        x->cpu_ns[i] = (double)costs.cpu_expert_ns;
        x->gpu_ns = (double)costs.gpu_expert_ns;
        x->copy_ns = (double)costs.copy_ns[strategy.fill_memory == MOE_FILL_PAGEABLE];
    }
    x->uses = (double)q->train->info.n_layers * q->train->info.top_k;
    return replay_all(x, err);
}

static void estimates_release(struct estimates *x)
{
    free(x->hits);
    free(x->cpu_ns);
}

/* ns a token: misses on the CPU, over the link, or on both at the rates of each, while the GPU
 * computes hits. The effects of admission and prefetching are left out. */
static double estimate(const struct estimates *x, struct moe_tune_point p)
{
    const struct moe_tune_space *space = x->q->space;
    double hits =
        x->hits[p.at[MOE_TUNE_GEOMETRY] * space->axis[MOE_TUNE_POLICY].n + p.at[MOE_TUNE_POLICY]];
    double cpu = x->cpu_ns[p.at[MOE_TUNE_THREADS]], copy = x->copy_ns, misses = x->uses - hits;
    switch (space->axis[MOE_TUNE_DISPATCH].value[p.at[MOE_TUNE_DISPATCH]].kind) {
    case MOE_MISS_CPU:
        return fmax(misses * cpu, hits * x->gpu_ns);
    case MOE_MISS_WAIT:
        return fmax(misses * copy, x->uses * x->gpu_ns);
    default:
        return fmax(misses * cpu * copy / (cpu + copy), hits * x->gpu_ns);
    }
}

/* --- candidates ----------------------------------------------------------------------------- */

/* Points of the core: with the paper's rules and with a fixed placement, every geometry and every
 * dispatch; without slots, every dispatch and number of threads. */
static enum moe_status add_core(struct moe_tune_search *q, struct moe_err *err)
{
    const struct moe_tune_space *space = q->space;
    enum moe_status s = MOE_OK;
    for (uint32_t g = 0; !s && g < space->axis[MOE_TUNE_GEOMETRY].n; g++)
        for (uint32_t d = 0; !s && d < space->axis[MOE_TUNE_DISPATCH].n; d++) {
            struct moe_tune_point p = {{0}};
            p.at[MOE_TUNE_GEOMETRY] = (uint16_t)g;
            p.at[MOE_TUNE_DISPATCH] = (uint16_t)d;
            s = moe_tune_add(q, p, err);
            p.at[MOE_TUNE_POLICY] = (uint16_t)space->first_static;
            if (!s)
                s = moe_tune_add(q, p, err);
            p.at[MOE_TUNE_GEOMETRY] = 0;
            for (uint32_t t = 1; !s && t < space->axis[MOE_TUNE_THREADS].n; t++) {
                p.at[MOE_TUNE_THREADS] = (uint16_t)t;
                s = moe_tune_add(q, p, err);
            }
        }
    return s;
}

static enum moe_status add_all(struct moe_tune_search *q, uint64_t size, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint64_t n = 0; !s && n < size; n++)
        s = moe_tune_add(q, moe_tune_point_at(q->space, n), err);
    return s;
}

/* Adds a sample to the core, which is there, and keeps the core and the best estimates of the
 * sample, max_points in all. */
static enum moe_status add_sample(struct moe_tune_search *q, uint64_t size, struct moe_err *err)
{
    enum { TIMES = 4 };
    const size_t core = q->n, want = (size_t)q->max_points;
    struct estimates x;
    struct moe_rng rng;
    moe_rng_init(&rng, q->seed);
    /* Many draws are the same strategy: a limit, so that a space with few different ones ends. */
    const uint64_t draws = 4 * (uint64_t)TIMES * q->max_points;
    enum moe_status s = MOE_OK;
    for (uint64_t i = 0; !s && i < draws && q->n < core + TIMES * want; i++) {
        struct moe_tune_point point = moe_tune_point_at(q->space, moe_rng_below(&rng, size));
        if (moe_rng_below(&rng, 2)) /* half without: prefetchers are most of the space */
            point.at[MOE_TUNE_PREFETCHER] = 0;
        s = moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted")
                              : moe_tune_add(q, point, err);
    }
    if (s)
        return s;
    s = estimates_init(&x, q, err);
    for (size_t i = 0; !s && i < q->n; i++)
        q->candidate[i].ns = i < core ? 0 : estimate(&x, q->candidate[i].point);
    estimates_release(&x);
    moe_tune_rank(q, want);
    return s;
}

enum moe_status moe_tune_draw(struct moe_tune_search *q, struct moe_err *err)
{
    const uint64_t size = moe_tune_space_size(q->space);
    if (size <= q->max_points)
        return add_all(q, size, err);
    enum moe_status s = add_core(q, err);
    if (s || q->n < q->max_points)
        return s ? s : add_sample(q, size, err);
    moe_tune_rank(q, (size_t)q->max_points);
    return MOE_OK;
}
