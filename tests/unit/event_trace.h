/* Tiny traces as lists of events, and running one through the cache, for tests of policies. */
#ifndef MOELAB_TESTS_EVENT_TRACE_H
#define MOELAB_TESTS_EVENT_TRACE_H

#include "base/rng.h"
#include "policies/cache.h"
#include "policies/decide.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* An assertion for checks made millions of times, which does not record those that hold as
 * ck_assert does. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            ck_abort_msg("%s", #condition);                                                        \
    } while (0)

enum { MAX_EVENTS = 64, MAX_IDS = 12, MAX_LAYERS = 8 };

/* The tokens of one step in one layer. */
struct event {
    uint32_t layer, n_tokens;
    bool first_of_step, first_of_sequence;
    enum moe_phase phase;
    moe_expert expert[MAX_IDS];   /* [n_tokens, K] */
    const float *score;           /* [E] of the only token, or NULL */
    uint32_t event_next[MAX_IDS]; /* ordinals as policies/future.h counts them */
    uint32_t access_next[MAX_IDS];
};

struct event_trace {
    uint32_t n_layers, n_experts, top_k, n_events;
    struct event event[MAX_EVENTS];
};

/* Fills in the next uses by a plain search ahead for each id. */
static inline void find_next_uses(struct event_trace *t)
{
    uint32_t first[MAX_EVENTS + 1] = {0};
    for (uint32_t i = 0; i < t->n_events; i++)
        first[i + 1] = first[i] + t->event[i].n_tokens * t->top_k;
    for (uint32_t i = 0; i < t->n_events; i++) {
        struct event *e = &t->event[i];
        for (uint32_t a = 0; a < e->n_tokens * t->top_k; a++) {
            e->event_next[a] = e->access_next[a] = MOE_NEVER;
            for (uint32_t j = i; j < t->n_events; j++) {
                const struct event *f = &t->event[j];
                for (uint32_t b = j == i ? a + 1 : 0; b < f->n_tokens * t->top_k; b++) {
                    if (f->layer != e->layer || f->expert[b] != e->expert[a])
                        continue;
                    if (e->access_next[a] == MOE_NEVER)
                        e->access_next[a] = first[j] + b;
                    if (j > i && e->event_next[a] == MOE_NEVER)
                        e->event_next[a] = j;
                }
            }
        }
    }
}

/* Lets a test watch a run: called after every event or access. */
typedef void (*run_watch)(void *ctx, struct moe_cache *cache, const struct moe_route *route);

struct run {
    const struct event_trace *trace;
    const struct moe_geometry *geometry;
    bool access; /* contract `access`, else `event` */
    uint64_t seed;
    run_watch watch;
    void *ctx;
    struct moe_preloads *preloads; /* out, or NULL */
};

static inline void run_event(const struct run *run, struct moe_cache *cache,
                             struct moe_planner *planner, struct moe_admission *admission,
                             const struct event *e)
{
    struct moe_layer_routes routes = {.layer = e->layer,
                                      .n_tokens = e->n_tokens,
                                      .phase = e->phase,
                                      .top_k = run->trace->top_k,
                                      .expert = e->expert,
                                      .next_use = e->event_next,
                                      .score = e->score,
                                      .stride = run->trace->top_k};
    const struct moe_plan *plan = moe_plan_event(planner, cache, admission, &routes);
    for (uint32_t i = 0; i < plan->route.n; i++)
        if (plan->fill[i] != MOE_NO_SLOT)
            moe_cache_ready(cache, plan->fill[i]);
    if (run->watch)
        run->watch(run->ctx, cache, &plan->route);
}

/* One expert under the access contract: looks it up and, on a miss, fetches it at once. Returns
 * whether it hit. */
static inline bool run_access(struct moe_cache *cache, struct moe_route *route)
{
    moe_slot slot;
    uint8_t access;
    route->slot = &slot;
    route->access = &access;
    moe_cache_route_access(cache, route);
    if (access != MOE_MISS) {
        moe_cache_touch(cache, slot);
    } else {
        moe_slot filled = moe_cache_reserve(cache, route, 0, NULL);
        if (filled != MOE_NO_SLOT)
            moe_cache_ready(cache, filled);
    }
    moe_cache_end_event(cache);
    return access != MOE_MISS;
}

static inline void run_accesses(const struct run *run, struct moe_cache *cache,
                                const struct event *e)
{
    uint32_t n = e->n_tokens * run->trace->top_k, hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct moe_route route = {.layer = e->layer,
                                  .n = 1,
                                  .phase = e->phase,
                                  .expert = e->expert + i,
                                  .score = i == 0 ? e->score : NULL,
                                  .next_use = e->access_next + i};
        bool hit = run_access(cache, &route);
        uint8_t access = hit ? MOE_HIT : MOE_MISS;
        hits += hit;
        route.access = &access;
        route.slot = NULL; /* it pointed to a local of run_access */
        if (run->watch)
            run->watch(run->ctx, cache, &route);
    }
    moe_cache_count_event(cache, e->layer, e->phase, hits, n);
}

/* Sum of all counters of a cache. */
static inline struct moe_counts total_counts(const struct moe_cache *cache, uint32_t n_layers)
{
    struct moe_counts sum = {0};
    for (uint32_t l = 0; l < n_layers; l++) {
        moe_counts_add(&sum, moe_cache_counts(cache, l, MOE_PREFILL));
        moe_counts_add(&sum, moe_cache_counts(cache, l, MOE_DECODE));
    }
    return sum;
}

static inline struct moe_counts run_trace(const struct run *run,
                                          const struct moe_policy_spec *policy)
{
    const struct event_trace *t = run->trace;
    struct moe_admission_spec always;
    struct moe_admission admission;
    struct moe_planner *planner;
    struct moe_cache *cache;
    struct moe_err err;
    REQUIRE(moe_admission_parse("always", &always, &err) == MOE_OK);
    REQUIRE(moe_admission_init(&admission, &always, &(struct moe_admission_env){0}, &err) ==
            MOE_OK);
    REQUIRE(moe_planner_new(&planner, t->n_experts, t->top_k, &err) == MOE_OK);
    REQUIRE(moe_cache_new(&cache, run->geometry, t->top_k, policy, run->seed, &err) == MOE_OK);
    moe_cache_preload(cache);
    for (uint32_t i = 0; i < t->n_events; i++) {
        if (t->event[i].first_of_sequence)
            moe_cache_begin_sequence(cache);
        if (t->event[i].first_of_step)
            moe_cache_begin_step(cache);
        if (run->access)
            run_accesses(run, cache, &t->event[i]);
        else
            run_event(run, cache, planner, &admission, &t->event[i]);
    }
    struct moe_counts sum = total_counts(cache, t->n_layers);
    if (run->preloads)
        *run->preloads = moe_cache_preloads(cache);
    moe_cache_free(cache);
    moe_planner_free(planner);
    return sum;
}

static inline struct moe_policy_spec policy(const char *text)
{
    struct moe_policy_spec spec;
    struct moe_err err;
    if (moe_policy_parse(text, &spec, &err))
        ck_abort_msg("%s", err.text);
    return spec;
}

static inline struct moe_geometry geometry(const char *text, const struct event_trace *t,
                                           const uint64_t *expert_bytes)
{
    struct moe_geometry g;
    struct moe_err err;
    if (moe_geometry_parse(text, t->n_layers, t->n_experts, expert_bytes, &g, &err))
        ck_abort_msg("%s", err.text);
    return g;
}

/* Draws k different ids below n_experts, often the same as in the row before. */
static inline void random_ids(struct moe_rng *rng, uint32_t n_experts, uint32_t k,
                              const moe_expert *before, moe_expert *out)
{
    for (uint32_t i = 0; i < k;) {
        bool again = before && moe_rng_below(rng, 3) == 0, twice = false;
        moe_expert e = again ? before[i] : (moe_expert)moe_rng_below(rng, n_experts);
        for (uint32_t j = 0; j < i; j++)
            twice |= out[j] == e;
        if (!twice)
            out[i++] = e;
        else
            before = NULL;
    }
}

/* Logits for tokens that need some; each uses any part of this array. */
static const float some_scores[] = {0.3F, -1.2F, 2.1F, 0.3F, -0.4F, 1.7F,  0.9F, -2.0F,
                                    0.1F, 1.1F,  0.8F, 2.6F, -0.7F, -1.9F, 0.0F, 1.4F};

/* Draws steps over all layers. A fifth of them are prefill of up to MAX_IDS / K tokens; every four
 * steps make a sequence. */
static inline void random_events(struct moe_rng *rng, struct event_trace *t)
{
    uint32_t tokens = 1;
    enum moe_phase phase = MOE_DECODE;
    for (uint32_t i = 0; i < t->n_events; i++) {
        struct event *e = &t->event[i];
        if (i % t->n_layers == 0) {
            bool prefill = moe_rng_below(rng, 5) == 0;
            tokens = prefill ? 1 + (uint32_t)moe_rng_below(rng, MAX_IDS / t->top_k) : 1;
            phase = prefill ? MOE_PREFILL : MOE_DECODE;
        }
        e->layer = i % t->n_layers;
        e->first_of_step = e->layer == 0;
        e->first_of_sequence = i % (4 * t->n_layers) == 0;
        e->score = tokens == 1 ? some_scores + i % (sizeof some_scores / sizeof(float) - 8) : NULL;
        e->n_tokens = tokens;
        e->phase = phase;
        for (uint32_t k = 0; k < tokens; k++) {
            const moe_expert *before = i >= t->n_layers ? e[-(int)t->n_layers].expert : NULL;
            random_ids(rng, t->n_experts, t->top_k, before, e->expert + k * t->top_k);
        }
    }
    find_next_uses(t);
}

#endif
