/* Every registered policy in its variants, and random small cases to run them on. A new policy is
 * covered as soon as it is in registry.c; add it to `exempt` if it may decline newcomers. */
#ifndef MOELAB_TESTS_POLICY_VARIANTS_H
#define MOELAB_TESTS_POLICY_VARIANTS_H

#include "base/param.h"
#include "policies/cost.h"
#include "tests/unit/event_trace.h"
#include "tests/unit/run_suite.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_POLICIES = 64 };

static const struct moe_costs variant_costs = {.cpu_expert_ns = 30, .gpu_expert_ns = 1};

/* A registered policy in one of its variants. */
struct variant {
    char text[96];
    struct moe_policy_spec spec;
    bool admits_all; /* never declines a newcomer while an unpinned slot is left */
};

static struct variant variants[MAX_POLICIES];
static uint32_t n_variants;

/* Variants that may decline a newcomer or overwrite pinned slots, so that properties of policies
 * that admit everything do not hold for them. */
static const char *const exempt[] = {
    "opt-time",      "opt:admit=bypass",   "paper-lru:hazards=on", "least-stale:reading=bypass",
    "decayed-count", "static:choose=list", "static:choose=first",  "static:choose=random",
    "prompt-count"};

static inline void add_variant(const char *text)
{
    struct variant *v = &variants[n_variants++];
    ck_assert_uint_le(n_variants, MAX_POLICIES);
    snprintf(v->text, sizeof v->text, "%s", text);
    v->spec = policy(text);
    v->spec.costs = &variant_costs;
    v->admits_all = true;
    for (size_t i = 0; i < sizeof exempt / sizeof *exempt; i++)
        v->admits_all &= strcmp(text, exempt[i]) != 0;
}

/* Adds a variant for every value of the policy's first parameter, if that is a choice or a switch.
 */
static inline void add_variants(const struct moe_policy_ops *ops)
{
    const struct moe_param *p = ops->params;
    const char *words = NULL;
    char text[96], word[32];
    if (p && p->type == MOE_PARAM_CHOICE)
        words = p->choices;
    if (p && p->type == MOE_PARAM_BOOL)
        words = "on|off";
    if (!words)
        add_variant(ops->name);
    for (int i = 0; words && *moe_choice_name(words, i, word, sizeof word); i++) {
        snprintf(text, sizeof text, "%s:%s=%s", ops->name, p->name, word);
        add_variant(text);
    }
}

static inline void list_variants(void)
{
    for (const struct moe_policy_ops *const *ops = moe_policies; *ops; ops++)
        add_variants(*ops);
}

static inline const struct moe_policy_spec *find_variant(const char *text)
{
    for (uint32_t i = 0; i < n_variants; i++)
        if (strcmp(variants[i].text, text) == 0)
            return &variants[i].spec;
    ck_abort_msg("no variant '%s'", text);
    return NULL;
}

/* --- random cases ------------------------------------------------------------------------- */

struct test_case {
    struct event_trace trace;
    struct moe_geometry geometry;
    char text[64];          /* of the geometry */
    uint32_t largest_event; /* distinct experts of the largest event */
    uint32_t smallest_pool;
};

static inline void random_geometry(struct moe_rng *rng, struct test_case *c)
{
    const struct event_trace *t = &c->trace;
    uint32_t ways = 1 + (uint32_t)moe_rng_below(rng, t->n_experts);
    uint32_t slots = 1 + (uint32_t)moe_rng_below(rng, t->n_layers * t->n_experts);
    if (moe_rng_below(rng, 2))
        snprintf(c->text, sizeof c->text, "global:%u", slots);
    else if (moe_rng_below(rng, 2))
        snprintf(c->text, sizeof c->text, "%ux%u", 1 + (uint32_t)moe_rng_below(rng, t->n_layers),
                 ways);
    else
        snprintf(c->text, sizeof c->text, "per-layer:%u", ways);
    c->geometry = geometry(c->text, t, NULL);
    c->smallest_pool = UINT32_MAX;
    for (uint32_t p = 0; p < c->geometry.n_pools; p++)
        if (c->geometry.pool[p].n_slots < c->smallest_pool)
            c->smallest_pool = c->geometry.pool[p].n_slots;
}

static inline uint32_t count_different(const struct event *e, uint32_t top_k)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_tokens * top_k; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= e->expert[j] == e->expert[i];
        n += !seen;
    }
    return n;
}

static inline void draw_case(struct moe_rng *rng, struct test_case *c, uint32_t max_experts,
                             uint32_t max_events)
{
    struct event_trace *t = &c->trace;
    t->n_layers = 1 + (uint32_t)moe_rng_below(rng, 3);
    t->n_experts = 2 + (uint32_t)moe_rng_below(rng, max_experts - 1);
    t->top_k = 1 + (uint32_t)moe_rng_below(rng, t->n_experts < 3 ? t->n_experts : 3);
    t->n_events = 1 + (uint32_t)moe_rng_below(rng, max_events);
    random_events(rng, t);
    random_geometry(rng, c);
    c->largest_event = 0;
    for (uint32_t i = 0; i < t->n_events; i++) {
        uint32_t n = count_different(&t->event[i], t->top_k);
        c->largest_event = n > c->largest_event ? n : c->largest_event;
    }
}

/* The hits of a run, comparable between cold and preloaded caches: an expert of the initial content
 * saves at most one miss, so one hit is subtracted for each. */
static inline uint64_t hits_of(const struct test_case *c, const struct moe_policy_spec *spec,
                               bool access)
{
    struct moe_preloads preloads;
    struct run run = {.trace = &c->trace,
                      .geometry = &c->geometry,
                      .access = access,
                      .seed = 1,
                      .preloads = &preloads};
    uint64_t hits = run_trace(&run, spec).hits;
    return hits > preloads.experts ? hits - preloads.experts : 0;
}

static inline int run_policy_tests(const char *name, void (*add)(TCase *))
{
    TCase *tc = tcase_create(name);
    tcase_add_unchecked_fixture(tc, list_variants, NULL);
    add(tc);
    Suite *suite = suite_create(name);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}

#endif
