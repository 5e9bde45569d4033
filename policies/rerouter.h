/* Carries a reroute rule (reroute.h) out on one event after the other, and keeps count of what it
 * changed: for replay, simulator and executor alike. */
#ifndef MOELAB_POLICIES_REROUTER_H
#define MOELAB_POLICIES_REROUTER_H

#include "policies/cache.h"
#include "policies/decide.h"
#include "policies/reroute.h"

/* What was changed, summed over the events that the rule saw. Gate weights are those of the routes
 * or, where they come without, the softmax of the scores over the route; gate mass is the softmax
 * over all experts of the layer. */
struct moe_rerouted {
    uint64_t choices, replaced;    /* experts of routes; those that the router did not choose */
    double weight, weight_moved;   /* of the router's choices; of those that were replaced */
    double mass, mass_lost;        /* of the router's choices; that less the final route's */
    uint64_t events, events_moved; /* all; those with another expert or weight */
    /* Experts begun early; those of them whose results were taken (step.h); CPU time of the others
     * by the platform's costs, each computed alone; 0 without a platform. */
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
    void *state;            /* of the rule; heap, as all pointers that follow */
    moe_expert *expert;     /* [K] the new route of the event under way */
    float *weight, *before; /* [K] its weights, and those of the router's choices */
    float *logit;           /* [E] of the router */
    float *ahead;           /* [E] lookahead logits for the layer ahead_of */
    bool *resident;         /* [E] */
    moe_expert *next;       /* [K] scratch: predicted choices of the layer ahead_of */
    uint32_t ahead_of;      /* 0: there are none */
    struct moe_rerouted done;
};

/* Errors: MOE_ERR_MEMORY; then nothing needs releasing. */
enum moe_status moe_rerouter_init(struct moe_rerouter *rerouter,
                                  const struct moe_reroute_spec *spec, uint32_t n_layers,
                                  uint32_t n_experts, uint32_t top_k, struct moe_err *err);
void moe_rerouter_release(struct moe_rerouter *rerouter); /* also one that is all zero */

/* To be called for every event before the cache sees it. true: `routes` has another expert and
 * weight, valid until the next event, and its next_use is NULL. The sum of the weights stays the
 * same: a stand-in gets the weight of the expert that it replaces times the ratio of their
 * probabilities, then all are scaled. (So weights that were the softmax over the old route are that
 * over the new one.) Scores that are nowhere negative and sum to 1 within 0.001 are taken to be
 * probabilities. Scores that were not recorded (NaN) leave the route as it is. */
bool moe_rerouter_event(struct moe_rerouter *rerouter, const struct moe_cache *cache,
                        struct moe_layer_routes *routes);

/* To be called after the event of layer - 1: the experts of `layer` that the CPU is to begin early.
 * These are the ones not resident now among those that the layer will use if its router agrees with
 * the prediction, or if the rule uses the prediction. Returns how many were written to out [K]. */
uint32_t moe_rerouter_early(struct moe_rerouter *rerouter, const struct moe_cache *cache,
                            uint32_t layer, moe_expert *out);

#endif
