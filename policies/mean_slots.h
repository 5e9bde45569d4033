/* Victims in a small pool where every expert has a moving mean and the slot with the lowest is
 * evicted. Scans all slots. */
#ifndef MOELAB_POLICIES_MEAN_SLOTS_H
#define MOELAB_POLICIES_MEAN_SLOTS_H

#include "policies/policy.h"

enum { MOE_MEAN_SLOTS_MAX = 64 };

struct moe_mean_slots {
    uint32_t n_slots;                   /* at most MAX */
    uint32_t at[MOE_MEAN_SLOTS_MAX];    /* index of the slot's expert in the array of means */
    uint64_t since[MOE_MEAN_SLOTS_MAX]; /* number of its insertion; all different */
};

/* Writes the next n victims to slot [n], in order: the unpinned slots with the lowest means, of
 * equal means the lowest `since` first; MOE_NO_SLOT where there are no more. No mean is NaN. */
typedef void moe_mean_slots_find(const struct moe_mean_slots *slots, const float *mean,
                                 const uint8_t *pinned, uint32_t n, moe_slot *slot);

/* The fastest version for this processor; all find the same. */
moe_mean_slots_find *moe_mean_slots_best(void);
moe_mean_slots_find moe_mean_slots_plain;

#endif
