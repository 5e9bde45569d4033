/* The decisions of one event, written once for replay, simulator and executor: which experts are
 * on the GPU, and which are fetched into which slot. Nothing here knows of time or devices. */
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

/* What was decided. The planner owns the arrays; they are valid until its next event. */
struct moe_plan {
    struct moe_route route; /* the event's distinct experts; slot and access filled */
    const uint32_t *tokens; /* [n] tokens of the step that use the expert */
    const moe_slot *fill;   /* [n] slot reserved for a missed expert, or MOE_NO_SLOT */
};

struct moe_planner; /* opaque: scratch memory for one event at a time */

enum moe_status moe_planner_new(struct moe_planner **out, uint32_t n_experts, uint32_t top_k,
                                struct moe_err *err);
void moe_planner_free(struct moe_planner *planner);

/* Collects the distinct experts of the layer: of one token in gate order, of several in order of
 * first appearance. slot and access are not set: for callers that decide themselves. The planner
 * owns the result, which is valid until its next event. */
struct moe_route *moe_plan_route(struct moe_planner *planner,
                                 const struct moe_layer_routes *routes);

/* The same as a plan in which every access is a miss and nothing is filled: for layers without
 * slots and phases that the strategy keeps out of the cache. */
const struct moe_plan *moe_plan_collect(struct moe_planner *planner,
                                        const struct moe_layer_routes *routes);

/* As moe_plan_collect, but with slot and access as a lookup would set them for experts that are
 * resident or in flight: for phases that the strategy keeps out of the cache but computes where the
 * weights are. Nothing is counted or pinned, and the policy is not told. */
const struct moe_plan *moe_plan_peek(struct moe_planner *planner, const struct moe_cache *cache,
                                     const struct moe_layer_routes *routes);

/* Does the admission rule let the missed expert route->expert[i] be fetched into a slot? */
bool moe_plan_admits(const struct moe_cache *cache, struct moe_admission *admission,
                     const struct moe_route *route, uint32_t i);

/* Decides an event under the event contract: classifies all experts against the contents at its
 * start; in gate order touches the hits and reserves slots for the misses that the admission rule
 * lets through; ends the event. Reserved slots are in flight: the caller fetches into them and
 * reports moe_cache_ready. */
const struct moe_plan *moe_plan_event(struct moe_planner *planner, struct moe_cache *cache,
                                      struct moe_admission *admission,
                                      const struct moe_layer_routes *routes);

#endif
