/* The victim is the slot that a plain search finds, whatever is set, raised, pinned and rebuilt. */
#include "policies/slot_tree.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLOTS = 2000, N_STEPS = 300 };

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

/* Three in ten slots change their pins. */
static void pin_some(struct moe_rng *rng, uint8_t *pinned, uint32_t n)
{
    for (uint32_t k = 0; k < 1 + n / 8; k++)
        pinned[moe_rng_below(rng, n)] = (uint8_t)(moe_rng_below(rng, 3) * moe_rng_below(rng, 2));
}

static bool is_below(const struct moe_rank *a, const struct moe_rank *b)
{
    return a->first < b->first || (a->first == b->first && a->second < b->second);
}

/* Sets a rank, or raises it, or now and then the first part of several at once. */
static void change(struct moe_rng *rng, struct moe_slot_tree *tree, struct moe_rank *rank,
                   uint32_t n)
{
    uint32_t s = (uint32_t)moe_rng_below(rng, n);
    if (moe_rng_below(rng, 20)) {
        uint64_t first = moe_rng_below(rng, 12) ? moe_rng_below(rng, 6) : UINT64_MAX;
        struct moe_rank before = rank[s];
        rank[s] = (struct moe_rank){first, first < 6 ? moe_rng_below(rng, 6) : 0};
        if (is_below(&rank[s], &before) || moe_rng_below(rng, 2))
            moe_slot_tree_set(tree, (moe_slot)s, rank[s]);
        else
            moe_slot_tree_raise(tree, (moe_slot)s, rank[s]);
    } else {
        for (; s < n; s += 1 + n / 4) {
            rank[s].first = moe_rng_below(rng, 6);
            moe_slot_tree_put_first(tree, s, rank[s].first);
        }
        moe_slot_tree_build(tree);
    }
}

static void check_size(struct moe_rng *rng, uint32_t n, uint8_t forbids, bool full)
{
    const struct moe_policy_env env = {.n_slots = n};
    struct moe_rank *rank = calloc(n, sizeof *rank);
    uint8_t *pinned = calloc(n, 1);
    struct moe_slot_tree tree;
    void *memory = malloc(moe_slot_tree_size(&env));
    moe_slot_tree_init(&tree, &env, memory);
    for (uint32_t s = 0; s < n; s++) {
        rank[s] = (struct moe_rank){full ? s % 5 : UINT64_MAX, 0};
        if (full)
            moe_slot_tree_set(&tree, (moe_slot)s, rank[s]);
    }
    for (int i = 0; i < N_STEPS; i++) {
        change(rng, &tree, rank, n);
        pin_some(rng, pinned, n);
        uint32_t s = (uint32_t)moe_rng_below(rng, n);
        ck_assert_uint_eq(moe_slot_tree_first(&tree, (moe_slot)s), rank[s].first);
        ck_assert_int_eq(moe_slot_tree_lowest(&tree, pinned, forbids, n),
                         search(rank, pinned, forbids, n));
    }
    memset(pinned, 3, n);
    ck_assert_int_eq(moe_slot_tree_lowest(&tree, pinned, forbids, n), MOE_NO_SLOT);
    free(rank);
    free(pinned);
    free(memory);
}

START_TEST(equal_to_a_search)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (uint32_t n = 1; n <= MAX_SLOTS; n += 1 + n / 50)
        for (uint8_t forbids = 1; forbids <= 3; forbids++)
            check_size(&rng, n, forbids, n % 3 > 0);
}
END_TEST

/* Seconds up to their limit are told apart, and do not reach into the first. */
START_TEST(longest_seconds)
{
    static const uint32_t sizes[] = {3, 100, 2000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct moe_policy_env env = {.n_slots = sizes[i]};
        const uint64_t most = UINT64_MAX >> __builtin_ctz(moe_slot_tree_leaves(&env));
        uint8_t pinned[2000] = {0};
        struct moe_slot_tree tree;
        void *memory = malloc(moe_slot_tree_size(&env));
        moe_slot_tree_init(&tree, &env, memory);
        for (uint32_t s = 0; s < sizes[i]; s++)
            moe_slot_tree_set(&tree, (moe_slot)s, (struct moe_rank){7, most - s});
        ck_assert_int_eq(moe_slot_tree_victim(&tree, pinned, sizes[i]), (int)sizes[i] - 1);
        moe_slot_tree_set(&tree, 1, (struct moe_rank){7, most / 2 + 1});
        moe_slot_tree_set(&tree, 2, (struct moe_rank){7, most / 2});
        ck_assert_int_eq(moe_slot_tree_victim(&tree, pinned, sizes[i]), 2);
        moe_slot_tree_set(&tree, 1, (struct moe_rank){6, most});
        ck_assert_int_eq(moe_slot_tree_victim(&tree, pinned, sizes[i]), 1);
        free(memory);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot_tree");
    tcase_add_test(tc, equal_to_a_search);
    tcase_add_test(tc, longest_seconds);
    Suite *suite = suite_create("slot_tree");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
