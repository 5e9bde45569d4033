/* From measurements to constants: times computed from a known platform by the cost model's
 * formulas give that platform back. */
#include "exec/calibrate_state.h"
#include "policies/cost.h"
#include "policies/platform_file.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5, DRIFT = 12, K = 2, L = 4 };

static struct moe_err err;
static struct moe_calibration result;

/* Expert 3 x 512 x 1024 x 2 bytes. */
static struct moe_model model = {.name = "made-up",
                                 .n_layers = L,
                                 .n_experts = 8,
                                 .top_k = K,
                                 .d_model = 512,
                                 .d_ffn = 1024,
                                 .n_heads = 8,
                                 .n_kv_heads = 8,
                                 .head_dim = 64,
                                 .n_vocab = 1000,
                                 .expert_weight_bits = 16,
                                 .dense_weight_bits = 16,
                                 .kv_bits = 16};

/* GB/s of a GPU's kernels on experts of Q4; 0: experts are of BF16, as the dense part. */
static double q4_gb_per_s;

/* Of the small and of the large expert: 256 and 1024 rows. */
static uint64_t bytes_of(int end)
{
    return (end ? UINT64_C(3145728) : UINT64_C(786432)) * (q4_gb_per_s > 0 ? 9 : 32) / 32;
}

static struct moe_platform wanted(void)
{
    struct moe_platform p = {
        .link = {.h2d_pinned_gb_per_s = 20,
                 .h2d_pageable_gb_per_s = 8,
                 .copy_setup_us = 12,
                 .state_down_us = 30,
                 .state_up_us = 10},
        .dram = {.read_gb_per_s = 70},
        .cpu = {.cores = 4, .gflops_per_core = 50, .n_points = 4},
        .gpu = {.memory_bytes = (uint64_t)1 << 34,
                .read_gb_per_s = 500,
                .tflops = 40,
                .expert_launch_us = 7,
                .layer_overhead_us = 100,
                .token_overhead_us = 250},
        .power = {.cpu_idle_w = 40,
                  .cpu_busy_per_thread_w = 5,
                  .gpu_idle_w = 30,
                  .gpu_busy_w = 200,
                  .gpu_copy_w = 20},
    };
    const double rate[] = {10, 12, 36, 40}; /* GB/s by threads 1 and 4, then size */
    for (uint32_t i = 0; i < 4; i++) {
        const uint64_t bytes = bytes_of(i % 2);
        p.cpu.point[i] =
            (struct moe_ffn_point){i < 2 ? 1 : 4, bytes, (double)bytes / rate[i] * 1e-6};
    }
    return p;
}

static double early, longer; /* ns: of misses before hits, of kernels in whole steps */

/* Alone; 7 us less than in the machine. */
static double copy_s(const struct moe_platform *p, double bytes, double gb_per_s)
{
    return (p->link.copy_setup_us - 7) * 1e-6 + bytes / (gb_per_s * 1e9);
}

enum { LAUNCH_US = 7, DENSE_ROWS = 288, DENSE_BYTES = 3 * 512 * DENSE_ROWS * 2 };
static double gpu_s(const struct moe_platform *p, double bytes)
{
    if (q4_gb_per_s > 0)
        return LAUNCH_US * 1e-6 + bytes / (q4_gb_per_s * 1e9);
    return p->gpu.expert_launch_us * 1e-6 + bytes / (p->gpu.read_gb_per_s * 1e9);
}

/* What steps of a machine that obeys the model take: ns. Hits wait for 9 us; an expert copy of the
 * machine costs 7 us more than one that is just waited for. */
static void fill_steps(const struct moe_platform *p, struct moe_cal_round *r)
{
    struct moe_costs c;
    moe_costs_init(&c, &model, p, p->cpu.cores);
    const double dense = (double)(c.layer_overhead_ns + moe_cost_attend_ns(&c, 1, 16));
    const double rest = (double)(c.token_overhead_ns + moe_cost_head_ns(&c, 1));
    const double span = K * (double)c.gpu_expert_ns + longer;
    r->step[MOE_CAL_HIT] =
        (struct moe_cal_times){.layer = dense + span, .rest = rest, .first = 9000, .span = span};
    r->step[MOE_CAL_CPU] =
        (struct moe_cal_times){.layer = 1,
                               .rest = 1,
                               .first = 9000 - early + (double)moe_cost_state_down_ns(&c, 1),
                               .second = (double)moe_cost_state_up_ns(&c, 1)};
    r->step[MOE_CAL_COPY] =
        (struct moe_cal_times){.layer = 1, .rest = 1, .first = 9000 + 3000, .second = 4000};
}

static struct moe_cal_round round_of(const struct moe_platform *p)
{
    const double small = (double)bytes_of(0), large = (double)bytes_of(1);
    struct moe_cal_round r = {
        .read = {15e9, 50e9},
        .gflops = p->cpu.gflops_per_core,
        .copy = {copy_s(p, small, 20), copy_s(p, large, 20)},
        .gpu = {gpu_s(p, small), gpu_s(p, large)},
        .pageable = copy_s(p, large, 8),
        .together = 70e9,
        .gpu_many = p->gpu.expert_launch_us * 1e-6 + 6.0 * 512 * 1024 * 1024 / 40e12,
        .gpu_dense = LAUNCH_US * 1e-6 + DENSE_BYTES / 500e9,
    };
    for (int i = 0; i < 4; i++)
        r.ffn[i / 2][i % 2] = p->cpu.point[i].ms * 1e-3;
    /* The model's with all threads are known from whole steps; alone they were slower. */
    r.ffn_in_steps[1] = r.ffn[1][1];
    r.ffn[1][1] *= 1.5;
    fill_steps(p, &r);
    for (int t = 0; t < 2; t++)
        r.alone[t] = (struct moe_cal_alone){.head = t ? 1e-4 : 3e-4, .layer = t ? 2e-4 : 5e-4};
    return r;
}

static uint32_t repeats = REPEATS;
static double slow[DRIFT] = {1, 1, 1, 1, 1};    /* factors on one number of each round */
static double large[REPEATS] = {1, 1, 1, 1, 1}; /* on the times of the largest expert */

/* The first round, which does not count, is nonsense. */
static bool alone;

static void derive(const struct moe_platform *p, uint64_t layers)
{
    static struct moe_cal_round rounds[DRIFT + 1];
    struct moe_device_ops ops = {.name = "cuda"};
    struct moe_device device = {.ops = &ops, .name = "Card \"9000\" (16 GB)"};
    const struct moe_calibrate_options options = {
        .alone = alone, .repeats = repeats, .date = "d", .power_s = 1};
    const enum moe_dtype dtype = q4_gb_per_s > 0 ? MOE_Q4 : MOE_BF16;
    struct moe_calibrator c = {
        .o = &options,
        .device = &device,
        .threads = {1, 4},
        .n_threads = 2,
        .size = {{dtype, 512, 256, K, bytes_of(0), 0}, {dtype, 512, 1024, K, bytes_of(1), 0}},
        .n_sizes = 2,
        .many = 1024,
        .model = model,
        .steps_of = "made up",
        .round = rounds,
        .power = {{40, 30}, {60, 30}, {41, 230}, {41, 50}}};
    device.memory_bytes = p->gpu.memory_bytes;
    if (q4_gb_per_s > 0)
        c.dense = (struct moe_cal_size){MOE_BF16, 512, DENSE_ROWS, K, DENSE_BYTES, 0};
    c.model.n_layers = layers;
    memset(rounds, 0x3f, sizeof rounds); /* numbers of about 5e-4 */
    for (uint32_t i = 1; i <= repeats; i++)
        rounds[i] = round_of(p);
    for (uint32_t i = 1; i <= repeats; i++)
        rounds[i].gflops *= slow[i - 1];
    for (uint32_t i = 1; i <= REPEATS; i++) {
        rounds[i].copy[1] *= large[i - 1];
        rounds[i].gpu[1] *= large[i - 1];
    }
    if (moe_cal_platform(&c, &result, &err))
        ck_abort_msg("%s", err.text);
}

static void expect_constants(const struct moe_platform *a, const struct moe_platform *b)
{
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *c = s->table; c->name; c++) {
            double x, y;
            uint64_t m, n;
            memcpy(&x, (const char *)a + c->offset, sizeof x);
            memcpy(&y, (const char *)b + c->offset, sizeof y);
            memcpy(&m, &x, sizeof m);
            memcpy(&n, &y, sizeof n);
            if (c->type == MOE_PARAM_F64) /* steps are in whole ns, constants have five digits */
                ck_assert_msg(fabs(x - y) <= 2e-4 * y, "%s.%s: %g, not %g", s->name, c->name, x, y);
            else
                ck_assert_msg(m == n, "%s.%s", s->name, c->name);
        }
}

START_TEST(the_platform_comes_back)
{
    const struct moe_platform p = wanted();
    derive(&p, L);
    expect_constants(&result.platform, &p);
    ck_assert_str_eq(result.platform.name, "card-9000-16-gb");
    ck_assert_uint_eq(result.platform.cpu.n_points, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(result.platform.cpu.point[i].threads, p.cpu.point[i].threads);
        ck_assert_uint_eq(result.platform.cpu.point[i].expert_bytes, p.cpu.point[i].expert_bytes);
        ck_assert_double_eq_tol(result.platform.cpu.point[i].ms, p.cpu.point[i].ms, 1e-5);
        ck_assert_double_eq_tol(result.point_share[i],
                                i < 2    ? (i ? .8 : 10. / 15)
                                : i == 2 ? .72
                                         : .8,
                                1e-9);
        ck_assert_double_eq_tol(result.point_spread[i], 0, 1e-12);
    }
}
END_TEST

static const struct moe_constant *constant(const char *key)
{
    for (uint32_t i = 0; i < result.n_constants; i++)
        if (strcmp(result.constant[i].key, key) == 0)
            return &result.constant[i];
    ck_abort_msg("no '%s'", key);
    return NULL;
}

/* Without a device: what a layer took for keys and values is not of its weights. */
START_TEST(a_machine_alone)
{
    const struct moe_platform p = wanted(), *got = &result.platform;
    const uint64_t layer = moe_model_dense_layer_bytes(&model), head = moe_model_head_bytes(&model);
    const double share = (double)layer / (double)(layer + moe_model_kv_bytes(&model, 17));
    alone = true;
    derive(&p, L);
    alone = false;
    ck_assert(!moe_platform_has_gpu(got));
    ck_assert_double_eq(got->link.h2d_pinned_gb_per_s, 0);
    ck_assert_double_eq(got->cpu.gflops_per_core, 50);
    ck_assert_uint_eq(got->cpu.n_points, 4);
    ck_assert_uint_eq(got->cpu.n_dense, 4);
    ck_assert_uint_lt(head, layer);
    for (uint32_t i = 0; i < 4; i++) {
        const struct moe_ffn_point *d = &got->cpu.dense[i];
        const double ms = i % 2 ? (i < 2 ? 0.5 : 0.2) * share : i < 2 ? 0.3 : 0.1;
        ck_assert_uint_eq(d->threads, i < 2 ? 1 : 4);
        ck_assert_uint_eq(d->expert_bytes, i % 2 ? layer : head);
        ck_assert_double_eq_tol(d->ms, ms, 1e-5);
    }
    ck_assert_ptr_nonnull(strstr(moe_calibration_origin(&result, "cpu.dense"), "made up"));
    struct moe_costs c; /* and the times come back */
    moe_costs_init(&c, &model, got, 4);
    ck_assert_double_eq_tol((double)moe_cost_attend_ns(&c, 1, 16), 200000, 20);
    ck_assert_double_eq_tol((double)moe_cost_head_ns(&c, 1), 100000, 10);
    derive(&p, L);
    ck_assert_uint_eq(got->cpu.n_dense, 0);
}
END_TEST

/* A machine that is slower in two rounds of five: 45, 50, 50, 60, 100. The tenths lie between them.
 */
START_TEST(medians_and_spread)
{
    const struct moe_platform p = wanted();
    slow[REPEATS - 1] = 2;
    slow[REPEATS - 2] = 1.2;
    slow[0] = 0.9;
    derive(&p, L);
    for (int i = 0; i < REPEATS; i++)
        slow[i] = 1;
    ck_assert_double_eq(result.platform.cpu.gflops_per_core, 50);
    const struct moe_constant *k = constant("cpu.gflops_per_core");
    ck_assert_double_eq_tol(k->spread, (84.0 - 47.0) / 50, 1e-12);
    ck_assert_ptr_nonnull(strstr(k->origin, "median of 5, spread 74.0 %"));
}
END_TEST

/* A machine that slows down bit by bit, and one that does so once, for a third of the time: a
 * repeat that meets another part of it is off by as much as the parts differ. */
START_TEST(slow_changes_are_in_the_spread)
{
    const struct moe_platform p = wanted();
    repeats = DRIFT;
    for (int i = 0; i < DRIFT; i++)
        slow[i] = 1 + 0.01 * i;
    derive(&p, L); /* 1.011 to 1.099 */
    ck_assert_double_eq_tol(constant("cpu.gflops_per_core")->spread, 0.088 / 1.055, 1e-6);
    for (int i = 0; i < DRIFT; i++)
        slow[i] = i < 4 ? 0.5 : 1;
    derive(&p, L);
    ck_assert_double_eq_tol(constant("cpu.gflops_per_core")->spread, 0.5, 1e-6);
    for (int i = 0; i < DRIFT; i++)
        slow[i] = 1;
    derive(&p, L);
    ck_assert_double_eq_tol(constant("cpu.gflops_per_core")->spread, 0, 1e-12);
    repeats = REPEATS;
}
END_TEST

/* Two rounds held up by other work, and one whose largest expert took less than what the others
 * say is fixed: it is the fastest, not the slowest, and leaves the median where it is. */
START_TEST(less_than_the_fixed_cost)
{
    const struct moe_platform p = wanted();
    large[0] = 1e-3;
    large[1] = large[2] = 50;
    derive(&p, L);
    for (int i = 0; i < REPEATS; i++)
        large[i] = 1;
    expect_constants(&result.platform, &p);
}
END_TEST

START_TEST(no_fixed_cost)
{
    struct moe_platform p = wanted();
    p.gpu.expert_launch_us = 0;
    p.link.copy_setup_us = 7;
    derive(&p, L);
    expect_constants(&result.platform, &p);
}
END_TEST

/* The CPU starts before the GPU would: the layer is shorter by that. */
START_TEST(misses_that_start_early)
{
    struct moe_platform p = wanted();
    early = 4000;
    p.link.state_down_us = 0;
    derive(&p, L);
    early = 0;
    p.link.state_up_us -= 4;
    expect_constants(&result.platform, &p);
}
END_TEST

/* A card that became slower between its kernels alone and whole steps: not an overhead. */
START_TEST(drift_is_no_overhead)
{
    const struct moe_platform p = wanted();
    longer = 150000;
    derive(&p, L);
    longer = 0;
    expect_constants(&result.platform, &p);
}
END_TEST

/* Kernels that the host queues too slowly. */
START_TEST(slow_queueing_is_a_launch)
{
    struct moe_platform p = wanted();
    longer = 20000;
    derive(&p, L);
    longer = 0;
    p.gpu.expert_launch_us += 20. / K;
    expect_constants(&result.platform, &p);
}
END_TEST

/* Experts of Q4, which the GPU reads at 300 or 600 GB/s, beside a dense part of BF16 at 500: the
 * platform has the higher of the two, and steps of that model take as long as they took. */
START_TEST(experts_of_another_type)
{
    q4_gb_per_s = _i ? 600 : 300;
    model.expert_weight_bits = 4.5;
    struct moe_platform p = wanted();
    if (_i)
        p.gpu.read_gb_per_s = 600;
    else
        p.gpu.expert_launch_us += (double)bytes_of(1) * (1 / 300.0 - 1 / 500.0) * 1e-3;
    derive(&p, L);
    expect_constants(&result.platform, &p);
    ck_assert_ptr_nonnull(strstr(moe_calibration_origin(&result, "gpu.tflops"), "; Q4, 1024 tok"));
    ck_assert_ptr_nonnull(strstr(moe_calibration_origin(&result, "cpu.expert_ffn"), "; Q4; "));
    q4_gb_per_s = 0;
    model.expert_weight_bits = 16;
}
END_TEST

START_TEST(without_steps)
{
    struct moe_platform p = wanted();
    derive(&p, 0);
    p.gpu.layer_overhead_us = p.gpu.token_overhead_us = 0;
    p.link.state_down_us = p.link.state_up_us = 0;
    p.link.copy_setup_us = 5;
    expect_constants(&result.platform, &p); /* the fixed cost of copies from two sizes */
    ck_assert_int_eq(
        strncmp(moe_calibration_origin(&result, "gpu.layer_overhead_us"), "guess: 0", 8), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calibrate_platform");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, the_platform_comes_back);
    tcase_add_test(tc, a_machine_alone);
    tcase_add_test(tc, medians_and_spread);
    tcase_add_test(tc, slow_changes_are_in_the_spread);
    tcase_add_test(tc, less_than_the_fixed_cost);
    tcase_add_test(tc, no_fixed_cost);
    tcase_add_test(tc, misses_that_start_early);
    tcase_add_test(tc, drift_is_no_overhead);
    tcase_add_test(tc, slow_queueing_is_a_launch);
    tcase_add_loop_test(tc, experts_of_another_type, 0, 2);
    tcase_add_test(tc, without_steps);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
