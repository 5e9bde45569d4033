#include "policies/dispatch.h"

/* Does decode place experts by cost? */
static bool is_fastest(const struct moe_strategy *strategy)
{
    return strategy->miss == MOE_MISS_FASTEST || strategy->in_flight == MOE_FLIGHT_FASTEST;
}

bool moe_dispatch_needs_costs(const struct moe_strategy *strategy)
{
    return strategy->prefill == MOE_PREFILL_AUTO || is_fastest(strategy);
}

/* Where the strategy's rules place a missed expert; fill: the slot reserved for it. */
static enum moe_place place_missed(const struct moe_strategy *strategy, enum moe_phase phase,
                                   moe_slot fill)
{
    if (phase == MOE_PREFILL && strategy->prefill != MOE_PREFILL_CACHE)
        return strategy->prefill == MOE_PREFILL_STREAM ? MOE_PLACE_STREAM : MOE_PLACE_CPU;
    bool stream = strategy->miss == MOE_MISS_WAIT ||
                  (strategy->miss == MOE_MISS_ADMITTED && fill != MOE_NO_SLOT);
    return stream ? MOE_PLACE_STREAM : MOE_PLACE_CPU;
}

/* Places each expert by the strategy's rules alone. Hits go to the GPU, and so do experts in flight
 * if the strategy waits for them. Otherwise those go to the CPU; only a streamed prompt copies them
 * a second time, as it does all experts. */
static void place_by_rule(struct moe_loop *loop, const struct moe_plan *plan)
{
    const struct moe_strategy *strategy = loop->strategy;
    enum moe_phase phase = plan->route.phase;
    const enum moe_place no_slot = place_missed(strategy, phase, MOE_NO_SLOT);
    const enum moe_place fetched = place_missed(strategy, phase, 0); /* any slot */
    const bool streams = phase == MOE_PREFILL && strategy->prefill == MOE_PREFILL_STREAM;
    const enum moe_place late = strategy->in_flight == MOE_FLIGHT_WAIT ? MOE_PLACE_GPU
                                : streams                              ? MOE_PLACE_STREAM
                                                                       : MOE_PLACE_CPU;
    for (uint32_t i = 0; i < plan->route.n; i++) {
        uint8_t access = plan->route.access[i];
        enum moe_place missed = plan->fill[i] == MOE_NO_SLOT ? no_slot : fetched;
        loop->place[i] = (uint8_t)(access == MOE_HIT             ? MOE_PLACE_GPU
                                   : access == MOE_HIT_IN_FLIGHT ? late
                                                                 : missed);
    }
}

/* Places each expert as moe_place_experts decided. */
static void place_as_jobs(struct moe_loop *loop, const struct moe_plan *plan)
{
    for (uint32_t j = 0; j < plan->route.n; j++) {
        const struct moe_place_job *job = &loop->jobs[j];
        loop->place[job->index] = !job->on_gpu    ? MOE_PLACE_CPU
                                  : job->resident ? MOE_PLACE_GPU
                                                  : MOE_PLACE_STREAM;
    }
}

/* In decode: where the strategy's rules let an expert that is in flight or missed be computed, and
 * when its copy lands or could begin. */
static void bind_job(const struct moe_loop *loop, const struct moe_plan *plan,
                     struct moe_place_job *job, uint64_t now_ns)
{
    const struct moe_strategy *strategy = loop->strategy;
    const struct moe_route *route = &plan->route;
    uint32_t i = job->index;
    moe_key key = route->layer * loop->n_experts + route->expert[i];
    if (route->access[i] == MOE_HIT_IN_FLIGHT) {
        job->link_ns = moe_link_lands_ns(&loop->link, key, now_ns);
        job->side = strategy->in_flight == MOE_FLIGHT_FASTEST ? MOE_SIDE_ANY
                    : strategy->in_flight == MOE_FLIGHT_WAIT  ? MOE_SIDE_GPU
                                                              : MOE_SIDE_CPU;
    } else if (route->access[i] == MOE_MISS) {
        job->link_ns = moe_link_running_ns(&loop->link, now_ns);
        job->side = strategy->miss == MOE_MISS_FASTEST ? MOE_SIDE_ANY
                    : place_missed(strategy, route->phase, plan->fill[i]) == MOE_PLACE_STREAM
                        ? MOE_SIDE_GPU
                        : MOE_SIDE_CPU;
    }
}

bool moe_dispatch_event(struct moe_loop *loop, const struct moe_plan *plan,
                        const struct moe_layer_routes *routes)
{
    const struct moe_strategy *strategy = loop->strategy;
    bool pageable = strategy->fill_memory == MOE_FILL_PAGEABLE;
    bool as_decode = routes->phase == MOE_DECODE || strategy->prefill == MOE_PREFILL_CACHE;
    if (as_decode ? !is_fastest(strategy) : strategy->prefill != MOE_PREFILL_AUTO) {
        place_by_rule(loop, plan);
        return false;
    }
    if (!as_decode) {
        moe_place_plan(plan, loop->costs, routes->n_tokens, pageable, loop->jobs);
    } else {
        uint64_t now_ns = loop->ops->now(loop->machine);
        moe_place_jobs(plan, loop->costs, pageable, loop->jobs);
        for (uint32_t i = 0; i < plan->route.n; i++)
            bind_job(loop, plan, &loop->jobs[i], now_ns);
        moe_place_experts(loop->jobs, plan->route.n,
                          moe_cost_state_down_ns(loop->costs, routes->n_tokens),
                          moe_cost_state_up_ns(loop->costs, routes->n_tokens));
    }
    place_as_jobs(loop, plan);
    return true;
}
