#include "policies/decide.h"

#include <stdlib.h>

struct moe_planner {
    uint32_t n_experts;
    struct moe_plan plan;
    /* [max(E, K)] each; all but place: what the plan's pointers refer to */
    moe_expert *expert;
    float *weight;
    uint32_t *next_use;
    uint32_t *tokens;
    uint32_t *place; /* scratch by expert: 1 + its index in this event; 0: not in it */
    moe_slot *slot, *fill;
    uint8_t *access;
};

enum moe_status moe_planner_new(struct moe_planner **out, uint32_t n_experts, uint32_t top_k,
                                struct moe_err *err)
{
    size_t n = n_experts > top_k ? n_experts : top_k;
    struct moe_planner *p = calloc(1, sizeof *p);
    if (!p)
        return moe_fail_memory(err, "a planner");
    p->n_experts = n_experts;
    p->expert = calloc(n, sizeof *p->expert);
    p->weight = calloc(n, sizeof *p->weight);
    p->next_use = calloc(n, sizeof *p->next_use);
    p->tokens = calloc(n, sizeof *p->tokens);
    p->place = calloc(n, sizeof *p->place);
    p->slot = calloc(n, sizeof *p->slot);
    p->fill = calloc(n, sizeof *p->fill);
    p->access = calloc(n, sizeof *p->access);
    if (!p->expert || !p->weight || !p->next_use || !p->tokens || !p->place || !p->slot ||
        !p->fill || !p->access) {
        moe_planner_free(p);
        return moe_fail_memory(err, "a planner");
    }
    p->plan =
        (struct moe_plan){.route = {.slot = p->slot, .access = p->access, .tokens = p->tokens},
                          .tokens = p->tokens,
                          .fill = p->fill};
    *out = p;
    return MOE_OK;
}

void moe_planner_free(struct moe_planner *p)
{
    if (!p)
        return;
    free(p->expert);
    free(p->weight);
    free(p->next_use);
    free(p->tokens);
    free(p->place);
    free(p->slot);
    free(p->fill);
    free(p->access);
    free(p);
}

/* One token: the route points at its row in the trace, nothing is copied. */
static void collect_one(struct moe_planner *p, const struct moe_layer_routes *routes)
{
    struct moe_route *route = &p->plan.route;
    uint32_t n = 0;
    while (n < routes->top_k && routes->expert[n] != MOE_NO_EXPERT)
        p->tokens[n++] = 1;
    route->n = n;
    route->expert = routes->expert;
    route->weight = routes->weight;
    route->next_use = routes->next_use;
    route->score = routes->score;
    route->lookahead = routes->lookahead;
}

/* The next use of an expert that several tokens of the event share is taken from the last of them:
 * under the event contract all carry the same ordinal, under the access contract only the last
 * token's lies after the event. */
static void collect_many(struct moe_planner *p, const struct moe_layer_routes *routes)
{
    struct moe_route *route = &p->plan.route;
    uint32_t n = 0;
    for (uint32_t t = 0; t < routes->n_tokens; t++) {
        for (uint32_t k = 0; k < routes->top_k; k++) {
            size_t at = t * routes->stride + k;
            moe_expert e = routes->expert[at];
            if (e == MOE_NO_EXPERT)
                break;
            if (!p->place[e]) {
                p->expert[n] = e;
                p->tokens[n] = 0;
                p->weight[n] = routes->weight ? routes->weight[at] : 0;
                p->place[e] = ++n;
            }
            uint32_t i = p->place[e] - 1;
            p->tokens[i]++;
            if (routes->next_use)
                p->next_use[i] = routes->next_use[at];
        }
    }
    for (uint32_t i = 0; i < n; i++)
        p->place[p->expert[i]] = 0;
    route->n = n;
    route->expert = p->expert;
    route->weight = routes->weight ? p->weight : NULL;
    route->next_use = routes->next_use ? p->next_use : NULL;
    route->score = NULL;
    route->lookahead = NULL;
}

static void collect(struct moe_planner *p, const struct moe_layer_routes *routes)
{
    p->plan.route.layer = routes->layer;
    p->plan.route.phase = routes->phase;
    if (routes->n_tokens == 1)
        collect_one(p, routes);
    else
        collect_many(p, routes);
}

struct moe_route *moe_plan_route(struct moe_planner *p, const struct moe_layer_routes *routes)
{
    collect(p, routes);
    return &p->plan.route;
}

static void clear_fills(struct moe_planner *p)
{
    for (uint32_t i = 0; i < p->plan.route.n; i++)
        p->fill[i] = MOE_NO_SLOT;
}

const struct moe_plan *moe_plan_collect(struct moe_planner *p,
                                        const struct moe_layer_routes *routes)
{
    collect(p, routes);
    clear_fills(p);
    for (uint32_t i = 0; i < p->plan.route.n; i++) {
        p->slot[i] = MOE_NO_SLOT;
        p->access[i] = MOE_MISS;
    }
    return &p->plan;
}

const struct moe_plan *moe_plan_peek(struct moe_planner *p, const struct moe_cache *cache,
                                     const struct moe_layer_routes *routes)
{
    moe_plan_collect(p, routes);
    const struct moe_route *route = &p->plan.route;
    for (uint32_t i = 0; i < route->n; i++) {
        p->slot[i] = moe_cache_find(cache, route->layer * p->n_experts + route->expert[i]);
        if (p->slot[i] != MOE_NO_SLOT)
            p->access[i] = moe_cache_in_flight(cache, p->slot[i]) ? MOE_HIT_IN_FLIGHT : MOE_HIT;
    }
    return &p->plan;
}

bool moe_plan_admits(const struct moe_cache *cache, struct moe_admission *admission,
                     const struct moe_route *route, uint32_t i)
{
    uint32_t copies = moe_admission_on_time(admission) ? moe_cache_copies(cache) : 0;
    return moe_admission_admits(admission, route, i, copies);
}

const struct moe_plan *moe_plan_event(struct moe_planner *p, struct moe_cache *cache,
                                      struct moe_admission *admission,
                                      const struct moe_layer_routes *routes)
{
    if (!moe_cache_covers(cache, routes->layer)) {
        moe_cache_enter_phase(cache, routes->phase); /* prefetches for later layers may follow */
        return moe_plan_collect(p, routes);
    }
    collect(p, routes);
    clear_fills(p);
    struct moe_route *route = &p->plan.route;
    if (route->n == 0)
        return &p->plan;
    moe_cache_route(cache, route);
    moe_admission_route(admission, route);
    for (uint32_t i = 0; i < route->n; i++) {
        if (p->access[i] != MOE_MISS)
            moe_cache_touch(cache, p->slot[i]);
        else if (moe_plan_admits(cache, admission, route, i))
            p->fill[i] = moe_cache_reserve(cache, route, i, NULL);
    }
    moe_cache_end_event(cache);
    return &p->plan;
}
