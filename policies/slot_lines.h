/* Up to 64 slots whose places in an order move with time: while its due time is not past a slot
 * stands at due - now, then at now - last. All are looked at.
 *
 * Standings are doubles. Where they are rounded, the policy's exact order decides among those that
 * are near to the highest. */
#ifndef MOELAB_POLICIES_SLOT_LINES_H
#define MOELAB_POLICIES_SLOT_LINES_H

#include "policies/policy.h"

enum { MOE_LINES_MOST = 64, MOE_LINES_BEFORE = 8 };

struct moe_lines_loops; /* slot_lines_loops.h */

struct moe_slot_lines {
    uint32_t n_slots;
    const struct moe_lines_loops *loops;
    double *last, *due; /* [MOST], and [MOE_NO_SLOT], which is not read */
};

/* Does slot b go before slot a? Exact, and of two different slots one goes before the other. */
typedef bool moe_slot_goes(const void *state, uint32_t a, uint32_t b);

/* Slots of which the one that goes first is looked for. */
struct moe_slot_search {
    const uint8_t *pinned;
    moe_slot_goes *goes;
    const void *state;
    moe_slot best; /* so far, or MOE_NO_SLOT */
};

/* Not pinned? Then it may be the best. */
static inline bool moe_slot_search_sees(struct moe_slot_search *search, uint32_t slot)
{
    if (search->pinned[slot])
        return false;
    if (search->best == MOE_NO_SLOT || search->goes(search->state, (uint32_t)search->best, slot))
        search->best = (moe_slot)slot;
    return true;
}

static inline size_t moe_slot_lines_size(void)
{
    return sizeof(double) * 2 * (MOE_LINES_BEFORE + MOE_LINES_MOST);
}

/* n_slots: at most MOST. memory: moe_slot_lines_size bytes, of 8-byte alignment, zeroed. All slots
 * stand at 0. */
void moe_slot_lines_init(struct moe_slot_lines *lines, uint32_t n_slots, void *memory);

/* Where the slot stands from now on; below 0 it will not be found. MOE_NO_SLOT: no slot does, so
 * that nobody need branch on a miss, which cannot be foretold. */
static inline void moe_slot_lines_set(struct moe_slot_lines *lines, moe_slot slot, double last,
                                      double due)
{
    lines->last[slot] = last;
    lines->due[slot] = due;
}

/* The slot that goes first of those that are not pinned, or MOE_NO_SLOT. */
moe_slot moe_slot_lines_victim(const struct moe_slot_lines *lines, const uint8_t *pinned,
                               double now, moe_slot_goes *goes, const void *state);

#endif
