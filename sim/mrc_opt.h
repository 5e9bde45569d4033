/* OPT (Belady) for every pool size at once, as policies/opt.c decides with admit=bypass.
 *
 * Keeping an expert from one use to the next is an interval. Whenever more than S intervals
 * overlap, a pool of S slots keeps those that end first, the newcomer's own included. What a pool
 * keeps, a larger one keeps too, so one stack serves all sizes. A newcomer passes down the stack:
 * at each place the one that is needed sooner stays and the other goes on, until one comes to the
 * place that the key used now has left (Mattson and others 1970; their OPT must take every
 * newcomer, this one may decline it). Ties: keys with the same next use are used by one event, of
 * one layer and phase, so which of them stays changes no counter. An expert never used again is
 * declined: it takes no place.
 *
 * Processors with AVX-512 find the same places from the uses so far (mrc_opt_ends.h). */
#ifndef MOELAB_SIM_MRC_OPT_H
#define MOELAB_SIM_MRC_OPT_H

#include "sim/mrc_lru.h"

#include <stdbool.h>

struct moe_opt_stack; /* opaque; single-threaded */

/* Can a stack of so many keys do without next uses? */
bool moe_opt_stack_can_look_back(uint32_t n_keys);

/* For keys 0..n_keys-1. back: do without next uses, even where that is slower; only if
 * moe_opt_stack_can_look_back. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_opt_stack_new(struct moe_opt_stack **out, uint32_t n_keys, bool back,
                                  struct moe_err *err);

/* Does it read the next uses that it is given? */
bool moe_opt_stack_looks_ahead(const struct moe_opt_stack *stack);
void moe_opt_stack_free(struct moe_opt_stack *stack);
void moe_opt_stack_clear(struct moe_opt_stack *stack);

/* `access`: position of the key before its use (1..n_keys; MOE_MRC_NOWHERE), then its use. next_use
 * is its ordinal of policies/future.h, MOE_NEVER for none. */
uint32_t moe_opt_stack_access(struct moe_opt_stack *stack, uint32_t key, uint32_t next_use);

/* `event`: position[n] of the n different keys at the event's start, but in any order: a pool hits
 * as many of them as are no greater than its size. Then the event. */
void moe_opt_stack_event(struct moe_opt_stack *stack, const uint32_t *key, const uint32_t *next_use,
                         uint32_t n, uint32_t *position);

#endif
