/* Finds the slot whose next use is predicted to be last. A slot is due at its predicted next use:
 * until then its priority for eviction is due - now; afterwards, overdue, it is now - last.
 *
 * As time passes, slots that are not due keep their order (by due time), and so do the overdue ones
 * (by last use). So two lists are kept: `late`, some slots of the latest due times, in order, and
 * `by_use`, the slots in order of last use. Only the first candidates of both are compared. In a
 * small pool all slots are scanned instead (slot_lines.h): that is faster. */
#ifndef MOELAB_POLICIES_SLOT_DUES_H
#define MOELAB_POLICIES_SLOT_DUES_H

#include "policies/slot_lines.h"
#include "policies/slot_list.h"

/* A due time from half of this on means never. */
#define MOE_DUE_NEVER 0x1p45 /* more than twice as long as any run */

enum {
    MOE_DUES_LATE = 64,   /* capacity of the list `late`, at most */
    MOE_DUES_PER_USE = 8, /* its capacity for each expert of a route */
};

/* A slot with the times that were set when it was put into `late`. */
struct moe_due {
    double due, last;
    uint32_t slot;
};

struct moe_slot_dues {
    uint32_t n_slots;
    struct moe_slot_lines lines;  /* of a small pool, which has neither of the lists */
    double *last, *due;           /* [n_slots] */
    struct moe_slot_list *by_use; /* all slots whose due time is not never, by last use */
    double now;
    double threshold;                   /* every slot that is due after it is in `late` */
    uint32_t n_late, capacity;          /* of `late` */
    uint32_t found;                     /* index in `late` of the victim found last */
    struct moe_due late[MOE_DUES_LATE]; /* [n_late] the first to be evicted is last; entries whose
                                           slot was set anew since are stale */
};

/* A multiple of 8. */
size_t moe_slot_dues_size(const struct moe_policy_env *env);

/* memory: moe_slot_dues_size bytes, of 8-byte alignment, zeroed. */
void moe_slot_dues_init(struct moe_slot_dues *dues, const struct moe_policy_env *env, void *memory);

/* Part of moe_slot_dues_set, for pools that are not small. */
void moe_slot_dues_place(struct moe_slot_dues *dues, uint32_t slot, double last, double due);

/* Sets last use and due time of a slot; of MOE_NO_SLOT it has no effect. last: a whole number below
 * a quarter of NEVER, as are all times; time never goes back. No two slots whose due time is not
 * never may have the same last use. */
static inline void moe_slot_dues_set(struct moe_slot_dues *dues, moe_slot slot, double last,
                                     double due)
{
    if (dues->n_slots <= MOE_LINES_MAX)
        moe_slot_lines_set(&dues->lines, slot, last, due);
    else if (slot != MOE_NO_SLOT)
        moe_slot_dues_place(dues, (uint32_t)slot, last, due);
}

/* The slot of the highest priority that is not pinned, or MOE_NO_SLOT; of equals the one used
 * longest ago, then the lowest number. */
moe_slot moe_slot_dues_victim(struct moe_slot_dues *dues, const uint8_t *pinned, double now);

static inline double moe_due_priority(double last, double due, double now)
{
    return now > due ? now - last : due - now;
}

#endif
