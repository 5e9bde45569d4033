/* Finds the slot of the lowest rank without looking at all slots. For policies in which the rank of
 * a slot changes only when it is used itself.
 *
 * A tournament tree: each inner node of a binary tree holds the lowest key below it. A key is the
 * rank followed by the slot number, one number of 128 bits, so that a match is a minimum: no branch
 * depends on its outcome, which branch prediction could not foresee. When a rank changes, the
 * matches on the path from its leaf to the root are played again.
 *
 * A pinned slot that would win is set aside: its leaf gets the highest key. It is put back only
 * when too many are aside, because an expert that an event inserts often has the lowest rank: the
 * other misses of the event would meet it again, and the next event evicts it first.
 *
 * Very few slots are scanned instead: that is faster. */
#ifndef MOELAB_POLICIES_SLOT_TREE_H
#define MOELAB_POLICIES_SLOT_TREE_H

#include "policies/policy.h"

/* Compared by first, then by second, then by slot. A slot whose first is UINT64_MAX ranks after all
 * others, whatever its second. second must be below 2^64 / n, where n is n_slots rounded up to a
 * power of two. */
struct moe_rank {
    uint64_t first, second;
};

/* first, second and slot side by side; lies at multiples of 8 bytes. */
__extension__ typedef unsigned __int128 moe_slot_key __attribute__((aligned(8)));

struct moe_slot_tree {
    uint32_t n_leaves;  /* a power of two, >= n_slots */
    uint32_t slot_bits; /* its logarithm */
    uint32_t n_aside;
    moe_slot_key *rank; /* [n_leaves] present key of each slot */
    moe_slot_key *node; /* [2 n_leaves] children of node i are 2 i and 2 i + 1; leaves begin at
                           n_leaves. A leaf has its slot's key; the highest key if the slot is
                           aside; an older, lower one if the slot was raised since */
    uint32_t *aside;    /* [n_aside] slots; room for n_leaves */
    uint8_t *is_aside;  /* [n_leaves] */
};

/* Any values give the same slots. SMALL (8 or 32) and ASIDE (12 or 16) were chosen by `moelab bench
 * sim`. */
enum {
    MOE_SLOT_TREE_SMALL = 8,  /* leaves, at most, of a pool that is scanned */
    MOE_SLOT_TREE_MANY = 256, /* from so many leaves on, several victims are found at once */
    MOE_SLOT_TREE_ASIDE = 12  /* with so many slots aside, those without pins are put back */
};

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
    return n * (3 * sizeof(moe_slot_key) + sizeof(uint32_t)) + (n + 7) / 8 * 8;
}

static inline uint64_t moe_slot_key_first(moe_slot_key key)
{
    return (uint64_t)(key >> 64);
}

static inline uint32_t moe_slot_key_slot(const struct moe_slot_tree *tree, moe_slot_key key)
{
    return (uint32_t)key & (tree->n_leaves - 1);
}

static inline moe_slot_key moe_slot_key_min(moe_slot_key a, moe_slot_key b)
{
    return b < a ? b : a;
}

static inline uint64_t moe_slot_tree_first(const struct moe_slot_tree *tree, moe_slot slot)
{
    return moe_slot_key_first(tree->rank[slot]);
}

static inline bool moe_slot_tree_is_small(const struct moe_slot_tree *tree)
{
    return tree->n_leaves <= MOE_SLOT_TREE_SMALL;
}

/* Changes `first` of a slot's rank and keeps `second`. For changes of many slots:
 * moe_slot_tree_build must follow before any other call. */
static inline void moe_slot_tree_put_first(struct moe_slot_tree *tree, uint32_t s, uint64_t first)
{
    tree->rank[s] = (moe_slot_key)first << 64 | (uint64_t)tree->rank[s];
}

static inline void moe_slot_tree_build(struct moe_slot_tree *tree)
{
    if (moe_slot_tree_is_small(tree))
        return;
    for (uint32_t s = 0; s < tree->n_leaves; s++)
        if (!tree->is_aside[s])
            tree->node[tree->n_leaves + s] = tree->rank[s];
    for (size_t i = tree->n_leaves - 1; i > 0; i--)
        tree->node[i] = moe_slot_key_min(tree->node[2 * i], tree->node[2 * i + 1]);
}

/* memory: moe_slot_tree_size bytes, of 8-byte alignment. Every slot begins with the highest rank.
 */
static inline void moe_slot_tree_init(struct moe_slot_tree *tree, const struct moe_policy_env *env,
                                      void *memory)
{
    uint32_t n = moe_slot_tree_leaves(env);
    tree->n_leaves = n;
    tree->slot_bits = (uint32_t)__builtin_ctz(n);
    tree->n_aside = 0;
    tree->rank = memory;
    tree->node = tree->rank + n;
    tree->aside = (uint32_t *)(tree->node + 2 * (size_t)n);
    tree->is_aside = (uint8_t *)(tree->aside + n);
    for (uint32_t s = 0; s < n; s++) {
        tree->rank[s] = (moe_slot_key)UINT64_MAX << 64 | s;
        tree->is_aside[s] = false;
    }
    moe_slot_tree_build(tree);
}

/* Gives the slot's leaf a key and plays the matches above it again. */
static inline void moe_slot_tree_play(struct moe_slot_tree *tree, uint32_t s, moe_slot_key key)
{
    moe_slot_key *node = tree->node;
    size_t i = (size_t)tree->n_leaves + s;
    for (node[i] = key; i > 1; i /= 2)
        node[i / 2] = key = moe_slot_key_min(key, node[i ^ 1]);
}

static inline moe_slot_key moe_slot_tree_key(const struct moe_slot_tree *tree, moe_slot slot,
                                             struct moe_rank rank)
{
    return (moe_slot_key)rank.first << 64 | rank.second << tree->slot_bits | (uint32_t)slot;
}

static inline void moe_slot_tree_set(struct moe_slot_tree *tree, moe_slot slot,
                                     struct moe_rank rank)
{
    uint32_t s = (uint32_t)slot;
    moe_slot_key key = tree->rank[s] = moe_slot_tree_key(tree, slot, rank);
    if (!moe_slot_tree_is_small(tree) && !tree->is_aside[s])
        moe_slot_tree_play(tree, s, key);
}

/* As moe_slot_tree_set, for a rank that is not below the present one: the matches are played again
 * only when the slot wins by its old rank. Faster where slots that are raised seldom come to that.
 */
static inline void moe_slot_tree_raise(struct moe_slot_tree *tree, moe_slot slot,
                                       struct moe_rank rank)
{
    tree->rank[slot] = moe_slot_tree_key(tree, slot, rank);
}

static inline void moe_slot_tree_set_aside(struct moe_slot_tree *tree, uint32_t s)
{
    tree->aside[tree->n_aside++] = s;
    tree->is_aside[s] = true;
    moe_slot_tree_play(tree, s, ~(moe_slot_key)0);
}

/* Puts back those aside that have no pin of `forbids` any more. */
static inline void moe_slot_tree_return(struct moe_slot_tree *tree, const uint8_t *pinned,
                                        uint8_t forbids)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < tree->n_aside; i++) {
        uint32_t s = tree->aside[i];
        if (pinned[s] & forbids) {
            tree->aside[kept++] = s;
            continue;
        }
        tree->is_aside[s] = false;
        moe_slot_tree_play(tree, s, tree->rank[s]);
    }
    tree->n_aside = kept;
}

/* The slot's key; the highest key if it has a pin of `forbids`. */
static inline moe_slot_key moe_slot_tree_free_key(const struct moe_slot_tree *tree, uint32_t s,
                                                  const uint8_t *pinned, uint8_t forbids)
{
    return tree->rank[s] | ((moe_slot_key)0 - !!(pinned[s] & forbids));
}

/* The lowest slot with no pin of `forbids` (enum moe_pin bits), or MOE_NO_SLOT. */
static inline moe_slot moe_slot_tree_lowest(struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint8_t forbids, uint32_t n_slots)
{
    moe_slot_key lowest = ~(moe_slot_key)0, root;
    if (tree->n_aside >= MOE_SLOT_TREE_ASIDE)
        moe_slot_tree_return(tree, pinned, forbids);
    for (uint32_t i = 0; i < tree->n_aside; i++)
        lowest =
            moe_slot_key_min(lowest, moe_slot_tree_free_key(tree, tree->aside[i], pinned, forbids));
    while (!moe_slot_tree_is_small(tree)) {
        uint32_t s = moe_slot_key_slot(tree, root = moe_slot_key_min(lowest, tree->node[1]));
        if (moe_slot_key_first(root) == UINT64_MAX)
            break; /* only slots of the highest rank are left, if any: the scan below finds them */
        if (root == tree->rank[s] && !(pinned[s] & forbids))
            return (moe_slot)s;
        if (root != tree->rank[s])
            moe_slot_tree_play(tree, s, tree->rank[s]);
        else
            moe_slot_tree_set_aside(tree, s);
    }
    for (uint32_t s = 0; s < n_slots; s++)
        lowest = moe_slot_key_min(lowest, moe_slot_tree_free_key(tree, s, pinned, forbids));
    return ~lowest ? (moe_slot)moe_slot_key_slot(tree, lowest) : MOE_NO_SLOT;
}

/* The lowest slot that is not pinned, or MOE_NO_SLOT. */
static inline moe_slot moe_slot_tree_victim(struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint32_t n_slots)
{
    return moe_slot_tree_lowest(tree, pinned, UINT8_MAX, n_slots);
}

/* Writes to slot [n] the n lowest slots that are not pinned, in order, then MOE_NO_SLOT where there
 * are not so many. All of them must be set before any other call: most have the highest rank until
 * then. False: nothing was done, as in this pool it is faster to find and set one after the other.
 */
static inline bool moe_slot_tree_victims(struct moe_slot_tree *tree, uint32_t n,
                                         const uint8_t *pinned, uint32_t n_slots, moe_slot *slot)
{
    const moe_slot_key none = ~(moe_slot_key)0;
    if (tree->n_leaves < MOE_SLOT_TREE_MANY)
        return false;
    for (uint32_t k = 0; k < n; k++) {
        moe_slot s = slot[k] = moe_slot_tree_victim(tree, pinned, n_slots);
        if (s == MOE_NO_SLOT || k + 1 == n)
            continue;
        tree->rank[s] = none;
        if (!tree->is_aside[s])
            moe_slot_tree_play(tree, (uint32_t)s, none);
    }
    return true;
}

#endif
