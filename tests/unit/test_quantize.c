#include "exec/quantize.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <string.h>

enum { N = 64 * MOE_QUANT_BLOCK };

/* Every binary16 number is met, and so is what lies around the middle of two neighbours. */
START_TEST(halves)
{
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        const uint16_t now = (uint16_t)bits, next = (uint16_t)(bits + 1);
        float x = 0, y = 65536; /* what would follow 65504 */
        moe_dtype_info(MOE_F16)->to_f32(&now, 1, &x);
        if (next < 0x7c00)
            moe_dtype_info(MOE_F16)->to_f32(&next, 1, &y);
        const float middle = (x + y) / 2; /* exact: 12 bits */
        ck_assert_msg(moe_f16_of(x) == now, "%#x", bits);
        ck_assert_msg(moe_f16_of(-x) == (now | 0x8000), "-%#x", bits);
        ck_assert_msg(moe_f16_of(nextafterf(middle, 0)) == now, "below %#x", next);
        ck_assert_msg(moe_f16_of(nextafterf(middle, 1e9f)) == next, "above %#x", bits);
        ck_assert_msg(moe_f16_of(middle) == (bits % 2 ? next : now), "tie of %#x", bits);
    }
    ck_assert_uint_eq(moe_f16_of(INFINITY), 0x7c00);
    ck_assert_uint_eq(moe_f16_of(-INFINITY), 0xfc00);
    ck_assert_uint_eq(moe_f16_of(NAN) & 0x7fff, 0x7e00);
}
END_TEST

static void round_trip(enum moe_dtype dtype, const float *from, float *to)
{
    uint8_t row[N * 34 / 32];
    ck_assert_uint_eq(moe_quantize_row(dtype, from, N, row), N);
    moe_dtype_info(dtype)->to_f32(row, N, to);
}

static float largest_of(const float *x)
{
    float far = 0;
    for (int i = 0; i < MOE_QUANT_BLOCK; i++)
        far = fabsf(x[i]) > fabsf(far) ? x[i] : far;
    return far;
}

/* No weight is farther off than half a step, and a little for the rounding of the scale. */
START_TEST(errors)
{
    static float from[N], to[N];
    struct moe_rng rng;
    moe_rng_init(&rng, 1);
    for (size_t i = 0; i < N; i++)
        from[i] = (float)((moe_rng_unit(&rng) - 0.5) * ldexp(1, (int)(i / 64) - 20));
    for (int type = MOE_Q8; type <= MOE_Q4; type++) {
        round_trip((enum moe_dtype)type, from, to);
        for (size_t i = 0; i < N; i++) {
            const float far = largest_of(from + i / MOE_QUANT_BLOCK * MOE_QUANT_BLOCK);
            const double step = type == MOE_Q8 ? (double)fabsf(far) / 127 : (double)far / -8;
            const double rounding = fabs(step) / 1024 * 128 + 0x1p-25 * 128; /* of the scale */
            double allowed = fabs(step) / 2 + rounding;
            if (type == MOE_Q4 && (double)from[i] / step > 7.5) /* there is no number 8 */
                allowed = fabs(step) + rounding;
            ck_assert_msg(fabs((double)to[i] - (double)from[i]) <= allowed, "%d %zu", type, i);
        }
    }
}
END_TEST

/* What is representable comes back as it was. */
START_TEST(exact)
{
    static float from[N], to[N];
    for (size_t i = 0; i < N; i++)
        from[i] = (float)((int)(i % 32) - 8) * (i % 32 < 16 ? 0.25f : 0);
    round_trip(MOE_Q4, from, to);
    ck_assert(memcmp(from, to, sizeof from) == 0);
    for (size_t i = 0; i < N; i++)
        from[i] = (float)((int)(i % 32) * 8 - 121) * 0x1p-9f; /* -121 to 127 */
    round_trip(MOE_Q8, from, to);
    ck_assert(memcmp(from, to, sizeof from) == 0);
    memset(from, 0, sizeof from);
    round_trip(MOE_Q8, from, to);
    ck_assert(memcmp(from, to, sizeof from) == 0);
    round_trip(MOE_Q4, from, to);
    for (size_t i = 0; i < N; i++)
        ck_assert(to[i] == 0);
}
END_TEST

/* Blocks by hand: numbers are rounded to even, by the scale as it is stored; a Q8 scale is never
 * negative, nor a Q8 number -128; of weights as far from 0 the first makes the Q4 scale. */
START_TEST(by_hand)
{
    static const struct {
        enum moe_dtype type;
        float far, others[4]; /* far is weight 3 of the block, the others are 5 to 8, all else 0 */
        float unit;           /* of all of them */
        uint16_t scale;
        int q[5];
    } cases[] = {
        {MOE_Q8, -127, {0.5f, 1.5f, -2.5f, 127}, 1, 0x3c00, {-127, 0, 2, -2, 127}},
        {MOE_Q8, 127 * 1.0004f, {100.52f, 0, 0, 0}, 1, 0x3c00, {127, 101, 0, 0, 0}},
        {MOE_Q8, -127.635f, {1, 0, 0, 0}, 0x1p-24f, 1, {-127, 1, 0, 0, 0}},
        {MOE_Q8, -3.9e-6f, {3e-6f, 0, 0, 0}, 1, 1, {-65, 50, 0, 0, 0}},
        {MOE_Q8, -3.7e-6f, {3e-6f, 0, 0, 0}, 1, 0, {0, 0, 0, 0, 0}},
        {MOE_Q4, 8, {-8, 0.5f, 1.5f, 2.5f}, 1, 0xbc00, {-8, 7, 0, -2, -2}},
        {MOE_Q4, -8, {8, 0.5f, 1.5f, -2.5f}, 1, 0x3c00, {-8, 7, 0, 2, -2}},
        {MOE_Q4, -8 * 1.0004f, {5.501f, 0, 0, 0}, 1, 0x3c00, {-8, 6, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const int place[5] = {3, 5, 6, 7, 8};
        float from[MOE_QUANT_BLOCK] = {0};
        uint8_t row[34], expected[34];
        const size_t n = cases[i].type == MOE_Q8 ? 32 : 16;
        memset(expected, cases[i].type == MOE_Q8 ? 0 : 0x88, n);
        for (int k = 0; k < 5; k++) {
            const int q = cases[i].q[k];
            from[place[k]] = cases[i].unit * (k ? cases[i].others[k - 1] : cases[i].far);
            expected[place[k]] = (uint8_t)(cases[i].type == MOE_Q8 ? q : 0x80 | (q + 8));
        }
        memcpy(expected + n, &cases[i].scale, 2);
        ck_assert_uint_eq(moe_quantize_row(cases[i].type, from, MOE_QUANT_BLOCK, row), 32);
        for (size_t k = 0; k < n + 2; k++)
            ck_assert_msg(row[k] == expected[k], "case %zu, byte %zu: %d, not %d", i, k, row[k],
                          expected[k]);
    }
}
END_TEST

START_TEST(refused)
{
    static float from[N];
    static uint8_t row[N * 34 / 32];
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < 3; i++) {
        from[77] = bad[i];
        ck_assert_uint_eq(moe_quantize_row(MOE_Q8, from, N, row), 77);
        ck_assert_uint_eq(moe_quantize_row(MOE_Q4, from, N, row), 77);
    }
    from[77] = -65504.0f * 8; /* still a scale */
    ck_assert_uint_eq(moe_quantize_row(MOE_Q4, from, N, row), N);
    from[77] = 65520.0f * 8; /* none any more: told by its block */
    ck_assert_uint_eq(moe_quantize_row(MOE_Q4, from, N, row), 64);
    ck_assert_uint_eq(moe_quantize_row(MOE_Q8, from, N, row), N);
    from[77] = 1e9f;
    ck_assert_uint_eq(moe_quantize_row(MOE_Q8, from, N, row), 64);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize");
    TCase *tcase = tcase_create("quantize");
    tcase_add_test(tcase, halves);
    tcase_add_test(tcase, errors);
    tcase_add_test(tcase, exact);
    tcase_add_test(tcase, by_hand);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
