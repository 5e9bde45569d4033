/* The benchmark of devices on a `host` device of set speeds: nothing is measured as faster than
 * was set, and shares refer to the right totals. */
#include "exec/bench_device.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_MAX = 32 };

struct rows {
    struct moe_device_bench_row row[ROWS_MAX];
    uint32_t n;
};

static void keep(void *context, const struct moe_device_bench_row *row)
{
    struct rows *rows = context;
    ck_assert_uint_lt(rows->n, ROWS_MAX);
    rows->row[rows->n++] = *row;
}

static const struct moe_model model = {.name = "small",
                                       .n_layers = 2,
                                       .n_experts = 4,
                                       .top_k = 2,
                                       .d_model = 128,
                                       .d_ffn = 256,
                                       .n_heads = 4,
                                       .n_kv_heads = 2,
                                       .head_dim = 32,
                                       .n_vocab = 64,
                                       .expert_weight_bits = 16,
                                       .dense_weight_bits = 16,
                                       .kv_bits = 16};
enum { WEIGHTS = 3 * 128 * 256, EXPERT_BYTES = WEIGHTS * 2 };
enum { Q8_BYTES = WEIGHTS / 32 * 34, Q4_BYTES = WEIGHTS / 32 * 18 };

static enum moe_status bench(const char *spec, struct rows *rows, struct moe_err *err)
{
    struct moe_device *device = NULL;
    ck_assert_int_eq(moe_device_open(&device, &(struct moe_device_options){.spec = spec}, err),
                     MOE_OK);
    const struct moe_device_bench options = {.device = device,
                                             .model = &model,
                                             .rounds = 2,
                                             .max_tokens = 8,
                                             .context = 16,
                                             .walk_bytes = 3 * EXPERT_BYTES};
    rows->n = 0;
    enum moe_status s = moe_bench_device(&options, keep, rows, err);
    moe_device_close(device);
    return s;
}

static const struct moe_device_bench_row *find(const struct rows *rows, const char *what,
                                               uint64_t bytes, uint32_t tokens)
{
    for (uint32_t i = 0; i < rows->n; i++)
        if (!strcmp(rows->row[i].what, what) && rows->row[i].bytes == bytes &&
            rows->row[i].tokens == tokens)
            return &rows->row[i];
    ck_abort_msg("no case '%s' of %u bytes and %u tokens", what, (unsigned)bytes, (unsigned)tokens);
    return NULL;
}

START_TEST(rates_are_those_that_were_set)
{
    /* Slow enough for the set time to be most of it. */
    static const char spec[] = "host:memory_bytes=64MiB,link_gb_per_s=0.2,pageable_gb_per_s=0.1,"
                               "compute_gb_per_s=0.1,compute_gflops=0.4,launch_us=50";
    struct rows rows;
    struct moe_err err = {0};
    ck_assert_msg(bench(spec, &rows, &err) == MOE_OK, "%s", err.text);
    ck_assert_uint_eq(rows.n, 22);
    for (uint32_t i = 0; i < rows.n; i++)
        ck_assert(rows.row[i].us > 0 && rows.row[i].spread >= 0);
    const double a_little = 1.001; /* the device's clock has whole nanoseconds */
    const struct moe_device_bench_row *up = find(&rows, "h2d pinned", EXPERT_BYTES, 0),
                                      *paged = find(&rows, "h2d pageable", EXPERT_BYTES, 0),
                                      *down = find(&rows, "d2h pinned", EXPERT_BYTES, 0),
                                      *within = find(&rows, "d2d", EXPERT_BYTES, 0),
                                      *one = find(&rows, "expert", EXPERT_BYTES, 1),
                                      *many = find(&rows, "expert", EXPERT_BYTES, 8),
                                      *q8 = find(&rows, "expert as q8", Q8_BYTES, 1),
                                      *q4 = find(&rows, "expert as q4", Q4_BYTES, 8);
    ck_assert(up->gb_per_s <= 0.2 * a_little && up->share <= 1 && up->share > 0);
    ck_assert(paged->gb_per_s <= 0.1 * a_little && isnan(paged->share));
    ck_assert(down->gb_per_s <= 0.2 * a_little);
    ck_assert(within->gb_per_s <= 0.1 * a_little);
    ck_assert(one->gb_per_s <= 0.1 * a_little && one->share > 0 && isnan(one->gflop_per_s));
    ck_assert(many->gflop_per_s <= 0.4 * a_little && isnan(many->share));
    ck_assert(q8->gb_per_s <= 0.1 * a_little && q8->share > 0 && isnan(q8->gflop_per_s));
    ck_assert(q4->gflop_per_s <= 0.4 * a_little && isnan(q4->share));
    ck_assert(find(&rows, "launch (of 64 combines in a row)", 0, 1)->us >= 50 / a_little);
    ck_assert(find(&rows, "attend until routes_wait", 0, 1)->us >= 50 / a_little);
    /* The time is that of the bytes. */
    ck_assert(fabs(up->us * up->gb_per_s * 1e3 - EXPERT_BYTES) < 1);
    ck_assert(fabs(within->us * within->gb_per_s * 1e3 - 2 * EXPERT_BYTES) < 1);
    ck_assert(fabs(many->us * many->gflop_per_s * 1e3 - 2 * WEIGHTS * 8) < 1);
    ck_assert(fabs(q8->us * q8->gb_per_s * 1e3 - Q8_BYTES) < 1);
    ck_assert(fabs(q4->us * q4->gflop_per_s * 1e3 - 2 * WEIGHTS * 8) < 1);
}
END_TEST

/* Ends cleanly, whatever fails. */
START_TEST(failures_are_told)
{
    struct rows rows;
    struct moe_err err = {0};
    ck_assert_int_eq(bench("host:memory_bytes=256KiB", &rows, &err), MOE_ERR_MEMORY);
    for (int copy = 1; copy < 100; copy += 7) {
        char spec[64];
        snprintf(spec, sizeof spec, "host:memory_bytes=64MiB,fail_copy=%d", copy);
        ck_assert_int_eq(bench(spec, &rows, &err), MOE_ERR_IO);
        ck_assert_msg(strstr(err.text, "failed"), "%s", err.text);
        ck_assert_uint_eq(rows.n, 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_device");
    TCase *tests = tcase_create("bench_device");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, rates_are_those_that_were_set);
    tcase_add_test(tests, failures_are_told);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
