/* Few slots by a moving mean of their experts: finds those with the lowest. All are looked at. */
#ifndef MOELAB_POLICIES_MEAN_SLOTS_H
#define MOELAB_POLICIES_MEAN_SLOTS_H

#include "policies/policy.h"

enum { MOE_MEAN_SLOTS_MOST = 64 };

struct moe_mean_slots {
    uint32_t n_slots;                    /* at most MOST */
    uint32_t at[MOE_MEAN_SLOTS_MOST];    /* of each slot's mean in the array of all */
    uint64_t since[MOE_MEAN_SLOTS_MOST]; /* all different */
};

/* The n slots that go first, in turn: the lowest mean, which is a number, of equals the one with
 * the lowest `since`; pinned ones do not, and where there are not so many the others are
 * MOE_NO_SLOT. */
typedef void moe_mean_slots_find(const struct moe_mean_slots *slots, const float *mean,
                                 const uint8_t *pinned, uint32_t n, moe_slot *slot);

/* The fastest that the processor has; each finds the same. */
moe_mean_slots_find *moe_mean_slots_best(void);
moe_mean_slots_find moe_mean_slots_plain;

#endif
