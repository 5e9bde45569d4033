#include "exec/router.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { E = 4 };

static void expect_top_k(const float score[E], uint32_t k, const moe_expert *expert,
                         const double *weight)
{
    moe_expert got[E];
    float w[E], scratch[E];
    moe_router_top_k(score, E, k, true, got, w, scratch);
    for (uint32_t i = 0; i < k; i++) {
        ck_assert_uint_eq(got[i], expert[i]);
        ck_assert_double_eq_tol((double)w[i], weight[i], 1e-7);
    }
}

/* Logits are logarithms of small numbers, so that the shares are fractions. */
START_TEST(top_k_by_hand)
{
    const float score[E] = {logf(1), logf(4), logf(2), logf(3)}; /* tenths */
    expect_top_k(score, 1, (moe_expert[]){1}, (double[]){1});
    expect_top_k(score, 2, (moe_expert[]){1, 3}, (double[]){4. / 7, 3. / 7});
    expect_top_k(score, 3, (moe_expert[]){1, 3, 2}, (double[]){4. / 9, 3. / 9, 2. / 9});
    expect_top_k(score, 4, (moe_expert[]){1, 3, 2, 0}, (double[]){.4, .3, .2, .1});
}
END_TEST

START_TEST(top_k_keeps_shares_of_all)
{
    const float score[E] = {logf(1), logf(4), logf(2), logf(3)}; /* tenths */
    moe_expert expert[2];
    float w[2], scratch[E];
    moe_router_top_k(score, E, 2, false, expert, w, scratch);
    ck_assert(expert[0] == 1 && expert[1] == 3);
    ck_assert_double_eq_tol((double)w[0], .4, 1e-7);
    ck_assert_double_eq_tol((double)w[1], .3, 1e-7);
}
END_TEST

START_TEST(top_k_is_not_moved_by_a_shift)
{
    /* exp(1000) would be infinite */
    const float high[E] = {1000, 1001, 999, 1000}, low[E] = {-1000, -999, -1001, -1000};
    double w = 1 / (1 + exp(-1));
    expect_top_k(high, 2, (moe_expert[]){1, 0}, (double[]){w, 1 - w});
    expect_top_k(low, 2, (moe_expert[]){1, 0}, (double[]){w, 1 - w});
}
END_TEST

START_TEST(top_k_ties_go_to_the_lowest)
{
    expect_top_k((float[]){2, 5, 5, 2}, 3, (moe_expert[]){1, 2, 0},
                 (double[]){1 / (2 + exp(-3)), 1 / (2 + exp(-3)), exp(-3) / (2 + exp(-3))});
    expect_top_k((float[]){0, 0, 0, 0}, 2, (moe_expert[]){0, 1}, (double[]){.5, .5});
    /* Shares that are both 0 are a tie, whatever the logits: the softmax comes before the top. */
    expect_top_k((float[]){-600, 0, -500, -400}, 2, (moe_expert[]){1, 0}, (double[]){1, 0});
}
END_TEST

static void expect_mixer(const float score[E], float jitter, moe_expert first, double w0,
                         moe_expert second, double w1)
{
    moe_expert expert[2];
    float w[2];
    moe_router_sparsemixer(score, E, jitter, expert, w);
    ck_assert_uint_eq(expert[0], first);
    ck_assert_uint_eq(expert[1], second);
    ck_assert_double_eq_tol((double)w[0], w0, 1e-6);
    ck_assert_double_eq_tol((double)w[1], w1, 1e-6);
}

START_TEST(mixer_alone_and_in_company)
{
    /* 2 jitter = 0.02: within 2 % of the best counts. 10 against 9.9: 1 %; 9.9 against 9: 9 %. */
    expect_mixer((float[]){9, 10, 9.9f, 1}, 0.01f, 1, 1 / (1 + exp(-0.1)), 2, 1);
    /* Neither weight knows of the other: they need not add up to 1. */
    expect_mixer((float[]){9, 10, 5, 1}, 0.01f, 1, 1, 0, 1);
    /* The first drops out of the second's softmax: 8 and 7.9 share it. */
    expect_mixer((float[]){8, 10, 7.9f, 1}, 0.01f, 1, 1, 0, 1 / (1 + exp(-0.1)));
    /* The limit itself is within: (2 - 1.5) / 2 = 0.25, exactly 2 jitter. */
    expect_mixer((float[]){2, 1.5f, 0, 0}, 0.125f, 0, 1 / (1 + exp(-0.5)), 1, 1);
}
END_TEST

START_TEST(mixer_relates_to_the_larger_magnitude)
{
    /* A negative score far below: (1 + 3) / 3 > 0.5, but with |s| = 1 of the best it is 4. */
    expect_mixer((float[]){1, -3, -3, -3}, 0.7f, 0, 1 / (1 + 3 * exp(-4)), 1, 1. / 3);
    expect_mixer((float[]){1, -3, -3, -3}, 0.6f, 0, 1, 1, 1. / 3);
    /* All negative: the divisor is the magnitude of the other: (-1 + 2) / 2 = 0.5 <= 0.6;
     * (-1 + 3) / 3 = 0.67 and (-1 + 4) / 4 = 0.75 are not. Second: (-2 + 3) / 3 and (-2 + 4) / 4
     * are both within. */
    expect_mixer((float[]){-3, -1, -2, -4}, 0.3f, 1, 1 / (1 + exp(-1)), 2,
                 1 / (1 + exp(-1) + exp(-2)));
    /* The best is 0: others relate to themselves, (0 + 1) / 1 = 1. */
    expect_mixer((float[]){-1, 0, -1, -1}, 0.49f, 1, 1, 0, 1. / 3);
    expect_mixer((float[]){-1, 0, -1, -1}, 0.5f, 1, 1 / (1 + 3 * exp(-1)), 0, 1. / 3);
}
END_TEST

START_TEST(mixer_ties)
{
    expect_mixer((float[]){1, 7, 7, 7}, 0.01f, 1, 1. / 3, 2, .5);
    expect_mixer((float[]){0, 0, 0, 0}, 0.01f, 0, .25, 1, 1. / 3);
}
END_TEST

/* Broken weights give NaN logits: the experts must still be different ones that exist. */
START_TEST(nan_scores_choose_existing_experts)
{
    for (unsigned mask = 0; mask < 16; mask++) {
        float score[E], w[E], scratch[E];
        moe_expert expert[E];
        for (unsigned e = 0; e < E; e++)
            score[e] = mask >> e & 1 ? NAN : (float)e;
        for (unsigned mixer = 0; mixer < 2; mixer++) {
            uint32_t k = mixer ? 2 : E;
            if (mixer)
                moe_router_sparsemixer(score, E, 0.01f, expert, w);
            else
                moe_router_top_k(score, E, k, mask % 2, expert, w, scratch);
            for (uint32_t i = 0; i < k; i++) {
                ck_assert_uint_lt(expert[i], E);
                for (uint32_t j = 0; j < i; j++)
                    ck_assert_uint_ne(expert[i], expert[j]);
            }
        }
    }
}
END_TEST

START_TEST(architecture_decides)
{
    struct moe_llm_config c = {.arch = MOE_ARCH_MIXTRAL,
                               .n_experts = E,
                               .top_k = 2,
                               .renormalise = true,
                               .router_jitter = 0.01f};
    const float score[E] = {9, 10, 9.9f, 1};
    moe_expert expert[2];
    float w[2], scratch[E];
    moe_router_choose(&c, score, expert, w, scratch);
    ck_assert_double_eq_tol((double)w[0] + (double)w[1], 1, 1e-6);
    c.arch = MOE_ARCH_QWEN3_MOE;
    c.renormalise = false;
    moe_router_choose(&c, score, expert, w, scratch);
    ck_assert_double_lt((double)w[0] + (double)w[1], 0.9);
    c.arch = MOE_ARCH_PHIMOE;
    moe_router_choose(&c, score, expert, w, scratch);
    ck_assert_double_eq((double)w[1], 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("router");
    TCase *tc = tcase_create("router");
    tcase_add_test(tc, top_k_by_hand);
    tcase_add_test(tc, top_k_keeps_shares_of_all);
    tcase_add_test(tc, top_k_is_not_moved_by_a_shift);
    tcase_add_test(tc, top_k_ties_go_to_the_lowest);
    tcase_add_test(tc, mixer_alone_and_in_company);
    tcase_add_test(tc, mixer_relates_to_the_larger_magnitude);
    tcase_add_test(tc, mixer_ties);
    tcase_add_test(tc, nan_scores_choose_existing_experts);
    tcase_add_test(tc, architecture_decides);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
