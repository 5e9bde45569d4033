/* Placement of an event's experts by cost (prefill 'auto'; dispatch 'fastest'): each is computed
 * where it finishes first, on the CPU or, copied over the link, on the GPU, by the costs of the
 * platform. For prompts without a clock, so that every machine decides alike; in decode link_ns
 * says what the link has still to do (link.h).
 *
 * Three queues, each first in, first out: the CPU pool, which begins when the activations have come
 * down; the link; the GPU, which computes an expert when its copy has landed. Experts that lie in a
 * slot go to the GPU, and first; the others follow by falling number of tokens (longest job first,
 * Graham 1969), each to the queue where it ends earlier given what is queued so far, to the CPU
 * where both are equal. Then no layer ends later than with all of them on the CPU, nor with all of
 * them streamed in this order: taking a job off a queue delays no other.
 *
 * Left out: the host DRAM that CPU and copies share, the two staging buffers (a copy waits while
 * both hold experts that are not computed yet), copies of earlier layers that still run. */
#ifndef MOELAB_POLICIES_PLACE_H
#define MOELAB_POLICIES_PLACE_H

#include "policies/cost.h"
#include "policies/decide.h"

struct moe_place_job {
    uint32_t index;   /* of the expert in the plan */
    uint32_t tokens;  /* that use it */
    bool resident;    /* in a slot, or in flight into one */
    bool on_gpu;      /* out */
    uint8_t side;     /* enum moe_side: where it may be computed */
    uint64_t link_ns; /* resident: when its copy lands, 0: it has; otherwise the earliest start of
                         its copy. Counted from when the routing is known */
    uint64_t cpu_ns, copy_ns, gpu_ns; /* how long each takes for it */
};

enum moe_side {
    MOE_SIDE_ANY, /* where it ends first; on the GPU if it has landed in a slot */
    MOE_SIDE_GPU,
    MOE_SIDE_CPU,
};

/* Sorts the jobs into the order in which they are to be queued and sets on_gpu. down_ns: until the
 * CPU begins its first one; up_ns: from its last one until the GPU has the result. Returns the time
 * until the layer's experts are done, in ns after their routing is known. */
uint64_t moe_place_experts(struct moe_place_job *jobs, uint32_t n, uint64_t down_ns,
                           uint64_t up_ns);

/* Makes the jobs [route.n] of a plan: resident are hits and what is in flight. */
void moe_place_jobs(const struct moe_plan *plan, const struct moe_costs *costs, bool pageable,
                    struct moe_place_job *jobs);

/* The same for a step of n_tokens, and places them; experts in flight count as landed. */
uint64_t moe_place_plan(const struct moe_plan *plan, const struct moe_costs *costs,
                        uint32_t n_tokens, bool pageable, struct moe_place_job *jobs);

#endif
