/* Calibration of a host device of set speeds finds these speeds, writes every constant with its
 * origin, and refuses what cannot be measured. */
#include "exec/calibrate.h"

#include "policies/platform_file.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;
static struct moe_calibration result;

static struct moe_model shape_of(const char *name)
{
    char path[128];
    struct moe_model m;
    snprintf(path, sizeof path, "experiments/models/%s.yaml", name);
    if (moe_model_load(path, &m, &err))
        ck_abort_msg("%s", err.text);
    return m;
}

static struct moe_device *open_device(const char *spec)
{
    const struct moe_device_options options = {.spec = spec, .kernels = "auto"};
    struct moe_device *device;
    if (moe_device_open(&device, &options, &err))
        ck_abort_msg("%s", err.text);
    return device;
}

static enum moe_status calibrate_on(struct moe_device *device, const struct moe_model *shapes,
                                    uint32_t n_shapes, uint32_t threads)
{
    const struct moe_calibrate_options options = {.device = device,
                                                  .shapes = shapes,
                                                  .n_shapes = n_shapes,
                                                  .repeats = 2,
                                                  .threads = threads,
                                                  .power_s = 0.05,
                                                  .date = "a \"day\"\n"};
    const enum moe_status s = moe_calibrate(&options, &result, &err);
    moe_device_close(device);
    return s;
}

static enum moe_status calibrate(const char *spec, const struct moe_model *shapes,
                                 uint32_t n_shapes, uint32_t threads)
{
    return calibrate_on(open_device(spec), shapes, n_shapes, threads);
}

static const struct moe_constant *constant(const char *key)
{
    for (uint32_t i = 0; i < result.n_constants; i++)
        if (strcmp(result.constant[i].key, key) == 0)
            return &result.constant[i];
    ck_abort_msg("no constant %s", key);
    return NULL;
}

/* "..., 128 tokens": 128. */
static double tokens_of(const char *origin)
{
    const char *at = strstr(origin, " tokens");
    ck_assert_msg(at != NULL, "%s", origin);
    while (at > origin && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return strtod(at, NULL);
}

/* An operation of a device with set speeds takes at least as long as these say, however busy the
 * machine is; that it takes not much longer is so only on one that is not. The bounds above are
 * exact, those below far. */
START_TEST(set_speeds_come_back)
{
    const struct moe_model tiny = shape_of("tiny-mixtral");
    ck_assert_int_eq(calibrate("host:link_gb_per_s=0.2,pageable_gb_per_s=0.1,copy_us=200,"
                               "compute_gb_per_s=0.5,compute_gflops=5,launch_us=300",
                               &tiny, 1, 2),
                     MOE_OK);
    const struct moe_platform *p = &result.platform;
    const double bytes = 98304; /* 3 x 128 x 128 x 2 */
    const double copy_s = bytes / (p->link.h2d_pinned_gb_per_s * 1e9);
    ck_assert_double_ge(copy_s + p->link.copy_setup_us * 1e-6, bytes / 0.2e9 + 200e-6 - 1e-6);
    ck_assert_double_gt(p->link.h2d_pinned_gb_per_s, 0.005);
    const double pageable_s = bytes / (p->link.h2d_pageable_gb_per_s * 1e9);
    ck_assert_double_ge(pageable_s + p->link.copy_setup_us * 1e-6, bytes / 0.1e9 + 200e-6 - 1e-6);
    const double gpu_s = bytes / (p->gpu.read_gb_per_s * 1e9) + p->gpu.expert_launch_us * 1e-6;
    ck_assert_double_ge(gpu_s, bytes / 0.5e9 + 300e-6 - 1e-6);
    ck_assert_double_lt(gpu_s, 20 * (bytes / 0.5e9 + 300e-6));
    const double flops = bytes * tokens_of(constant("gpu.tflops")->origin);
    const double many_s = flops / (p->gpu.tflops * 1e12) + p->gpu.expert_launch_us * 1e-6;
    ck_assert_double_ge(many_s, flops / 5e9 + 300e-6 - 1e-6);
    ck_assert_double_gt(p->gpu.tflops, 0.0001);
    ck_assert_uint_eq(p->gpu.memory_bytes, (uint64_t)1 << 30);
    ck_assert_int_eq(p->memory, MOE_MEMORY_SEPARATE);
    ck_assert_uint_eq(p->cpu.cores, 2);
    ck_assert_str_eq(result.steps_of, "SYNTHETIC tiny-mixtral, 4 layers");
}
END_TEST

START_TEST(every_constant_has_an_origin_and_is_written)
{
    const struct moe_model shapes[] = {shape_of("tiny-mixtral"), shape_of("tiny-phimoe")};
    ck_assert_int_eq(calibrate("host", shapes, 2, 3), MOE_OK);
    for (const struct moe_platform_section *s = moe_platform_sections; s->name; s++)
        for (const struct moe_param *c = s->table; c->name; c++) {
            char key[96];
            snprintf(key, sizeof key, "%s.%s", s->name, c->name);
            const struct moe_constant *k = constant(key);
            ck_assert(strncmp(k->origin, "measured: ", 10) == 0 ||
                      strncmp(k->origin, "guess: ", 7) == 0);
            ck_assert(isnan(k->spread) || k->spread >= 0);
        }
    /* 1, 2 and 3 threads; two sizes. */
    ck_assert_uint_eq(result.platform.cpu.n_points, 6);
    ck_assert_uint_eq(result.platform.cpu.point[5].threads, 3);
    ck_assert_ptr_nonnull(strstr(constant("cpu.expert_ffn")->origin, "medians of 2"));
    ck_assert_ptr_nonnull(strstr(constant("power.gpu_idle_w")->origin, "no GPU"));
    const struct moe_platform_notes notes = {"head", moe_calibration_origin, &result};
    char *text;
    size_t size;
    if (moe_platform_text(&result.platform, &notes, &text, &size, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_ptr_nonnull(strstr(
        text, "\"measured: by the command above, a \\\"day\\\"\\u000a, median of 2, spread "));
    free(text);
}
END_TEST

START_TEST(an_integrated_device_shares_the_memory)
{
    const struct moe_model tiny = shape_of("tiny-mixtral");
    struct moe_device *device = open_device("host");
    device->integrated = true;
    ck_assert_int_eq(calibrate_on(device, &tiny, 1, 1), MOE_OK);
    const struct moe_platform_notes notes = {"head", moe_calibration_origin, &result};
    char *text;
    size_t size;
    if (moe_platform_text(&result.platform, &notes, &text, &size, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_ptr_nonnull(strstr(text, "\nmemory: unified\n"));
    free(text);
}
END_TEST

START_TEST(what_does_not_fit)
{
    struct moe_model shapes[] = {shape_of("mixtral-8x7b"), shape_of("tiny-mixtral")};
    ck_assert_int_eq(calibrate("host:memory_bytes=64MiB", shapes, 1, 1), MOE_ERR_MEMORY);
    ck_assert_ptr_nonnull(strstr(err.text, "no expert fits"));
    /* Left out, and the steps are those of the other. */
    ck_assert_int_eq(calibrate("host:memory_bytes=64MiB", shapes, 2, 1), MOE_OK);
    ck_assert_uint_eq(result.platform.cpu.n_points, 2);
    ck_assert_ptr_nonnull(strstr(result.steps_of, "tiny-mixtral"));
    shapes[1].expert_weight_bits = 4.25;
    ck_assert_int_eq(calibrate("host", shapes + 1, 1, 1), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "4.25 bits"));
    shapes[1].expert_weight_bits = 4.5;
    ck_assert_int_eq(calibrate("host", shapes, 2, 1), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "model 'tiny-mixtral' has expert weights of 4.5 bits, "
                     "'mixtral-8x7b' of 16: a platform has the rates of one weight type, so "
                     "calibrate each into a file of its own");
    shapes[1].d_ffn = 144;
    ck_assert_int_eq(calibrate("host", shapes + 1, 1, 1), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "experts of 128 x 144, no multiples of the 32 weights"));
}
END_TEST

/* Rates belong to experts of the shape's type: their bytes, and a small one's beside the only. */
START_TEST(experts_of_every_type)
{
    static const struct {
        double bits;
        uint64_t d_model, d_ffn, small, large;
        const char *type;
    } want[] = {
        {16, 128, 128, 24576, 98304, "BF16"}, {8.5, 128, 128, 13056, 52224, "Q8"},
        {4.5, 128, 128, 6912, 27648, "Q4"},   {4.5, 128, 32, 1728, 6912, "Q4"},
        {8.5, 32, 32, 3264, 6528, "Q8"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct moe_model shape = shape_of("tiny-mixtral");
        shape.expert_weight_bits = want[i].bits;
        shape.d_model = want[i].d_model;
        shape.d_ffn = want[i].d_ffn;
        const enum moe_status s = calibrate("host:compute_gflops=5", &shape, 1, 1);
        ck_assert_msg(!s, "%s", err.text);
        const struct moe_platform *p = &result.platform;
        ck_assert_uint_eq(p->cpu.n_points, 2);
        ck_assert_uint_eq(p->cpu.point[0].expert_bytes, want[i].small);
        ck_assert_uint_eq(p->cpu.point[1].expert_bytes, want[i].large);
        ck_assert_ptr_nonnull(strstr(constant("cpu.expert_ffn")->origin, want[i].type));
        /* Set for kernels of many tokens, whatever the type. */
        const char *origin = constant("gpu.tflops")->origin;
        const double flops = 6. * (double)(want[i].d_model * want[i].d_ffn) * tokens_of(origin);
        const bool turned = want[i].d_ffn == 32 && want[i].d_model == 32; /* the other is larger */
        const double many_s = (turned ? 2 : 1) * flops / (p->gpu.tflops * 1e12);
        ck_assert_ptr_nonnull(strstr(origin, want[i].type));
        ck_assert_double_ge(many_s + p->gpu.expert_launch_us * 1e-6,
                            (turned ? 2 : 1) * flops / 5e9 - 1e-6);
    }
}
END_TEST

/* No room for whole steps: the overheads are guesses that say so. */
START_TEST(without_whole_steps)
{
    struct moe_model shape = shape_of("tiny-mixtral");
    shape.n_vocab = 16777216; /* a head of 4 GiB */
    ck_assert_int_eq(calibrate("host", &shape, 1, 1), MOE_OK);
    ck_assert_double_eq(result.platform.gpu.layer_overhead_us, 0);
    ck_assert_int_eq(strncmp(constant("link.state_up_us")->origin, "guess: 0", 8), 0);
    ck_assert_int_eq(strncmp(constant("link.copy_setup_us")->origin, "measured", 8), 0);
}
END_TEST

/* A device that fails gives its error, and nothing hangs or leaks. */
START_TEST(a_copy_fails)
{
    const struct moe_model tiny = shape_of("tiny-mixtral");
    ck_assert_int_ne(calibrate("host:fail_copy=3000", &tiny, 1, 1), MOE_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "fail_copy"));
}
END_TEST

/* Before the first sample, not after the first constant: filling memory looks for a signal, too.
 * The last test: the flag stays up. */
START_TEST(interrupted)
{
    const struct moe_model tiny = shape_of("tiny-mixtral");
    moe_catch_interrupts();
    ck_assert_int_eq(raise(SIGINT), 0);
    ck_assert_int_eq(calibrate("host", &tiny, 1, 1), MOE_ERR_INTERRUPTED);
    ck_assert_str_eq(err.text, "interrupted");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calibrate");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, set_speeds_come_back);
    tcase_add_test(tc, every_constant_has_an_origin_and_is_written);
    tcase_add_test(tc, an_integrated_device_shares_the_memory);
    tcase_add_test(tc, what_does_not_fit);
    tcase_add_test(tc, experts_of_every_type);
    tcase_add_test(tc, without_whole_steps);
    tcase_add_test(tc, a_copy_fails);
    tcase_add_test(tc, interrupted);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
