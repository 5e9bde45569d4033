/* Properties of every registered policy on every trace: conservation, capacity, pins; also with
 * late copies, holds and prefetches. */
#include "tests/unit/policy_spy.h"
#include "tests/unit/policy_variants.h"

enum { N_SPY_CASES = 16000 };

/* --- a run with late copies, holds and prefetches ------------------------------------------- */

struct late_run {
    const struct event_trace *trace;
    const struct moe_geometry *geometry;
    struct moe_cache *cache;
    struct moe_rng rng;
    moe_slot flying[256]; /* copies that have not landed */
    uint32_t n_flying;
    moe_slot held; /* or MOE_NO_SLOT */
};

static void land_some(struct late_run *r, uint64_t one_in)
{
    for (uint32_t i = 0; i < r->n_flying;) {
        if (moe_rng_below(&r->rng, one_in) == 0) {
            moe_cache_ready(r->cache, r->flying[i]);
            r->flying[i] = r->flying[--r->n_flying];
        } else {
            i++;
        }
    }
}

static void prefetch_some(struct late_run *r)
{
    uint32_t n_keys = r->trace->n_layers * r->trace->n_experts;
    moe_key key = (moe_key)moe_rng_below(&r->rng, n_keys), evicted;
    moe_slot s = moe_cache_reserve_key(r->cache, key, &evicted);
    if (s == MOE_NO_SLOT)
        return;
    REQUIRE(moe_cache_find(r->cache, key) == s);
    r->flying[r->n_flying++] = s;
}

static void move_hold(struct late_run *r)
{
    uint32_t n_keys = r->trace->n_layers * r->trace->n_experts;
    if (r->held != MOE_NO_SLOT)
        moe_cache_unpin(r->cache, r->held);
    r->held = moe_cache_find(r->cache, (moe_key)moe_rng_below(&r->rng, n_keys));
    if (r->held != MOE_NO_SLOT)
        moe_cache_pin(r->cache, r->held);
}

/* Present experts of every pool: each in its own slot of the right pool, not more than fit. */
static uint64_t check_contents(const struct late_run *r)
{
    const struct moe_geometry *g = r->geometry;
    uint64_t present = 0;
    bool taken[256] = {false};
    for (uint32_t p = 0; p < g->n_pools; p++) {
        uint64_t bytes = 0;
        for (moe_key k = 0; k < g->n_layers * g->n_experts; k++) {
            moe_slot s = moe_cache_find(r->cache, k);
            uint32_t layer = k / g->n_experts;
            if (s == MOE_NO_SLOT || g->pool_of_layer[layer] != (int32_t)p)
                continue;
            REQUIRE(!taken[s]);
            taken[s] = true;
            REQUIRE((uint32_t)s >= g->pool[p].first_slot);
            REQUIRE((uint32_t)s < g->pool[p].first_slot + g->pool[p].n_slots);
            bytes += g->expert_bytes ? g->expert_bytes[layer] : 0;
            present++;
        }
        if (g->pool[p].bytes)
            REQUIRE(bytes <= g->pool[p].bytes);
    }
    for (moe_key k = 0; k < g->n_layers * g->n_experts; k++)
        if (g->pool_of_layer[k / g->n_experts] < 0)
            REQUIRE(moe_cache_find(r->cache, k) == MOE_NO_SLOT);
    return present;
}

static void check_counts(const struct late_run *r, uint64_t lookups)
{
    struct moe_counts c = total_counts(r->cache, r->trace->n_layers);
    REQUIRE(c.lookups == lookups);
    REQUIRE(c.hits + c.inflight_hits + c.misses == c.lookups);
    REQUIRE(c.fills + moe_cache_preloads(r->cache).experts - c.evictions == check_contents(r));
    REQUIRE(c.useless_fills <= c.evictions);
    REQUIRE(c.late_fills <= c.inflight_hits);
    REQUIRE(c.late_fills <= c.fills);
    REQUIRE(c.all_hit_events <= c.any_hit_events);
    REQUIRE(c.any_hit_events <= c.events);
    REQUIRE(c.hazards == n_overwritten);
}

static struct moe_counts run_late(struct late_run *r, const struct moe_policy_spec *spec,
                                  uint64_t seed)
{
    const struct event_trace *t = r->trace;
    struct moe_admission_spec always;
    struct moe_admission admission;
    struct moe_planner *planner;
    struct moe_err err;
    uint64_t lookups = 0;
    n_overwritten = 0;
    r->n_flying = 0;
    r->held = MOE_NO_SLOT;
    moe_rng_init(&r->rng, seed);
    REQUIRE(moe_admission_parse("always", &always, &err) == MOE_OK);
    REQUIRE(moe_admission_init(&admission, &always, &(struct moe_admission_env){0}, &err) ==
            MOE_OK);
    REQUIRE(moe_planner_new(&planner, t->n_experts, t->top_k, &err) == MOE_OK);
    REQUIRE(moe_cache_new(&r->cache, r->geometry, t->top_k, spec, seed, &err) == MOE_OK);
    moe_cache_preload(r->cache);
    for (uint32_t i = 0; i < t->n_events; i++) {
        const struct event *e = &t->event[i];
        if (e->first_of_sequence)
            moe_cache_begin_sequence(r->cache);
        if (e->first_of_step)
            moe_cache_begin_step(r->cache);
        struct moe_layer_routes routes = {.layer = e->layer,
                                          .n_tokens = e->n_tokens,
                                          .phase = e->phase,
                                          .top_k = t->top_k,
                                          .expert = e->expert,
                                          .next_use = e->event_next,
                                          .score = e->score,
                                          .stride = t->top_k};
        const struct moe_plan *plan = moe_plan_event(planner, r->cache, &admission, &routes);
        for (uint32_t k = 0; k < plan->route.n; k++)
            if (plan->fill[k] != MOE_NO_SLOT)
                r->flying[r->n_flying++] = plan->fill[k];
        lookups += moe_cache_covers(r->cache, e->layer) ? plan->route.n : 0;
        prefetch_some(r);
        move_hold(r);
        land_some(r, 3);
        check_counts(r, lookups);
    }
    struct moe_counts sum = total_counts(r->cache, t->n_layers);
    moe_cache_free(r->cache);
    moe_planner_free(planner);
    return sum;
}

/* Experts of unequal size in a pool of bytes, from one expert's worth to all. */
static void use_bytes(struct moe_rng *rng, struct test_case *c)
{
    uint64_t bytes[MAX_LAYERS], largest = 0, all = 0;
    for (uint32_t l = 0; l < c->trace.n_layers; l++) {
        bytes[l] = 3 + moe_rng_below(rng, 8);
        largest = bytes[l] > largest ? bytes[l] : largest;
        all += bytes[l] * c->trace.n_experts;
    }
    uint64_t size = largest + moe_rng_below(rng, all - largest + 1);
    moe_geometry_release(&c->geometry);
    snprintf(c->text, sizeof c->text, "global:%" PRIu64 "B", size);
    c->geometry = geometry(c->text, &c->trace, bytes);
}

START_TEST(every_policy_keeps_the_contract)
{
    struct moe_rng rng;
    struct test_case c;
    struct moe_counts seen = {0};
    moe_rng_init(&rng, 99);
    for (int i = 0; i < N_SPY_CASES; i++) {
        draw_case(&rng, &c, 6, 24);
        if (i % 2)
            use_bytes(&rng, &c);
        const struct variant *v = &variants[(uint32_t)(i / 2) % n_variants];
        struct moe_policy_ops ops;
        struct moe_policy_spec spec = spy_on(&v->spec, &ops);
        struct late_run run = {.trace = &c.trace, .geometry = &c.geometry};
        struct moe_counts first = run_late(&run, &spec, (uint64_t)i);
        struct moe_counts second = run_late(&run, &spec, (uint64_t)i);
        ck_assert_mem_eq(&first, &second, sizeof first);
        if (strcmp(v->text, "paper-lru:hazards=off") == 0)
            ck_assert_uint_eq(first.hazards, 0);
        moe_counts_add(&seen, &first);
        moe_geometry_release(&c.geometry);
    }
    /* the cases reach everything that is counted */
    ck_assert_uint_gt(seen.useless_fills, 100);
    ck_assert_uint_gt(seen.late_fills, 100);
    ck_assert_uint_gt(seen.dropped_fills, 100);
    ck_assert_uint_gt(seen.bypasses, 100);
    ck_assert_uint_gt(seen.hazards, 100);
}
END_TEST

/* --- full capacity, inclusion, seeds -------------------------------------------------------- */

START_TEST(full_capacity_misses_are_compulsory)
{
    struct moe_rng rng;
    struct test_case c;
    moe_rng_init(&rng, 5);
    for (uint32_t i = 0; i < 2000; i++) {
        draw_case(&rng, &c, 6, 24);
        moe_geometry_release(&c.geometry);
        c.geometry = geometry("all", &c.trace, NULL);
        uint64_t different = 0;
        bool seen[MAX_LAYERS * 8] = {false};
        for (uint32_t e = 0; e < c.trace.n_events; e++)
            for (uint32_t a = 0; a < c.trace.event[e].n_tokens * c.trace.top_k; a++) {
                bool *s = &seen[c.trace.event[e].layer * 8 + c.trace.event[e].expert[a]];
                different += !*s;
                *s = true;
            }
        struct run run = {.trace = &c.trace, .geometry = &c.geometry, .access = i % 2, .seed = 1};
        const struct moe_policy_spec *spec = &variants[i / 2 % n_variants].spec;
        struct moe_counts sum = run_trace(&run, spec);
        ck_assert_uint_eq(sum.misses, spec->ops->initial ? 0 : different);
        ck_assert_uint_eq(sum.evictions, 0);
        moe_geometry_release(&c.geometry);
    }
}
END_TEST

/* Hit or miss of every lookup, in order. */
struct hit_log {
    uint8_t hit[MAX_EVENTS * MAX_IDS];
    uint32_t n;
};

static void log_hits(void *ctx, struct moe_cache *cache, const struct moe_route *route)
{
    struct hit_log *log = ctx;
    (void)cache;
    for (uint32_t i = 0; i < route->n; i++)
        log->hit[log->n++] = route->access[i] != MOE_MISS;
}

START_TEST(lru_inclusion)
{
    struct moe_rng rng;
    struct test_case c;
    uint32_t n_event = 0;
    moe_rng_init(&rng, 6);
    for (int i = 0; i < 4000; i++) {
        draw_case(&rng, &c, 6, 24);
        bool access = i % 2, global = moe_rng_below(&rng, 2);
        uint32_t most = global ? c.trace.n_layers * c.trace.n_experts : c.trace.n_experts;
        struct hit_log before = {.n = 0};
        for (uint32_t n = access ? 1 : c.largest_event; n <= most; n++) {
            struct hit_log log = {.n = 0};
            moe_geometry_release(&c.geometry);
            snprintf(c.text, sizeof c.text, global ? "global:%u" : "1x%u", n);
            c.geometry = geometry(c.text, &c.trace, NULL);
            struct run run = {.trace = &c.trace,
                              .geometry = &c.geometry,
                              .access = access,
                              .watch = log_hits,
                              .ctx = &log};
            run_trace(&run, find_variant("lru"));
            for (uint32_t k = 0; k < before.n; k++)
                if (log.hit[k] < before.hit[k])
                    ck_abort_msg("case %d %s lookup %u", i, c.text, k);
            before = log;
            n_event += !access;
        }
        moe_geometry_release(&c.geometry);
    }
    ck_assert_uint_gt(n_event, 4000);
}
END_TEST

START_TEST(random_differs_by_seed_and_pool)
{
    struct moe_rng rng;
    struct test_case c;
    uint32_t n_differ = 0;
    moe_rng_init(&rng, 8);
    for (int i = 0; i < 200; i++) {
        draw_case(&rng, &c, 6, 24);
        struct hit_log a = {.n = 0}, b = {.n = 0};
        struct run run = {.trace = &c.trace,
                          .geometry = &c.geometry,
                          .access = true,
                          .seed = 1,
                          .watch = log_hits,
                          .ctx = &a};
        run_trace(&run, find_variant("random"));
        run.seed = 2;
        run.ctx = &b;
        run_trace(&run, find_variant("random"));
        n_differ += memcmp(&a, &b, sizeof a) != 0;
        moe_geometry_release(&c.geometry);
    }
    ck_assert_uint_gt(n_differ, 20);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, every_policy_keeps_the_contract);
    tcase_add_test(tc, full_capacity_misses_are_compulsory);
    tcase_add_test(tc, lru_inclusion);
    tcase_add_test(tc, random_differs_by_seed_and_pool);
}

int main(void)
{
    return run_policy_tests("policy_properties", add);
}
