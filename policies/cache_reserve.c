/* The cache directory: slots reserved, evicted and cancelled. */
#include "policies/cache_state.h"

/* Counts what became so far of the prefetched expert in the slot. */
static void count_prefetch(struct moe_prefetches *sum, const struct moe_cache_slot *slot)
{
    sum->useful += slot->used && !slot->late;
    sum->late += slot->late;
    sum->unused += !slot->used;
}

void moe_cache_end_prefetch(struct moe_cache *c, const struct moe_cache_slot *slot)
{
    if (!slot->fetched)
        return;
    struct moe_prefetches *sum = &c->prefetches[slot->fetched - 1];
    count_prefetch(sum, slot);
    sum->wasted += !slot->used;
    sum->unused = 0;
}

static void evict(struct moe_cache *c, struct moe_cache_pool *pool, moe_slot local)
{
    moe_slot s = (moe_slot)pool->first_slot + local;
    struct moe_cache_slot *slot = &c->slot[s];
    struct moe_counts *counts = &c->now[slot->layer];
    counts->evictions++;
    counts->useless_fills += !slot->used;
    moe_cache_end_prefetch(c, slot);
    if (c->ops->on_evict)
        c->ops->on_evict(pool->state, local, slot->key);
    pool->used_bytes -= moe_cache_bytes_of(c, slot->layer);
    if (pool->n_empty++ == 0 || (uint32_t)local < pool->lowest_empty)
        pool->lowest_empty = (uint32_t)local;
    c->slot_of[slot->key] = MOE_NO_SLOT;
    slot->key = MOE_NO_KEY;
    slot->fetched = 0;
    moe_cache_end_flight(c, s);
    /* Event pins stay, as event_slot lists the slot until the event ends; a hold is of the slot,
     * not of the expert in it. */
    c->pinned[s] = (uint8_t)((c->pinned[s] & (MOE_EVENT_PINS | MOE_PIN_HELD)) | MOE_PIN_EMPTY);
}

static bool has_room(const struct moe_cache_pool *pool, uint64_t bytes)
{
    return pool->n_empty > 0 && (!pool->bytes || bytes <= pool->bytes - pool->used_bytes);
}

/* Evicts experts until `bytes` more fit; false: the policy named no victim. *evicted: the last. */
static bool make_room(struct moe_cache *c, struct moe_cache_pool *pool,
                      const struct moe_victim_req *req, uint64_t bytes, struct moe_counts *counts,
                      moe_key *evicted)
{
    while (!has_room(pool, bytes)) {
        moe_slot v = moe_cache_victim(c, pool, req, counts);
        if (v == MOE_NO_SLOT)
            return false;
        *evicted = c->slot[pool->first_slot + (uint32_t)v].key;
        evict(c, pool, v);
    }
    return true;
}

static moe_slot take_lowest_empty(struct moe_cache *c, struct moe_cache_pool *pool)
{
    uint32_t s = pool->lowest_empty;
    while (c->slot[pool->first_slot + s].key != MOE_NO_KEY)
        s++;
    pool->lowest_empty = s + 1;
    pool->n_empty--;
    return (moe_slot)s;
}

/* An expert that asks for a slot. */
struct newcomer {
    uint32_t layer;
    uint64_t bytes;
    uint8_t pin;     /* MOE_PIN_RESERVED, or 0 outside an event */
    uint8_t fetched; /* as in struct moe_cache_slot */
    struct moe_victim_req req;
};

/* Puts the newcomer into an empty slot, in flight. */
static moe_slot fill(struct moe_cache *c, struct moe_cache_pool *pool, const struct newcomer *new)
{
    moe_slot local = take_lowest_empty(c, pool), s = (moe_slot)pool->first_slot + local;
    struct moe_cache_slot *slot = &c->slot[s];
    if (new->pin && !(c->pinned[s] & MOE_EVENT_PINS))
        c->event_slot[c->n_event_slots++] = s;
    slot->key = new->req.key;
    slot->layer = new->layer;
    slot->copies++;
    c->n_copies++;
    slot->used = slot->late = false;
    slot->fetched = new->fetched;
    c->pinned[s] = (uint8_t)((c->pinned[s] & ~MOE_PIN_EMPTY) | new->pin);
    moe_cache_set_flight(c, s);
    c->slot_of[slot->key] = s;
    pool->used_bytes += new->bytes;
    c->ops->on_insert(pool->state, local, slot->key);
    return s;
}

static moe_slot reserve(struct moe_cache *c, struct newcomer *new, moe_key *evicted)
{
    int32_t p = c->geometry->pool_of_layer[new->layer];
    moe_key last = MOE_NO_KEY;
    moe_slot s = MOE_NO_SLOT;
    if (p >= 0 && c->slot_of[new->req.key] == MOE_NO_SLOT) {
        struct moe_cache_pool *pool = &c->pool[p];
        struct moe_counts *counts = &c->now[new->layer];
        new->bytes = moe_cache_bytes_of(c, new->layer);
        new->req.pinned = c->pinned + pool->first_slot;
        if (c->ops->wants && !c->ops->wants(pool->state, &new->req)) {
            counts->bypasses++;
        } else if (make_room(c, pool, &new->req, new->bytes, counts, &last)) {
            counts->fills++;
            counts->fill_bytes += new->bytes;
            s = fill(c, pool, new);
        }
    }
    if (evicted)
        *evicted = last;
    return s;
}

moe_slot moe_cache_reserve(struct moe_cache *c, const struct moe_route *route, uint32_t i,
                           moe_key *evicted)
{
    struct newcomer new = {
        .layer = route->layer,
        .pin = MOE_PIN_RESERVED,
        .req = {.key = route->layer * c->geometry->n_experts + route->expert[i],
                .next_use = route->next_use ? route->next_use[i] : MOE_NEVER},
    };
    return reserve(c, &new, evicted);
}

moe_slot moe_cache_reserve_key(struct moe_cache *c, moe_key key, moe_key *evicted)
{
    struct newcomer new = {.layer = key / c->geometry->n_experts,
                           .fetched = (uint8_t)(c->phase + 1),
                           .req = {.key = key, .next_use = MOE_NEVER}};
    moe_slot s = reserve(c, &new, evicted);
    c->prefetches[c->phase].queued += s != MOE_NO_SLOT;
    return s;
}

bool moe_cache_may_cancel(const struct moe_cache *c, moe_slot s)
{
    return c->slot[s].fetched && c->slot[s].copies == 1;
}

void moe_cache_cancel(struct moe_cache *c, moe_slot s)
{
    struct moe_cache_slot *slot = &c->slot[s];
    c->prefetches[slot->fetched - 1].cancelled++;
    slot->fetched = 0;
    slot->used = true; /* so that evict counts no useless fill */
    slot->copies--;
    c->n_copies--;
    evict(c, &c->pool[slot->pool], s - (moe_slot)c->pool[slot->pool].first_slot);
}

struct moe_prefetches moe_cache_prefetches(const struct moe_cache *c, enum moe_phase phase)
{
    struct moe_prefetches sum = c->prefetches[phase];
    for (uint32_t s = 0; s < c->geometry->n_slots; s++)
        if (c->slot[s].fetched == phase + 1)
            count_prefetch(&sum, &c->slot[s]);
    return sum;
}

moe_slot moe_cache_preload_next(struct moe_cache *c, moe_key *key)
{
    while (c->next_initial < c->n_initial) {
        struct newcomer new = {.req = {.key = c->initial[c->next_initial++]}};
        new.layer = new.req.key / c->geometry->n_experts;
        new.bytes = moe_cache_bytes_of(c, new.layer);
        int32_t p = c->geometry->pool_of_layer[new.layer];
        if (p < 0 || c->slot_of[new.req.key] != MOE_NO_SLOT || !has_room(&c->pool[p], new.bytes))
            continue;
        moe_slot s = fill(c, &c->pool[p], &new);
        c->slot[s].used = c->slot[s].late = true; /* never counted as a useless or late fill */
        c->preloads.experts++;
        c->preloads.bytes += new.bytes;
        *key = new.req.key;
        return s;
    }
    return MOE_NO_SLOT;
}

struct moe_preloads moe_cache_preloads(const struct moe_cache *c)
{
    return c->preloads;
}

void moe_cache_ready(struct moe_cache *c, moe_slot s)
{
    struct moe_cache_slot *slot = &c->slot[s];
    if (slot->copies == 0)
        return;
    c->n_copies--;
    if (--slot->copies == 0)
        moe_cache_end_flight(c, s);
}
