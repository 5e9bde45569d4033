/* LRU for every pool size at once: where an expert lies in the stack of contents.
 *
 * Position p of a key: pools of p slots and more hold it. Replay's LRU is a stack algorithm in both
 * contracts: a pool holds all that a smaller one holds.
 * `access`: position = 1 + number of different keys used since (Mattson and others, Evaluation
 * techniques for storage hierarchies, IBM Systems Journal 9(2), 1970).
 * `event`: the same for pools of at least the largest event's size D. A smaller pool may bypass
 * part of an event, so its contents do not follow from recency alone. But inclusion still holds: of
 * an event that is too large for two pools, the one with one slot more keeps one expert more, one
 * that it hit or the next miss in gate order. These D - 1 sizes have a stack of their own. */
#ifndef MOELAB_SIM_MRC_LRU_H
#define MOELAB_SIM_MRC_LRU_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MOE_MRC_NOWHERE UINT32_MAX /* no pool of any size holds the key */

struct moe_lru_stack; /* opaque; single-threaded */

/* For keys 0..n_keys-1. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_lru_stack_new(struct moe_lru_stack **out, uint32_t n_keys, struct moe_err *err);
/* The same for tests, with (wide; only if moe_lru_has_wide) or without AVX-512. */
enum moe_status moe_lru_stack_new_as(struct moe_lru_stack **out, uint32_t n_keys, bool wide,
                                     struct moe_err *err);
bool moe_lru_has_wide(void);
void moe_lru_stack_free(struct moe_lru_stack *stack);

/* Every pool is empty again. */
void moe_lru_stack_clear(struct moe_lru_stack *stack);

/* `access`: position of the key (1..n_keys or MOE_MRC_NOWHERE) before its use, then its use. One
 * stack sees accesses or events, not both. */
uint32_t moe_lru_stack_access(struct moe_lru_stack *stack, uint32_t key);

/* `event`: position[n] of the n different keys (gate order) at the event's start, then the event.
 */
void moe_lru_stack_event(struct moe_lru_stack *stack, const uint32_t *key, uint32_t n,
                         uint32_t *position);

#endif
