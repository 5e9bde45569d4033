/* Slots by age / weight: finds the one that stands highest at a time without looking at all. With
 * time every slot rises, and a light one overtakes a heavy one.
 *
 * Picked out are those that stand at a level or will soon; the others stand below it and need not
 * be looked at. When `soon` is over all are picked anew. Of a large pool some 20 stand above the
 * level when it is chosen; it is chosen anew when none or too many do. Where a pool is small all
 * slots are looked at: that is faster.
 *
 * A use only lowers a slot, and what was picked notices it when it would be found without it:
 * whether a slot is among the picked cannot be foretold, and few of them are used.
 *
 * Standings are floats. Where they are rounded, the policy's exact order decides among those that
 * are near to the highest. */
#ifndef MOELAB_POLICIES_SLOT_AGES_H
#define MOELAB_POLICIES_SLOT_AGES_H

#include "policies/slot_lines.h"

enum {
    MOE_AGES_BLOCK = MOE_LINES_MOST,
    MOE_AGES_FEW = MOE_AGES_BLOCK, /* slots, at most, all of which are looked at each time */
};

struct moe_slot_ages {
    uint32_t n_slots, n_blocks;
    const struct moe_lines_loops *loops;
    bool few;
    uint32_t *last; /* [n_blocks * BLOCK], and [MOE_NO_SLOT], which is not read; so is weight */
    float *weight;  /* of few 1 / weight */
    /* Of more than few: */
    float level;
    uint32_t until, ahead; /* all that stand at the level by then are picked; so far was it ahead */
    uint32_t n_picked, too_many; /* now; from how many on the level is chosen anew */
    uint32_t found;              /* the place of the one found last */
    uint32_t *slot;              /* [n_blocks * BLOCK + 16] of each picked; one may be twice */
    uint32_t *picked_last;       /* [n_blocks * BLOCK] as it was noticed last */
    float *picked_slope;         /* likewise 1 / weight */
};

/* A multiple of 8. */
size_t moe_slot_ages_size(const struct moe_policy_env *env);

/* memory: moe_slot_ages_size bytes, of 4-byte alignment, zeroed. All slots stand at 0. */
void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory);

/* The slot was used: it stands at (now - last) / weight from now on, which is not higher than where
 * it stood. MOE_NO_SLOT: no slot does, so that nobody need branch on a miss. */
static inline void moe_slot_ages_use(const struct moe_slot_ages *ages, moe_slot slot, uint32_t last,
                                     float weight)
{
    ages->last[slot] = last;
    ages->weight[slot] = ages->few ? 1 / weight : weight;
}

/* Of more than few slots: it was set anew. */
void moe_slot_ages_place(struct moe_slot_ages *ages, uint32_t slot);

/* Where the slot stands from now on, wherever it stood. Times are below UINT32_MAX, do not fall and
 * are not before last, which is another when the slot sinks; weight: 1e-20 to 1e20. */
static inline void moe_slot_ages_set(struct moe_slot_ages *ages, moe_slot slot, uint32_t last,
                                     float weight)
{
    moe_slot_ages_use(ages, slot, last, weight);
    if (!ages->few)
        moe_slot_ages_place(ages, (uint32_t)slot);
}

/* The slot that goes first of those that are not pinned, or MOE_NO_SLOT. */
moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, uint32_t now,
                              moe_slot_goes *goes, const void *state);

#endif
