/* Runs compared: decisions line by line, times of tokens by hand. */
#include "policies/agreement.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <string.h>

static struct moe_decision_agreement compare(const char *a, const char *b)
{
    struct moe_decision_agreement out;
    moe_decisions_compare(a, strlen(a), b, strlen(b), &out);
    return out;
}

START_TEST(decisions)
{
    static const struct {
        const char *a, *b;
        uint64_t n_events, n_different, first;
        const char *first_a, *first_b;
    } cases[] = {
        {"", "", 0, 0, 0, "", ""},
        {"0 0 decode 1:hit\n", "0 0 decode 1:hit\n", 1, 0, 0, "", ""},
        {"x\ny\nz\n", "x\ny\nz\n", 3, 0, 0, "", ""},
        {"x\ny\nz\n", "x\nq\nw\n", 3, 2, 1, "y", "q"},
        {"x\ny\nz\n", "x\n", 3, 2, 1, "y", ""},
        {"", "x\ny\n", 2, 2, 0, "", "x"},
        {"x\ny", "x\ny\n", 2, 0, 0, "", ""},
        {"x\nyy\n", "x\ny\n", 2, 1, 1, "yy", "y"},
        {"x\n\nz\n", "x\n\nz\n", 3, 0, 0, "", ""},
        {"x\n\nz\n", "x\ny\nz\n", 3, 1, 1, "", "y"},
        {"x\n\n", "x\n", 2, 1, 1, "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_decision_agreement got = compare(cases[i].a, cases[i].b);
        ck_assert_uint_eq(got.n_events, cases[i].n_events);
        ck_assert_uint_eq(got.n_different, cases[i].n_different);
        ck_assert_uint_eq(got.first, cases[i].first);
        ck_assert_str_eq(got.first_a, cases[i].first_a);
        ck_assert_str_eq(got.first_b, cases[i].first_b);
    }
}
END_TEST

START_TEST(long_lines_are_cut)
{
    char a[1000], b[1000];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    struct moe_decision_agreement got;
    moe_decisions_compare(a, sizeof a, b, sizeof b, &got);
    ck_assert_uint_eq(got.n_different, 1);
    ck_assert_uint_eq(strlen(got.first_a), sizeof got.first_a - 1);
    ck_assert_int_eq(got.first_b[0], 'b');
    b[999] = 'a';
    memset(b, 'a', 999);
    moe_decisions_compare(a, sizeof a, b, sizeof b, &got);
    ck_assert_uint_eq(got.n_different, 0);
}
END_TEST

/* Errors 10, 0, 50, 20 and 5 %: the median 10, and at 0.95 of the way 20 + 0.8 (50 - 20) = 44. */
START_TEST(times)
{
    const double predicted[] = {11, 4, 5, 1.6, 21}, measured[] = {10, 4, 10, 2, 20};
    struct moe_time_agreement got;
    ck_assert_int_eq(moe_times_compare(predicted, measured, 5, &got, NULL), MOE_OK);
    ck_assert_double_eq_tol(got.predicted_ms, 42.6 / 5, 1e-12);
    ck_assert_double_eq_tol(got.measured_ms, 46.0 / 5, 1e-12);
    ck_assert_double_eq_tol(got.error_percent, 100 * (42.6 - 46) / 46, 1e-12);
    ck_assert_double_eq_tol(got.median_percent, 10, 1e-12);
    ck_assert_double_eq_tol(got.p95_percent, 44, 1e-12);
    ck_assert_int_eq(moe_times_compare(predicted, measured, 1, &got, NULL), MOE_OK);
    ck_assert_double_eq_tol(got.median_percent, 10, 1e-12);
    ck_assert_double_eq_tol(got.p95_percent, 10, 1e-12);
}
END_TEST

START_TEST(medians_token_by_token)
{
    const double a[] = {1, 9, 3}, b[] = {2, 8, 3}, c[] = {9, 7, 1}, d[] = {4, 100, 3};
    const double *three[] = {a, b, c}, *four[] = {a, b, c, d};
    double out[3];
    ck_assert_int_eq(moe_times_median(three, 3, 3, out, NULL), MOE_OK);
    ck_assert(out[0] == 2 && out[1] == 8 && out[2] == 3);
    ck_assert_int_eq(moe_times_median(four, 4, 3, out, NULL), MOE_OK);
    ck_assert(out[0] == 3 && out[1] == 8.5 && out[2] == 3);
    ck_assert_int_eq(moe_times_median(four, 1, 3, out, NULL), MOE_OK);
    ck_assert(out[0] == 1 && out[1] == 9 && out[2] == 3);
}
END_TEST

/* Two layers: prompts do not count, a step differs with any of its events. */
START_TEST(steps_decided_alike)
{
    static const char a[] = "0 0 prefill 1:hit\n0 1 prefill 1:hit\n"
                            "1 0 decode 1:hit\n1 1 decode 1:hit\n"
                            "2 0 decode 1:hit\n2 1 decode 1:hit\n"
                            "3 0 prefill 1:hit\n3 1 prefill 1:hit\n"
                            "4 0 decode 1:hit\n4 1 decode 1:hit\n"
                            "5 0 decode 1:hit\n5 1 decode 1:hit\n";
    char b[sizeof a];
    bool same[5];
    memcpy(b, a, sizeof a);
    moe_decisions_same(a, sizeof a - 1, b, sizeof b - 1, 2, same, 5);
    for (int i = 0; i < 5; i++)
        ck_assert(same[i]);
    *(strstr(b, "0 1 prefill") + 12) = '2';
    *(strstr(b, "2 1 decode") + 11) = '2';
    *(strstr(b, "4 0 decode") + 11) = '2';
    moe_decisions_same(a, sizeof a - 1, b, sizeof b - 1, 2, same, 4);
    ck_assert(same[0] && !same[1] && !same[2] && same[3]);
}
END_TEST

/* Three tokens, three runs. The first: runs 10, 20, 40, of which the last two are alike: m = 30,
 * and 60 was predicted. The second: all alike, m = 8 and p = 10. The third: none alike. */
START_TEST(causes_of_errors)
{
    const double a[] = {10, 8, 5}, b[] = {20, 6, 5}, c[] = {40, 10, 5}, p[] = {60, 10, 500};
    const bool x[] = {false, true, false}, y[] = {true, true, false};
    const double *runs[] = {a, b, c};
    const bool *same[] = {x, y, y};
    struct moe_time_causes got;
    ck_assert_int_eq(moe_times_causes(p, runs, same, 3, 3, &got, NULL), MOE_OK);
    ck_assert_double_eq_tol(got.same_percent, 100 * 5 / 9., 1e-12);
    ck_assert_double_eq_tol(got.same_median_percent, (100 + 25) / 2., 1e-12);
    ck_assert_double_eq_tol(got.same_p95_percent, 25 + 0.95 * 75, 1e-12);
    /* Apart: 50, 0, 100, 0, 25, 25, 0, 0, 0 %; at 7.6 of 8, 50 + 0.6 x 50. */
    ck_assert_double_eq_tol(got.repeat_p95_percent, 80, 1e-12);
    const bool none[] = {false, false, false};
    const bool *nothing[] = {none};
    ck_assert_int_eq(moe_times_causes(p, runs, nothing, 1, 3, &got, NULL), MOE_OK);
    ck_assert(got.same_percent == 0 && isnan(got.same_median_percent) &&
              isnan(got.same_p95_percent));
    ck_assert_double_eq(got.repeat_p95_percent, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agreement");
    TCase *tc = tcase_create("agreement");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, decisions);
    tcase_add_test(tc, long_lines_are_cut);
    tcase_add_test(tc, times);
    tcase_add_test(tc, medians_token_by_token);
    tcase_add_test(tc, steps_decided_alike);
    tcase_add_test(tc, causes_of_errors);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
