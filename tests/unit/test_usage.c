/* Busy intervals become times by set of busy lanes, and these become times by cause; all exact. */
#include "base/rng.h"
#include "policies/usage.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    GPU = 1 << MOE_LANE_GPU,
    CPU = 1 << MOE_LANE_CPU,
    H2D = 1 << MOE_LANE_H2D,
    DOWN = 1 << MOE_LANE_DOWN,
    UP = 1 << MOE_LANE_UP,
    N_MASKS = 1 << MOE_N_LANES
};

static void expect(const struct moe_usage *usage, unsigned mask, uint64_t ns)
{
    ck_assert_msg(usage->busy_ns[mask] == ns, "mask %u: %llu ns, not %llu", mask,
                  (unsigned long long)usage->busy_ns[mask], (unsigned long long)ns);
}

START_TEST(no_interval_is_all_host)
{
    struct moe_usage usage = {0};
    moe_usage_add_intervals(&usage, NULL, 0, 100, 130);
    expect(&usage, 0, 30);
    ck_assert_uint_eq(moe_usage_ns(&usage), 30);
}
END_TEST

START_TEST(no_time_adds_nothing)
{
    struct moe_usage usage = {0};
    struct moe_interval busy[] = {{MOE_LANE_GPU, 0, 50}};
    moe_usage_add_intervals(&usage, busy, 1, 20, 20);
    moe_usage_add_intervals(&usage, busy, 1, 30, 20);
    ck_assert_uint_eq(moe_usage_ns(&usage), 0);
}
END_TEST

/* 100 GPU 110 GPU+CPU 130 CPU 140 nothing 150 H2D 155 H2D+UP 160 UP 165 nothing 170 */
START_TEST(a_step_by_hand)
{
    struct moe_usage usage = {0};
    struct moe_interval busy[] = {{MOE_LANE_UP, 155, 165},
                                  {MOE_LANE_H2D, 150, 160},
                                  {MOE_LANE_CPU, 110, 140},
                                  {MOE_LANE_GPU, 100, 130}};
    moe_usage_add_intervals(&usage, busy, 4, 100, 170);
    expect(&usage, GPU, 10);
    expect(&usage, GPU | CPU, 20);
    expect(&usage, CPU, 10);
    expect(&usage, 0, 15);
    expect(&usage, H2D, 5);
    expect(&usage, H2D | UP, 5);
    expect(&usage, UP, 5);
    ck_assert_uint_eq(moe_usage_ns(&usage), 70);
    ck_assert_uint_eq(moe_usage_lane_ns(&usage, MOE_LANE_GPU), 30);
    ck_assert_uint_eq(moe_usage_lane_ns(&usage, MOE_LANE_CPU), 30);
    ck_assert_uint_eq(moe_usage_lane_ns(&usage, MOE_LANE_H2D), 10);
    ck_assert_uint_eq(moe_usage_lane_ns(&usage, MOE_LANE_UP), 10);
}
END_TEST

START_TEST(what_lies_outside_is_cut_off)
{
    struct moe_usage usage = {0};
    struct moe_interval busy[] = {{MOE_LANE_GPU, 0, 99},    {MOE_LANE_GPU, 50, 105},
                                  {MOE_LANE_H2D, 115, 900}, {MOE_LANE_CPU, 120, 130},
                                  {MOE_LANE_CPU, 500, 600}, {MOE_LANE_UP, 108, 103}};
    moe_usage_add_intervals(&usage, busy, 6, 100, 120);
    expect(&usage, GPU, 5);
    expect(&usage, 0, 10);
    expect(&usage, H2D, 5);
    ck_assert_uint_eq(moe_usage_ns(&usage), 20);
}
END_TEST

/* Two copy streams: 10..30, 20..40, and 22..25 inside both; 40..45 follows at once. */
START_TEST(intervals_of_one_lane_are_united)
{
    struct moe_usage usage = {0};
    struct moe_interval busy[] = {{MOE_LANE_H2D, 40, 45},
                                  {MOE_LANE_H2D, 22, 25},
                                  {MOE_LANE_H2D, 20, 40},
                                  {MOE_LANE_H2D, 10, 30}};
    moe_usage_add_intervals(&usage, busy, 4, 0, 50);
    expect(&usage, H2D, 35);
    expect(&usage, 0, 15);
}
END_TEST

START_TEST(steps_add_up)
{
    struct moe_usage usage = {.cpu_experts = 3};
    struct moe_interval first[] = {{MOE_LANE_GPU, 0, 15}}, second[] = {{MOE_LANE_GPU, 5, 15}};
    moe_usage_add_intervals(&usage, first, 1, 0, 10);
    moe_usage_add_intervals(&usage, second, 1, 10, 20);
    expect(&usage, GPU, 15);
    expect(&usage, 0, 5);
    ck_assert_uint_eq(usage.cpu_experts, 3);
}
END_TEST

/* Which lanes are busy in [t, t + 1), looked up in every interval. */
static unsigned mask_at(const struct moe_interval *busy, size_t n, uint64_t t)
{
    unsigned mask = 0;
    for (size_t i = 0; i < n; i++)
        if (busy[i].start_ns <= t && t < busy[i].end_ns)
            mask |= 1u << busy[i].lane;
    return mask;
}

START_TEST(random_intervals_equal_a_count_of_every_ns)
{
    enum { N = 24, SPAN = 80 };
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int trial = 0; trial < 2000; trial++) {
        struct moe_interval busy[N];
        struct moe_usage usage = {0}, counted = {0};
        size_t n = moe_rng_below(&rng, N + 1);
        for (size_t i = 0; i < n; i++)
            busy[i] = (struct moe_interval){(enum moe_lane)moe_rng_below(&rng, MOE_N_LANES),
                                            moe_rng_below(&rng, SPAN), moe_rng_below(&rng, SPAN)};
        uint64_t start = moe_rng_below(&rng, SPAN), end = start + moe_rng_below(&rng, SPAN);
        for (uint64_t t = start; t < end; t++)
            counted.busy_ns[mask_at(busy, n, t)]++;
        moe_usage_add_intervals(&usage, busy, n, start, end);
        for (unsigned mask = 0; mask < N_MASKS; mask++)
            expect(&usage, mask, counted.busy_ns[mask]);
    }
}
END_TEST

START_TEST(every_set_of_lanes_has_one_cause)
{
    for (unsigned mask = 0; mask < N_MASKS; mask++) {
        struct moe_usage usage = {0};
        struct moe_time_by_cause c;
        usage.busy_ns[mask] = 7;
        moe_usage_causes(&usage, &c);
        bool gpu = mask & GPU, cpu = mask & CPU, state = mask & (DOWN | UP), none = !gpu && !cpu;
        ck_assert_uint_eq(c.both_ns, gpu && cpu ? 7 : 0);
        ck_assert_uint_eq(c.gpu_ns, gpu && !cpu ? 7 : 0);
        ck_assert_uint_eq(c.cpu_ns, cpu && !gpu ? 7 : 0);
        ck_assert_uint_eq(c.state_ns, none && state ? 7 : 0);
        ck_assert_uint_eq(c.copy_wait_ns, mask == H2D ? 7 : 0);
        ck_assert_uint_eq(c.host_ns, mask == 0 ? 7 : 0);
    }
}
END_TEST

START_TEST(host_time_inside_the_gpus_is_taken_out)
{
    struct moe_usage usage = {.host_ns = 30};
    struct moe_time_by_cause c;
    usage.busy_ns[GPU] = 100;
    usage.busy_ns[GPU | CPU] = 50;
    usage.busy_ns[0] = 4;
    moe_usage_causes(&usage, &c);
    ck_assert_uint_eq(c.gpu_ns, 70);
    ck_assert_uint_eq(c.both_ns, 50);
    ck_assert_uint_eq(c.host_ns, 34);
    ck_assert_uint_eq(moe_usage_lane_ns(&usage, MOE_LANE_GPU), 120);
    ck_assert_uint_eq(moe_usage_ns(&usage), 154);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("usage");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, no_interval_is_all_host);
    tcase_add_test(tcase, no_time_adds_nothing);
    tcase_add_test(tcase, a_step_by_hand);
    tcase_add_test(tcase, what_lies_outside_is_cut_off);
    tcase_add_test(tcase, intervals_of_one_lane_are_united);
    tcase_add_test(tcase, steps_add_up);
    tcase_add_test(tcase, random_intervals_equal_a_count_of_every_ns);
    tcase_add_test(tcase, every_set_of_lanes_has_one_cause);
    tcase_add_test(tcase, host_time_inside_the_gpus_is_taken_out);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
