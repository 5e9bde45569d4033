/* Finds the slot of the highest priority (now - last) / weight without scanning all slots. Every
 * priority rises with time, that of a light slot faster than that of a heavy one, so that slots
 * overtake each other.
 *
 * A shortlist (`picked`) has every slot whose priority reaches `level` by the time `until`; the
 * others are below the level until then and need not be looked at. After `until` a scan of all
 * slots makes the shortlist anew. The level is chosen anew when no shortlisted slot reaches it, or
 * when there are too many; of a large pool some 20 slots then lie above it. In a small pool all
 * slots are scanned instead: that is faster.
 *
 * A use only lowers a slot's priority. So the shortlist, which has copies of last and weight, may
 * be out of date: it is corrected only when a search finds a slot by its old priority. Few of the
 * shortlisted slots are used in between, and to look up at every use whether a slot is shortlisted
 * would take a branch that cannot be predicted.
 *
 * Priorities are computed in single precision. Where rounding may have changed their order, the
 * policy's exact comparison decides among those that are near to the highest. */
#ifndef MOELAB_POLICIES_SLOT_AGES_H
#define MOELAB_POLICIES_SLOT_AGES_H

#include "policies/slot_lines.h"

enum {
    MOE_AGES_BLOCK = MOE_LINES_MAX,
    MOE_AGES_SMALL = MOE_AGES_BLOCK, /* slots of a small pool, at most */
};

struct moe_slot_ages {
    uint32_t n_slots, n_blocks;
    const struct moe_lines_loops *loops;
    bool is_small;
    uint32_t *last; /* [n_blocks * BLOCK]; [MOE_NO_SLOT] takes writes too, and is never read */
    float *weight;  /* likewise; in a small pool 1 / weight */
    /* The shortlist, of pools that are not small: */
    float level;
    uint32_t until;        /* the slots that reach the level by then are in it */
    uint32_t ahead;        /* how far `until` lay ahead when it was set */
    uint32_t n_picked;     /* entries */
    uint32_t too_many;     /* with more entries than this the level is chosen anew */
    uint32_t found;        /* index of the entry found last */
    uint32_t *slot;        /* [n_blocks * BLOCK + 16] slot of each entry; a slot may have two */
    uint32_t *picked_last; /* [n_blocks * BLOCK] the slot's last, as of when it was entered or
                              corrected */
    float *picked_slope;   /* likewise 1 / weight */
};

/* A multiple of 8. */
size_t moe_slot_ages_size(const struct moe_policy_env *env);

/* memory: moe_slot_ages_size bytes, of 4-byte alignment, zeroed. All priorities begin as 0. */
void moe_slot_ages_init(struct moe_slot_ages *ages, const struct moe_policy_env *env, void *memory);

/* The slot was used: sets its last and weight, which must not raise its priority. Of MOE_NO_SLOT it
 * has no effect, so that callers need not branch on misses. */
static inline void moe_slot_ages_use(const struct moe_slot_ages *ages, moe_slot slot, uint32_t last,
                                     float weight)
{
    ages->last[slot] = last;
    ages->weight[slot] = ages->is_small ? 1 / weight : weight;
}

/* Part of moe_slot_ages_set, for pools that are not small: enters the slot into the shortlist. */
void moe_slot_ages_place(struct moe_slot_ages *ages, uint32_t slot);

/* Sets last and weight of a slot; its priority may rise or fall. Times are below UINT32_MAX, never
 * go back and are not before last; where the priority falls, last must change. weight: 1e-20 to
 * 1e20. */
static inline void moe_slot_ages_set(struct moe_slot_ages *ages, moe_slot slot, uint32_t last,
                                     float weight)
{
    moe_slot_ages_use(ages, slot, last, weight);
    if (!ages->is_small)
        moe_slot_ages_place(ages, (uint32_t)slot);
}

/* The slot to evict: the first one in the order of `goes` among those that are not pinned and have
 * the highest priority, rounding aside; or MOE_NO_SLOT. goes must agree with the priorities. */
moe_slot moe_slot_ages_victim(struct moe_slot_ages *ages, const uint8_t *pinned, uint32_t now,
                              moe_slot_goes *goes, const void *state);

#endif
