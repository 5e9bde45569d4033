/* Who computes what: items of a job, dealt to processes that ask.
 *
 * A process asks for as many items as keep it busy for MOE_DEAL_GRAIN_NS, judged by those that it
 * has finished, so that messages are few where items are short. It never gets more than its part of
 * half of what is left (guided self-scheduling; Polychronopoulos, Kuck, IEEE Trans. Computers C-36,
 * 1987), so that all end together. A process asks for short items when its queue is empty, and for
 * long ones (beside which the time of an answer is nothing) only when a thread is idle: none waits
 * at one process while another could run it. The same rules make the plan of sim/plan.h. */
#ifndef MOELAB_SIM_DEAL_H
#define MOELAB_SIM_DEAL_H

#include "base/error.h"
#include "sim/crew.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_DEAL_GRAIN_NS = 50000000, MOE_DEAL_SHORT_NS = 50000000 };

/* How many items a process should ask for now; 0: none yet. */
uint64_t moe_deal_wanted(const struct moe_crew_state *state);

struct moe_deal {
    size_t n_items, n_done, n_left; /* left: with nobody */
    uint32_t n_ranks;
    size_t next;            /* items [next, n_items) were never dealt; some may be done (skipped) */
    size_t *again, n_again; /* [n_items] taken back from ranks that were lost, to be dealt again */
    uint32_t *owner;        /* [n_items] rank, or MOE_DEAL_NOBODY, or MOE_DEAL_DONE */
    size_t *owned;          /* [n_ranks] items */
};

#define MOE_DEAL_NOBODY UINT32_MAX
#define MOE_DEAL_DONE   (UINT32_MAX - 1)

enum moe_status moe_deal_init(struct moe_deal *deal, size_t n_items, uint32_t n_ranks,
                              struct moe_err *err);
void moe_deal_release(struct moe_deal *deal); /* also one that is all zero */

/* Gives rank at most `wanted` and at most `room` items, the first ones first; returns how many. */
size_t moe_deal_give(struct moe_deal *deal, uint32_t rank, uint64_t wanted, size_t room,
                     uint64_t *items);

/* The item is computed, whoever did it. False: it was computed before, or there is no such item. */
bool moe_deal_finish(struct moe_deal *deal, uint64_t item);

/* Takes back the items that the rank has not finished, for others. Returns how many. */
size_t moe_deal_take_back(struct moe_deal *deal, uint32_t rank);

#endif
