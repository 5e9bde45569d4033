/* The step loop's prefetches: asks the strategy's prefetcher after every layer's routing, queues
 * copies of those experts that are in no slot, and cancels copies that turned out useless before
 * they began. */
#ifndef MOELAB_POLICIES_AHEAD_H
#define MOELAB_POLICIES_AHEAD_H

#include "policies/link.h"
#include "policies/strategy.h"

struct moe_ahead_copy {
    moe_key key;
    moe_slot slot;
};

/* All zero for a strategy that prefetches nothing: every function then does nothing. */
struct moe_ahead {
    const struct moe_strategy *strategy;
    const struct moe_machine_ops *ops;
    void *machine;
    struct moe_cache *cache;
    struct moe_link *link;
    uint32_t n_experts;
    void *state;                   /* of the prefetcher; heap; NULL: it has none, like `none` */
    struct moe_ahead_copy *queued; /* [n_queued] heap: prefetches that may still be under way */
    uint32_t n_queued;
    bool *wanted; /* [L * E] heap: scratch */
};

/* The caller has set the members above `state`. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_ahead_init(struct moe_ahead *ahead, uint32_t n_layers, uint32_t top_k,
                               struct moe_err *err);
void moe_ahead_release(struct moe_ahead *ahead);

void moe_ahead_sequence(struct moe_ahead *ahead);
void moe_ahead_step(struct moe_ahead *ahead, const struct moe_step *step);

/* The event of a layer was planned. place: enum moe_place of its experts. Of the prefetches for
 * this layer that have not begun, those that the event does not ask for are cancelled, and those
 * that the GPU will wait for are queued anew as demands, which overtake all prefetches. */
void moe_ahead_planned(struct moe_ahead *ahead, const struct moe_plan *plan, const uint8_t *place);

/* Asks the prefetcher and queues copies. No expert of the event is evicted for a prefetch. */
void moe_ahead_fetch(struct moe_ahead *ahead, const struct moe_plan *plan);

#endif
