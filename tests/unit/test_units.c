/* base/units.h, base/numbers.h, base/rng.h: exact values and limits. */
#include "base/numbers.h"
#include "base/rng.h"
#include "base/units.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

START_TEST(whole_numbers)
{
    static const char *const bad[] = {"",   "-1",  "+1",  " 1",  "1 ",
                                      "1a", "0x1", "1e3", "1.0", "18446744073709551616"};
    uint64_t value = 77;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(moe_parse_u64(bad[i], 0, UINT64_MAX, &value, &err), MOE_ERR_USAGE);
    ck_assert_uint_eq(value, 77);
    ck_assert_int_eq(moe_parse_u64("9", 1, 8, &value, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "9 is outside 1..8");
    ck_assert_int_eq(moe_parse_u64("0", 1, 8, &value, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_parse_u64("8", 1, 8, &value, &err), MOE_OK);
    ck_assert_uint_eq(value, 8);
    ck_assert_int_eq(moe_parse_u64("18446744073709551615", 0, UINT64_MAX, &value, &err), MOE_OK);
    ck_assert_uint_eq(value, UINT64_MAX);
}
END_TEST

START_TEST(real_numbers)
{
    static const char *const bad[] = {"",   "nan",   "inf", "-inf", "0x10", " 1",
                                      "1 ", "1e999", "1,5", "e",    "1e",   "--1"};
    double value = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(moe_parse_f64(bad[i], -1e308, 1e308, &value, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_parse_f64("1.5", 0, 1, &value, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "1.5 is outside 0..1");
    ck_assert_double_eq(value, 7);
    ck_assert_int_eq(moe_parse_f64("-2.5e-1", -1, 1, &value, &err), MOE_OK);
    ck_assert_double_eq(value, -0.25);
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"17B", 17},
        {"3KB", 3000},
        {"2MB", 2000000},
        {"3KiB", 3072},
        {"4000MiB", 4194304000u},
        {"20GiB", 21474836480u},
        {"1.5GB", 1500000000u},
        {"4.35GB", 4350000000u}, /* 4.35 * 1e9 in doubles is a little less */
        {"1.9B", 1},
        {".5KiB", 512},
        {"2.TB", 2000000000000u},
        {"1TiB", 1099511627776u},
        {"9007199254740993", 9007199254740993u}, /* no double */
        {"1152921504606846976", (uint64_t)1 << 60},
    };
    static const char *const bad[] = {"",
                                      ".",
                                      "MiB",
                                      "1.2.3",
                                      "-1",
                                      "1 MiB",
                                      "1mib",
                                      "1PiB",
                                      "1e3B",
                                      "1.1234567GB",
                                      "1152921504606846977",
                                      "99999999999999999999",
                                      "1048577TiB"};
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(moe_parse_bytes(good[i].text, &value, &err), MOE_OK);
        ck_assert_uint_eq(value, good[i].bytes);
    }
    value = 77;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(moe_parse_bytes(bad[i], &value, &err) == MOE_ERR_USAGE, "%s", bad[i]);
    ck_assert_uint_eq(value, 77);
}
END_TEST

START_TEST(truth)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    int value = 7;
    ck_assert_int_eq(moe_parse_bool("True", &value, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_parse_bool("", &value, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(value, 7);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(moe_parse_bool(yes[i], &value, &err), MOE_OK);
        ck_assert_int_eq(value, 1);
        ck_assert_int_eq(moe_parse_bool(no[i], &value, &err), MOE_OK);
        ck_assert_int_eq(value, 0);
    }
}
END_TEST

START_TEST(readable)
{
    char buf[32];
    ck_assert_str_eq(moe_format_bytes(0, buf, sizeof buf), "0 B");
    ck_assert_str_eq(moe_format_bytes(1023, buf, sizeof buf), "1023 B");
    ck_assert_str_eq(moe_format_bytes(4194304000u, buf, sizeof buf), "3.9 GiB");
    ck_assert_str_eq(moe_format_bytes((uint64_t)340 << 20, buf, sizeof buf), "340 MiB");
    ck_assert_str_eq(moe_format_count(23400, buf, sizeof buf), "23.4 k");
    ck_assert_str_eq(moe_format_count(118e6, buf, sizeof buf), "118 M");
    ck_assert_str_eq(moe_format_count(1.2e6, buf, sizeof buf), "1.20 M");
    ck_assert_str_eq(moe_format_count(0, buf, sizeof buf), "0.0");
}
END_TEST

START_TEST(nearest)
{
    static const char *const names[] = {"lru", "lfu", "geometry", "quota"};
    ck_assert_str_eq(moe_nearest_name("geometri", names, 4), "geometry");
    ck_assert_str_eq(moe_nearest_name("qutoa", names, 4), "quota");
    ck_assert_str_eq(moe_nearest_name("lru", names, 4), "lru");
    ck_assert_ptr_null(moe_nearest_name("zzzzzzzz", names, 4));
    ck_assert_str_eq(moe_nearest_name("lur", names, 4), "lru");
    ck_assert_ptr_null(moe_nearest_name("lru", names, 0));
    static const char *const models[] = {"phi-3.5-moe", "mixtral-8x22b", "mixtral-8x7b",
                                         "olmoe-1b-7b"};
    ck_assert_str_eq(moe_nearest_name("Mixtral", models, 4), "mixtral-8x7b");
    ck_assert_str_eq(moe_nearest_name("phi", models, 4), "phi-3.5-moe");
    ck_assert_ptr_null(moe_nearest_name("ph", models, 1));
    ck_assert_ptr_null(moe_nearest_name("mixtral-8x77777777777", models, 1));
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    ck_assert_ptr_null(moe_nearest_name(longer, names, 4));
}
END_TEST

START_TEST(overflow)
{
    uint64_t value = 0;
    ck_assert(moe_mul_u64((uint64_t)1 << 32, ((uint64_t)1 << 32) - 1, &value));
    ck_assert_uint_eq(value, UINT64_MAX - UINT32_MAX);
    ck_assert(!moe_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &value));
    ck_assert(moe_add_u64(UINT64_MAX, 0, &value));
    ck_assert(!moe_add_u64(UINT64_MAX, 1, &value));
}
END_TEST

START_TEST(hash)
{
    /* Published FNV-1a test vectors. */
    ck_assert_uint_eq(moe_hash_bytes(MOE_HASH_SEED, "", 0), 0xcbf29ce484222325u);
    ck_assert_uint_eq(moe_hash_bytes(MOE_HASH_SEED, "a", 1), 0xaf63dc4c8601ec8cu);
    ck_assert_uint_eq(moe_hash_bytes(MOE_HASH_SEED, "foobar", 6), 0x85944171f73967e8u);
    ck_assert_uint_eq(moe_hash_bytes(moe_hash_bytes(MOE_HASH_SEED, "foo", 3), "bar", 3),
                      0x85944171f73967e8u);
}
END_TEST

START_TEST(random_numbers)
{
    /* SplitMix64 from state 0: its published first outputs are the four words of the state. */
    struct moe_rng rng;
    moe_rng_init(&rng, 0);
    ck_assert_uint_eq(rng.s[0], 0xe220a8397b1dcdafu);
    ck_assert_uint_eq(rng.s[1], 0x6e789e6aa1b965f4u);
    ck_assert_uint_eq(rng.s[2], 0x06c45d188009454fu);
    ck_assert_uint_eq(rng.s[3], 0xf88bb8a8724c81ecu);
    /* xoshiro256** from 1, 2, 3, 4: 2 * 5 rotated by 7, times 9. */
    rng = (struct moe_rng){{1, 2, 3, 4}};
    ck_assert_uint_eq(moe_rng_next(&rng), 11520);
    ck_assert_uint_eq(moe_rng_next(&rng), 0);
    ck_assert_uint_eq(moe_rng_next(&rng), 1509978240);
    ck_assert_uint_eq(moe_rng_next(&rng), 1215971899390074240);
    struct moe_rng one_by_one = rng;
    uint64_t filled[5];
    moe_rng_fill(&rng, filled, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(filled[i], moe_rng_next(&one_by_one));
    ck_assert_uint_eq(moe_rng_next(&rng), moe_rng_next(&one_by_one));
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint64_t x = moe_rng_below(&rng, 7);
        double u = moe_rng_unit(&rng);
        ck_assert_uint_lt(x, 7);
        ck_assert(u >= 0 && u < 1);
        seen[x]++;
    }
    for (int i = 0; i < 7; i++)
        ck_assert_int_gt(seen[i], 850); /* 1000 expected; 150 is five standard deviations */
    ck_assert_uint_eq(moe_rng_below(&rng, 1), 0);
}
END_TEST

START_TEST(statistics)
{
    double values[] = {NAN, 3, -INFINITY, 1, INFINITY, 2};
    moe_sort_f64(values, 6);
    ck_assert(isinf(values[0]) && values[0] < 0);
    ck_assert_double_eq(values[1], 1);
    ck_assert_double_eq(values[2], 2);
    ck_assert_double_eq(values[3], 3);
    ck_assert(isinf(values[4]) && isnan(values[5]));
    moe_sort_f64(NULL, 0);

    static const double sorted[] = {1, 2, 3, 4};
    ck_assert_double_eq(moe_quantile(sorted, 4, 0), 1);
    ck_assert_double_eq(moe_quantile(sorted, 4, 0.25), 1.75); /* type 7: at 3 * 0.25 */
    ck_assert_double_eq(moe_quantile(sorted, 4, 0.5), 2.5);
    ck_assert_double_eq(moe_quantile(sorted, 4, 1), 4);
    ck_assert_double_eq(moe_quantile(sorted, 4, 7), 4);
    ck_assert_double_eq(moe_quantile(sorted, 1, 0.9), 1);
    ck_assert(isnan(moe_quantile(NULL, 0, 0.5)));
    ck_assert_double_eq(moe_percent(1, 8), 12.5);
    ck_assert_double_eq(moe_percent_or_nan(1, 8), 12.5);
    ck_assert_double_eq(moe_percent(0, 0), 0);
    ck_assert(isnan(moe_percent_or_nan(0, 0)));

    /* One by one, the small ones would all be lost beside 2^53. */
    enum { N = 4097 };
    static double many[N];
    many[0] = 0x1p53;
    for (int i = 1; i < N; i++)
        many[i] = 1;
    ck_assert_double_eq_tol(moe_mean(many, N) * N, 0x1p53 + 4096, 32);
    ck_assert_double_eq(moe_mean(sorted, 4), 2.5);
    ck_assert(isnan(moe_mean(NULL, 0)));
}
END_TEST

START_TEST(errors)
{
    struct moe_err e = {0};
    ck_assert_int_eq(moe_fail(&e, MOE_ERR_INPUT, "bad\n\x1b[2J '%s'", "x"), MOE_ERR_INPUT);
    ck_assert_str_eq(e.text, "bad??[2J 'x'");
    ck_assert_int_eq(moe_fail_prefix(&e, "'%s':%d", "f", 3), MOE_ERR_INPUT);
    ck_assert_str_eq(e.text, "'f':3: bad??[2J 'x'");
    ck_assert_int_eq(moe_fail(NULL, MOE_ERR_IO, "x"), MOE_ERR_IO);
    char longer[600];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    moe_fail(&e, MOE_ERR_IO, "%s", longer);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    moe_fail_prefix(&e, "%s", longer);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    static const int codes[] = {0, 1, 1, 1, 2, 1, 3, 1};
    for (int i = 0; i <= MOE_ERR_INTERRUPTED; i++)
        ck_assert_int_eq(moe_exit_code((enum moe_status)i), codes[i]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {whole_numbers,  real_numbers, sizes,    truth,
                                  readable,       nearest,      overflow, hash,
                                  random_numbers, statistics,   errors};
    Suite *suite = suite_create("units");
    TCase *tcase = tcase_create("all");
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
