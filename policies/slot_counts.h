/* Finds the slot with the fewest uses since its expert was inserted, of several the one used
 * longest ago. There is a ring for each small number of uses, in order of last use: a slot that is
 * used moves to the end of the next ring, as its use is the latest of all. The last ring has all
 * slots with more uses, of different numbers, and has to be searched; but only if no slot of the
 * other rings may be evicted, as newcomers begin in the first. All operations are O(1) and without
 * branches, except this search and the walk over pinned slots. */
#ifndef MOELAB_POLICIES_SLOT_COUNTS_H
#define MOELAB_POLICIES_SLOT_COUNTS_H

#include "policies/policy.h"

enum { MOE_COUNTS_RINGS = 64 }; /* ring r is for r uses, the last one for 63 or more */

struct moe_slot_counts {
    uint32_t n_slots;
    uint64_t some; /* bit r: ring r is not empty */
    struct moe_counted_slot {
        uint64_t count;
        uint32_t before, after; /* before: used later */
    } * node;                   /* [n_slots + RINGS] then the rings' heads */
};

static inline size_t moe_slot_counts_size(const struct moe_policy_env *env)
{
    return ((size_t)env->n_slots + MOE_COUNTS_RINGS) * sizeof(struct moe_counted_slot);
}

/* memory: moe_slot_counts_size bytes, of 8-byte alignment. All rings begin empty. */
static inline void moe_slot_counts_init(struct moe_slot_counts *counts,
                                        const struct moe_policy_env *env, void *memory)
{
    *counts = (struct moe_slot_counts){.n_slots = env->n_slots, .node = memory};
    for (uint32_t h = env->n_slots; h < env->n_slots + MOE_COUNTS_RINGS; h++)
        counts->node[h].before = counts->node[h].after = h;
}

static inline uint32_t moe_counts_ring(uint64_t count)
{
    return count < MOE_COUNTS_RINGS ? (uint32_t)count : MOE_COUNTS_RINGS - 1;
}

static inline void moe_slot_counts_link(struct moe_slot_counts *counts, uint32_t s, uint64_t count)
{
    struct moe_counted_slot *node = counts->node;
    uint32_t ring = moe_counts_ring(count), head = counts->n_slots + ring;
    uint32_t first = node[head].after;
    node[s] = (struct moe_counted_slot){count, head, first};
    node[first].before = s;
    node[head].after = s;
    counts->some |= (uint64_t)1 << ring;
}

static inline void moe_slot_counts_unlink(struct moe_slot_counts *counts, uint32_t s)
{
    struct moe_counted_slot *node = counts->node;
    uint32_t ring = moe_counts_ring(node[s].count), before = node[s].before, after = node[s].after;
    node[before].after = after;
    node[after].before = before;
    counts->some &= ~((uint64_t)(before == after) << ring); /* both the head: it was the last */
}

/* An expert was inserted into the slot: that is its first use. */
static inline void moe_slot_counts_add(struct moe_slot_counts *counts, moe_slot slot)
{
    moe_slot_counts_link(counts, (uint32_t)slot, 1);
}

static inline void moe_slot_counts_use(struct moe_slot_counts *counts, moe_slot slot)
{
    moe_slot_counts_unlink(counts, (uint32_t)slot);
    moe_slot_counts_link(counts, (uint32_t)slot, counts->node[slot].count + 1);
}

static inline void moe_slot_counts_remove(struct moe_slot_counts *counts, moe_slot slot)
{
    moe_slot_counts_unlink(counts, (uint32_t)slot);
}

/* The slot to evict from the last ring, or MOE_NO_SLOT: all are pinned. */
static inline moe_slot moe_slot_counts_search(const struct moe_slot_counts *counts,
                                              const uint8_t *pinned)
{
    const struct moe_counted_slot *node = counts->node;
    uint32_t head = counts->n_slots + MOE_COUNTS_RINGS - 1, best = head;
    for (uint32_t s = node[head].before; s != head; s = node[s].before)
        if (!pinned[s] && (best == head || node[s].count < node[best].count))
            best = s;
    return best == head ? MOE_NO_SLOT : (moe_slot)best;
}

/* The slot with the fewest uses that is not pinned, of several the one used longest ago, or
 * MOE_NO_SLOT. */
static inline moe_slot moe_slot_counts_victim(const struct moe_slot_counts *counts,
                                              const uint8_t *pinned)
{
    uint64_t searched = (uint64_t)1 << (MOE_COUNTS_RINGS - 1);
    for (uint64_t some = counts->some & ~searched; some; some &= some - 1) {
        uint32_t s = counts->node[counts->n_slots + (uint32_t)__builtin_ctzll(some)].before;
        for (; s < counts->n_slots; s = counts->node[s].before)
            if (!pinned[s])
                return (moe_slot)s;
    }
    return moe_slot_counts_search(counts, pinned);
}

#endif
