/* The bound of a run's own decisions (policies/path.h, sim/bound.h), worked out by hand; no
 * simulated schedule beats it. */
#include "sim/bound.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

#include <math.h>

static const moe_expert same[] = {0, 1, 2, 3, 0, 1, 2, 3};

static struct moe_result bounded(struct world *w)
{
    struct moe_result r;
    struct moe_err err = {0};
    struct moe_sim_input in = {.trace = &w->trace,
                               .model = &w->model,
                               .platform = &w->platform,
                               .strategy = &w->strategy,
                               .bound = true};
    if (moe_simulate(&in, &r, &err))
        ck_abort_msg("%s", err.text);
    moe_trace_release(&w->trace);
    ck_assert_double_eq_tol(r.schedule_bound_share, r.schedule_bound_ms / r.ms_mean, 1e-12);
    return r;
}

static void check_ns(const struct moe_result *r, double ns)
{
    ck_assert_double_eq_tol(r->schedule_bound_ms * (double)r->decode_tokens * 1e6, ns, 1e-3);
}

/* Durations: sim_case.h. A layer: dense, and the CPU's experts between their vectors' ways. */
START_TEST(cpu_only)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    struct moe_result r = bounded(&w);
    check_ns(&r, 2 * (10410 + 3000 + 2 * 30000 + 4000) + 22000);
    ck_assert_double_eq_tol(r.schedule_bound_share, 1, 1e-12); /* there is nothing to overlap */
}
END_TEST

/* Both copies, and one expert behind the last of them. */
START_TEST(on_demand)
{
    struct world w = world_of("on-demand", "none", 1, same);
    struct moe_result r = bounded(&w);
    check_ns(&r, 2 * (10410 + 2 * 61000 + 7000) + 22000);
    ck_assert_double_eq_tol(r.schedule_bound_share, 1, 1e-12);
}
END_TEST

/* From pageable memory they take twice as long. */
START_TEST(on_demand_pageable)
{
    struct world w = world_of("on-demand", "none", 1, same);
    set_key(&w.strategy, "fill.memory", "pageable");
    struct moe_result r = bounded(&w);
    check_ns(&r, 2 * (10410 + 2 * 121000 + 7000) + 22000);
}
END_TEST

/* Token 1 finds layer 0 on the GPU; that it has to wait for a copy there is no part of the bound.
 */
START_TEST(hits)
{
    struct world w = world_of("collab", "1x2", 2, same);
    struct moe_result r = bounded(&w);
    const double on_cpu = 3000 + 2 * 30000 + 4000;
    check_ns(&r, 2 * (10410 + on_cpu) + 22000 + 10412 + 2 * 7000 + 10412 + on_cpu + 22000);
    ck_assert_double_lt(r.schedule_bound_share, 1);
}
END_TEST

/* A hit beside a miss: the longer of the two. */
START_TEST(hit_beside_miss)
{
    static const moe_expert experts[] = {0, 1, 2, 3, 0, 2, 2, 3};
    for (int slow_gpu = 0; slow_gpu < 2; slow_gpu++) {
        struct world w = world_of("collab", "1x2", 2, experts);
        if (slow_gpu)
            w.platform.gpu.expert_launch_us = 51; /* an expert there takes 57000 */
        struct moe_result r = bounded(&w);
        const double on_cpu = 3000 + 2 * 30000 + 4000;
        check_ns(&r, 2 * (10410 + on_cpu) + 22000 + 10412 + (slow_gpu ? 57000 : 37000) + 10412 +
                         on_cpu + 22000);
    }
}
END_TEST

/* Slow memory: four experts read by the CPU. */
START_TEST(memory_bandwidth)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    w.platform.dram.read_gb_per_s = 10;
    struct moe_result r = bounded(&w);
    check_ns(&r, 4 * 60000);
}
END_TEST

/* The sums of the link, from a result written by hand: of five copies one may have begun in the
 * prompt. */
START_TEST(link)
{
    struct world w = world_of("cpu-only", "none", 2, same);
    struct moe_costs costs;
    w.trace.tokens.phase[0] = MOE_PREFILL;
    moe_costs_init(&costs, &w.model, &w.platform, 4);
    struct moe_result r = {
        .prefill_tokens = 1, .decode_tokens = 1, .h2d_bytes = 5 * 600000, .path_ns = 200000};
    ck_assert_uint_eq(moe_bound_schedule_ns(&w.trace, &costs, &r), 4 * 61000);
    r.h2d_bytes = 600000;
    ck_assert_uint_eq(moe_bound_schedule_ns(&w.trace, &costs, &r), 200000);
    r.h2d_bytes = 0;
    ck_assert_uint_eq(moe_bound_schedule_ns(&w.trace, &costs, &r), 200000);
    r.cpu_experts = 35; /* 35 x 600000 bytes at 100 GB/s */
    ck_assert_uint_eq(moe_bound_schedule_ns(&w.trace, &costs, &r), 210000);
    moe_trace_release(&w.trace);
}
END_TEST

/* Not asked for: not there. */
START_TEST(without)
{
    struct world w = world_of("collab", "1x2", 2, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.path_ns, 0);
    ck_assert(isnan(r.schedule_bound_ms) && isnan(r.schedule_bound_share));
}
END_TEST

/* Never beaten, never below what the future's knowledge could do, and often reached. */
START_TEST(never_beaten)
{
    enum { N = 2000 };
    struct moe_rng rng;
    int near = 0;
    moe_rng_init(&rng, 23);
    for (int i = 0; i < N; i++) {
        struct world w = random_world(&rng);
        struct moe_result r = bounded(&w);
        ck_assert_msg(r.schedule_bound_share > 0 && r.schedule_bound_share <= 1 + 1e-9,
                      "case %d: share of the schedule's bound is %.9f", i, r.schedule_bound_share);
        ck_assert_msg(r.bound_share <= 1 + 1e-9, "case %d: share of the bound is %.9f", i,
                      r.bound_share);
        near += r.schedule_bound_share > 0.95;
    }
    ck_assert_int_gt(near, N / 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("path");
    TCase *tests = tcase_create("path");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, cpu_only);
    tcase_add_test(tests, on_demand);
    tcase_add_test(tests, on_demand_pageable);
    tcase_add_test(tests, hits);
    tcase_add_test(tests, hit_beside_miss);
    tcase_add_test(tests, memory_bandwidth);
    tcase_add_test(tests, link);
    tcase_add_test(tests, without);
    tcase_add_test(tests, never_beaten);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
