/* The slots of the lowest means are those that a plain search finds, with vectors and without. */
#include "policies/mean_slots.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = MOE_MEAN_SLOTS_MAX, N_MEANS = 300, N_ROUNDS = 400 };

static bool goes_before(const struct moe_mean_slots *slots, const float *mean, uint32_t a,
                        uint32_t b)
{
    float left = mean[slots->at[a]], right = mean[slots->at[b]];
    return left < right || (left <= right && slots->since[a] < slots->since[b]);
}

static void search(const struct moe_mean_slots *slots, const float *mean, const uint8_t *pinned,
                   uint32_t n, moe_slot *found)
{
    bool gone[MOST] = {false};
    for (uint32_t k = 0; k < n; k++) {
        found[k] = MOE_NO_SLOT;
        for (uint32_t s = 0; s < slots->n_slots; s++)
            if (!pinned[s] && !gone[s] &&
                (found[k] == MOE_NO_SLOT || goes_before(slots, mean, s, (uint32_t)found[k])))
                found[k] = (moe_slot)s;
        if (found[k] != MOE_NO_SLOT)
            gone[found[k]] = true;
    }
}

/* Means all different, or of few values, or below 0; slots come in in any order. */
static void draw(struct moe_rng *rng, struct moe_mean_slots *slots, float *mean, uint8_t *pinned)
{
    uint64_t kind = moe_rng_below(rng, 3), one_in = 1 + moe_rng_below(rng, 5);
    for (uint32_t i = 0; i < N_MEANS; i++)
        mean[i] = kind == 0   ? (float)moe_rng_unit(rng)
                  : kind == 1 ? (float)moe_rng_below(rng, 4)
                              : (float)moe_rng_unit(rng) - 0.5f;
    for (uint32_t s = 0; s < slots->n_slots; s++) {
        slots->at[s] = (uint32_t)moe_rng_below(rng, N_MEANS);
        slots->since[s] = moe_rng_below(rng, 1 << 20) * MOST + s;
        pinned[s] = moe_rng_below(rng, 5) < one_in ? 0 : 1;
    }
}

static void check_size(struct moe_rng *rng, uint32_t n_slots)
{
    moe_mean_slots_find *const ways[] = {moe_mean_slots_plain, moe_mean_slots_best()};
    uint8_t *pinned = calloc(n_slots, 1); /* heap: a read behind it is found */
    float *mean = calloc(N_MEANS, sizeof *mean);
    struct moe_mean_slots slots = {.n_slots = n_slots};
    for (int i = 0; i < N_ROUNDS; i++) {
        moe_slot expected[MOST + 3], found[MOST + 3];
        uint32_t n = 1 + (uint32_t)moe_rng_below(rng, moe_rng_below(rng, 4) ? 8 : MOST + 3);
        draw(rng, &slots, mean, pinned);
        search(&slots, mean, pinned, n, expected);
        for (int k = 0; k < 2; k++) {
            ways[k](&slots, mean, pinned, n, found);
            ck_assert_mem_eq(found, expected, n * sizeof *found);
        }
    }
    free(pinned);
    free(mean);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (uint32_t n = 1; n <= MOST; n++)
        check_size(&rng, n);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("mean_slots");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equal_to_a_search);
    Suite *suite = suite_create("mean_slots");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
