/* The `sim` machine: carries the step loop's operations out in virtual time (policies/machine.h).
 *
 * Waiting calls move time; every other call queues an operation and returns. What it models:
 *   attend    waits for everything queued on the GPU before it, and for the CPU's part if any
 *   fetch     waits for the last use of the slot on the GPU (no overwriting under a kernel) and for
 *             an earlier copy into it; a pageable copy blocks the host until it has landed
 *   cpu_ffn   the first of a layer waits for the activations (state down)
 *   cpu_early the same, but what waits for it is the combination of the next layer, if that layer
 *             takes it
 *   combine   sends the CPU's part up; the time of the sum itself is in the next dense part
 *   slot -1   an expert that is not kept: two staging buffers are used alternately, so that its
 *             copy runs while the expert before it computes */
#ifndef MOELAB_SIM_MACHINE_H
#define MOELAB_SIM_MACHINE_H

#include "policies/cost.h"
#include "policies/machine.h"
#include "policies/timeline.h"
#include "policies/usage.h"
#include "sim/engine.h"

struct moe_sim_setup {
    const struct moe_costs *costs; /* outlives the machine, like all pointers here */
    struct moe_cache *cache;
    uint32_t n_slots;
    const uint32_t *next_use;      /* [T, L, K] of the tokens replayed, or NULL */
    struct moe_timeline *timeline; /* or NULL */
    bool instant_fills;            /* copies that nothing waits for (fills, prefetches) land when
                                      they are queued, and cost nothing: for sim/gap.h */
};

struct moe_sim_machine; /* opaque */

extern const struct moe_machine_ops moe_sim_machine_ops;

/* Errors: MOE_ERR_MEMORY. */
enum moe_status moe_sim_machine_new(struct moe_sim_machine **out, const struct moe_sim_setup *setup,
                                    struct moe_err *err);
void moe_sim_machine_free(struct moe_sim_machine *machine);

/* Valid until the machine is freed. */
const struct moe_usage *moe_sim_machine_usage(const struct moe_sim_machine *machine,
                                              enum moe_phase phase);

#endif
