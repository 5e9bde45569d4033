/* Slots by when they are predicted to be used next: finds the one that is last. Until it is due a
 * slot stands at due - now, then, overdue, at now - last. Neither those that are overdue nor the
 * others pass each other with time: the first are in order by their last uses, the latest of the
 * others by when they are due, and only the first of the two is compared with the first of the
 * rest. Where a pool is small all slots are looked at: that is faster. */
#ifndef MOELAB_POLICIES_SLOT_DUES_H
#define MOELAB_POLICIES_SLOT_DUES_H

#include "policies/slot_lines.h"
#include "policies/slot_list.h"

/* At half of it and later nothing is ever due. */
#define MOE_DUE_NEVER 0x1p45 /* more than twice as long as any run */

enum { MOE_DUES_LATE = 64, MOE_DUES_PER_USE = 8 };

/* A slot as it stood when it was set. */
struct moe_due {
    double due, last;
    uint32_t slot;
};

struct moe_slot_dues {
    uint32_t n_slots;
    struct moe_slot_lines few;    /* of few slots; nothing else is used then */
    double *last, *due;           /* [n_slots] */
    struct moe_slot_list *by_use; /* those that are due some day, by their last use */
    double now;
    double from; /* every slot that is due after it is in `late` */
    uint32_t n_late, most;
    uint32_t found;                     /* the place in `late` of the one found last */
    struct moe_due late[MOE_DUES_LATE]; /* [n_late] the first to go is last; some stand elsewhere
                                           by now */
};

/* A multiple of 8. */
size_t moe_slot_dues_size(const struct moe_policy_env *env);

/* memory: moe_slot_dues_size bytes, of 8-byte alignment, zeroed. */
void moe_slot_dues_init(struct moe_slot_dues *dues, const struct moe_policy_env *env, void *memory);

/* Of more than few slots. */
void moe_slot_dues_place(struct moe_slot_dues *dues, uint32_t slot, double last, double due);

/* Where the slot stands from now on; MOE_NO_SLOT: no slot does. last: a whole number below a
 * quarter of NEVER, as are all times, which do not fall. No two slots that are due some day have
 * the same last use. */
static inline void moe_slot_dues_set(struct moe_slot_dues *dues, moe_slot slot, double last,
                                     double due)
{
    if (dues->n_slots <= MOE_LINES_MOST)
        moe_slot_lines_set(&dues->few, slot, last, due);
    else if (slot != MOE_NO_SLOT)
        moe_slot_dues_place(dues, (uint32_t)slot, last, due);
}

/* The slot that stands highest of those that are not pinned, of equals the one used longest ago,
 * then the lowest, or MOE_NO_SLOT. */
moe_slot moe_slot_dues_victim(struct moe_slot_dues *dues, const uint8_t *pinned, double now);

static inline double moe_due_stands_at(double last, double due, double now)
{
    return now > due ? now - last : due - now;
}

#endif
