/* One token's attention and the norms, against plain double precision. */
#include "exec/attention.h"

#include "base/rng.h"
#include "exec/norm.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 200, MAX_HD = 40, MAX_GROUP = 4 };

static void fill_random(struct moe_rng *rng, float *x, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (2 * moe_rng_unit(rng) - 1));
}

struct operands {
    float q[MAX_GROUP * MAX_HD], keys[MAX_KEYS * MAX_HD], values[MAX_KEYS * MAX_HD];
};

/* One head, written down as in a textbook. */
static void naive(const struct moe_attention *a, const struct operands *x, uint32_t head,
                  uint32_t position, double *y)
{
    uint32_t hd = a->head_dim;
    double share[MAX_KEYS], top = -INFINITY, sum = 0;
    memset(y, 0, hd * sizeof *y);
    for (uint32_t k = 0; k <= position; k++) {
        share[k] = 0;
        for (uint32_t i = 0; i < hd; i++)
            share[k] += (double)x->q[head * hd + i] * (double)x->keys[k * hd + i];
        share[k] /= sqrt(hd);
        if (a->window && position - k >= a->window)
            share[k] = -INFINITY;
        top = fmax(top, share[k]);
    }
    for (uint32_t k = 0; k <= position; k++)
        sum += share[k] = exp(share[k] - top);
    for (uint32_t k = 0; k <= position; k++)
        for (uint32_t i = 0; i < hd; i++)
            y[i] += share[k] / sum * (double)x->values[k * hd + i];
}

static void compare_attention(const struct moe_attention *a, const struct operands *x,
                              uint32_t position)
{
    struct moe_softmax state[MAX_GROUP];
    float y[MAX_GROUP * MAX_HD];
    moe_attention_run(a, 1, x->q, x->keys, x->values, position, state, y);
    for (uint32_t h = 0; h < a->group; h++) {
        double expected[MAX_HD];
        naive(a, x, h, position, expected);
        for (uint32_t i = 0; i < a->head_dim; i++)
            ck_assert_double_eq_tol((double)y[h * a->head_dim + i], expected[i], 2e-6);
    }
}

START_TEST(equals_plain_attention)
{
    struct moe_rng rng;
    struct operands *x = malloc(sizeof *x);
    ck_assert_ptr_nonnull(x);
    moe_rng_init(&rng, 1);
    for (uint32_t i = 0; i < 3000; i++) {
        struct moe_attention a = {.kernels = moe_kernels_best(),
                                  .group = 1 + (uint32_t)moe_rng_below(&rng, MAX_GROUP),
                                  .head_dim = 2 * (1 + (uint32_t)moe_rng_below(&rng, MAX_HD / 2)),
                                  .window = (uint32_t)moe_rng_below(&rng, 2) *
                                            (1 + (uint32_t)moe_rng_below(&rng, 120))};
        uint32_t position = (uint32_t)moe_rng_below(&rng, MAX_KEYS);
        fill_random(&rng, x->q, (size_t)a.group * a.head_dim, 4);
        fill_random(&rng, x->keys, (size_t)(position + 1) * a.head_dim, 4);
        fill_random(&rng, x->values, (size_t)(position + 1) * a.head_dim, 1);
        compare_attention(&a, x, position);
    }
    free(x);
}
END_TEST

/* Tokens together and one by one, with a head of another group beside theirs: the same bits. */
START_TEST(tokens_together_are_as_alone)
{
    enum { TOKENS = 40, HEADS = 3, HD = 40, FIRST = 60 };
    struct moe_rng rng;
    static float q[TOKENS * HEADS * HD], keys[(FIRST + TOKENS) * HD], values[(FIRST + TOKENS) * HD];
    static float y[TOKENS * HEADS * HD], alone[TOKENS * HEADS * HD];
    struct moe_softmax state[TOKENS * HEADS];
    moe_rng_init(&rng, 2);
    fill_random(&rng, q, TOKENS * HEADS * HD, 4);
    fill_random(&rng, keys, (FIRST + TOKENS) * HD, 4);
    fill_random(&rng, values, (FIRST + TOKENS) * HD, 1);
    for (uint32_t window = 0; window < 80; window += 3)
        for (size_t i = 0; i < moe_n_kernel_sets; i++) {
            const struct moe_attention a = {.kernels = moe_kernel_sets[i],
                                            .group = HEADS - 1,
                                            .n_heads = HEADS,
                                            .head_dim = HD,
                                            .window = window};
            if (!a.kernels->usable())
                continue;
            moe_attention_run(&a, TOKENS, q, keys, values, FIRST, state, y);
            for (uint32_t t = 0; t < TOKENS; t++) {
                const size_t at = (size_t)t * HEADS * HD;
                moe_attention_run(&a, 1, q + at, keys, values, FIRST + t, state, alone + at);
            }
            ck_assert_mem_eq(y, alone, sizeof y);
        }
}
END_TEST

/* Scores of many hundreds, rising and falling over the blocks: exp of any of them alone would
 * overflow, and the largest so far is not the largest of all. */
START_TEST(large_scores_do_not_overflow)
{
    struct operands *x = calloc(1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    struct moe_attention a = {.kernels = moe_kernels_best(), .group = 1, .head_dim = 4};
    x->q[0] = 2;
    for (int k = 0; k < MAX_KEYS; k++) {
        x->keys[k * 4] = (float)(k < 150 ? 10 * k : 0); /* scores 0, 10, 20 .. 1490, 0, 0 .. */
        x->values[k * 4] = (float)k;
    }
    struct moe_softmax state;
    float y[4];
    moe_attention_run(&a, 1, x->q, x->keys, x->values, MAX_KEYS - 1, &state, y);
    ck_assert_double_eq_tol((double)y[0], 149 - exp(-10), 1e-4);
    free(x);
}
END_TEST

/* A key at distance window is not seen, one nearer is. */
START_TEST(window_edge)
{
    struct operands *x = calloc(1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (uint32_t window = 1; window < 70; window++) {
        struct moe_attention a = {
            .kernels = moe_kernels_best(), .group = 1, .head_dim = 2, .window = window};
        struct moe_softmax state;
        float y[2];
        for (int k = 0; k < MAX_KEYS; k++)
            x->values[2 * k] = 1000;
        for (uint32_t k = 0; k < window; k++)
            x->values[2 * (MAX_KEYS - 1 - k)] = 1; /* all scores are 0: y is the mean */
        moe_attention_run(&a, 1, x->q, x->keys, x->values, MAX_KEYS - 1, &state, y);
        ck_assert_double_eq_tol((double)y[0], 1, 1e-6);
        x->values[2 * (MAX_KEYS - window)] = 2;
        moe_attention_run(&a, 1, x->q, x->keys, x->values, MAX_KEYS - 1, &state, y);
        ck_assert_double_eq_tol((double)y[0], 1 + 1. / window, 1e-6);
    }
    free(x);
}
END_TEST

START_TEST(norms)
{
    struct moe_rng rng;
    float x[100], scale[100], shift[100], y[100];
    moe_rng_init(&rng, 2);
    for (uint32_t n = 1; n <= 100; n++) {
        fill_random(&rng, x, n, 3);
        fill_random(&rng, scale, n, 2);
        fill_random(&rng, shift, n, 2);
        x[0] += 50; /* a mean far from 0, and a vector that one element rules */
        double mean = 0, square = 0, variance = 0;
        for (uint32_t i = 0; i < n; i++)
            mean += (double)x[i] / n;
        for (uint32_t i = 0; i < n; i++) {
            square += (double)x[i] * (double)x[i] / n;
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
        }
        const struct moe_norm rms = {scale, NULL}, layer = {scale, shift};
        moe_norm_apply(&rms, 0.25f, x, n, y);
        for (uint32_t i = 0; i < n; i++)
            ck_assert_double_eq_tol((double)y[i],
                                    (double)x[i] / sqrt(square + 0.25) * (double)scale[i], 1e-5);
        moe_norm_apply(&layer, 0.25f, x, n, y);
        for (uint32_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(
                (double)y[i],
                ((double)x[i] - mean) / sqrt(variance + 0.25) * (double)scale[i] + (double)shift[i],
                5e-5);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tc = tcase_create("attention");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equals_plain_attention);
    tcase_add_test(tc, tokens_together_are_as_alone);
    tcase_add_test(tc, large_scores_do_not_overflow);
    tcase_add_test(tc, window_edge);
    tcase_add_test(tc, norms);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
