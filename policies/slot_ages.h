/* Slots by age / weight: finds the one that stands highest at a time without looking at all. With
 * time every slot rises, and a light one overtakes a heavy one.
 *
 * Each slot passes a level at a time that is known as soon as it is set: those that have done so
 * or will do soon are picked out, the others stand below the level and need not be looked at. When
 * `soon` is over the next ones are picked. Of a large pool some 20 stand above the level when it is
 * chosen; it is chosen anew when none or too many do. Where a pool is small all slots are looked
 * at: that is faster.
 *
 * Standings are doubles. Where they are rounded, the policy's exact order decides among those that
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
    double level, until, ahead;  /* picked are those that pass the level until then; it was so far
                                    ahead */
    double *last, *weight;       /* [n_blocks * BLOCK] of more than few slots */
    double *pass;                /* [n_blocks * BLOCK] when the slot passes the level */
    uint32_t n_picked, too_many; /* now; from how many on the level is chosen anew */
    double *picked_last, *picked_slope; /* [n_blocks * BLOCK] slope: 1 / weight; of few slots these
                                           are the slots' own */
    uint32_t *slot;                     /* [n_slots] of each picked; NULL: of few */
    uint32_t *place;                    /* [n_slots] among the picked + 1, or 0 */
};

/* A multiple of 8. */
size_t moe_slot_ages_size(const struct moe_policy_env *env);

/* memory: moe_slot_ages_size bytes, of 8-byte alignment, zeroed. All slots stand at 0. */
void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory);

static inline void moe_slot_ages_pick(struct moe_slot_ages *ages, uint32_t slot)
{
    uint32_t i = ages->n_picked++;
    ages->slot[i] = slot;
    ages->place[slot] = i + 1;
    ages->picked_last[i] = ages->last[slot];
    ages->picked_slope[i] = 1 / ages->weight[slot];
}

/* The last of the picked takes its place. */
static inline void moe_slot_ages_drop(struct moe_slot_ages *ages, uint32_t slot)
{
    uint32_t i = ages->place[slot] - 1, last = --ages->n_picked, moved = ages->slot[last];
    ages->slot[i] = moved;
    ages->place[moved] = i + 1;
    ages->place[slot] = 0;
    ages->picked_last[i] = ages->picked_last[last];
    ages->picked_slope[i] = ages->picked_slope[last];
}

/* Where the slot stands from now on: at (now - last) / weight. Times are whole numbers below 2^52,
 * do not fall and are not before last; weight > 0. */
static inline void moe_slot_ages_set(struct moe_slot_ages *ages, moe_slot slot, double last,
                                     double weight)
{
    uint32_t s = (uint32_t)slot;
    if (!ages->slot) {
        ages->picked_last[s] = last;
        ages->picked_slope[s] = 1 / weight;
        return;
    }
    ages->last[s] = last;
    ages->weight[s] = weight;
    ages->pass[s] = last + ages->level * weight;
    if (ages->place[s])
        moe_slot_ages_drop(ages, s);
    if (ages->pass[s] <= ages->until)
        moe_slot_ages_pick(ages, s);
}

/* The slot that goes first of those that are not pinned, or MOE_NO_SLOT. */
moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, double now,
                              moe_slot_goes *goes, const void *state);

#endif
