#include "exec/dtype.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the pattern of a sign, n_exponent and n_fraction bits means, by the definition. */
static double value_of(uint32_t bits, int n_exponent, int n_fraction)
{
    int bias = (1 << (n_exponent - 1)) - 1;
    int exponent = (int)(bits >> n_fraction) & ((1 << n_exponent) - 1);
    double fraction = (double)(bits & ((1u << n_fraction) - 1)) / (double)(1 << n_fraction);
    double size = 0;
    if (exponent == (1 << n_exponent) - 1)
        size = fraction > 0 ? NAN : INFINITY;
    else if (exponent == 0)
        size = ldexp(fraction, 1 - bias);
    else
        size = ldexp(1 + fraction, exponent - bias);
    return bits >> (n_exponent + n_fraction) & 1 ? -size : size;
}

static void every_pattern(enum moe_dtype dtype, int n_exponent, int n_fraction)
{
    enum { N = 65536 };
    static char from[2 * N + 1];
    static float to[N];
    for (uint32_t i = 0; i < N; i++) {
        uint16_t bits = (uint16_t)i;
        memcpy(from + 1 + 2 * (size_t)i, &bits, 2); /* odd: weights of a file lie anywhere */
    }
    moe_dtype_info(dtype)->to_f32(from + 1, N, to);
    for (uint32_t i = 0; i < N; i++) {
        double expected = value_of(i, n_exponent, n_fraction);
        if (isnan(expected))
            ck_assert_msg(isnan(to[i]), "%#x", i);
        else
            ck_assert_msg((double)to[i] == expected, "%#x: %g, not %g", i, to[i], expected);
        ck_assert_msg(!signbit(to[i]) == !(i & 0x8000), "sign of %#x", i);
    }
}

START_TEST(bf16)
{
    every_pattern(MOE_BF16, 8, 7);
}
END_TEST

START_TEST(f16)
{
    every_pattern(MOE_F16, 5, 10);
}
END_TEST

START_TEST(f32)
{
    float values[5] = {0, -1.5f, 3e-42f, INFINITY, 1e38f}, to[5];
    char odd[1 + sizeof values];
    memcpy(odd + 1, values, sizeof values);
    moe_dtype_info(MOE_F32)->to_f32(odd + 1, 5, to);
    ck_assert_int_eq(memcmp(to, values, sizeof values), 0);
    moe_dtype_info(MOE_F32)->to_f32(NULL, 0, to);
}
END_TEST

/* Two blocks by hand: numbers first, then the scales 0.5 and -2. */
START_TEST(q8)
{
    char odd[1 + 64 + 4];
    float to[64];
    for (int i = 0; i < 64; i++)
        odd[1 + i] = (char)(i * 4 - 128);
    memcpy(odd + 65, "\x00\x38\x00\xc0", 4);
    moe_dtype_info(MOE_Q8)->to_f32(odd + 1, 64, to);
    for (int i = 0; i < 64; i++)
        ck_assert(to[i] == (float)(i * 4 - 128) * (i < 32 ? 0.5f : -2.0f));
}
END_TEST

START_TEST(q4)
{
    char odd[1 + 32 + 4];
    float to[64];
    for (int i = 0; i < 32; i++) /* low halves count up, high ones down */
        odd[1 + i] = (char)(i % 16 | (15 - i % 16) << 4);
    memcpy(odd + 33, "\x00\x38\x00\xc0", 4);
    moe_dtype_info(MOE_Q4)->to_f32(odd + 1, 64, to);
    for (int i = 0; i < 64; i++) {
        const int half = i % 32 < 16 ? i % 16 : 15 - i % 16;
        ck_assert(to[i] == (float)(half - 8) * (i < 32 ? 0.5f : -2.0f));
    }
}
END_TEST

START_TEST(table)
{
    static const uint32_t bytes[MOE_N_DTYPES] = {128, 64, 64, 34, 18}; /* of 32 weights */
    enum moe_dtype found = MOE_F16;
    for (int i = 0; i < MOE_N_DTYPES; i++) {
        const struct moe_dtype_info *info = moe_dtype_info((enum moe_dtype)i);
        ck_assert(moe_dtype_find(info->name, &found));
        ck_assert_int_eq((int)found, i);
        ck_assert_uint_eq(32 / info->block * info->bytes, bytes[i]);
        ck_assert_uint_eq(moe_dtype_row_bytes(found, 4096), 128 * (uint64_t)bytes[i]);
        ck_assert(moe_dtype_plain(found) == (i < MOE_Q8));
    }
    ck_assert(!moe_dtype_find("f32", &found));
    ck_assert(!moe_dtype_find("", &found));
    ck_assert_uint_eq(moe_dtype_row_bytes(MOE_F32, UINT32_MAX), 4 * (uint64_t)UINT32_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dtype");
    TCase *tcase = tcase_create("dtype");
    tcase_add_test(tcase, bf16);
    tcase_add_test(tcase, f16);
    tcase_add_test(tcase, f32);
    tcase_add_test(tcase, q8);
    tcase_add_test(tcase, q4);
    tcase_add_test(tcase, table);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
