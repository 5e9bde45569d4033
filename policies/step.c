#include "policies/step.h"

#include "policies/dispatch.h"

#include <stdlib.h>

static enum moe_status check_strategy(const struct moe_strategy *strategy,
                                      const struct moe_costs *costs, struct moe_err *err)
{
    if (strategy->prefill == MOE_PREFILL_AUTO && !costs)
        return moe_fail(err, MOE_ERR_USAGE,
                        "prefill 'auto' needs a platform: its costs tell where an expert finishes "
                        "first; name one, or use prefill=cpu, cache or stream");
    if (moe_dispatch_needs_costs(strategy) && !costs)
        return moe_fail(err, MOE_ERR_USAGE,
                        "dispatch 'fastest' needs a platform: its costs tell where an expert "
                        "finishes first; name one, or use dispatch.miss=cpu or wait");
    if (strategy->prefill == MOE_PREFILL_CPU && strategy->prefill_warm)
        return moe_fail(err, MOE_ERR_USAGE,
                        "prefill_warm keeps what prefill 'stream' or 'auto' copies, but prefill is "
                        "'cpu'; use prefill=cache, or leave it out");
    if (moe_reroute_is_early(&strategy->reroute) && !strategy->overlap)
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' starts experts early, beside the GPU's work, but "
                        "dispatch.overlap is off; use dispatch.overlap=on, or another rule",
                        strategy->reroute.ops->name);
    return MOE_OK;
}

static enum moe_status alloc(struct moe_loop *loop, struct moe_err *err)
{
    size_t n = loop->n_experts > loop->top_k ? loop->n_experts : loop->top_k;
    size_t keys = (size_t)loop->n_layers * loop->n_experts;
    bool by_cost = moe_dispatch_needs_costs(loop->strategy);
    bool early = moe_reroute_is_early(&loop->strategy->reroute) && loop->ops->cpu_early;
    loop->place = calloc(n, sizeof *loop->place);
    loop->early = early ? calloc(loop->top_k, sizeof *loop->early) : NULL;
    loop->jobs = by_cost ? calloc(n, sizeof *loop->jobs) : NULL;
    loop->link.landed_ns = by_cost ? calloc(keys + 1, sizeof *loop->link.landed_ns) : NULL;
    if (!loop->place || (early && !loop->early) ||
        (by_cost && (!loop->jobs || !loop->link.landed_ns)))
        return moe_fail_memory(err, "the places of experts");
    enum moe_status s = moe_ahead_init(&loop->ahead, loop->n_layers, loop->top_k, err);
    return s ? s : moe_planner_new(&loop->planner, loop->n_experts, loop->top_k, err);
}

static enum moe_status begin_admission(struct moe_loop *loop, struct moe_err *err)
{
    const struct moe_strategy *strategy = loop->strategy;
    struct moe_admission_env env = {.n_layers = loop->n_layers,
                                    .n_experts = loop->n_experts,
                                    .seed = strategy->seed,
                                    .costs = loop->costs,
                                    .pageable = strategy->fill_memory == MOE_FILL_PAGEABLE,
                                    .miss_waits = strategy->miss == MOE_MISS_WAIT};
    return moe_admission_init(&loop->admission, &strategy->admission, &env, err);
}

enum moe_status moe_loop_init(struct moe_loop *loop, const struct moe_strategy *strategy,
                              const struct moe_machine_ops *ops, void *machine,
                              struct moe_cache *cache, const struct moe_costs *costs,
                              uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                              struct moe_err *err)
{
    *loop = (struct moe_loop){.strategy = strategy,
                              .ops = ops,
                              .machine = machine,
                              .cache = cache,
                              .costs = costs,
                              .n_layers = n_layers,
                              .n_experts = n_experts,
                              .top_k = top_k};
    loop->ahead = (struct moe_ahead){.strategy = strategy,
                                     .ops = ops,
                                     .machine = machine,
                                     .cache = cache,
                                     .link = &loop->link,
                                     .n_experts = n_experts};
    if (costs)
        loop->link.copy_ns = costs->copy_ns[strategy->fill_memory == MOE_FILL_PAGEABLE];
    enum moe_status s = check_strategy(strategy, costs, err);
    if (!s)
        s = begin_admission(loop, err);
    if (!s)
        s = moe_rerouter_init(&loop->reroute, &strategy->reroute, n_layers, n_experts, top_k, err);
    if (!s)
        s = alloc(loop, err);
    if (s)
        moe_loop_release(loop);
    return s;
}

void moe_loop_release(struct moe_loop *loop)
{
    moe_admission_release(&loop->admission);
    moe_rerouter_release(&loop->reroute);
    moe_planner_free(loop->planner);
    moe_ahead_release(&loop->ahead);
    free(loop->link.landed_ns);
    free(loop->place);
    free(loop->early);
    free(loop->jobs);
    loop->planner = NULL;
    loop->link.landed_ns = NULL;
    loop->place = NULL;
    loop->early = NULL;
    loop->jobs = NULL;
}

/* Queues all copies before it waits for the first, so that the link does not idle between them. */
void moe_loop_preload(struct moe_loop *loop)
{
    moe_key key;
    bool pageable = loop->strategy->fill_memory == MOE_FILL_PAGEABLE;
    uint32_t n_slots = 0;
    for (moe_slot s; (s = moe_cache_preload_next(loop->cache, &key)) != MOE_NO_SLOT;) {
        struct moe_fetch f = {key / loop->n_experts, (moe_expert)(key % loop->n_experts), s,
                              MOE_FETCH_PREFETCH, pageable};
        loop->ops->fetch(loop->machine, &f);
        n_slots = (uint32_t)s >= n_slots ? (uint32_t)s + 1 : n_slots;
    }
    for (uint32_t s = 0; s < n_slots; s++)
        if (moe_cache_in_flight(loop->cache, (moe_slot)s))
            loop->ops->slot_wait(loop->machine, (moe_slot)s, true);
}

/* One layer of the step under way, while it is carried out. */
struct layer_run {
    struct moe_loop *loop;
    const struct moe_plan *plan;
    bool by_cost;     /* experts were placed by the platform's costs, in the order of loop->jobs */
    bool may_begin;   /* the CPU may begin experts of the next layer early */
    bool fills_later; /* some copies into slots are queued behind the layer's compute */
};

static struct moe_ffn ffn_of(const struct moe_plan *plan, uint32_t i, moe_slot slot)
{
    return (struct moe_ffn){plan->route.layer, plan->route.expert[i], slot, plan->tokens[i]};
}

static void fetch(const struct layer_run *run, uint32_t i, moe_slot slot,
                  enum moe_fetch_priority priority)
{
    const struct moe_loop *loop = run->loop;
    struct moe_fetch f = {run->plan->route.layer, run->plan->route.expert[i], slot, priority,
                          loop->strategy->fill_memory == MOE_FILL_PAGEABLE};
    loop->ops->fetch(loop->machine, &f);
    if (loop->link.landed_ns)
        moe_link_queue(&run->loop->link, f.layer * loop->n_experts + f.expert, priority,
                       loop->ops->now(loop->machine));
}

static void compute_hit(const struct layer_run *run, uint32_t i)
{
    const struct moe_loop *loop = run->loop;
    moe_slot slot = run->plan->route.slot[i];
    /* Asked now, not when the event was classified: a policy that ignores pins may have given the
     * slot to another expert since. */
    if (moe_cache_in_flight(loop->cache, slot))
        loop->ops->slot_wait(loop->machine, slot, !loop->strategy->overlap);
    struct moe_ffn f = ffn_of(run->plan, i, slot);
    loop->ops->gpu_ffn(loop->machine, &f);
}

static void compute_streamed(const struct layer_run *run, uint32_t i)
{
    const struct moe_loop *loop = run->loop;
    moe_slot slot = run->plan->fill[i];
    fetch(run, i, slot, MOE_FETCH_DEMAND);
    if (slot != MOE_NO_SLOT)
        loop->ops->slot_wait(loop->machine, slot, !loop->strategy->overlap);
    struct moe_ffn f = ffn_of(run->plan, i, slot);
    loop->ops->gpu_ffn(loop->machine, &f);
}

static void compute_on_cpu(const struct layer_run *run, uint32_t i)
{
    const struct moe_loop *loop = run->loop;
    const struct moe_strategy *strategy = loop->strategy;
    moe_slot slot = run->plan->fill[i];
    bool fill = slot != MOE_NO_SLOT;
    if (fill && strategy->fill_when == MOE_FILL_AT_ONCE)
        fetch(run, i, slot, MOE_FETCH_FILL);
    struct moe_ffn f = ffn_of(run->plan, i, MOE_NO_SLOT);
    if (loop->place[i] == MOE_PLACE_EARLY)
        loop->ops->cpu_take(loop->machine, &f);
    else
        loop->ops->cpu_ffn(loop->machine, &f);
    if (!strategy->overlap) {
        loop->ops->cpu_wait(loop->machine);
        if (fill && strategy->fill_when == MOE_FILL_AFTER_COMPUTE)
            fetch(run, i, slot, MOE_FETCH_FILL);
    }
}

static bool is_hit(const struct layer_run *run, uint32_t i)
{
    return run->loop->place[i] == MOE_PLACE_GPU;
}

static void compute_miss(const struct layer_run *run, uint32_t i)
{
    if (run->loop->place[i] == MOE_PLACE_STREAM)
        compute_streamed(run, i);
    else
        compute_on_cpu(run, i);
}

/* Does expert i, computed on the CPU, have a slot to be filled? */
static bool fills_from_cpu(const struct layer_run *run, uint32_t i)
{
    uint8_t place = run->loop->place[i];
    return run->plan->fill[i] != MOE_NO_SLOT &&
           (place == MOE_PLACE_CPU || place == MOE_PLACE_EARLY);
}

/* With overlap the CPU pool works on all misses of the layer at once, and their weights are copied
 * when it is done with them (arXiv 2512.16473 Fig. 4: the load starts where the CPU FFN ends). */
static bool has_later_fills(const struct layer_run *run)
{
    const struct moe_strategy *strategy = run->loop->strategy;
    bool later = strategy->overlap && strategy->fill_when == MOE_FILL_AFTER_COMPUTE;
    for (uint32_t i = 0; later && i < run->plan->route.n; i++)
        if (fills_from_cpu(run, i))
            return true;
    return false;
}

/* Called after combine: on a real machine the host takes some time to queue a copy, and the token
 * need not wait for that. */
static void fill_after_compute(const struct layer_run *run)
{
    for (uint32_t i = 0; run->fills_later && i < run->plan->route.n; i++)
        if (fills_from_cpu(run, i))
            fetch(run, i, run->plan->fill[i], MOE_FETCH_FILL);
}

/* The GPU's experts first: queueing one for the CPU may block the host until it is computed. */
static void run_by_cost(const struct layer_run *run)
{
    const struct moe_loop *loop = run->loop;
    for (int cpu = 0; cpu < 2; cpu++) {
        for (uint32_t j = 0; j < run->plan->route.n; j++) {
            uint32_t i = loop->jobs[j].index;
            if ((loop->place[i] == MOE_PLACE_CPU) != cpu)
                continue;
            if (is_hit(run, i))
                compute_hit(run, i);
            else
                compute_miss(run, i);
        }
    }
}

static void run_experts(const struct layer_run *run)
{
    uint32_t n = run->plan->route.n;
    if (run->by_cost) {
        run_by_cost(run);
    } else if (run->loop->strategy->order == MOE_ORDER_GATE) {
        for (uint32_t i = 0; i < n; i++) {
            if (is_hit(run, i))
                compute_hit(run, i);
            else
                compute_miss(run, i);
        }
    } else {
        for (uint32_t i = 0; i < n; i++)
            if (is_hit(run, i))
                compute_hit(run, i);
        for (uint32_t i = 0; i < n; i++)
            if (!is_hit(run, i))
                compute_miss(run, i);
    }
}

static bool is_begun(const struct moe_loop *loop, moe_expert expert)
{
    for (uint32_t i = 0; i < loop->n_early; i++)
        if (loop->early[i] == expert)
            return true;
    return false;
}

/* Takes the results of those experts that were begun early and that the CPU has to compute. The
 * others were begun in vain: wrong guesses, and experts that have come into a slot since. */
static void take_early(struct moe_loop *loop, const struct moe_plan *plan)
{
    struct moe_rerouted *done = &loop->reroute.done;
    uint32_t n_used = 0;
    for (uint32_t i = 0; i < plan->route.n && loop->n_early; i++) {
        if (loop->place[i] != MOE_PLACE_CPU || !is_begun(loop, plan->route.expert[i]))
            continue;
        loop->place[i] = MOE_PLACE_EARLY;
        n_used++;
    }
    done->early_used += n_used;
    if (loop->costs)
        done->early_wasted_ns += (loop->n_early - n_used) * loop->costs->cpu_expert_ns;
}

static void begin_early(const struct layer_run *run)
{
    struct moe_loop *loop = run->loop;
    uint32_t next = run->plan->route.layer + 1;
    loop->n_early =
        run->may_begin ? moe_rerouter_early(&loop->reroute, loop->cache, next, loop->early) : 0;
    for (uint32_t i = 0; i < loop->n_early; i++) {
        struct moe_ffn f = {next, loop->early[i], MOE_NO_SLOT, 1};
        loop->ops->cpu_early(loop->machine, &f);
    }
    loop->reroute.done.early += loop->n_early;
}

/* A strategy may keep prompts out of the cache: cache and policy then do not see such a step. */
static bool uses_cache(const struct moe_loop *loop, enum moe_phase phase)
{
    return phase != MOE_PREFILL || moe_strategy_caches_prompts(loop->strategy);
}

/* Does the GPU wait for a copy that this event queues? */
static bool has_demands(const struct layer_run *run)
{
    for (uint32_t i = 0; i < run->plan->route.n; i++)
        if (run->loop->place[i] == MOE_PLACE_STREAM)
            return true;
    return false;
}

/* Prefetches are queued before the experts, because the host may then have to wait for the CPU. But
 * a running copy cannot be interrupted: where the layer itself waits for copies, prefetches are
 * queued last. */
static void carry_out(const struct layer_run *run, bool cached)
{
    struct moe_loop *loop = run->loop;
    bool prefetches = cached && loop->ahead.state, last = prefetches && has_demands(run);
    if (prefetches)
        moe_ahead_planned(&loop->ahead, run->plan, loop->place);
    if (prefetches && !last)
        moe_ahead_fetch(&loop->ahead, run->plan);
    run_experts(run);
    begin_early(run);
    if (run->fills_later)
        loop->ops->cpu_wait(loop->machine);
    loop->ops->combine(loop->machine, run->plan->route.layer);
    fill_after_compute(run);
    if (last)
        moe_ahead_fetch(&loop->ahead, run->plan);
}

/* May the decisions of this event depend on when copies land? Without prefetches, placement by cost
 * and an admission rule that counts copies, only on those into the layer's own pool. */
static bool copying(const struct moe_loop *loop, uint32_t layer)
{
    bool own_pool_only =
        !loop->ahead.state && !loop->link.landed_ns && !moe_admission_on_time(&loop->admission);
    if (own_pool_only)
        return moe_cache_copying(loop->cache, layer);
    return moe_cache_copying_any(loop->cache) ||
           (loop->link.landed_ns && loop->link.free_ns > loop->ops->now(loop->machine));
}

static enum moe_status run_layer(struct moe_loop *loop, uint32_t layer, struct moe_err *err)
{
    struct moe_layer_routes routes;
    enum moe_status s = loop->ops->attend(loop->machine, layer, &routes, err);
    if (s)
        return s;
    const moe_expert *router = routes.expert;
    bool rerouted = loop->reroute.ops && moe_rerouter_event(&loop->reroute, loop->cache, &routes);
    if (rerouted && loop->ops->reroute)
        loop->ops->reroute(loop->machine, &routes);
    struct layer_run run = {.loop = loop};
    bool cached = uses_cache(loop, routes.phase);
    bool peeks = routes.phase == MOE_PREFILL && loop->strategy->prefill == MOE_PREFILL_AUTO;
    bool on_time = loop->observer && (cached || peeks) && copying(loop, layer);
    if (cached)
        run.plan = moe_plan_event(loop->planner, loop->cache, &loop->admission, &routes);
    else if (peeks)
        run.plan = moe_plan_peek(loop->planner, loop->cache, &routes);
    else
        run.plan = moe_plan_collect(loop->planner, &routes);
    run.by_cost = moe_dispatch_event(loop, run.plan, &routes);
    take_early(loop, run.plan);
    if (loop->observer)
        loop->observer(loop->observer_user,
                       &(struct moe_decision){loop->n_steps - 1, run.plan, loop->place,
                                              rerouted ? router : NULL, loop->early, loop->n_early,
                                              on_time});
    run.may_begin = loop->early && routes.n_tokens == 1 && routes.phase == MOE_DECODE &&
                    layer + 1 < loop->n_layers;
    run.fills_later = has_later_fills(&run);
    carry_out(&run, cached);
    return MOE_OK;
}

void moe_loop_sequence(struct moe_loop *loop)
{
    moe_cache_begin_sequence(loop->cache);
    moe_ahead_sequence(&loop->ahead);
}

enum moe_status moe_loop_step(struct moe_loop *loop, const struct moe_step *step,
                              struct moe_err *err)
{
    enum moe_status s = loop->ops->begin_step(loop->machine, step, err);
    loop->n_steps++;
    if (uses_cache(loop, step->phase)) {
        moe_admission_step(&loop->admission);
        moe_cache_begin_step(loop->cache);
        moe_ahead_step(&loop->ahead, step);
    }
    for (uint32_t layer = 0; !s && layer < loop->n_layers; layer++)
        s = run_layer(loop, layer, err);
    return s ? s : loop->ops->end_step(loop->machine, err);
}
