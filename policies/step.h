/* The step loop: runs one forward pass of a strategy on a machine. */
#ifndef MOELAB_POLICIES_STEP_H
#define MOELAB_POLICIES_STEP_H

#include "policies/ahead.h"
#include "policies/place.h"
#include "policies/rerouter.h"

/* Where an expert of an event is computed. */
enum moe_place {
    MOE_PLACE_GPU,    /* on the GPU, from the slot that it is in, or in flight into */
    MOE_PLACE_CPU,    /* by the CPU pool */
    MOE_PLACE_STREAM, /* on the GPU, which waits for a copy queued now: into the slot reserved for
                         it, or into a staging buffer */
    MOE_PLACE_EARLY,  /* by the CPU pool, which began it during the layer before, on that layer's
                         input (reroute.h): lossy */
};

/* One event, planned and not yet carried out. Pointers are valid during the observer's call. */
struct moe_decision {
    uint64_t step;               /* number of steps that this loop ran before */
    const struct moe_plan *plan; /* decide.h; phase in plan->route */
    const uint8_t *place;        /* [n] enum moe_place */
    const moe_expert *router;    /* [n] what the router chose, where a reroute rule changed the
                                    event; else NULL */
    const moe_expert *early;     /* [n_early] of the layer's experts, those that the CPU began
                                    during the layer before */
    uint32_t n_early;
    bool copying; /* while it was planned a copy was under way that the decision may have depended
                     on: a machine on which it lands at another time may decide otherwise */
};

/* Called for every event, in order. It cannot change what is done. */
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
    struct moe_link link;   /* used only where dispatch places experts by cost */
    struct moe_ahead ahead; /* prefetches */
    uint32_t n_layers, n_experts, top_k;
    uint64_t n_steps;  /* begun */
    uint8_t *place;    /* [max(E, K)] enum moe_place, of the event under way */
    moe_expert *early; /* [K] experts that the CPU began early: of the layer under way until its
                          experts run, then of the next one; NULL where the strategy begins none */
    uint32_t n_early;
    struct moe_place_job *jobs;      /* [max(E, K)]; NULL unless experts are placed by cost */
    moe_decision_observer *observer; /* or NULL; may be set at any time after moe_loop_init */
    void *observer_user;
};

/* All that is passed in must outlive the loop, which must not be moved afterwards. costs: for the
 * strategy's number of threads, or NULL where no platform is known. Errors: MOE_ERR_USAGE (prefill
 * 'auto' or dispatch 'fastest' without costs, prefill_warm with prefill 'cpu', experts begun early
 * without overlap), those of moe_admission_init, MOE_ERR_MEMORY; then nothing needs releasing. */
enum moe_status moe_loop_init(struct moe_loop *loop, const struct moe_strategy *strategy,
                              const struct moe_machine_ops *ops, void *machine,
                              struct moe_cache *cache, const struct moe_costs *costs,
                              uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                              struct moe_err *err);
void moe_loop_release(struct moe_loop *loop);

/* Fetches the policy's initial content, if it has any, into the slots and waits until it has
 * landed: to be called before the first step, so that no reported time contains it. A copy that
 * fails is reported by the machine's next begin_step. */
void moe_loop_preload(struct moe_loop *loop);

/* A sequence begins: tells the cache and the prefetcher. */
void moe_loop_sequence(struct moe_loop *loop);

/* One forward pass over all layers. */
enum moe_status moe_loop_step(struct moe_loop *loop, const struct moe_step *step,
                              struct moe_err *err);

#endif
