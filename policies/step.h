/* The step loop: runs one forward pass of a strategy on a machine. */
#ifndef MOELAB_POLICIES_STEP_H
#define MOELAB_POLICIES_STEP_H

#include "policies/machine.h"
#include "policies/strategy.h"

struct moe_loop {
    const struct moe_strategy *strategy;
    const struct moe_machine_ops *ops;
    void *machine;
    struct moe_cache *cache;
    struct moe_admission admission;
    struct moe_planner *planner;
    void *prefetch_state; /* heap; NULL for `none` */
    uint32_t n_layers, n_experts, top_k;
};

/* Takes pointers, owns planner and prefetch_state only. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_loop_init(struct moe_loop *loop, const struct moe_strategy *strategy,
                              const struct moe_machine_ops *ops, void *machine,
                              struct moe_cache *cache, uint32_t n_layers, uint32_t n_experts,
                              uint32_t top_k, struct moe_err *err);
void moe_loop_release(struct moe_loop *loop);

/* Fetches the policy's initial content into the slots and waits until it is there: before the first
 * step, and before any time that is reported. Nothing to do for most policies. A copy that fails is
 * reported by the machine's next begin_step. */
void moe_loop_preload(struct moe_loop *loop);

/* One forward pass over all layers. */
enum moe_status moe_loop_step(struct moe_loop *loop, const struct moe_step *step,
                              struct moe_err *err);

#endif
