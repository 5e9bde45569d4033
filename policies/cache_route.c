/* The cache directory: an event's experts are looked up, pinned, counted and touched. */
#include "policies/cache_state.h"

/* A lookup found an expert in flight. */
static void note_late(struct moe_cache_slot *slot, struct moe_counts *counts)
{
    counts->inflight_hits++;
    counts->late_fills += !slot->late;
    slot->late = true;
}

/* Looks all experts up, pins those present and returns their number. The array pointers are kept in
 * locals: otherwise the compiler reloads them from c and route after each byte that it writes,
 * which may alias them. */
static uint32_t classify(struct moe_cache *c, const struct moe_route *route,
                         struct moe_counts *counts)
{
    const moe_slot *slot_of = c->slot_of + (size_t)route->layer * c->geometry->n_experts;
    const moe_expert *expert = route->expert;
    struct moe_cache_slot *slot = c->slot;
    uint8_t *pinned = c->pinned, *access = route->access;
    moe_slot *out = route->slot, *listed = c->event_slot + c->n_event_slots;
    uint32_t n = route->n, n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        moe_slot s = slot_of[expert[i]];
        out[i] = s;
        access[i] = MOE_MISS;
        if (s == MOE_NO_SLOT)
            continue;
        uint8_t pins = pinned[s];
        slot[s].used = true;
        pinned[s] = pins | MOE_PIN_EVENT;
        if (!(pins & MOE_EVENT_PINS))
            *listed++ = s;
        access[i] = pins & MOE_PIN_FLIGHT ? MOE_HIT_IN_FLIGHT : MOE_HIT;
        if (pins & MOE_PIN_FLIGHT)
            note_late(&slot[s], counts);
        n_found++;
    }
    c->n_event_slots = (uint32_t)(listed - c->event_slot);
    counts->lookups += n;
    counts->misses += n - n_found;
    counts->hits = counts->lookups - counts->misses - counts->inflight_hits;
    return n_found;
}

/* Policies see the slots of their own pool, numbered from 0. */
static void tell_policy(const struct moe_cache *c, const struct moe_route *route)
{
    int32_t p = c->geometry->pool_of_layer[route->layer];
    if (p < 0)
        return;
    moe_slot first = (moe_slot)c->pool[p].first_slot;
    for (uint32_t i = 0; i < route->n; i++)
        route->slot[i] -= route->slot[i] == MOE_NO_SLOT ? 0 : first;
    c->ops->on_route(c->pool[p].state, route);
    for (uint32_t i = 0; i < route->n; i++)
        route->slot[i] += route->slot[i] == MOE_NO_SLOT ? 0 : first;
}

void moe_cache_enter_phase(struct moe_cache *c, enum moe_phase phase)
{
    c->phase = phase;
    c->now = moe_cache_counts_in(c, phase);
}

void moe_cache_route(struct moe_cache *c, struct moe_route *route)
{
    moe_cache_enter_phase(c, route->phase);
    struct moe_counts *counts = &c->now[route->layer];
    moe_counts_event(counts, classify(c, route, counts), route->n);
    if (c->ops->on_route)
        tell_policy(c, route);
}

void moe_cache_route_access(struct moe_cache *c, struct moe_route *route)
{
    c->now = moe_cache_counts_in(c, route->phase);
    classify(c, route, &c->now[route->layer]);
    if (c->ops->on_route)
        tell_policy(c, route);
}

void moe_cache_count_event(struct moe_cache *c, uint32_t layer, enum moe_phase phase,
                           uint32_t n_hits, uint32_t n)
{
    moe_counts_event(moe_cache_counts_in(c, phase) + layer, n_hits, n);
}

void moe_cache_touch(struct moe_cache *c, moe_slot s)
{
    const struct moe_cache_slot *slot = &c->slot[s];
    if (!c->ops->on_hit || (c->pinned[s] & MOE_EVENT_PINS) != MOE_PIN_EVENT)
        return;
    const struct moe_cache_pool *pool = &c->pool[slot->pool];
    c->ops->on_hit(pool->state, s - (moe_slot)pool->first_slot, slot->key);
}

void moe_cache_end_event(struct moe_cache *c)
{
    for (uint32_t i = 0; i < c->n_event_slots; i++)
        c->pinned[c->event_slot[i]] &= (uint8_t)~MOE_EVENT_PINS;
    c->n_event_slots = 0;
}
