/* Slots by rank: finds the lowest of any number of slots without looking at all of them. For
 * policies in which only a slot's own uses change its rank. A tournament: each inner node of a
 * binary tree knows the lowest slot below it. A use that makes a slot rise mostly changes nothing
 * but the two or three nodes above it. */
#ifndef MOELAB_POLICIES_SLOT_TREE_H
#define MOELAB_POLICIES_SLOT_TREE_H

#include "policies/policy.h"

/* Compared by first, then by second, then by slot. */
struct moe_rank {
    uint64_t first, second;
};

struct moe_slot_tree {
    uint32_t n_leaves;     /* a power of two, >= n_slots */
    struct moe_rank *rank; /* [n_leaves] */
    uint32_t *lowest;      /* [n_leaves] slot; of node i the nodes below are 2 i and 2 i + 1 */
};

static inline uint32_t moe_slot_tree_leaves(const struct moe_policy_env *env)
{
    uint32_t n = 2;
    while (n < env->n_slots)
        n *= 2;
    return n;
}

static inline size_t moe_slot_tree_size(const struct moe_policy_env *env)
{
    return (size_t)moe_slot_tree_leaves(env) * (sizeof(struct moe_rank) + sizeof(uint32_t));
}

static inline uint32_t moe_slot_tree_lower(const struct moe_slot_tree *tree, uint32_t a, uint32_t b)
{
    const struct moe_rank *x = &tree->rank[a], *y = &tree->rank[b];
    bool less = y->first < x->first || (y->first == x->first && y->second < x->second);
    return less ? b : a;
}

/* The lowest slot below a node; nodes from n_leaves on are the slots themselves. */
static inline uint32_t moe_slot_tree_at(const struct moe_slot_tree *tree, uint32_t node)
{
    return node < tree->n_leaves ? tree->lowest[node] : node - tree->n_leaves;
}

static inline void moe_slot_tree_build(struct moe_slot_tree *tree)
{
    for (uint32_t i = tree->n_leaves - 1; i > 0; i--)
        tree->lowest[i] = moe_slot_tree_lower(tree, moe_slot_tree_at(tree, 2 * i),
                                              moe_slot_tree_at(tree, 2 * i + 1));
}

/* memory: moe_slot_tree_size bytes, of 8-byte alignment. Every slot has the highest rank. */
static inline void moe_slot_tree_init(struct moe_slot_tree *tree, const struct moe_policy_env *env,
                                      void *memory)
{
    tree->n_leaves = moe_slot_tree_leaves(env);
    tree->rank = memory;
    tree->lowest = (uint32_t *)(tree->rank + tree->n_leaves);
    for (uint32_t s = 0; s < tree->n_leaves; s++)
        tree->rank[s] = (struct moe_rank){UINT64_MAX, UINT64_MAX};
    moe_slot_tree_build(tree);
}

static inline void moe_slot_tree_set(struct moe_slot_tree *tree, moe_slot slot,
                                     struct moe_rank rank)
{
    uint32_t s = (uint32_t)slot;
    tree->rank[s] = rank;
    for (uint32_t i = (tree->n_leaves + s) / 2; i > 0; i /= 2) {
        uint32_t before = tree->lowest[i];
        tree->lowest[i] = moe_slot_tree_lower(tree, moe_slot_tree_at(tree, 2 * i),
                                              moe_slot_tree_at(tree, 2 * i + 1));
        if (before != s && tree->lowest[i] != s) /* nothing changes above */
            break;
    }
}

/* The lowest slot that is not pinned, or MOE_NO_SLOT: goes below a node only where its lowest slot
 * is pinned. */
static inline moe_slot moe_slot_tree_victim(const struct moe_slot_tree *tree, const uint8_t *pinned,
                                            uint32_t n_slots)
{
    uint32_t stack[64], n = 0, best = UINT32_MAX;
    for (stack[n++] = 1; n > 0;) {
        uint32_t node = stack[--n], s = moe_slot_tree_at(tree, node);
        if (best != UINT32_MAX && moe_slot_tree_lower(tree, best, s) == best)
            continue;
        if (s < n_slots && !pinned[s]) {
            best = s;
        } else if (node < tree->n_leaves) {
            stack[n++] = 2 * node + 1;
            stack[n++] = 2 * node;
        }
    }
    return best == UINT32_MAX ? MOE_NO_SLOT : (moe_slot)best;
}

#endif
