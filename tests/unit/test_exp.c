/* The exponential function against the C library's in double precision. */
#include "exec/exp.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

static float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

START_TEST(every_part_of_the_range)
{
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 4093) {
        const float x = of_bits((uint32_t)bits), y = moe_expf(x);
        const double exact = exp((double)x);
        const float nearest = (float)exact;
        if (isnan(x) || isinf(nearest) || isinf(y)) {
            ck_assert_msg(isnan(x) ? isnan(y) : y == nearest, "exp(%a) is %a", (double)x,
                          (double)y);
            continue;
        }
        const double unit = (double)nextafterf(nearest, INFINITY) - (double)nearest;
        ck_assert_msg(fabs(y - exact) <= 0.51 * unit, "exp(%a) is %a, not %a", (double)x, (double)y,
                      exact);
    }
}
END_TEST

START_TEST(special_values)
{
    ck_assert(moe_expf(0) == 1 && moe_expf(-0.0f) == 1);
    ck_assert(moe_expf(-INFINITY) == 0 && moe_expf(INFINITY) == INFINITY);
    ck_assert(isnan(moe_expf(NAN)) && isnan(moe_expf(-NAN)));
    ck_assert(moe_expf(0x1.62e42ep6f) < INFINITY && moe_expf(0x1.62e43p6f) == INFINITY);
    ck_assert(moe_expf(-103.5f) == 0x1p-149f && moe_expf(-104) == 0); /* the smallest number */
    ck_assert(moe_expf(-1e30f) == 0 && moe_expf(1e30f) == INFINITY);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("exp");
    TCase *t = tcase_create("exp");
    tcase_add_test(t, every_part_of_the_range);
    tcase_add_test(t, special_values);
    suite_add_tcase(s, t);
    return run_suite(s);
}
