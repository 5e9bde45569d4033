/* Placement of a prompt's experts: hand-sized cases, and the promise that no layer ends later than
 * with all experts on one side. */
#include "policies/place.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

enum { MAX_JOBS = 12 };

/* "index+side" in queue order: 'g' streamed, 'r' resident, 'c' CPU. */
static void check(const struct moe_place_job *given, uint32_t n, uint64_t down, uint64_t up,
                  const char *want, uint64_t want_end)
{
    struct moe_place_job jobs[MAX_JOBS];
    char got[2 * MAX_JOBS + 1] = "";
    memcpy(jobs, given, n * sizeof *jobs);
    uint64_t end = moe_place_experts(jobs, n, down, up);
    for (uint32_t i = 0; i < n; i++) {
        got[2 * i] = (char)('0' + jobs[i].index);
        got[2 * i + 1] = jobs[i].resident ? 'r' : jobs[i].on_gpu ? 'g' : 'c';
        ck_assert(!jobs[i].resident || jobs[i].on_gpu);
    }
    ck_assert_str_eq(got, want);
    ck_assert_uint_eq(end, want_end);
}

#define JOB(i, t, cpu, copy, gpu)                                                                  \
    {                                                                                              \
        .index = (i), .tokens = (t), .cpu_ns = (cpu), .copy_ns = (copy), .gpu_ns = (gpu)           \
    }
#define RESIDENT(i, t, cpu, copy, gpu)                                                             \
    {                                                                                              \
        .index = (i), .tokens = (t), .resident = true, .cpu_ns = (cpu), .copy_ns = (copy),         \
        .gpu_ns = (gpu)                                                                            \
    }

START_TEST(by_hand)
{
    /* copy 10, GPU 4. 1 ends at 14 on the GPU, 30 on the CPU. 2: GPU 20 + 4 = 24, CPU 20. 0: GPU
     * 24, CPU 20 + 10 = 30: 0 is copied from 10 to 20. */
    static const struct moe_place_job three[] = {JOB(0, 1, 10, 10, 4), JOB(1, 3, 30, 10, 4),
                                                 JOB(2, 2, 20, 10, 4)};
    check(three, 3, 0, 0, "1g2c0g", 24);
    /* 5 down, 2 up. 2: CPU 5 + 20 + 2 = 27 after GPU 24. 0: GPU 34, CPU 5 + 10 + 2 = 17. */
    check(three, 3, 5, 2, "1g2g0c", 24);
    /* equal ends go to the CPU: 14 and 9 + 5 */
    static const struct moe_place_job equal[] = {JOB(0, 1, 9, 10, 4)};
    check(equal, 1, 2, 3, "0c", 14);
    check(equal, 1, 2, 4, "0g", 14);
    /* a resident expert goes first and to the GPU, slow as it is; the copy runs beside: 0 waits for
     * the GPU until 50, so the CPU with 40 + 1 is earlier; 2: the CPU ends at 45 + 1 */
    static const struct moe_place_job busy[] = {JOB(0, 9, 40, 10, 4), RESIDENT(1, 1, 1, 10, 50),
                                                JOB(2, 1, 5, 10, 4)};
    check(busy, 3, 0, 1, "1r0c2c", 50);
    /* and where it is short the copy hides it: 0 on the GPU at 10 + 4 */
    static const struct moe_place_job quick[] = {JOB(0, 9, 40, 10, 4), RESIDENT(1, 1, 1, 10, 6)};
    check(quick, 2, 0, 1, "1r0g", 14);
    /* several residents by tokens, then by place */
    static const struct moe_place_job residents[] = {
        RESIDENT(0, 1, 1, 1, 2), RESIDENT(1, 4, 1, 1, 3), RESIDENT(2, 1, 1, 1, 2)};
    check(residents, 3, 9, 9, "1r0r2r", 7);
    check(residents, 0, 9, 9, "", 0);
}
END_TEST

/* However many there are, they go by tokens, of equals by place, in whatever order they come. */
START_TEST(any_number_in_order)
{
    enum { MOST = 40 };
    struct moe_place_job jobs[MOST];
    for (uint32_t n = 1; n <= MOST; n++) {
        for (uint32_t i = 0, last = n - 1; i < n; i++)
            jobs[i] = (struct moe_place_job)JOB(last - i, 1 + (last - i) * 5 % 3, 20, 10, 4);
        moe_place_experts(jobs, n, 0, 0);
        for (uint32_t i = 1; i < n; i++)
            ck_assert(jobs[i - 1].tokens > jobs[i].tokens ||
                      (jobs[i - 1].tokens == jobs[i].tokens && jobs[i - 1].index < jobs[i].index));
    }
}
END_TEST

static struct moe_place_job placed(struct moe_place_job job, uint64_t end)
{
    ck_assert_uint_eq(moe_place_experts(&job, 1, 1, 2), end);
    return job;
}

/* In decode: a copy on its way, a link that is busy, a side that is given. 1 down, 2 up. */
START_TEST(one_expert_and_the_link)
{
    struct moe_place_job flight = RESIDENT(0, 1, 7, 10, 4), missed = JOB(0, 1, 17, 10, 4);
    flight.link_ns = 5; /* GPU 5 + 4, CPU 1 + 7 + 2 */
    ck_assert(placed(flight, 9).on_gpu);
    flight.link_ns = 6; /* equal: to the CPU */
    ck_assert(!placed(flight, 10).on_gpu);
    flight.side = MOE_SIDE_GPU;
    flight.link_ns = 60;
    ck_assert(placed(flight, 64).on_gpu);
    flight.side = MOE_SIDE_CPU;
    flight.link_ns = 1;
    ck_assert(!placed(flight, 10).on_gpu);
    missed.link_ns = 5; /* GPU 5 + 10 + 4, CPU 1 + 17 + 2 */
    ck_assert(placed(missed, 19).on_gpu);
    missed.link_ns = 6;
    ck_assert(!placed(missed, 20).on_gpu);
    missed.side = MOE_SIDE_GPU;
    ck_assert(placed(missed, 20).on_gpu);
    missed.side = MOE_SIDE_CPU;
    missed.link_ns = 0;
    ck_assert(!placed(missed, 20).on_gpu);
}
END_TEST

/* What lands sooner is computed first; a copy on its way takes no time of the link any more. */
START_TEST(flights_in_order)
{
    struct moe_place_job jobs[] = {RESIDENT(0, 9, 99, 10, 4), RESIDENT(1, 1, 99, 10, 4),
                                   JOB(2, 1, 99, 10, 4), RESIDENT(3, 1, 99, 10, 4)};
    jobs[0].link_ns = 8;                  /* 8 + 4 */
    jobs[1].link_ns = 3;                  /* 3: the GPU is busy until 4, then 8 */
    check(jobs, 4, 0, 0, "3r1r0r2g", 16); /* 2: copied until 10, the GPU is free at 12 */
    jobs[2].link_ns = 9;
    check(jobs, 4, 0, 0, "3r1r0r2g", 23); /* copied from 9 to 19 */
}
END_TEST

/* All jobs on one side, in the same order. */
static uint64_t one_side(const struct moe_place_job *given, uint32_t n, bool gpu, uint64_t down,
                         uint64_t up)
{
    struct moe_place_job jobs[MAX_JOBS];
    memcpy(jobs, given, n * sizeof *jobs);
    for (uint32_t i = 0; i < n && !jobs[i].resident; i++) {
        if (gpu)
            jobs[i].cpu_ns = UINT32_MAX;
        else
            jobs[i].copy_ns = UINT32_MAX;
    }
    return moe_place_experts(jobs, n, down, up);
}

START_TEST(never_later_than_one_side)
{
    struct moe_rng rng;
    uint32_t n_both = 0;
    moe_rng_init(&rng, 4);
    for (int i = 0; i < 100000; i++) {
        struct moe_place_job jobs[MAX_JOBS];
        uint32_t n = 1 + (uint32_t)moe_rng_below(&rng, MAX_JOBS), n_gpu = 0;
        uint64_t copy = moe_rng_below(&rng, 50), down = moe_rng_below(&rng, 9),
                 up = moe_rng_below(&rng, 9), per_token = 1 + moe_rng_below(&rng, 9);
        for (uint32_t k = 0; k < n; k++) {
            uint32_t tokens = 1 + (uint32_t)moe_rng_below(&rng, 20);
            jobs[k] = (struct moe_place_job)JOB(k, tokens, 5 + tokens * per_token, copy, tokens);
        }
        uint64_t cpu = one_side(jobs, n, false, down, up), gpu = one_side(jobs, n, true, down, up);
        uint64_t end = moe_place_experts(jobs, n, down, up);
        for (uint32_t k = 0; k < n; k++)
            n_gpu += jobs[k].on_gpu;
        n_both += n_gpu > 0 && n_gpu < n;
        if (end > cpu || end > gpu)
            ck_abort_msg("case %d: %llu, CPU %llu, GPU %llu", i, (unsigned long long)end,
                         (unsigned long long)cpu, (unsigned long long)gpu);
    }
    ck_assert_uint_gt(n_both, 50000);
}
END_TEST

/* The costs of a plan's experts: with 20 GB/s and 4 x 10 GFLOP/s on the CPU, 10 GB/s of link and
 * 100 GB/s and 1 TFLOP/s of GPU, an expert of 600000 bytes and 300000 weights. */
START_TEST(costs_of_a_plan)
{
    static struct moe_model model = {.n_layers = 1,
                                     .n_experts = 4,
                                     .top_k = 2,
                                     .d_model = 100,
                                     .d_ffn = 1000,
                                     .expert_weight_bits = 16,
                                     .dense_weight_bits = 16,
                                     .kv_bits = 16};
    static struct moe_platform platform = {
        .link = {.h2d_pinned_gb_per_s = 10,
                 .h2d_pageable_gb_per_s = 5,
                 .copy_setup_us = 1,
                 .state_down_us = 3,
                 .state_up_us = 4},
        .cpu = {.cores = 4, .gflops_per_core = 10, .n_points = 1, .point = {{4, 600000, 0.03}}},
        .gpu = {.memory_bytes = 1 << 30, .read_gb_per_s = 100, .tflops = 1, .expert_launch_us = 1}};
    static const uint32_t tokens[] = {3, 8, 1};
    static uint8_t access[] = {MOE_MISS, MOE_MISS, MOE_HIT_IN_FLIGHT};
    struct moe_plan plan = {.route = {.n = 3, .access = access}, .tokens = tokens};
    struct moe_place_job jobs[3];
    struct moe_costs costs;
    moe_costs_init(&costs, &model, &platform, 4);
    /* down 3000 + 220 for 11 further tokens, up 4000 + 220. Pageable: 1 ends at 121000 + 7000 on
     * the GPU, at 127440 on the CPU; 0 at 128000 on the GPU, at 172440 on the CPU */
    ck_assert_uint_eq(moe_place_plan(&plan, &costs, 12, true, jobs), 128000);
    ck_assert(jobs[0].index == 2 && jobs[0].resident && jobs[0].on_gpu);
    ck_assert(jobs[1].index == 1 && !jobs[1].resident && !jobs[1].on_gpu);
    ck_assert(jobs[2].index == 0 && jobs[2].on_gpu);
    ck_assert_uint_eq(jobs[1].cpu_ns, 120000); /* 8 * 600000 flops at 40 a ns */
    ck_assert_uint_eq(jobs[1].copy_ns, 121000);
    ck_assert_uint_eq(jobs[1].gpu_ns, 7000);
    ck_assert_uint_eq(jobs[2].cpu_ns, 45000);
    /* pinned: 1 at 68000; 0 at 129000 on the GPU, 52440 on the CPU */
    ck_assert_uint_eq(moe_place_plan(&plan, &costs, 12, false, jobs), 68000);
    ck_assert(jobs[1].on_gpu && !jobs[2].on_gpu);
}
END_TEST

/* As many misses on the GPU as HybriMoE's code sends there (tests/golden/peers/division.py), but
 * where it gives experts that lie on the GPU to the CPU: those stay here. */
START_TEST(equal_to_hybrimoe)
{
    char line[128];
    unsigned n_same = 0, n_rows = 0;
    FILE *in = fopen("tests/golden/peers/division.tsv", "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in)) {
        struct moe_place_job jobs[MAX_JOBS];
        unsigned hits, misses, gpu, cpu, copy, start, hits_on_gpu, want, got = 0;
        if (sscanf(line, "%u %u %u %u %u %u %u %u", &hits, &misses, &gpu, &cpu, &copy, &start,
                   &hits_on_gpu, &want) != 8)
            continue;
        n_rows++;
        if (hits_on_gpu < hits)
            continue;
        for (uint32_t i = 0; i < hits + misses; i++) {
            jobs[i] = (struct moe_place_job)JOB(i, 1, cpu, copy, gpu);
            jobs[i].resident = i < hits;
        }
        moe_place_experts(jobs, hits + misses, start, 0);
        for (uint32_t i = 0; i < hits + misses; i++)
            got += jobs[i].on_gpu && !jobs[i].resident;
        ck_assert_msg(got == want, "%s: %u", line, got);
        n_same++;
    }
    fclose(in);
    ck_assert_uint_eq(n_rows, 100);
    ck_assert_uint_eq(n_same, 96);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("place");
    TCase *tc = tcase_create("place");
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, any_number_in_order);
    tcase_add_test(tc, one_expert_and_the_link);
    tcase_add_test(tc, flights_in_order);
    tcase_add_test(tc, never_later_than_one_side);
    tcase_add_test(tc, costs_of_a_plan);
    tcase_add_test(tc, equal_to_hybrimoe);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
