/* The cache directory where no copy takes time: what moe_plan_event and moe_cache_ready do together
 * when every miss is admitted, in one pass and without a slot ever being in flight. Slots in here
 * are the pool's own numbers, as policies know them. */
#include "policies/cache_state.h"

/* The missed expert takes the place of one that the policy names; its slot, or MOE_NO_SLOT. The
 * pool is full and limited by slots alone. */
static inline moe_slot replace(struct moe_cache *c, const struct moe_cache_pool *pool,
                               const struct moe_victim_req *req, uint32_t layer)
{
    const struct moe_policy_ops *ops = c->ops;
    struct moe_counts *counts = &c->now[layer];
    if (ops->wants && !ops->wants(pool->state, req)) {
        counts->bypasses++;
        return MOE_NO_SLOT;
    }
    moe_slot v = moe_cache_victim(c, pool, req, counts);
    if (v == MOE_NO_SLOT)
        return v;
    struct moe_cache_slot *slot = &c->slot[pool->first_slot + (uint32_t)v];
    struct moe_counts *lost = &c->now[slot->layer];
    lost->evictions++;
    lost->useless_fills += !slot->used;
    if (ops->on_evict)
        ops->on_evict(pool->state, v, slot->key);
    c->slot_of[slot->key] = MOE_NO_SLOT;
    c->slot_of[req->key] = (moe_slot)pool->first_slot + v;
    slot->key = req->key;
    slot->layer = layer;
    slot->used = slot->late = false;
    counts->fills++;
    counts->fill_bytes += moe_cache_bytes_of(c, layer);
    ops->on_insert(pool->state, v, req->key);
    return v;
}

/* A slot for the missed expert route->expert[i]. */
static inline moe_slot keep(struct moe_cache *c, const struct moe_cache_pool *pool,
                            const struct moe_route *route, uint32_t i)
{
    if (pool->n_empty == 0 && pool->bytes == 0) {
        struct moe_victim_req req = {
            .key = route->layer * c->geometry->n_experts + route->expert[i],
            .next_use = route->next_use ? route->next_use[i] : MOE_NEVER,
            .pinned = c->pinned + pool->first_slot,
        };
        return replace(c, pool, &req, route->layer);
    }
    moe_slot s = moe_cache_reserve(c, route, i, NULL);
    if (s == MOE_NO_SLOT)
        return s;
    moe_cache_ready(c, s);
    return s - (moe_slot)pool->first_slot;
}

/* Looks all experts up and pins those present; returns how many are. */
static uint32_t classify(struct moe_cache *c, const struct moe_cache_pool *pool,
                         const struct moe_route *route)
{
    const moe_slot *slot_of = c->slot_of + (size_t)route->layer * c->geometry->n_experts;
    const moe_expert *expert = route->expert;
    moe_slot *out = route->slot, first = (moe_slot)pool->first_slot;
    struct moe_cache_slot *slot = c->slot;
    uint8_t *pinned = c->pinned, *access = route->access;
    uint32_t n = route->n, n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = slot_of[expert[i]];
        out[i] = MOE_NO_SLOT;
        access[i] = MOE_MISS;
        if (s == MOE_NO_SLOT)
            continue;
        slot[s].used = true;
        pinned[s] = MOE_PIN_EVENT;
        out[i] = s - first;
        access[i] = MOE_HIT;
        n_found++;
    }
    return n_found;
}

static void unpin(struct moe_cache *c, const struct moe_cache_pool *pool,
                  const struct moe_route *route)
{
    uint8_t *pinned = c->pinned + pool->first_slot;
    for (uint32_t i = 0; i < route->n; i++)
        if (route->slot[i] != MOE_NO_SLOT)
            pinned[route->slot[i]] &= (uint8_t)~MOE_EVENT_PINS;
    moe_cache_end_event(c);
}

static struct moe_cache_pool *pool_of(const struct moe_cache *c, uint32_t layer)
{
    return &c->pool[c->geometry->pool_of_layer[layer]];
}

static struct moe_counts *begin(struct moe_cache *c, const struct moe_route *route)
{
    c->phase = route->phase;
    c->now = moe_cache_counts_in(c, route->phase);
    return &c->now[route->layer];
}

/* A policy may have handed the slot of a hit to another expert of the event. */
void moe_cache_event_at_once(struct moe_cache *c, struct moe_route *route)
{
    struct moe_counts *counts = begin(c, route);
    const struct moe_cache_pool *pool = pool_of(c, route->layer);
    const struct moe_policy_ops *ops = c->ops;
    uint8_t *pinned = c->pinned + pool->first_slot;
    uint32_t n = route->n, n_found = classify(c, pool, route);
    moe_counts_event(counts, n_found, n);
    counts->lookups += n;
    counts->hits += n_found;
    counts->misses += n - n_found;
    if (ops->on_route)
        ops->on_route(pool->state, route);
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = route->slot[i];
        if (s == MOE_NO_SLOT) {
            route->slot[i] = s = keep(c, pool, route, i);
            if (s != MOE_NO_SLOT)
                pinned[s] |= MOE_PIN_RESERVED;
        } else if (ops->on_hit && pinned[s] == MOE_PIN_EVENT) {
            ops->on_hit(pool->state, s, c->slot[pool->first_slot + (uint32_t)s].key);
        }
    }
    unpin(c, pool, route);
}

/* What policies see of the first expert of a token. */
static struct moe_route first_of(const struct moe_route *token)
{
    struct moe_route route = *token;
    route.n = 1;
    route.weight = NULL;
    route.tokens = NULL;
    return route;
}

/* Of the next one; scores with the first only. */
static inline void move_on(struct moe_route *route)
{
    route->expert++;
    route->slot++;
    route->access++;
    if (route->next_use)
        route->next_use++;
    route->score = route->lookahead = NULL;
}

uint32_t moe_cache_accesses_at_once(struct moe_cache *c, struct moe_route *token)
{
    struct moe_counts *counts = begin(c, token);
    const struct moe_cache_pool *pool = pool_of(c, token->layer);
    const struct moe_policy_ops *ops = c->ops;
    moe_key first_key = token->layer * c->geometry->n_experts;
    uint32_t n = token->n, n_found = 0;
    struct moe_route route = first_of(token);
    for (uint32_t i = 0; i < n; i++, move_on(&route)) {
        moe_key key = first_key + token->expert[i];
        moe_slot s = c->slot_of[key], own = s - (moe_slot)pool->first_slot;
        bool found = s != MOE_NO_SLOT;
        n_found += found;
        token->slot[i] = found ? own : MOE_NO_SLOT;
        token->access[i] = found ? MOE_HIT : MOE_MISS;
        if (ops->on_route)
            ops->on_route(pool->state, &route);
        if (!found) {
            keep(c, pool, token, i);
            moe_cache_end_event(c);
            continue;
        }
        c->slot[s].used = true;
        if (ops->on_hit)
            ops->on_hit(pool->state, own, key);
    }
    counts->lookups += n;
    counts->hits += n_found;
    counts->misses += n - n_found;
    return n_found;
}
