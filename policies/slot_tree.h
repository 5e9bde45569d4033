/* Slots by rank: finds the lowest of any number of slots without looking at all of them. For
 * policies in which only a slot's own uses change its rank. A tournament: each inner node of a
 * binary tree knows the lowest slot below it. A use that makes a slot rise mostly changes nothing
 * but the two or three nodes above it.
 *
 * A slot that would win and is pinned leaves the tournament until it is pinned no longer: those
 * that an event has just filled often rank lowest, and its other misses would all meet them again.
 *
 * Few slots are looked at one after the other: that is faster than to keep a tournament. */
#ifndef MOELAB_POLICIES_SLOT_TREE_H
#define MOELAB_POLICIES_SLOT_TREE_H

#include "policies/policy.h"

/* Compared by first, then by second, then by slot. */
struct moe_rank {
    uint64_t first, second;
};

struct moe_slot_tree {
    uint32_t n_leaves;     /* a power of two, >= n_slots */
    uint32_t n_listed;     /* of `listed` */
    struct moe_rank *rank; /* [n_leaves] */
    struct moe_rank *play; /* [n_leaves] the same; the highest of a slot that is away */
    uint32_t *lowest;      /* [n_leaves] slot; of node i the nodes below are 2 i and 2 i + 1 */
    uint32_t *listed;      /* [n_leaves] slots that left, some of which may be back */
    uint8_t *left;         /* [n_leaves] enum moe_slot_left bits */
};

enum { MOE_SLOT_TREE_FEW = 32 }; /* leaves, at most, for which there is no tournament */

enum moe_slot_left { MOE_SLOT_AWAY = 1, MOE_SLOT_LISTED = 2 };

static inline uint32_t moe_slot_tree_leaves(const struct moe_policy_env *env)
{
    uint32_t n = 2;
    while (n < env->n_slots)
        n *= 2;
    return n;
}

/* A multiple of 8, so that arrays of 8-byte alignment may follow. */
static inline size_t moe_slot_tree_size(const struct moe_policy_env *env)
{
    size_t n = moe_slot_tree_leaves(env);
    return n * (2 * sizeof(struct moe_rank) + 2 * sizeof(uint32_t)) + (n + 7) / 8 * 8;
}

static inline uint32_t moe_slot_tree_lower(const struct moe_slot_tree *tree, uint32_t a, uint32_t b)
{
    const struct moe_rank x = tree->play[a], y = tree->play[b];
    bool less = (y.first < x.first) | ((y.first == x.first) & (y.second < x.second));
    return less ? b : a;
}

/* The lowest slot below a node; nodes from n_leaves on are the slots themselves. */
static inline uint32_t moe_slot_tree_at(const struct moe_slot_tree *tree, uint32_t node)
{
    return node < tree->n_leaves ? tree->lowest[node] : node - tree->n_leaves;
}

static inline uint32_t moe_slot_tree_match(const struct moe_slot_tree *tree, uint32_t node)
{
    return moe_slot_tree_lower(tree, moe_slot_tree_at(tree, 2 * node),
                               moe_slot_tree_at(tree, 2 * node + 1));
}

static inline bool moe_slot_tree_is_small(const struct moe_slot_tree *tree)
{
    return tree->n_leaves <= MOE_SLOT_TREE_FEW;
}

/* After ranks were written without moe_slot_tree_set. */
static inline void moe_slot_tree_build(struct moe_slot_tree *tree)
{
    if (moe_slot_tree_is_small(tree))
        return;
    for (uint32_t s = 0; s < tree->n_leaves; s++)
        if (!(tree->left[s] & MOE_SLOT_AWAY))
            tree->play[s] = tree->rank[s];
    for (uint32_t i = tree->n_leaves - 1; i > 0; i--)
        tree->lowest[i] = moe_slot_tree_match(tree, i);
}

/* memory: moe_slot_tree_size bytes, of 8-byte alignment. Every slot has the highest rank. */
static inline void moe_slot_tree_init(struct moe_slot_tree *tree, const struct moe_policy_env *env,
                                      void *memory)
{
    uint32_t n = moe_slot_tree_leaves(env);
    tree->n_leaves = n;
    tree->n_listed = 0;
    tree->rank = memory;
    tree->play = tree->rank + n;
    tree->lowest = (uint32_t *)(tree->play + n);
    tree->listed = tree->lowest + n;
    tree->left = (uint8_t *)(tree->listed + n);
    for (uint32_t s = 0; s < n; s++) {
        tree->rank[s] = (struct moe_rank){UINT64_MAX, UINT64_MAX};
        tree->left[s] = 0;
    }
    moe_slot_tree_build(tree);
}

/* Plays again what the slot takes part in. */
static inline void moe_slot_tree_play(struct moe_slot_tree *tree, uint32_t s, struct moe_rank rank)
{
    tree->play[s] = rank;
    for (uint32_t i = (tree->n_leaves + s) / 2; i > 0; i /= 2) {
        uint32_t before = tree->lowest[i], now = moe_slot_tree_match(tree, i);
        tree->lowest[i] = now;
        if (before != s && now != s) /* nothing changes above */
            break;
    }
}

static inline void moe_slot_tree_set(struct moe_slot_tree *tree, moe_slot slot,
                                     struct moe_rank rank)
{
    uint32_t s = (uint32_t)slot;
    tree->rank[s] = rank;
    if (moe_slot_tree_is_small(tree))
        return;
    tree->left[s] &= (uint8_t)~MOE_SLOT_AWAY;
    moe_slot_tree_play(tree, s, rank);
}

static inline void moe_slot_tree_leave(struct moe_slot_tree *tree, uint32_t s)
{
    if (!tree->left[s])
        tree->listed[tree->n_listed++] = s;
    tree->left[s] = MOE_SLOT_AWAY | MOE_SLOT_LISTED;
    moe_slot_tree_play(tree, s, (struct moe_rank){UINT64_MAX, UINT64_MAX});
}

/* Slots that left and may go by now come back. */
static inline void moe_slot_tree_return(struct moe_slot_tree *tree, const uint8_t *pinned,
                                        uint8_t forbids)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < tree->n_listed; i++) {
        uint32_t s = tree->listed[i];
        bool away = tree->left[s] & MOE_SLOT_AWAY;
        if (away && pinned[s] & forbids) {
            tree->listed[kept++] = s;
            continue;
        }
        tree->left[s] = 0;
        if (away)
            moe_slot_tree_play(tree, s, tree->rank[s]);
    }
    tree->n_listed = kept;
}

static inline moe_slot moe_slot_tree_search(const struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint8_t forbids, uint32_t n_slots)
{
    uint64_t first = UINT64_MAX, second = UINT64_MAX;
    moe_slot found = MOE_NO_SLOT;
    for (uint32_t s = 0; s < n_slots; s++) {
        const struct moe_rank *rank = &tree->rank[s];
        if (rank->first > first || pinned[s] & forbids)
            continue;
        if (rank->first == first && rank->second >= second && found != MOE_NO_SLOT)
            continue;
        first = rank->first;
        second = rank->second;
        found = (moe_slot)s;
    }
    return found;
}

/* The lowest slot with no pin of `forbids` (enum moe_pin bits), or MOE_NO_SLOT. */
static inline moe_slot moe_slot_tree_lowest(struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint8_t forbids, uint32_t n_slots)
{
    if (moe_slot_tree_is_small(tree))
        return moe_slot_tree_search(tree, pinned, forbids, n_slots);
    if (tree->n_listed > 0)
        moe_slot_tree_return(tree, pinned, forbids);
    for (;;) {
        uint32_t s = tree->lowest[1];
        if (tree->play[s].first == UINT64_MAX && tree->play[s].second == UINT64_MAX)
            break; /* left are slots that never had another rank, if any */
        if (!(pinned[s] & forbids))
            return (moe_slot)s;
        moe_slot_tree_leave(tree, s);
    }
    for (uint32_t s = 0; s < n_slots; s++)
        if (!(pinned[s] & forbids))
            return (moe_slot)s;
    return MOE_NO_SLOT;
}

/* The lowest slot that is not pinned, or MOE_NO_SLOT. */
static inline moe_slot moe_slot_tree_victim(struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint32_t n_slots)
{
    return moe_slot_tree_lowest(tree, pinned, UINT8_MAX, n_slots);
}

/* Slots whose rank has a `first` below limit and that have no pin of forbids, counted up to most.
 */
static inline uint32_t moe_slot_tree_count(struct moe_slot_tree *tree, const uint8_t *pinned,
                                           uint32_t n_slots, uint8_t forbids, uint64_t limit,
                                           uint32_t most)
{
    uint32_t stack[64], n = 0, found = 0;
    for (uint32_t s = 0; moe_slot_tree_is_small(tree) && s < n_slots && found < most; s++)
        found += (tree->rank[s].first < limit) & !(pinned[s] & forbids);
    if (moe_slot_tree_is_small(tree))
        return found;
    if (tree->n_listed > 0)
        moe_slot_tree_return(tree, pinned, forbids);
    for (stack[n++] = 1; n > 0 && found < most;) {
        uint32_t node = stack[--n], s = moe_slot_tree_at(tree, node);
        if (tree->play[s].first >= limit)
            continue;
        if (node < tree->n_leaves) {
            stack[n++] = 2 * node + 1;
            stack[n++] = 2 * node;
        } else {
            found += !(pinned[s] & forbids);
        }
    }
    return found;
}

#endif
