/* The tournament finds what a plain search finds, whatever is set, pinned and rebuilt. */
#include "policies/slot_tree.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX_SLOTS = 100, N_STEPS = 300 };

static moe_slot search(const struct moe_rank *rank, const uint8_t *pinned, uint8_t forbids,
                       uint32_t n)
{
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n; s++) {
        if (pinned[s] & forbids)
            continue;
        const struct moe_rank *r = &rank[s], *b = best == MOE_NO_SLOT ? NULL : &rank[best];
        if (!b || r->first < b->first || (r->first == b->first && r->second < b->second))
            best = (moe_slot)s;
    }
    return best;
}

static uint32_t count(const struct moe_rank *rank, const uint8_t *pinned, uint8_t forbids,
                      uint32_t n, uint64_t limit, uint32_t most)
{
    uint32_t found = 0;
    for (uint32_t s = 0; s < n && found < most; s++)
        found += rank[s].first < limit && !(pinned[s] & forbids);
    return found;
}

static void check_size(struct moe_rng *rng, uint32_t n, uint8_t forbids)
{
    const struct moe_policy_env env = {.n_slots = n};
    struct moe_rank rank[MAX_SLOTS];
    uint8_t pinned[MAX_SLOTS] = {0};
    struct moe_slot_tree tree;
    void *memory = malloc(moe_slot_tree_size(&env));
    moe_slot_tree_init(&tree, &env, memory);
    for (uint32_t s = 0; s < n; s++)
        rank[s] = (struct moe_rank){UINT64_MAX, UINT64_MAX};
    for (int i = 0; i < N_STEPS; i++) {
        uint32_t s = (uint32_t)moe_rng_below(rng, n);
        rank[s] = (struct moe_rank){moe_rng_below(rng, 6), moe_rng_below(rng, 6)};
        if (moe_rng_below(rng, 20)) {
            moe_slot_tree_set(&tree, (moe_slot)s, rank[s]);
        } else {
            tree.rank[s] = rank[s];
            moe_slot_tree_build(&tree);
        }
        for (uint32_t k = 0; k < 1 + n / 8; k++)
            pinned[moe_rng_below(rng, n)] =
                (uint8_t)(moe_rng_below(rng, 3) * moe_rng_below(rng, 2));
        ck_assert_int_eq(moe_slot_tree_lowest(&tree, pinned, forbids, n),
                         search(rank, pinned, forbids, n));
        uint64_t limit = moe_rng_below(rng, 8);
        uint32_t most = 1 + (uint32_t)moe_rng_below(rng, 5);
        ck_assert_uint_eq(moe_slot_tree_count(&tree, pinned, n, forbids, limit, most),
                          count(rank, pinned, forbids, n, limit, most));
    }
    free(memory);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS; n++)
        for (uint8_t forbids = 1; forbids <= 3; forbids++)
            check_size(&rng, n, forbids);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_tree");
    tcase_add_test(tc, equal_to_a_search);
    Suite *suite = suite_create("slot_tree");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
