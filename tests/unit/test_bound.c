/* The bound against cases solved by hand, and its optimum against a search over all splits. */
#include "base/rng.h"
#include "sim/bound.h"
#include "sim_case.h"
#include "tests/unit/run_suite.h"

#include <math.h>

static struct moe_model model;
static struct moe_platform platform;
static struct moe_costs costs; /* c 30000, g 7000, k 61000, b 600000 */

static void tiny(double dram_gb_per_s)
{
    model = tiny_model(2, 4, 2);
    platform = tiny_platform();
    platform.dram.read_gb_per_s = dram_gb_per_s;
    moe_costs_init(&costs, &model, &platform, 4);
}

static uint64_t bound_of(uint64_t dense, uint64_t uses, uint64_t hits)
{
    struct moe_bound_case bound = {
        .costs = &costs, .dense_ns = dense, .uses = uses, .max_hits = hits};
    return moe_bound_ns(&bound);
}

START_TEST(by_hand)
{
    tiny(1000);
    ck_assert_uint_eq(bound_of(12345, 0, 0), 12345);
    /* no hits: (T - 100000) / 30000 + T / 61000 = 10 */
    ck_assert_uint_eq(bound_of(100000, 10, 0), 268132);
    /* no limit on hits: both pools at once, T - D = 10 / (1 / 30000 + 1 / 7000) = 56756.76 */
    ck_assert_uint_eq(bound_of(100000, 10, 10), 156757);
    /* four hits: (T - D) / 30000 + T / 61000 = 6, T = (6 + 100000 / 30000) / (1 / 30000 + 1 /
     * 61000) */
    ck_assert_uint_eq(bound_of(100000, 10, 4),
                      (uint64_t)ceil((6 + 100000. / 30000) / (1. / 30000 + 1. / 61000)));
}
END_TEST

START_TEST(dram_bounds_cpu_and_copies)
{
    tiny(12);
    ck_assert_uint_eq(bound_of(100000, 10, 0), 10 * 600000 / 12);
    ck_assert_uint_eq(bound_of(100000, 10, 4), 6 * 600000 / 12);
}
END_TEST

START_TEST(faster_memory_counts)
{
    tiny(1000);
    platform.link.h2d_pageable_gb_per_s = 100; /* 7000 a copy: as fast as the GPU computes */
    moe_costs_init(&costs, &model, &platform, 4);
    ck_assert_uint_eq(bound_of(100000, 10, 0), 156757);
}
END_TEST

/* Time of the best split in whole uses; the linear program may only be lower. */
static double best_split(uint64_t dense, uint64_t uses, uint64_t hits, double *slack)
{
    double best = INFINITY, c = (double)costs.cpu_expert_ns, g = (double)costs.gpu_expert_ns;
    double k = (double)costs.copy_ns[0], b = (double)costs.expert_bytes;
    for (uint64_t x = 0; x <= uses; x++)
        for (uint64_t y = 0; y <= hits && x + y <= uses; y++) {
            double z = (double)(uses - x - y);
            double t = (double)dense + fmax(c * (double)x, g * ((double)y + z));
            t = fmax(t, fmax(k * z, b * ((double)x + z) / platform.dram.read_gb_per_s));
            best = fmin(best, t);
        }
    *slack = c + g + k + b / platform.dram.read_gb_per_s; /* less than one use of each kind */
    return best;
}

START_TEST(is_the_optimum)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (int i = 0; i < 2000; i++) {
        tiny(5 + 200 * moe_rng_unit(&rng));
        platform.cpu.point[0].ms = 0.001 + 0.1 * moe_rng_unit(&rng);
        platform.link.h2d_pinned_gb_per_s = 6 + 100 * moe_rng_unit(&rng);
        platform.gpu.read_gb_per_s = 10 + 200 * moe_rng_unit(&rng);
        moe_costs_init(&costs, &model, &platform, 4);
        uint64_t dense = moe_rng_below(&rng, 1000000), uses = moe_rng_below(&rng, 40);
        uint64_t hits = moe_rng_below(&rng, 40);
        double slack, best = best_split(dense, uses, hits, &slack);
        double bound = (double)bound_of(dense, uses, hits);
        ck_assert_double_le(bound, best + 1);
        ck_assert_double_ge(bound, best - slack);
    }
}
END_TEST

/* One layer, two slots, uses 0 1 | 2 3 | 0 1 | 2 0: two experts can stay, so 0 and 1 hit in step 2;
 * then 0 hits again. Nothing else: 2's first use after step 1 would need a third slot until then.
 */
START_TEST(hits_are_belady)
{
    static const moe_expert experts[] = {0, 1, 2, 3, 0, 1, 2, 0};
    struct moe_trace trace = tiny_trace(1, 4, 2, 4, experts);
    uint64_t hits;
    ck_assert_int_eq(moe_bound_hits(&trace, 4, 2, &hits, NULL), MOE_OK);
    ck_assert_uint_eq(hits, 3);
    ck_assert_int_eq(moe_bound_hits(&trace, 4, 3, &hits, NULL), MOE_OK);
    ck_assert_uint_eq(hits, 4);
    ck_assert_int_eq(moe_bound_hits(&trace, 3, 2, &hits, NULL), MOE_OK);
    ck_assert_uint_eq(hits, 2);
    ck_assert_int_eq(moe_bound_hits(&trace, 4, 0, &hits, NULL), MOE_OK);
    ck_assert_uint_eq(hits, 0);
    /* With a prompt in front, its two slots may be filled before decode starts. */
    trace.tokens.phase[0] = MOE_PREFILL;
    ck_assert_int_eq(moe_bound_hits(&trace, 4, 2, &hits, NULL), MOE_OK);
    ck_assert_uint_eq(hits, 2 + 2); /* 2 (or 0) twice within decode, and the prompt's two */
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bound");
    TCase *tests = tcase_create("bound");
    tcase_add_test(tests, by_hand);
    tcase_add_test(tests, dram_bounds_cpu_and_copies);
    tcase_add_test(tests, faster_memory_counts);
    tcase_add_test(tests, is_the_optimum);
    tcase_add_test(tests, hits_are_belady);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
