#include "exec/rope.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { HALF = 4 };

static struct moe_llm_config plain(double theta)
{
    return (struct moe_llm_config){.head_dim = 2 * HALF, .rope_theta = theta};
}

/* theta = 10^4 and 8 dimensions: a wave turns 10 times slower than the one before. */
START_TEST(frequencies_by_hand)
{
    struct moe_llm_config c = plain(1e4);
    struct moe_rope rope;
    moe_rope_init(&rope, &c);
    const double expected[HALF] = {1, 0.1, 0.01, 0.001};
    ck_assert_uint_eq(rope.half, HALF);
    for (int i = 0; i < HALF; i++)
        ck_assert_double_eq_tol((double)rope.inv_freq[0][i] / expected[i], 1, 1e-6);
    float cosine[HALF], sine[HALF];
    moe_rope_angles(&rope, false, 30, cosine, sine);
    for (int i = 0; i < HALF; i++) {
        ck_assert_double_eq_tol((double)cosine[i], cos(30 * expected[i]), 1e-5);
        ck_assert_double_eq_tol((double)sine[i], sin(30 * expected[i]), 1e-5);
    }
}
END_TEST

START_TEST(longrope_divides_and_scales)
{
    struct moe_llm_config c = plain(1e4);
    struct moe_rope rope;
    float cosine[HALF], sine[HALF];
    c.longrope = true;
    c.short_mscale = 1.5f;
    c.long_mscale = 3;
    for (int i = 0; i < HALF; i++) {
        c.short_factor[i] = (float)(i + 1);
        c.long_factor[i] = (float)(10 * (i + 1));
    }
    moe_rope_init(&rope, &c);
    for (int far = 0; far < 2; far++) {
        moe_rope_angles(&rope, far, 7, cosine, sine);
        for (int i = 0; i < HALF; i++) {
            double angle = 7 * pow(10, -i) / ((far ? 10 : 1) * (i + 1)), m = far ? 3 : 1.5;
            ck_assert_double_eq_tol((double)cosine[i], m * cos(angle), 1e-5);
            ck_assert_double_eq_tol((double)sine[i], m * sin(angle), 1e-5);
        }
    }
}
END_TEST

/* The reference's float32: position x frequency is rounded before its cosine is taken, which at
 * position 100,003 is visible. */
START_TEST(angles_are_rounded_as_the_reference_rounds)
{
    struct moe_llm_config c = plain(1e4);
    struct moe_rope rope;
    float cosine[HALF], sine[HALF];
    moe_rope_init(&rope, &c);
    moe_rope_angles(&rope, false, 100003, cosine, sine);
    volatile float angle = 100003.0f * rope.inv_freq[0][1];
    ck_assert_double_eq_tol((double)cosine[1], cos((double)angle), 1e-7);
    ck_assert_double_gt(fabs((double)sine[1] - sin(100003 * 0.1)), 1e-6);
}
END_TEST

START_TEST(turns_pairs_that_are_half_a_head_apart)
{
    /* Quarter turns: (a, b) becomes (-b, a); no turn; half a turn; and a turn with scale 2. */
    const float cosine[HALF] = {0, 1, -1, 0}, sine[HALF] = {1, 0, 0, 2};
    float x[2 * HALF] = {1, 2, 3, 4, 5, 6, 7, 8};
    const float expected[2 * HALF] = {-5, 2, -3, -16, 1, 6, -7, 8};
    moe_rope_turn(cosine, sine, HALF, x);
    for (int i = 0; i < 2 * HALF; i++)
        ck_assert_double_eq((double)x[i], (double)expected[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rope");
    TCase *tc = tcase_create("rope");
    tcase_add_test(tc, frequencies_by_hand);
    tcase_add_test(tc, longrope_divides_and_scales);
    tcase_add_test(tc, angles_are_rounded_as_the_reference_rounds);
    tcase_add_test(tc, turns_pairs_that_are_half_a_head_apart);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
