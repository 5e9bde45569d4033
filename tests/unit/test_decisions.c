/* Replay and timed simulation, which share cache, planner and admission, decide alike. If copies
 * take next to no time, their counters are equal; otherwise their look-ups still are. */
#include "sim/replay.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

enum { N_WORLDS = 400 };

/* A copy lands in 1 ns, which is over before the next layer's attention is (408 ns at least). */
static void make_copies_instant(struct moe_platform *p)
{
    p->link.h2d_pinned_gb_per_s = p->link.h2d_pageable_gb_per_s = 1e6;
    p->link.copy_setup_us = 0;
    p->dram.read_gb_per_s = 1e9; /* or copies would wait for their share of it */
}

static struct moe_counts simulated(const struct world *w, struct moe_counts *prefill)
{
    struct moe_result r;
    struct moe_err err = {0};
    if (try(w, &r, &err))
        ck_abort_msg("%s", err.text);
    if (prefill)
        *prefill = r.prefill;
    return r.decode;
}

/* Of the phases that the strategy lets its cache see. */
static struct moe_counts replayed(const struct world *w, struct moe_counts *prefill)
{
    const struct moe_strategy *strategy = &w->strategy;
    const struct moe_trace_info *info = &w->trace.info;
    struct moe_replay_options options = {
        .contract = MOE_CONTRACT_EVENT,
        .phases = moe_strategy_caches_prompts(strategy) ? MOE_PHASES_BOTH : MOE_PHASES_DECODE,
        .seed = strategy->seed,
        .admission = &strategy->admission};
    struct moe_geometry geometry;
    struct moe_replay_result r;
    struct moe_err err = {0};
    if (moe_geometry_parse(strategy->geometry, info->n_layers, info->n_experts, NULL, &geometry,
                           &err) ||
        moe_replay(&w->trace, &geometry, &strategy->policy, &options, &r, &err))
        ck_abort_msg("%s", err.text);
    struct moe_counts decode = {0};
    for (uint32_t l = 0; l < info->n_layers; l++)
        if (geometry.pool_of_layer[l] >= 0)
            moe_counts_add(&decode, &r.layer[MOE_DECODE][l]);
    if (prefill)
        *prefill = r.total[MOE_PREFILL];
    moe_replay_release(&r);
    moe_geometry_release(&geometry);
    return decode;
}

static void expect_same(int world, const char *what, uint64_t sim, uint64_t replay)
{
    ck_assert_msg(sim == replay, "world %d: %llu %s simulated, %llu replayed", world,
                  (unsigned long long)sim, what, (unsigned long long)replay);
}

static void expect_same_counts(int world, const struct moe_counts *sim,
                               const struct moe_counts *replay)
{
    expect_same(world, "events", sim->events, replay->events);
    expect_same(world, "any-hit events", sim->any_hit_events, replay->any_hit_events);
    expect_same(world, "all-hit events", sim->all_hit_events, replay->all_hit_events);
    expect_same(world, "lookups", sim->lookups, replay->lookups);
    expect_same(world, "hits", sim->hits, replay->hits);
    expect_same(world, "hits in flight", sim->inflight_hits, replay->inflight_hits);
    expect_same(world, "misses", sim->misses, replay->misses);
    expect_same(world, "fills", sim->fills, replay->fills);
    expect_same(world, "evictions", sim->evictions, replay->evictions);
    expect_same(world, "useless fills", sim->useless_fills, replay->useless_fills);
    expect_same(world, "dropped fills", sim->dropped_fills, replay->dropped_fills);
    expect_same(world, "bypasses", sim->bypasses, replay->bypasses);
    expect_same(world, "hazards", sim->hazards, replay->hazards);
}

/* Worlds in which decisions matter: some hits, some fills, some evictions. */
static bool is_telling(const struct moe_counts *c)
{
    return c->hits > 0 && c->misses > 0 && c->fills > 0 && c->evictions > 0;
}

START_TEST(instant_copies_count_as_replay_does)
{
    struct moe_rng rng;
    uint32_t n_telling = 0, n_prefill = 0;
    moe_rng_init(&rng, 16);
    for (int i = 0; i < N_WORLDS; i++) {
        struct world w = random_world(&rng);
        struct moe_counts sim_prefill, replay_prefill;
        set_key(&w.strategy, "prefetcher", "none"); /* a replay knows no prefetchers */
        make_copies_instant(&w.platform);
        struct moe_counts sim = simulated(&w, &sim_prefill);
        struct moe_counts replay = replayed(&w, &replay_prefill);
        expect_same_counts(i, &sim, &replay);
        expect_same_counts(i, &sim_prefill, &replay_prefill);
        n_telling += is_telling(&sim);
        n_prefill += sim_prefill.lookups > 0;
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_gt(n_telling, N_WORLDS / 4);
    ck_assert_uint_gt(n_prefill, N_WORLDS / 20);
}
END_TEST

static void expect_sums(int world, const struct moe_counts *c)
{
    ck_assert_msg(c->hits + c->inflight_hits + c->misses == c->lookups,
                  "world %d: lookups are more or less than their kinds", world);
    ck_assert_msg(c->all_hit_events <= c->any_hit_events && c->any_hit_events <= c->events,
                  "world %d: events", world);
}

START_TEST(any_link_sees_the_same_lookups)
{
    struct moe_rng rng;
    uint32_t n_in_flight = 0;
    moe_rng_init(&rng, 17);
    for (int i = 0; i < N_WORLDS; i++) {
        struct world w = random_world(&rng); /* with prefetchers */
        struct moe_counts replay = replayed(&w, NULL);
        make_copies_instant(&w.platform);
        struct moe_counts fast = simulated(&w, NULL);
        w.platform.link.h2d_pinned_gb_per_s = w.platform.link.h2d_pageable_gb_per_s = .5;
        struct moe_counts slow = simulated(&w, NULL);
        expect_sums(i, &fast);
        expect_sums(i, &slow);
        expect_same(i, "lookups", fast.lookups, replay.lookups);
        expect_same(i, "lookups", slow.lookups, replay.lookups);
        expect_same(i, "events", fast.events, replay.events);
        expect_same(i, "events", slow.events, replay.events);
        n_in_flight += slow.inflight_hits > 0;
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_gt(n_in_flight, N_WORLDS / 10);
}
END_TEST

START_TEST(scores_are_asked_for)
{
    static const moe_expert experts[] = {0, 1, 2, 3};
    struct world w = world_of("collab", "2x2", 1, experts);
    struct moe_result r;
    struct moe_err err;
    set_key(&w.strategy, "policy", "hybrimoe-mrs");
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "policy 'hybrimoe-mrs' needs router scores, which the trace does not have");
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decisions");
    TCase *tc = tcase_create("decisions");
    tcase_add_test(tc, scores_are_asked_for);
    tcase_add_test(tc, instant_copies_count_as_replay_does);
    tcase_add_test(tc, any_link_sees_the_same_lookups);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
