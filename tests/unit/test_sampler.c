#include "exec/sampler.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct moe_sampler make(uint32_t n, double temperature, uint32_t top_k, double top_p,
                               uint64_t seed)
{
    struct moe_sampler s;
    struct moe_err err = {0};
    ck_assert_msg(moe_sampler_init(&s, n, temperature, top_k, top_p, seed, &err) == MOE_OK, "%s",
                  err.text);
    return s;
}

START_TEST(greedy)
{
    struct moe_sampler s = make(5, 0, 3, 0.5, 1);
    ck_assert_int_eq(moe_sampler_next(&s, (float[]){1, 3, 2, 3, 0}), 1);
    ck_assert_int_eq(moe_sampler_next(&s, (float[]){NAN, -3, NAN, -2, -2}), 3);
    ck_assert_int_eq(moe_sampler_next(&s, (float[]){-INFINITY, NAN, -INFINITY, NAN, NAN}), 0);
    ck_assert_int_eq(moe_sampler_next(&s, (float[]){NAN, NAN, NAN, NAN, NAN}), -1);
    ck_assert_int_eq(moe_sampler_next(&s, (float[]){0, INFINITY, 9, INFINITY, 1}), 1);
    moe_sampler_release(&s);
    s = make(5, 1, 0, 1, 1); /* sampling has no choice here either */
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(moe_sampler_next(&s, (float[]){0, INFINITY, 9, INFINITY, 1}), 1);
        ck_assert_int_eq(moe_sampler_next(&s, (float[]){NAN, NAN, -INFINITY, 7, NAN}), 3);
        ck_assert_int_eq(moe_sampler_next(&s, (float[]){NAN, NAN, NAN, NAN, NAN}), -1);
    }
    moe_sampler_release(&s);
}
END_TEST

enum { V = 40, DRAWS = 100000 };

static void random_logits(struct moe_rng *rng, float *x, uint32_t n, double width)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)(width * moe_rng_unit(rng));
}

/* Which tokens stay, with their probabilities: everything sorted, everything in double. False where
 * rounding decides. */
static bool reference(const float *x, uint32_t n, double temperature, uint32_t top_k, double top_p,
                      double *prob)
{
    uint32_t order[V];
    double total = 0, seen = 0;
    bool clear = true;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at && x[order[at - 1]] < x[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (uint32_t r = 0; r < n; r++) {
        bool in = !top_k || r < top_k || x[order[r]] == x[order[top_k - 1]];
        prob[order[r]] = in ? exp(((double)x[order[r]] - (double)x[order[0]]) / temperature) : 0;
        total += prob[order[r]];
    }
    for (uint32_t r = 0; r < n; r++) {
        double p = prob[order[r]];
        clear = clear && (r == 0 || top_p >= 1 || fabs(seen - top_p * total) > 1e-5 * total);
        if (r && top_p < 1 && seen >= top_p * total)
            prob[order[r]] = 0;
        seen += p;
    }
    total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += prob[i];
    for (uint32_t i = 0; i < n; i++)
        prob[i] /= total;
    return clear;
}

START_TEST(members)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 1);
    int checked = 0;
    for (int c = 0; c < 3000; c++) {
        float x[V];
        double prob[V], top_p = moe_rng_below(&rng, 4) ? 0.05 + 0.95 * moe_rng_unit(&rng) : 1;
        uint32_t n = 1 + (uint32_t)moe_rng_below(&rng, 10), drawn[V] = {0};
        uint32_t top_k = (uint32_t)moe_rng_below(&rng, n + 2);
        double temperature = 0.8 + moe_rng_unit(&rng);
        random_logits(&rng, x, n, 2);
        if (n > 2 && moe_rng_below(&rng, 2))
            x[n / 2] = x[0]; /* equals */
        if (!reference(x, n, temperature, top_k > n ? 0 : top_k, top_p, prob))
            continue;
        struct moe_sampler s = make(n, temperature, top_k, top_p, moe_rng_next(&rng));
        for (int i = 0; i < 2000; i++)
            drawn[moe_sampler_next(&s, x)]++;
        for (uint32_t i = 0; i < n; i++)
            ck_assert_msg((drawn[i] > 0) == (prob[i] > 0), "case %d, token %u of %u: %u of %g", c,
                          i, n, drawn[i], prob[i]);
        moe_sampler_release(&s);
        checked++;
    }
    ck_assert_int_gt(checked, 2000);
}
END_TEST

/* Draws against exact probabilities; the seed is fixed, so this passes always or never. */
static void check_distribution(double temperature, uint32_t top_k, double top_p)
{
    struct moe_rng rng;
    float x[V];
    double prob[V], chi2 = 0;
    uint32_t drawn[V] = {0}, cells = 0;
    moe_rng_init(&rng, 2);
    random_logits(&rng, x, V, 3);
    ck_assert(reference(x, V, temperature, top_k, top_p, prob));
    struct moe_sampler s = make(V, temperature, top_k, top_p, 3);
    for (int i = 0; i < DRAWS; i++)
        drawn[moe_sampler_next(&s, x)]++;
    for (uint32_t i = 0; i < V; i++) {
        double expected = DRAWS * prob[i], off = (double)drawn[i] - expected;
        if (expected > 0)
            chi2 += off * off / expected;
        cells += expected > 0;
        ck_assert(expected > 0 || !drawn[i]);
    }
    /* Mean cells - 1, variance 2 (cells - 1): five standard deviations. */
    ck_assert_uint_gt(cells, 3);
    ck_assert_msg(chi2 < cells - 1 + 5 * sqrt(2 * (cells - 1.0)), "chi2 %g of %u", chi2, cells);
    moe_sampler_release(&s);
}

START_TEST(distribution)
{
    check_distribution(1, 0, 1);
    check_distribution(0.5, 0, 1);
    check_distribution(2, 0, 1);
    check_distribution(1, 10, 1);
    check_distribution(1, 0, 0.6);
    check_distribution(1.5, 12, 0.8);
}
END_TEST

START_TEST(wide)
{
    enum { WIDE = 32000 };
    static float x[WIDE];
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    random_logits(&rng, x, WIDE, 1);
    for (uint32_t i = 0; i < WIDE; i += 3)
        x[i] = NAN;
    x[4] = x[31999] = x[70] = 9; /* 31999 - 31998 = 1, so it is no NaN */
    struct moe_sampler s = make(WIDE, 1, 3, 1, 5);
    struct moe_sampler p = make(WIDE, 1, 0, 0.15, 5);
    int seen[3] = {0};
    for (int i = 0; i < 300; i++) {
        int32_t a = moe_sampler_next(&s, x), b = moe_sampler_next(&p, x);
        ck_assert(a == 4 || a == 70 || a == 31999);
        ck_assert_int_ne(b % 3, 0);
        seen[a == 4 ? 0 : a == 70 ? 1 : 2]++;
    }
    ck_assert(seen[0] > 60 && seen[1] > 60 && seen[2] > 60);
    moe_sampler_release(&s);
    moe_sampler_release(&p);
}
END_TEST

START_TEST(repeatable)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 6);
    struct moe_sampler a = make(V, 1, 20, 0.9, 7), b = make(V, 1, 20, 0.9, 7);
    struct moe_sampler c = make(V, 1, 20, 0.9, 8);
    int differ = 0;
    for (int i = 0; i < 1000; i++) {
        float x[V];
        random_logits(&rng, x, V, 3);
        int32_t token = moe_sampler_next(&a, x);
        ck_assert_int_eq(token, moe_sampler_next(&b, x));
        differ += token != moe_sampler_next(&c, x);
    }
    ck_assert_int_gt(differ, 500);
    moe_sampler_release(&a);
    moe_sampler_release(&b);
    moe_sampler_release(&c);
}
END_TEST

START_TEST(extremes)
{
    const float x[] = {1, 2, 2.0001F, -INFINITY, 0};
    struct moe_sampler s = make(5, 1e-300, 0, 1, 1);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(moe_sampler_next(&s, x), 2);
    moe_sampler_release(&s);
    s = make(5, 1, 0, 1e-300, 1);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(moe_sampler_next(&s, x), 2);
    moe_sampler_release(&s);
    s = make(5, 1e300, 0, 0.9999, 1);
    for (int i = 0; i < 500; i++)
        ck_assert_int_ne(moe_sampler_next(&s, x), 3);
    moe_sampler_release(&s);
}
END_TEST

START_TEST(refusals)
{
    struct moe_sampler s = {.n_vocab = 77};
    struct moe_err err = {0};
    ck_assert_int_eq(moe_sampler_init(&s, 5, -1, 0, 1, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 5, NAN, 0, 1, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 5, INFINITY, 0, 1, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 5, 1, 0, 0, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 5, 1, 0, 1.5, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 5, 1, 0, NAN, 1, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_sampler_init(&s, 0, 1, 0, 1, 1, &err), MOE_ERR_USAGE);
    ck_assert_uint_eq(s.n_vocab, 77);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tcase = tcase_create("sampler");
    tcase_add_test(tcase, greedy);
    tcase_add_test(tcase, members);
    tcase_add_test(tcase, distribution);
    tcase_add_test(tcase, wide);
    tcase_add_test(tcase, repeatable);
    tcase_add_test(tcase, extremes);
    tcase_add_test(tcase, refusals);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
