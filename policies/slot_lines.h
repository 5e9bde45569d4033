/* Slots whose places in an order move with time: finds the one that stands highest without looking
 * at all. While its due time is not past a slot stands at due - now, then at (now - last) * slope.
 *
 * A look at all slots picks out those that stand high or will do so soon: whose line passes a level
 * within some time, the others stay below it. Until that time is over, or none of those picked
 * stands above the level any more, they alone are looked at. The level is such that about 20 of a
 * large pool stand above it, or 8 where an event pins few that stand high; the time is lengthened
 * and shortened so that few more pass it.
 *
 * Standings are doubles. Where they are rounded, the policy's exact order decides among those that
 * are near to the highest. */
#ifndef MOELAB_POLICIES_SLOT_LINES_H
#define MOELAB_POLICIES_SLOT_LINES_H

#include "policies/policy.h"

enum {
    MOE_LINES_BLOCK = 64,
    MOE_LINES_STRIDE = 8,
    MOE_LINES_FEW = MOE_LINES_BLOCK, /* slots, at most, all of which are looked at each time */
};

struct moe_lines_loops; /* slot_lines_loops.h */

struct moe_lines {
    double *last, *slope, *due; /* [n] up to a whole stride */
};

struct moe_slot_lines {
    uint32_t n_slots, n_blocks;
    uint32_t n_parts; /* of all, the highest of each is picked */
    const struct moe_lines_loops *loops;
    struct moe_lines all; /* [n_blocks * BLOCK] */
    double *scratch;      /* [n_blocks * BLOCK] */
    uint32_t n_picked;
    struct moe_lines picked;    /* copies; of few slots nothing is picked */
    uint32_t *slot;             /* [n_slots] of each picked; NULL: of few */
    uint64_t *barred;           /* [n_blocks] a bit for each of the picked that was pinned lately */
    uint32_t *place;            /* [n_slots] among the picked + 1, or 0 */
    double level, until, ahead; /* no other passes the level until then; it was so far ahead */
};

/* Does slot b go before slot a? Exact, and of two different slots one goes before the other. */
typedef bool moe_slot_goes(const void *state, uint32_t a, uint32_t b);

/* A multiple of 8. */
size_t moe_slot_lines_size(const struct moe_policy_env *env);

/* memory: moe_slot_lines_size bytes, of 8-byte alignment, zeroed. All slots stand at 0. */
void moe_slot_lines_init(struct moe_slot_lines *lines, const struct moe_policy_env *env,
                         void *memory);

void moe_slot_lines_pick(struct moe_slot_lines *lines, uint32_t slot);

static inline void moe_slot_lines_write(struct moe_slot_lines *lines, uint32_t slot, double last,
                                        double slope, double due)
{
    const struct moe_lines *all = &lines->all, *picked = &lines->picked;
    all->last[slot] = last;
    all->slope[slot] = slope;
    all->due[slot] = due;
    if (!lines->slot || !lines->place[slot])
        return;
    uint32_t i = lines->place[slot] - 1;
    picked->last[i] = last;
    picked->slope[i] = slope;
    picked->due[i] = due;
}

/* Where the slot stands from now on; below 0 it will not be found. Times are whole numbers below
 * 2^52 and do not fall. */
static inline void moe_slot_lines_set(struct moe_slot_lines *lines, moe_slot slot, double last,
                                      double slope, double due, double now)
{
    moe_slot_lines_write(lines, (uint32_t)slot, last, slope, due);
    if (lines->slot && !lines->place[slot] &&
        (due - now >= lines->level || (now - last) * slope >= lines->level ||
         (lines->until - last) * slope >= lines->level))
        moe_slot_lines_pick(lines, (uint32_t)slot);
}

/* The slot that goes first of those that are not pinned, or MOE_NO_SLOT. */
moe_slot moe_slot_lines_victim(struct moe_slot_lines *lines, const uint8_t *pinned, double now,
                               moe_slot_goes *goes, const void *state);

#endif
