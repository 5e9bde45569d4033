/* The victim among up to 64 slots whose priorities change with time, found by scanning all of them:
 * the slot of the highest priority is evicted first. Until its due time the priority of a slot is
 * due - now, afterwards now - last; over time both are straight lines.
 *
 * The scan computes priorities in double precision. Where rounding may have changed their order, it
 * leaves several candidates, and the policy's exact comparison decides among these. */
#ifndef MOELAB_POLICIES_SLOT_LINES_H
#define MOELAB_POLICIES_SLOT_LINES_H

#include "policies/policy.h"

enum {
    MOE_LINES_MAX = 64,   /* slots, at most */
    MOE_LINES_BEFORE = 8, /* doubles in front of each array, so that [MOE_NO_SLOT] exists */
};

struct moe_lines_loops; /* slot_lines_loops.h */

struct moe_slot_lines {
    uint32_t n_slots;
    const struct moe_lines_loops *loops;
    double *last, *due; /* [MAX]; [MOE_NO_SLOT] takes writes too, and is never read */
};

/* Is slot b evicted before slot a? Exact, and a strict order: of two slots one is. */
typedef bool moe_slot_goes(const void *state, uint32_t a, uint32_t b);

/* The search for the slot that is evicted first, among those offered. */
struct moe_slot_search {
    const uint8_t *pinned;
    moe_slot_goes *goes;
    const void *state;
    moe_slot best; /* so far, or MOE_NO_SLOT */
};

/* Compares the slot with the best so far, unless it is pinned: then returns false. */
static inline bool moe_slot_search_offer(struct moe_slot_search *search, uint32_t slot)
{
    if (search->pinned[slot])
        return false;
    if (search->best == MOE_NO_SLOT || search->goes(search->state, (uint32_t)search->best, slot))
        search->best = (moe_slot)slot;
    return true;
}

static inline size_t moe_slot_lines_size(void)
{
    return sizeof(double) * 2 * (MOE_LINES_BEFORE + MOE_LINES_MAX);
}

/* n_slots: at most MAX. memory: moe_slot_lines_size bytes, of 8-byte alignment, zeroed. All slots
 * begin with last = due = 0. */
void moe_slot_lines_init(struct moe_slot_lines *lines, uint32_t n_slots, void *memory);

/* Sets the slot's line. A slot whose priority is below 0 is not found. Of MOE_NO_SLOT it has no
 * effect, so that callers need not branch on misses, which branch prediction cannot foresee. */
static inline void moe_slot_lines_set(struct moe_slot_lines *lines, moe_slot slot, double last,
                                      double due)
{
    lines->last[slot] = last;
    lines->due[slot] = due;
}

/* The slot to evict: the first one in the order of `goes` among those that are not pinned and have
 * the highest priority, rounding aside; or MOE_NO_SLOT. goes must agree with the priorities. */
moe_slot moe_slot_lines_victim(const struct moe_slot_lines *lines, const uint8_t *pinned,
                               double now, moe_slot_goes *goes, const void *state);

#endif
