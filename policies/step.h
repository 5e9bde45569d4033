/* The step loop: runs one forward pass of a strategy on a machine. */
#ifndef MOELAB_POLICIES_STEP_H
#define MOELAB_POLICIES_STEP_H

#include "policies/ahead.h"
#include "policies/place.h"
#include "policies/rerouter.h"

/* Where an expert of an event is computed. */
enum moe_place {
    MOE_PLACE_GPU,    /* from a slot that holds it, or that its copy is on the way to */
    MOE_PLACE_CPU,    /* by the CPU pool */
    MOE_PLACE_STREAM, /* on the GPU, which waits for a copy queued now: into the slot reserved for
                         it, or into a staging buffer */
    MOE_PLACE_EARLY,  /* by the CPU pool, which began it with the layer before, on that layer's
                         input (reroute.h): lossy */
};

/* One event, planned and not yet carried out. Pointers hold during the observer's call. */
struct moe_decision {
    uint64_t step;               /* steps of this loop before it */
    const struct moe_plan *plan; /* decide.h; phase in plan->route */
    const uint8_t *place;        /* [n] enum moe_place */
    const moe_expert *router; /* [n] where a reroute rule changed the event, what the router chose;
                                 else NULL */
    const moe_expert
        *early; /* [n_early] experts of the layer that were begun with the one before */
    uint32_t n_early;
    bool copying; /* a copy was under way, as it was planned, into a slot that this event, or a
                     prefetch with it, could have asked for: another machine may decide otherwise */
};

/* Told every event, in order. It cannot change what is done. */
typedef void moe_decision_observer(void *user, const struct moe_decision *decision);

struct moe_loop {
    const struct moe_strategy *strategy;
    const struct moe_machine_ops *ops;
    void *machine;
    struct moe_cache *cache;
    const struct moe_costs *costs; /* of the platform, or NULL */
    struct moe_admission admission;
    struct moe_rerouter reroute;
    struct moe_planner *planner;
    struct moe_link link; /* kept where dispatch asks for it */
    struct moe_ahead ahead;
    uint32_t n_layers, n_experts, top_k;
    uint64_t n_steps;  /* begun */
    uint8_t *place;    /* [max(E, K)] of the event under way */
    moe_expert *early; /* [K] begun, of the layer under way and then of the next; NULL where the
                          strategy begins none */
    uint32_t n_early;
    struct moe_place_job *jobs;      /* [max(E, K)] heap; NULL unless experts are placed by cost */
    moe_decision_observer *observer; /* or NULL; may be set at any time after moe_loop_init */
    void *observer_user;
};

/* Takes pointers, owns reroute, planner, link, ahead, place, early and jobs only. costs: of the
 * strategy's threads, or NULL where no platform is known. Errors: MOE_ERR_USAGE (prefill 'auto' or
 * dispatch 'fastest' without costs, prefill_warm with prefill 'cpu', experts begun early without
 * overlap), those of moe_admission_init, MOE_ERR_MEMORY. The loop stays where it is. */
enum moe_status moe_loop_init(struct moe_loop *loop, const struct moe_strategy *strategy,
                              const struct moe_machine_ops *ops, void *machine,
                              struct moe_cache *cache, const struct moe_costs *costs,
                              uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                              struct moe_err *err);
void moe_loop_release(struct moe_loop *loop);

/* Fetches the policy's initial content into the slots and waits until it is there: before the first
 * step, and before any time that is reported. Nothing to do for most policies. A copy that fails is
 * reported by the machine's next begin_step. */
void moe_loop_preload(struct moe_loop *loop);

/* A sequence begins: for the cache and the prefetcher. */
void moe_loop_sequence(struct moe_loop *loop);

/* One forward pass over all layers. */
enum moe_status moe_loop_step(struct moe_loop *loop, const struct moe_step *step,
                              struct moe_err *err);

#endif
