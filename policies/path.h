/* The critical path of a run's decisions: the least time that its decode steps take, however they
 * are scheduled, if the same experts are computed in the same places. Per layer:
 *
 *   attend -> routes known -> the longest of
 *       the CPU's experts, one after another, between the activations' way down and up
 *       the GPU's experts, one after another
 *       the copies that the event itself waits for, one after another, and an expert after them
 *   -> the next layer's attend; at the step's end the head
 *
 * Experts wait for their layer's routes, and the next layer waits for all experts, so the layers'
 * times add up. Left out are fills and prefetches, which may run at any time, and waiting for them
 * (sim/bound.h accounts for them separately); also experts that the CPU began during the layer
 * before (MOE_PLACE_EARLY), which may be done by then. Durations are the platform's
 * (policies/cost.h). */
#ifndef MOELAB_POLICIES_PATH_H
#define MOELAB_POLICIES_PATH_H

#include "policies/cost.h"
#include "policies/step.h"

struct moe_path {
    const struct moe_costs *costs; /* outlives it */
    bool pageable;                 /* memory that copies come from */
    uint64_t n_tokens;             /* of the step under way */
    uint64_t decode_ns;            /* out: of the decode steps so far */
};

/* A step begins. */
void moe_path_step(struct moe_path *path, const struct moe_step *step);

/* An event of it, as it was decided. */
void moe_path_event(struct moe_path *path, const struct moe_decision *decision);

#endif
