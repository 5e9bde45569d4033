/* The victim is the slot that a plain search finds, whatever is added, used, pinned and removed. */
#include "policies/slot_counts.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLOTS = 300, N_STEPS = 600 };

struct use {
    uint64_t count, last; /* count 0: not added */
};

static moe_slot search(const struct use *use, const uint8_t *pinned, uint32_t n)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n; s++) {
        if (pinned[s] || use[s].count == 0)
            continue;
        const struct use *u = &use[s], *b = best == MOE_NO_SLOT ? NULL : &use[best];
        if (!b || u->count < b->count || (u->count == b->count && u->last < b->last))
            best = (moe_slot)s;
    }
    return best;
}

/* Adds a slot, removes it, or uses it: once or, now and then, often enough for the last ring. */
static void change(struct moe_rng *rng, struct moe_slot_counts *counts, struct use *use, uint32_t n,
                   uint64_t *now)
{
    uint32_t s = (uint32_t)moe_rng_below(rng, n);
    uint64_t times = moe_rng_below(rng, 8) ? 1 : moe_rng_below(rng, 2 * MOE_COUNTS_RINGS);
    if (use[s].count == 0) {
        moe_slot_counts_add(counts, (moe_slot)s);
        use[s] = (struct use){1, ++*now};
    } else if (moe_rng_below(rng, 4) == 0) {
        moe_slot_counts_remove(counts, (moe_slot)s);
        use[s].count = 0;
    } else {
        for (uint64_t i = 0; i < times; i++) {
            moe_slot_counts_use(counts, (moe_slot)s);
            use[s] = (struct use){use[s].count + 1, ++*now};
        }
    }
}

static void check_size(struct moe_rng *rng, uint32_t n)
{
    const struct moe_policy_env env = {.n_slots = n};
    struct use use[MAX_SLOTS] = {{0}};
    uint8_t pinned[MAX_SLOTS] = {0};
    struct moe_slot_counts counts;
    uint64_t now = 0;
    void *memory = malloc(moe_slot_counts_size(&env));
    moe_slot_counts_init(&counts, &env, memory);
    ck_assert_int_eq(moe_slot_counts_victim(&counts, pinned), MOE_NO_SLOT);
    for (int i = 0; i < N_STEPS; i++) {
        change(rng, &counts, use, n, &now);
        for (uint32_t k = 0; k < 1 + n / 8; k++)
            pinned[moe_rng_below(rng, n)] = (uint8_t)moe_rng_below(rng, 2);
        ck_assert_int_eq(moe_slot_counts_victim(&counts, pinned), search(use, pinned, n));
    }
    memset(pinned, 3, n);
    ck_assert_int_eq(moe_slot_counts_victim(&counts, pinned), MOE_NO_SLOT);
    free(memory);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (uint32_t n = 1; n <= MAX_SLOTS; n += 1 + n / 20)
        check_size(&rng, n);
}
END_TEST

/* Slots that are all in the last ring are ordered by their uses, then by their last use. */
START_TEST(many_uses)
{
    const struct moe_policy_env env = {.n_slots = 3};
    const uint8_t none[3] = {0}, second[3] = {0, 1, 0};
    struct moe_slot_counts counts;
    void *memory = malloc(moe_slot_counts_size(&env));
    moe_slot_counts_init(&counts, &env, memory);
    for (moe_slot s = 0; s < 3; s++) {
        moe_slot_counts_add(&counts, s);
        for (int i = 0; i < 2 * MOE_COUNTS_RINGS - (s == 1); i++)
            moe_slot_counts_use(&counts, s);
    }
    ck_assert_int_eq(moe_slot_counts_victim(&counts, none), 1);
    ck_assert_int_eq(moe_slot_counts_victim(&counts, second), 0);
    moe_slot_counts_use(&counts, 0);
    ck_assert_int_eq(moe_slot_counts_victim(&counts, second), 2);
    moe_slot_counts_remove(&counts, 1);
    ck_assert_int_eq(moe_slot_counts_victim(&counts, none), 2);
    free(memory);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_counts");
    tcase_add_test(tc, equal_to_a_search);
    tcase_add_test(tc, many_uses);
    Suite *suite = suite_create("slot_counts");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
