#include "policies/ahead.h"

#include "policies/step.h"

#include <stdlib.h>

/* Prefetches queued after one layer, at most: a queue longer than two routes only grows late. */
enum { MAX_PREFETCH = 128 };

enum moe_status moe_ahead_init(struct moe_ahead *a, uint32_t n_layers, uint32_t top_k,
                               struct moe_err *err)
{
    const struct moe_prefetcher_ops *ops = a->strategy->prefetcher.ops;
    const struct moe_prefetch_env env = {n_layers, a->n_experts, top_k, a->strategy->seed,
                                         a->strategy->prefetcher.params};
    size_t keys = (size_t)n_layers * a->n_experts;
    if (!ops->state_size)
        return MOE_OK;
    a->state = calloc(1, ops->state_size(&env));
    a->queued = calloc(keys + MAX_PREFETCH, sizeof *a->queued);
    a->wanted = calloc(keys + 1, sizeof *a->wanted);
    if (!a->state || !a->queued || !a->wanted) {
        moe_ahead_release(a);
        return moe_fail_memory(err, "the prefetcher's state");
    }
    ops->init(a->state, &env);
    return MOE_OK;
}

void moe_ahead_release(struct moe_ahead *a)
{
    free(a->state);
    free(a->queued);
    free(a->wanted);
    *a = (struct moe_ahead){0};
}

void moe_ahead_sequence(struct moe_ahead *a)
{
    if (a->state && a->strategy->prefetcher.ops->on_sequence)
        a->strategy->prefetcher.ops->on_sequence(a->state);
}

void moe_ahead_step(struct moe_ahead *a, const struct moe_step *step)
{
    if (a->state && a->strategy->prefetcher.ops->on_step)
        a->strategy->prefetcher.ops->on_step(a->state, step);
}

static bool is_under_way(const struct moe_ahead *a, const struct moe_ahead_copy *copy)
{
    return moe_cache_find(a->cache, copy->key) == copy->slot &&
           moe_cache_in_flight(a->cache, copy->slot);
}

/* Takes the copy back from the machine; false: it has begun, or the slot waits for others too. */
static bool take_back(struct moe_ahead *a, const struct moe_ahead_copy *copy)
{
    if (!moe_cache_may_cancel(a->cache, copy->slot) || !a->ops->cancel(a->machine, copy->slot))
        return false;
    if (a->link->landed_ns)
        moe_link_cancel(a->link);
    return true;
}

static void queue(struct moe_ahead *a, const struct moe_ahead_copy *copy,
                  enum moe_fetch_priority priority)
{
    struct moe_fetch f = {copy->key / a->n_experts, (moe_expert)(copy->key % a->n_experts),
                          copy->slot, priority, a->strategy->fill_memory == MOE_FILL_PAGEABLE};
    a->ops->fetch(a->machine, &f);
    if (a->link->landed_ns)
        moe_link_queue(a->link, copy->key, priority, a->ops->now(a->machine));
}

/* Is the copy's expert one of the event? Then *waits tells whether the GPU will wait for it. */
static bool is_asked(const struct moe_ahead_copy *copy, const struct moe_plan *plan,
                     const uint8_t *place, bool *waits)
{
    for (uint32_t i = 0; i < plan->route.n; i++) {
        if (plan->route.slot[i] == copy->slot) {
            *waits = place[i] == MOE_PLACE_GPU;
            return true;
        }
    }
    return false;
}

void moe_ahead_planned(struct moe_ahead *a, const struct moe_plan *plan, const uint8_t *place)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < a->n_queued; i++) {
        const struct moe_ahead_copy copy = a->queued[i];
        bool waits = false;
        if (!is_under_way(a, &copy))
            continue;
        bool now = copy.key / a->n_experts == plan->route.layer;
        bool asked = now && is_asked(&copy, plan, place, &waits);
        if (waits && take_back(a, &copy))
            queue(a, &copy, MOE_FETCH_DEMAND);
        else if (now && !asked && take_back(a, &copy))
            moe_cache_cancel(a->cache, copy.slot);
        else if (!asked) /* one that was asked for is no prefetch any more */
            a->queued[kept++] = copy;
    }
    a->n_queued = kept;
}

/* Cancels queued prefetches that the new prediction does not name. */
static void drop_unnamed(struct moe_ahead *a, const moe_key *keys, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        a->wanted[keys[i]] = true;
    for (uint32_t i = 0; i < a->n_queued; i++) {
        const struct moe_ahead_copy copy = a->queued[i];
        if (!a->wanted[copy.key] && is_under_way(a, &copy) && take_back(a, &copy))
            moe_cache_cancel(a->cache, copy.slot);
        else
            a->queued[kept++] = copy;
    }
    a->n_queued = kept;
    for (uint32_t i = 0; i < n; i++)
        a->wanted[keys[i]] = false;
}

/* Pins or unpins the slots of the event: of its hits and of its fills. */
static void hold(struct moe_cache *cache, const struct moe_plan *plan,
                 void (*change)(struct moe_cache *, moe_slot))
{
    for (uint32_t i = 0; i < plan->route.n; i++) {
        if (plan->route.slot[i] != MOE_NO_SLOT)
            change(cache, plan->route.slot[i]);
        if (plan->fill[i] != MOE_NO_SLOT)
            change(cache, plan->fill[i]);
    }
}

void moe_ahead_fetch(struct moe_ahead *a, const struct moe_plan *plan)
{
    const struct moe_prefetcher_ops *ops = a->strategy->prefetcher.ops;
    moe_key keys[MAX_PREFETCH];
    if (!a->state)
        return;
    uint32_t n = ops->predict(a->state, &plan->route, keys, MAX_PREFETCH);
    if (ops->replaces)
        drop_unnamed(a, keys, n);
    hold(a->cache, plan, moe_cache_pin);
    for (uint32_t i = 0; i < n; i++) {
        struct moe_ahead_copy copy = {keys[i], moe_cache_reserve_key(a->cache, keys[i], NULL)};
        if (copy.slot == MOE_NO_SLOT) /* present, declined, or no room */
            continue;
        queue(a, &copy, MOE_FETCH_PREFETCH);
        a->queued[a->n_queued++] = copy;
    }
    hold(a->cache, plan, moe_cache_unpin);
}
