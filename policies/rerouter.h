/* Carries a reroute rule (reroute.h) out on one event after the other, and keeps count of what it
 * changed: for replay, simulator and executor alike. */
#ifndef MOELAB_POLICIES_REROUTER_H
#define MOELAB_POLICIES_REROUTER_H

#include "policies/cache.h"
#include "policies/decide.h"
#include "policies/reroute.h"

/* What was changed, over the events that the rule saw. Gate weight as the routes come with it, or,
 * where they come without, the softmax of the scores over the route; gate mass is the softmax over
 * all experts of the layer. */
struct moe_rerouted {
    uint64_t choices, replaced;    /* experts of routes; those that the router did not choose */
    double weight, weight_moved;   /* of the router's choices; of those that were not computed */
    double mass, mass_lost;        /* of the router's choices; how much less the route has now */
    uint64_t events, events_moved; /* all; with another expert or weight */
    /* Experts begun early, and those of them whose results were taken (step.h); CPU time of the
     * others by the platform's costs, beside nothing else, 0 without a platform. */
    uint64_t early, early_used, early_wasted_ns;
};

/* In percent: choices replaced, weight moved, gate mass lost. 0 where nothing was seen. */
struct moe_rerouted_shares {
    double replaced, weight_moved, mass_lost;
};
struct moe_rerouted_shares moe_rerouted_shares(const struct moe_rerouted *rerouted);

/* All zero for a strategy that changes nothing: every function then does nothing. */
struct moe_rerouter {
    const struct moe_reroute_ops *ops;
    uint32_t n_experts, top_k;
    void *state;            /* of the rule; heap */
    moe_expert *expert;     /* [K] of the event under way; heap, as all that follow */
    float *weight, *before; /* [K] now, and those of the router */
    float *logit;           /* [E] of the router */
    float *ahead;           /* [E] that the layer before gave for the layer ahead_of */
    bool *resident;         /* [E] */
    moe_expert *next;       /* [K] scratch: of the layer ahead_of */
    uint32_t ahead_of;      /* 0: none */
    struct moe_rerouted done;
};

/* Errors: MOE_ERR_MEMORY; then nothing needs releasing. */
enum moe_status moe_rerouter_init(struct moe_rerouter *rerouter,
                                  const struct moe_reroute_spec *spec, uint32_t n_layers,
                                  uint32_t n_experts, uint32_t top_k, struct moe_err *err);
void moe_rerouter_release(struct moe_rerouter *rerouter); /* also one that is all zero */

/* Asked for every event before the cache is. true: expert and weight of `routes` are others now,
 * held until the next event, and its next_use is gone. The sum of the weights stays what it was:
 * a stand-in takes the weight of the expert that it replaces times the ratio of their
 * probabilities, and all are scaled; which is the softmax over the new route where weights were
 * that over the old one. Rows of scores that are nowhere negative and sum to 1 (to 0.001) are taken
 * for probabilities. A row that was not recorded (NaN) leaves the route as it is. */
bool moe_rerouter_event(struct moe_rerouter *rerouter, const struct moe_cache *cache,
                        struct moe_layer_routes *routes);

/* After that of layer - 1: which experts of the layer are begun early, by what is resident now: of
 * those that it will choose if its router agrees with the prediction (or the rule takes that), the
 * ones that are not. Returns how many were written to out [K]. */
uint32_t moe_rerouter_early(struct moe_rerouter *rerouter, const struct moe_cache *cache,
                            uint32_t layer, moe_expert *out);

#endif
