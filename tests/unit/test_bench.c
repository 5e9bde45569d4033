/* The cases of the benchmark run and say what they measured. How fast they are is not tested. */
#include "sim/bench.h"
#include "sim/bench_case.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

START_TEST(every_case_gives_a_row)
{
    struct moe_bench_row rows[MOE_BENCH_ROWS_MAX];
    struct moe_err err;
    uint32_t n = 0;
    struct moe_bench_options options = {.tokens = 50, .repeats = 3};
    ck_assert_msg(!moe_bench_sim(&options, rows, &n, &err), "%s", err.text);
    ck_assert_uint_eq(n, 1 + 4 * 4 + 1);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_uint_eq(rows[i].repeats, 3);
        ck_assert(rows[i].value > 0 && rows[i].spread >= 0);
        for (uint32_t j = 0; j < i; j++)
            ck_assert_str_ne(rows[i].name, rows[j].name);
    }
    ck_assert_str_eq(rows[0].name, "read the trace");
    ck_assert(rows[0].read_share == 1);
    ck_assert_str_eq(rows[1].unit, "M/s");
    ck_assert_str_eq(rows[n - 1].unit, "s");
}
END_TEST

static uint32_t count_rows(const struct moe_bench_row *rows, uint32_t n, const char *begin)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        found += strncmp(rows[i].name, begin, strlen(begin)) == 0;
    return found;
}

/* Two shapes, two geometries, two contracts; opt-time has no costs here. */
START_TEST(every_policy_has_its_rows)
{
    struct moe_bench_row rows[MOE_BENCH_ROWS_MAX];
    struct moe_err err;
    char begin[64];
    uint32_t n = 0;
    struct moe_bench_options options = {
        .tokens = 50, .repeats = 1, .policies = "all", .policy_accesses = 400};
    ck_assert_msg(!moe_bench_sim(&options, rows, &n, &err), "%s", err.text);
    for (size_t i = 0; moe_policies[i]; i++) {
        snprintf(begin, sizeof begin, "%s ", moe_policies[i]->name);
        ck_assert_uint_eq(count_rows(rows, n, begin),
                          moe_policies[i]->needs & MOE_NEEDS_COSTS ? 0 : 8);
    }
    ck_assert_uint_eq(count_rows(rows, n, "opt:admit=forced "), 8);
    ck_assert_uint_lt(n, MOE_BENCH_ROWS_MAX);
    ck_assert_uint_eq(n, 1 + 4 * 4 + 1 + moe_bench_policy_rows(&options));
    options.policies = "lfru";
    ck_assert_uint_eq(moe_bench_policy_rows(&options), 16);
    ck_assert_msg(!moe_bench_sim(&options, rows, &n, &err), "%s", err.text);
    ck_assert_uint_eq(count_rows(rows, n, "lfru"), 16);
    ck_assert_uint_eq(n, 1 + 4 * 4 + 1 + 16);
    ck_assert(rows[n - 1].goal == 20);
}
END_TEST

START_TEST(refuses_with_the_reason)
{
    struct moe_bench_row rows[MOE_BENCH_ROWS_MAX];
    struct moe_err err;
    uint32_t n;
    struct moe_bench_options options = {.tokens = 50, .repeats = 1001};
    ck_assert_int_eq(moe_bench_sim(&options, rows, &n, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "repeats 1001 exceeds 1000");
    options = (struct moe_bench_options){.tokens = 50, .repeats = 1, .stream_path = "/nowhere.h5"};
    ck_assert_int_eq(moe_bench_sim(&options, rows, &n, &err), MOE_ERR_IO);
    options = (struct moe_bench_options){.tokens = 50, .repeats = 1, .policies = "lruu"};
    ck_assert_int_eq(moe_bench_sim(&options, rows, &n, &err), MOE_ERR_USAGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench");
    TCase *tc = tcase_create("bench");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_case_gives_a_row);
    tcase_add_test(tc, every_policy_has_its_rows);
    tcase_add_test(tc, refuses_with_the_reason);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
