/* The loops over a layer's scores against plain ones. */
#include "policies/score_loops.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX = 200, ROOM = MAX + MOE_KEY_BLOCK };

START_TEST(exponentials_are_right_to_the_last_place)
{
    float x[MOE_KEY_BLOCK], given[MOE_KEY_BLOCK];
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int n = 0; n < 3000; n++) {
        for (int i = 0; i < MOE_KEY_BLOCK; i++)
            given[i] = x[i] = (float)(-106 * moe_rng_unit(&rng) * moe_rng_unit(&rng));
        moe_exp_block(x);
        for (int i = 0; i < MOE_KEY_BLOCK; i++) {
            float right = (float)exp((double)given[i]);
            ck_assert(x[i] >= nextafterf(right, -1) && x[i] <= nextafterf(right, 2));
        }
    }
    float ends[MOE_KEY_BLOCK] = {0, -0.0f, -INFINITY, -104, -1e30f};
    moe_exp_block(ends);
    ck_assert(ends[0] == 1 && ends[1] == 1 && ends[2] == 0 && ends[3] == 0 && ends[4] == 0);
}
END_TEST

START_TEST(softmax_sums_in_order)
{
    float score[MAX], out[ROOM];
    int32_t key[ROOM];
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (uint32_t n = 1; n <= MAX; n++) {
        float most = -INFINITY, sum = 0, block[MOE_KEY_BLOCK] = {0};
        for (uint32_t i = 0; i < n; i++) {
            score[i] = (float)(30 * moe_rng_unit(&rng) - 20);
            most = score[i] > most ? score[i] : most;
        }
        moe_softmax(score, n, out, key);
        for (int again = 0; again < 2; again++)
            for (uint32_t i = 0; i < n; i++) {
                block[0] = score[i] - most;
                moe_exp_block(block);
                sum += again ? 0 : block[0];
                ck_assert(!again || out[i] == block[0] / sum);
            }
    }
}
END_TEST

static int compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

/* Few different keys, and any. */
START_TEST(threshold_leaves_p)
{
    int32_t key[MAX], sorted[MAX];
    struct moe_rng rng;
    moe_rng_init(&rng, 6);
    for (int i = 0; i < 4000; i++) {
        uint32_t n = 1 + (uint32_t)moe_rng_below(&rng, i % 2 ? 20 : MAX), n_above = 0;
        uint32_t p = 1 + (uint32_t)moe_rng_below(&rng, n);
        for (uint32_t k = 0; k < n; k++)
            key[k] =
                i % 3 ? (int32_t)(uint32_t)moe_rng_next(&rng) : (int32_t)moe_rng_below(&rng, 5) - 2;
        memcpy(sorted, key, n * sizeof *key);
        qsort(sorted, n, sizeof *sorted, compare);
        int32_t threshold = moe_keys_threshold(key, n, p);
        for (uint32_t k = 0; k < n; k++)
            n_above += key[k] >= threshold;
        ck_assert(n_above == p || (n_above > p && threshold == sorted[p - 1]));
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("score_loops");
    tcase_add_test(tc, exponentials_are_right_to_the_last_place);
    tcase_add_test(tc, softmax_sums_in_order);
    tcase_add_test(tc, threshold_leaves_p);
    Suite *suite = suite_create("score_loops");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
