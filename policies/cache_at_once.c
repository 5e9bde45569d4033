/* The cache directory where no copy takes time: what moe_plan_event and moe_cache_ready do together
 * when every miss is admitted, in one pass and without a slot ever being in flight. */
#include "policies/cache_state.h"

/* From this many experts of an event on, replace_missed is used: for fewer it is slower. */
enum { MANY = 4 };

/* Puts the newcomer in place of the expert in the pool-local slot v; returns the global slot. now:
 * c->now. */
static inline moe_slot put(struct moe_cache *c, const struct moe_cache_pool *pool,
                           struct moe_counts *now, moe_slot v, const struct moe_victim_req *req,
                           uint32_t layer)
{
    const struct moe_policy_ops *ops = c->ops;
    moe_slot s = (moe_slot)pool->first_slot + v;
    struct moe_cache_slot *slot = &c->slot[s];
    now[slot->layer].evictions++;
    now[slot->layer].useless_fills += !slot->used;
    if (ops->on_evict)
        ops->on_evict(pool->state, v, slot->key);
    c->slot_of[slot->key] = MOE_NO_SLOT;
    c->slot_of[req->key] = s;
    slot->key = req->key;
    slot->layer = layer;
    slot->used = slot->late = false;
    now[layer].fills++;
    now[layer].fill_bytes += moe_cache_bytes_of(c, layer);
    ops->on_insert(pool->state, v, req->key);
    return s;
}

/* Puts the missed expert in place of one that the policy names; returns its slot, or MOE_NO_SLOT.
 * The pool is full and limited by slots alone. */
static inline moe_slot replace(struct moe_cache *c, const struct moe_cache_pool *pool,
                               const struct moe_victim_req *req, uint32_t layer)
{
    const struct moe_policy_ops *ops = c->ops;
    struct moe_counts *now = c->now;
    if (ops->wants && !ops->wants(pool->state, req)) {
        now[layer].bypasses++;
        return MOE_NO_SLOT;
    }
    moe_slot v = moe_cache_victim(c, pool, req, &now[layer]);
    if (v == MOE_NO_SLOT)
        return v;
    return put(c, pool, now, v, req, layer);
}

/* The request for a slot for the missed expert route->expert[i]. */
static inline struct moe_victim_req request(const struct moe_cache *c,
                                            const struct moe_cache_pool *pool,
                                            const struct moe_route *route, uint32_t i)
{
    return (struct moe_victim_req){
        .key = route->layer * c->geometry->n_experts + route->expert[i],
        .next_use = route->next_use ? route->next_use[i] : MOE_NEVER,
        .pinned = c->pinned + pool->first_slot,
    };
}

/* Puts the missed expert route->expert[i] into a slot; returns it, or MOE_NO_SLOT. */
static inline moe_slot keep(struct moe_cache *c, const struct moe_cache_pool *pool,
                            const struct moe_route *route, uint32_t i)
{
    if (pool->n_empty == 0 && pool->bytes == 0) {
        struct moe_victim_req req = request(c, pool, route, i);
        return replace(c, pool, &req, route->layer);
    }
    moe_slot s = moe_cache_reserve(c, route, i, NULL);
    if (s != MOE_NO_SLOT)
        moe_cache_ready(c, s);
    return s;
}

/* Looks all experts up; returns how many are present. Hits and misses are too irregular for branch
 * prediction, so nothing branches on them. */
static inline uint32_t classify(struct moe_cache *c, const struct moe_route *route)
{
    const moe_slot *slot_of = c->slot_of + (size_t)route->layer * c->geometry->n_experts;
    const moe_expert *expert = route->expert;
    struct moe_cache_slot *slot = c->slot;
    moe_slot *out = route->slot;
    uint8_t *access = route->access;
    uint32_t n = route->n, n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = slot_of[expert[i]];
        out[i] = s;
        slot[s].used = true;
        access[i] = s == MOE_NO_SLOT ? MOE_MISS : MOE_HIT;
        n_found += s != MOE_NO_SLOT;
    }
    return n_found;
}

/* Policies see the slots of their own pool, numbered from 0. */
static inline void tell_policy(const struct moe_cache *c, const struct moe_cache_pool *pool,
                               const struct moe_route *route)
{
    moe_slot first = (moe_slot)pool->first_slot;
    for (uint32_t i = 0; i < route->n; i++)
        route->slot[i] -= route->slot[i] == MOE_NO_SLOT ? 0 : first;
    c->ops->on_route(pool->state, route);
    for (uint32_t i = 0; i < route->n; i++)
        route->slot[i] += route->slot[i] == MOE_NO_SLOT ? 0 : first;
}

/* Carries out, after classify, an event with misses: touches hits and admits misses in gate order.
 * A hit whose slot went to another expert of the event meanwhile (a policy may drop experts of the
 * event) is not touched. */
static void keep_missed(struct moe_cache *c, const struct moe_cache_pool *pool,
                        struct moe_route *route)
{
    void (*on_hit)(void *, moe_slot, moe_key) = c->ops->on_hit;
    moe_key first_key = route->layer * c->geometry->n_experts;
    moe_slot *slot = route->slot, first = (moe_slot)pool->first_slot;
    uint8_t *pinned = c->pinned;
    uint32_t n = route->n;
    for (uint32_t i = 0; i < n; i++)
        pinned[slot[i]] = MOE_PIN_EVENT;
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = slot[i];
        if (s == MOE_NO_SLOT) {
            slot[i] = s = keep(c, pool, route, i);
            pinned[s] |= MOE_PIN_RESERVED;
        } else if (on_hit && pinned[s] == MOE_PIN_EVENT) {
            on_hit(pool->state, s - first, first_key + route->expert[i]);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        pinned[slot[i]] &= (uint8_t)~MOE_EVENT_PINS;
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

static void count_event(struct moe_counts *counts, uint32_t n_found, uint32_t n)
{
    moe_counts_event(counts, n_found, n);
    counts->lookups += n;
    counts->hits += n_found;
    counts->misses += n - n_found;
}

/* Looks all experts up in a full pool: writes the indices of the missed ones to c->missed, pins the
 * others, and writes pool-local slots to route->slot. Returns how many are missing. */
static inline uint32_t list_missed(struct moe_cache *c, moe_slot first,
                                   const struct moe_route *route)
{
    const moe_slot *slot_of = c->slot_of + (size_t)route->layer * c->geometry->n_experts;
    const moe_expert *expert = route->expert;
    struct moe_cache_slot *slot = c->slot;
    moe_slot *out = route->slot;
    uint32_t *missed = c->missed, n = route->n, n_missed = 0;
    uint8_t *access = route->access, *pinned = c->pinned;
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = slot_of[expert[i]];
        bool is_missed = s == MOE_NO_SLOT;
        out[i] = is_missed ? s : s - first;
        slot[s].used = true;
        pinned[s] = MOE_PIN_EVENT;
        access[i] = is_missed ? MOE_MISS : MOE_HIT;
        missed[n_missed] = i;
        n_missed += is_missed;
    }
    return n_missed;
}

/* Unpins the pool-local slots of the hits; without branches, as classify. */
static inline void unpin_found(uint8_t *pinned, moe_slot first, const moe_slot *slot, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pinned[slot[i] + (first & -(slot[i] != MOE_NO_SLOT))] = 0;
}

/* After on_route, is the policy called for the misses of an event only? */
static bool sees_only_misses(const struct moe_policy_ops *ops)
{
    return !ops->on_hit && !ops->wants && ops->flags == 0;
}

/* A whole event in a full pool that is limited by slots alone, of a policy that need not be told of
 * hits. Not inlined, so that its caller needs fewer registers. */
__attribute__((noinline)) static void replace_missed(struct moe_cache *c,
                                                     const struct moe_cache_pool *pool,
                                                     const struct moe_route *route)
{
    const struct moe_policy_ops *ops = c->ops;
    moe_slot first = (moe_slot)pool->first_slot, *victim = c->victim;
    struct moe_counts *now = c->now;
    uint8_t *pinned = c->pinned + first;
    uint32_t n_missed = list_missed(c, first, route);
    count_event(&now[route->layer], route->n - n_missed, route->n);
    if (ops->on_route)
        ops->on_route(pool->state, route);
    bool named =
        n_missed > 0 && ops->victims && ops->victims(pool->state, n_missed, pinned, victim);
    for (uint32_t k = 0; k < n_missed; k++) {
        struct moe_victim_req req = request(c, pool, route, c->missed[k]);
        if (!named)
            victim[k] = ops->victim(pool->state, &req);
        victim[k] = moe_cache_take(c, pool, &req, victim[k], &now[route->layer]);
        if (victim[k] == MOE_NO_SLOT)
            continue;
        put(c, pool, now, victim[k], &req, route->layer);
        pinned[victim[k]] = MOE_PIN_RESERVED;
    }
    for (uint32_t k = 0; k < n_missed; k++)
        if (victim[k] != MOE_NO_SLOT)
            pinned[victim[k]] = 0;
    unpin_found(c->pinned, first, route->slot, route->n);
}

void moe_cache_event_at_once(struct moe_cache *c, struct moe_route *route)
{
    struct moe_counts *counts = begin(c, route);
    const struct moe_cache_pool *pool = pool_of(c, route->layer);
    void (*on_hit)(void *, moe_slot, moe_key) = c->ops->on_hit;
    if (route->n >= MANY && sees_only_misses(c->ops) && pool->n_empty == 0 && pool->bytes == 0) {
        replace_missed(c, pool, route);
        return;
    }
    uint32_t n = route->n, n_found = classify(c, route);
    count_event(counts, n_found, n);
    if (c->ops->on_route)
        tell_policy(c, pool, route);
    if (n_found < n) {
        keep_missed(c, pool, route);
        return;
    }
    moe_key first_key = route->layer * c->geometry->n_experts;
    moe_slot first = (moe_slot)pool->first_slot;
    for (uint32_t i = 0; i < n && on_hit; i++)
        on_hit(pool->state, route->slot[i] - first, first_key + route->expert[i]);
}

/* Calls on_route for expert i of a token alone; scores come with the first only. */
static void tell_policy_one(const struct moe_cache *c, const struct moe_cache_pool *pool,
                            const struct moe_route *token, uint32_t i)
{
    struct moe_route route = {
        .layer = token->layer,
        .n = 1,
        .phase = token->phase,
        .expert = token->expert + i,
        .score = i == 0 ? token->score : NULL,
        .lookahead = i == 0 ? token->lookahead : NULL,
        .next_use = token->next_use ? token->next_use + i : NULL,
        .slot = token->slot + i,
        .access = token->access + i,
    };
    token->slot[i] -= (moe_slot)pool->first_slot * (token->slot[i] != MOE_NO_SLOT);
    c->ops->on_route(pool->state, &route);
}

uint32_t moe_cache_accesses_at_once(struct moe_cache *c, struct moe_route *token)
{
    struct moe_counts *counts = begin(c, token);
    const struct moe_cache_pool *pool = pool_of(c, token->layer);
    const struct moe_policy_ops *ops = c->ops;
    moe_key first_key = token->layer * c->geometry->n_experts;
    moe_slot first = (moe_slot)pool->first_slot;
    uint32_t n = token->n, n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        moe_key key = first_key + token->expert[i];
        moe_slot s = c->slot_of[key];
        bool found = s != MOE_NO_SLOT;
        n_found += found;
        token->slot[i] = s;
        token->access[i] = found ? MOE_HIT : MOE_MISS;
        c->slot[s].used = true;
        if (ops->on_route)
            tell_policy_one(c, pool, token, i);
        if (!found) {
            keep(c, pool, token, i);
            moe_cache_end_event(c);
        } else if (ops->on_hit) {
            ops->on_hit(pool->state, s - first, key);
        }
    }
    counts->lookups += n;
    counts->hits += n_found;
    counts->misses += n - n_found;
    return n_found;
}
