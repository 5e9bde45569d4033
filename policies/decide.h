/* The decisions of one event, written once for replay, simulator and executor: which experts are
 * on the GPU, which are fetched into which slot. No time and no device in here. */
#ifndef MOELAB_POLICIES_DECIDE_H
#define MOELAB_POLICIES_DECIDE_H

#include "policies/admission.h"
#include "policies/cache.h"

/* The routes of one layer for the tokens of a step, as a machine hands them over. */
struct moe_layer_routes {
    uint32_t layer;
    uint32_t n_tokens;
    enum moe_phase phase;
    uint32_t top_k;
    const moe_expert *expert; /* token i: expert[i * stride .. + K) */
    const float *weight;      /* the same layout, or NULL */
    const uint32_t *next_use; /* the same layout, or NULL */
    size_t stride;            /* in elements, L * K for routes that lie in a trace */
    const float *score;       /* [E] of the only token, or NULL */
    const float *lookahead;   /* [E] of the only token, or NULL */
};

/* What was decided. Arrays belong to the planner and hold until its next event. */
struct moe_plan {
    struct moe_route route; /* the event's different experts; slot and access filled */
    const uint32_t *tokens; /* [n] tokens of the step that use the expert */
    const moe_slot *fill;   /* [n] slot reserved for a missed expert, or MOE_NO_SLOT */
};

struct moe_planner; /* opaque: scratch for one step at a time */

enum moe_status moe_planner_new(struct moe_planner **out, uint32_t n_experts, uint32_t top_k,
                                struct moe_err *err);
void moe_planner_free(struct moe_planner *planner);

/* The different experts of the layer, collected as below, slot and access unset: for callers that
 * decide themselves. Belongs to the planner and holds until its next event. */
struct moe_route *moe_plan_route(struct moe_planner *planner,
                                 const struct moe_layer_routes *routes);

/* Collects the different experts of the layer (gate order, then order of appearance) without
 * touching the cache: every access is a miss. For layers and phases the strategy keeps out. */
const struct moe_plan *moe_plan_collect(struct moe_planner *planner,
                                        const struct moe_layer_routes *routes);

/* As moe_plan_collect, and experts that lie in a slot or are on their way into one have access and
 * slot set as a lookup would: for phases that the strategy keeps out of the cache and yet computes
 * where the weights are. Nothing is counted, no policy is told, nothing is pinned. */
const struct moe_plan *moe_plan_peek(struct moe_planner *planner, const struct moe_cache *cache,
                                     const struct moe_layer_routes *routes);

/* Asks the admission rule for the missed expert route->expert[i]. */
bool moe_plan_admits(const struct moe_cache *cache, struct moe_admission *admission,
                     const struct moe_route *route, uint32_t i);

/* Event contract: classify all at the event's start; in gate order touch the hits and, where
 * admission says so, reserve slots for the misses; then end the event. Reserved slots are in
 * flight: the caller fetches and reports moe_cache_ready. */
const struct moe_plan *moe_plan_event(struct moe_planner *planner, struct moe_cache *cache,
                                      struct moe_admission *admission,
                                      const struct moe_layer_routes *routes);

#endif
