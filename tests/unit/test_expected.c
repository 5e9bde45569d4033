/* Published values: reading, refusals, errors by hand. */
#include "sim/expected.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "id\tlow\thigh\tunit\ttolerance\ttolerance_unit\tcheck\tkind\twhere\tnote\n"

static enum moe_status parse(const char *rows, struct moe_expected *out, struct moe_err *err)
{
    char text[2000];
    snprintf(text, sizeof text, "# what: a test\n" HEAD "%s", rows);
    return moe_expected_parse("t.tsv", text, strlen(text), out, err);
}

START_TEST(reads_every_column)
{
    struct moe_expected e;
    struct moe_err err = {0};
    ck_assert_int_eq(parse("a.b\t4.2\t4.2\ttok/s\t15\t%\treport\tderived\tTable V\twhy not\n"
                           "c\t-5\t15\t%\t2\tpoints\tmust\tstated\tsection 4\t-\n",
                           &e, &err),
                     MOE_OK);
    ck_assert_uint_eq(e.n, 2);
    ck_assert_str_eq(e.values[0].id, "a.b");
    ck_assert_str_eq(e.values[0].unit, "tok/s");
    ck_assert_str_eq(e.values[0].kind, "derived");
    ck_assert_str_eq(e.values[0].where, "Table V");
    ck_assert_str_eq(e.values[0].note, "why not");
    ck_assert(e.values[0].low == 4.2 && e.values[0].high == 4.2 && e.values[0].tolerance == 15);
    ck_assert(e.values[0].relative && !e.values[0].must);
    ck_assert_str_eq(e.values[1].note, "");
    ck_assert(!e.values[1].relative && e.values[1].must);
    ck_assert_ptr_eq(moe_expected_find(&e, "c"), &e.values[1]);
    ck_assert_ptr_null(moe_expected_find(&e, "d"));
    moe_expected_release(&e);
}
END_TEST

START_TEST(errors_by_hand)
{
    const struct moe_expected_value percent = {
        .low = 4, .high = 4, .tolerance = 15, .relative = true};
    const struct moe_expected_value range = {.low = 40, .high = 60, .tolerance = 5};
    const struct moe_expected_value exact = {.low = 2, .high = 2, .relative = true};
    ck_assert(moe_expected_error(&percent, 5) == 25);
    ck_assert(moe_expected_error(&percent, 3) == -25);
    ck_assert(moe_expected_error(&percent, 4) == 0);
    ck_assert(moe_expected_within(&percent, 4.6));
    ck_assert(moe_expected_within(&percent, 3.4));
    ck_assert(!moe_expected_within(&percent, 4.61));
    ck_assert(!moe_expected_within(&percent, 3.39));
    ck_assert(moe_expected_error(&range, 50) == 0);
    ck_assert(moe_expected_error(&range, 38) == -2);
    ck_assert(moe_expected_error(&range, 66) == 6);
    ck_assert(moe_expected_within(&range, 65));
    ck_assert(!moe_expected_within(&range, 65.1));
    ck_assert(moe_expected_within(&exact, 2));
    ck_assert(!moe_expected_within(&exact, 2.1));
    ck_assert(isnan(moe_expected_error(&range, NAN)));
    ck_assert(!moe_expected_within(&range, NAN));
}
END_TEST

START_TEST(refuses)
{
    static const struct {
        const char *rows, *why;
    } cases[] = {
        {"a\tx\t1\tW\t1\t%\tmust\tstated\tT\t-\n", "low 'x' is not a number"},
        {"a\t1\tnan\tW\t1\t%\tmust\tstated\tT\t-\n", "high 'nan' is not a number"},
        {"a\t2\t1\tW\t1\t%\tmust\tstated\tT\t-\n", "low 2 is above high 1"},
        {"a\t1\t1\tW\t-1\t%\tmust\tstated\tT\t-\n", "tolerance -1 is below 0"},
        {"a\t0\t1\tW\t1\t%\tmust\tstated\tT\t-\n", "use points"},
        {"a\t1\t1\tW\t1\tW\tmust\tstated\tT\t-\n", "tolerance_unit 'W' is neither"},
        {"a\t1\t1\tW\t1\t%\tmaybe\tstated\tT\t-\n", "check 'maybe' is neither 'must' nor 'report'"},
        {"a\t1\t1\tW\t1\t%\tmust\tguess\tT\t-\n", "kind 'guess' is not one of"},
        {"a\t1\t1\tW\t1\t%\tmust\tstated\tT\t-\na\t1\t1\tW\t1\t%\tmust\tstated\tT\t-\n",
         "'a' is there twice"},
        {"a\t1\t1\n", "t.tsv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_expected e = {.n = 77};
        struct moe_err err = {0};
        ck_assert_int_eq(parse(cases[i].rows, &e, &err), MOE_ERR_INPUT);
        ck_assert_msg(strstr(err.text, cases[i].why) != NULL, "'%s' lacks '%s'", err.text,
                      cases[i].why);
        ck_assert_uint_eq(e.n, 77);
    }
}
END_TEST

START_TEST(refuses_a_missing_column)
{
    static const char text[] = "id\tlow\n";
    struct moe_expected e;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_expected_parse("t", text, strlen(text), &e, &err), MOE_ERR_INPUT);
    ck_assert_msg(strstr(err.text, "no column 'high'") != NULL, "%s", err.text);
}
END_TEST

/* The committed file: every best value is there, and follows from Tables IV and V. */
START_TEST(the_paper)
{
    static const char *const threads[] = {"1", "2", "4", "8", "16", "24"};
    static const char *const models[] = {"mixtral", "phi"};
    struct moe_expected e;
    struct moe_err err = {0};
    ck_assert_msg(moe_expected_load("experiments/paper/expected.tsv", &e, &err) == MOE_OK, "%s",
                  err.text);
    for (int m = 0; m < 2; m++) {
        for (int t = 0; t < 6; t++) {
            const struct moe_expected_value *v[4];
            static const char *const forms[] = {"fig5.%s.best.%s", "tab4.%s.cpu.%s",
                                                "tab4.%s.gpu.%s", "tab5.%s.%s"};
            char id[64];
            for (int i = 0; i < 4; i++) {
                snprintf(id, sizeof id, forms[i], models[m], threads[t]);
                v[i] = moe_expected_find(&e, id);
                ck_assert_msg(v[i] != NULL, "%s", id);
            }
            double rate = (v[1]->low + v[2]->low) / v[3]->low;
            ck_assert_msg(fabs(rate - v[0]->low) <= 0.05, "%s %s: %g, not %g", models[m],
                          threads[t], rate, v[0]->low);
        }
    }
    moe_expected_release(&e);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("expected");
    tcase_add_test(tests, reads_every_column);
    tcase_add_test(tests, errors_by_hand);
    tcase_add_test(tests, refuses);
    tcase_add_test(tests, refuses_a_missing_column);
    tcase_add_test(tests, the_paper);
    Suite *suite = suite_create("expected");
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
