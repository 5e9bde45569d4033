#include "policies/cache.h"

#include "base/rng.h"
#include "base/units.h"

#include <stdlib.h>
#include <string.h>

enum { STATE_ALIGN = 64, EVENT_PINS = MOE_PIN_EVENT | MOE_PIN_RESERVED };

struct slot {
    moe_key key;    /* MOE_NO_KEY: empty */
    uint32_t layer; /* of key */
    uint32_t pool;
    uint32_t copies; /* that have not landed */
    uint32_t holds;  /* moe_cache_pin without moe_cache_unpin */
    bool used, late; /* found by a lookup since it was filled; so while in flight */
    uint8_t fetched; /* ahead of any lookup: in this enum moe_phase + 1; 0: it was not */
};

struct pool {
    void *state; /* the policy's */
    uint32_t first_slot, n_slots;
    uint32_t n_empty, lowest_empty; /* lowest_empty: no empty slot lies below (pool-local) */
    uint64_t bytes, used_bytes;     /* bytes 0: limited by slots alone */
    size_t state_size;
};

struct moe_cache {
    const struct moe_geometry *geometry;
    struct moe_policy_spec policy;
    const struct moe_policy_ops *ops;
    uint64_t seed, clears;
    uint32_t top_k;
    moe_slot *slot_of;    /* [L * E] */
    struct slot *slot;    /* [S] */
    uint8_t *pinned;      /* [S] enum moe_pin bits */
    moe_slot *event_slot; /* [S] slots that the event under way pinned */
    uint32_t n_event_slots;
    struct pool *pool;         /* [n_pools] */
    struct moe_counts *counts; /* [2, L] */
    struct moe_counts *now;    /* [L] those of the latest event's phase */
    void *states;              /* the policy's, pool after pool */
    moe_key *initial;          /* [n_initial] the policy's initial content, or NULL */
    uint32_t n_initial, next_initial;
    struct moe_preloads preloads;
    struct moe_prefetches prefetches[2]; /* by enum moe_phase; without those that lie in slots */
    enum moe_phase phase;                /* of the latest event */
};

static struct moe_policy_env env_of(const struct moe_cache *c, uint32_t n_slots, uint64_t seed)
{
    const struct moe_geometry *g = c->geometry;
    return (struct moe_policy_env){.n_slots = n_slots,
                                   .n_layers = g->n_layers,
                                   .n_experts = g->n_experts,
                                   .top_k = c->top_k,
                                   .seed = moe_mix64(seed),
                                   .params = c->policy.params,
                                   .costs = c->policy.costs};
}

static struct moe_policy_env policy_env(const struct moe_cache *c, uint32_t pool)
{
    /* A cache that was cleared goes on with other random numbers. */
    return env_of(c, c->geometry->pool[pool].n_slots, c->seed ^ moe_mix64(c->clears << 32 | pool));
}

/* What the expert in the slot, which was fetched ahead, was good for. */
static void count_prefetch(struct moe_prefetches *sum, const struct slot *slot)
{
    sum->useful += slot->used && !slot->late;
    sum->late += slot->late;
    sum->unused += !slot->used;
}

/* As count_prefetch, of an expert that is given up. */
static void end_prefetch(struct moe_cache *c, const struct slot *slot)
{
    if (!slot->fetched)
        return;
    struct moe_prefetches *sum = &c->prefetches[slot->fetched - 1];
    count_prefetch(sum, slot);
    sum->wasted += !slot->used;
    sum->unused = 0;
}

/* Everything empty, in the state in which moe_cache_new leaves it. */
static void empty_all(struct moe_cache *c)
{
    const struct moe_geometry *g = c->geometry;
    for (size_t k = 0; k < (size_t)g->n_layers * g->n_experts; k++)
        c->slot_of[k] = MOE_NO_SLOT;
    memset(c->pinned, MOE_PIN_EMPTY, g->n_slots);
    c->n_event_slots = 0;
    for (uint32_t p = 0; p < g->n_pools; p++) {
        struct pool *pool = &c->pool[p];
        struct moe_policy_env env = policy_env(c, p);
        pool->n_empty = pool->n_slots;
        pool->lowest_empty = 0;
        pool->used_bytes = 0;
        for (uint32_t s = 0; s < pool->n_slots; s++) {
            end_prefetch(c, &c->slot[pool->first_slot + s]);
            c->slot[pool->first_slot + s] = (struct slot){.key = MOE_NO_KEY, .pool = p};
        }
        memset(pool->state, 0, pool->state_size);
        c->ops->init(pool->state, &env);
    }
}

/* Bytes of all policy states; false when they do not fit. */
static bool measure_states(struct moe_cache *c, size_t *total)
{
    *total = 0;
    for (uint32_t p = 0; p < c->geometry->n_pools; p++) {
        struct moe_policy_env env = policy_env(c, p);
        size_t size = c->ops->state_size(&env);
        size = (size + STATE_ALIGN - 1) / STATE_ALIGN * STATE_ALIGN;
        c->pool[p].state_size = size;
        if (size > SIZE_MAX / 2 - *total)
            return false;
        *total += size;
    }
    return true;
}

static bool alloc_states(struct moe_cache *c)
{
    size_t total;
    if (!measure_states(c, &total))
        return false;
    c->states = aligned_alloc(STATE_ALIGN, total ? total : STATE_ALIGN);
    if (!c->states)
        return false;
    char *at = c->states;
    for (uint32_t p = 0; p < c->geometry->n_pools; p++) {
        c->pool[p].state = at;
        at += c->pool[p].state_size;
    }
    return true;
}

static bool alloc_arrays(struct moe_cache *c)
{
    const struct moe_geometry *g = c->geometry;
    size_t keys = (size_t)g->n_layers * g->n_experts;
    c->slot_of = calloc(keys + 1, sizeof *c->slot_of); /* + 1: calloc(0) may give NULL */
    c->slot = calloc((size_t)g->n_slots + 1, sizeof *c->slot);
    c->pinned = calloc((size_t)g->n_slots + 1, sizeof *c->pinned);
    c->event_slot = calloc((size_t)g->n_slots + 1, sizeof *c->event_slot);
    c->pool = calloc((size_t)g->n_pools + 1, sizeof *c->pool);
    c->counts = calloc(2 * (size_t)g->n_layers + 1, sizeof *c->counts);
    return c->slot_of && c->slot && c->pinned && c->event_slot && c->pool && c->counts;
}

static enum moe_status find_initial(struct moe_cache *c, struct moe_err *err)
{
    const struct moe_geometry *g = c->geometry;
    if (!c->ops->initial)
        return MOE_OK;
    c->initial = calloc((size_t)g->n_layers * g->n_experts + 1, sizeof *c->initial);
    if (!c->initial)
        return moe_fail_memory(err, "a cache's initial content");
    struct moe_policy_env env = env_of(c, g->n_slots, c->seed);
    return c->ops->initial(&env, c->initial, &c->n_initial, err);
}

enum moe_status moe_cache_new(struct moe_cache **out, const struct moe_geometry *geometry,
                              uint32_t top_k, const struct moe_policy_spec *policy, uint64_t seed,
                              struct moe_err *err)
{
    struct moe_cache *c = calloc(1, sizeof *c);
    if (!c)
        return moe_fail_memory(err, "a cache");
    c->geometry = geometry;
    c->policy = *policy;
    c->ops = policy->ops;
    c->top_k = top_k;
    c->seed = seed;
    if (!alloc_arrays(c) || !alloc_states(c)) {
        moe_cache_free(c);
        return moe_fail_memory(err, "a cache");
    }
    for (uint32_t p = 0; p < geometry->n_pools; p++) {
        c->pool[p].first_slot = geometry->pool[p].first_slot;
        c->pool[p].n_slots = geometry->pool[p].n_slots;
        c->pool[p].bytes = geometry->pool[p].bytes;
    }
    c->now = c->counts;
    empty_all(c);
    enum moe_status s = find_initial(c, err);
    if (s) {
        moe_cache_free(c);
        return s;
    }
    *out = c;
    return MOE_OK;
}

void moe_cache_free(struct moe_cache *c)
{
    if (!c)
        return;
    free(c->slot_of);
    free(c->slot);
    free(c->pinned);
    free(c->event_slot);
    free(c->pool);
    free(c->counts);
    free(c->states);
    free(c->initial);
    free(c);
}

void moe_cache_clear(struct moe_cache *c)
{
    c->clears++;
    c->next_initial = 0;
    empty_all(c);
}

void moe_cache_begin_sequence(struct moe_cache *c)
{
    for (uint32_t p = 0; p < c->geometry->n_pools && c->ops->on_sequence; p++)
        c->ops->on_sequence(c->pool[p].state);
}

void moe_cache_begin_step(struct moe_cache *c)
{
    for (uint32_t p = 0; p < c->geometry->n_pools && c->ops->on_step; p++)
        c->ops->on_step(c->pool[p].state);
}

bool moe_cache_covers(const struct moe_cache *c, uint32_t layer)
{
    return c->geometry->pool_of_layer[layer] >= 0;
}

static struct moe_counts *counts_in(const struct moe_cache *c, enum moe_phase phase)
{
    return c->counts + (size_t)phase * c->geometry->n_layers;
}

const struct moe_counts *moe_cache_counts(const struct moe_cache *c, uint32_t layer,
                                          enum moe_phase phase)
{
    return counts_in(c, phase) + layer;
}

/* A lookup found an expert whose copy has not landed. */
static void note_late(struct slot *slot, struct moe_counts *counts)
{
    counts->inflight_hits++;
    counts->late_fills += !slot->late;
    slot->late = true;
}

/* Looks all experts up, pins those present, and returns how many are. The arrays are held in
 * locals: through c and route the compiler would load them anew after each byte written. */
static uint32_t classify(struct moe_cache *c, const struct moe_route *route,
                         struct moe_counts *counts)
{
    const moe_slot *slot_of = c->slot_of + (size_t)route->layer * c->geometry->n_experts;
    const moe_expert *expert = route->expert;
    struct slot *slot = c->slot;
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
        if (!(pins & EVENT_PINS))
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

static void count_event(struct moe_counts *counts, uint32_t n_hits, uint32_t n)
{
    counts->events += n > 0;
    counts->any_hit_events += n_hits > 0;
    counts->all_hit_events += n > 0 && n_hits == n;
}

void moe_cache_route(struct moe_cache *c, struct moe_route *route)
{
    c->phase = route->phase;
    c->now = counts_in(c, route->phase);
    struct moe_counts *counts = &c->now[route->layer];
    count_event(counts, classify(c, route, counts), route->n);
    if (c->ops->on_route)
        tell_policy(c, route);
}

void moe_cache_route_access(struct moe_cache *c, struct moe_route *route)
{
    c->now = counts_in(c, route->phase);
    classify(c, route, &c->now[route->layer]);
    if (c->ops->on_route)
        tell_policy(c, route);
}

void moe_cache_count_event(struct moe_cache *c, uint32_t layer, enum moe_phase phase,
                           uint32_t n_hits, uint32_t n)
{
    count_event(counts_in(c, phase) + layer, n_hits, n);
}

void moe_cache_touch(struct moe_cache *c, moe_slot s)
{
    const struct slot *slot = &c->slot[s];
    if (!c->ops->on_hit || (c->pinned[s] & EVENT_PINS) != MOE_PIN_EVENT)
        return;
    const struct pool *pool = &c->pool[slot->pool];
    c->ops->on_hit(pool->state, s - (moe_slot)pool->first_slot, slot->key);
}

static uint64_t bytes_of(const struct moe_cache *c, uint32_t layer)
{
    return c->geometry->expert_bytes ? c->geometry->expert_bytes[layer] : 0;
}

static void evict(struct moe_cache *c, struct pool *pool, moe_slot local)
{
    moe_slot s = (moe_slot)pool->first_slot + local;
    struct slot *slot = &c->slot[s];
    struct moe_counts *counts = &c->now[slot->layer];
    counts->evictions++;
    counts->useless_fills += !slot->used;
    end_prefetch(c, slot);
    if (c->ops->on_evict)
        c->ops->on_evict(pool->state, local, slot->key);
    pool->used_bytes -= bytes_of(c, slot->layer);
    if (pool->n_empty++ == 0 || (uint32_t)local < pool->lowest_empty)
        pool->lowest_empty = (uint32_t)local;
    c->slot_of[slot->key] = MOE_NO_SLOT;
    slot->key = MOE_NO_KEY;
    slot->fetched = 0;
    /* Event pins stay listed and end with the event; a hold belongs to the slot, not the expert. */
    c->pinned[s] = (uint8_t)((c->pinned[s] & (EVENT_PINS | MOE_PIN_HELD)) | MOE_PIN_EMPTY);
}

/* Did the policy name a slot that it may? Counts the hazard where it may name pinned ones. */
static bool may_evict(const struct moe_cache *c, uint8_t pinned, struct moe_counts *counts)
{
    if (!pinned)
        return true;
    if (pinned & MOE_PIN_EMPTY)
        return false;
    if (c->ops->flags & MOE_POLICY_IGNORES_PINS) {
        counts->hazards++;
        return true;
    }
    return pinned == MOE_PIN_EVENT && (c->ops->flags & MOE_POLICY_MAY_DROP_EVENT);
}

/* Every expert of the pool is pinned: then it is not the policy that declined. */
static bool all_pinned(const struct moe_cache *c, const struct pool *pool)
{
    for (uint32_t s = 0; s < pool->n_slots; s++)
        if (!c->pinned[pool->first_slot + s])
            return false;
    return true;
}

static bool has_room(const struct pool *pool, uint64_t bytes)
{
    return pool->n_empty > 0 && (!pool->bytes || bytes <= pool->bytes - pool->used_bytes);
}

/* Gives up experts until `bytes` more fit. */
static bool make_room(struct moe_cache *c, struct pool *pool, const struct moe_victim_req *req,
                      uint64_t bytes, struct moe_counts *counts, moe_key *evicted)
{
    while (!has_room(pool, bytes)) {
        moe_slot v = c->ops->victim(pool->state, req);
        if (v == MOE_NO_SLOT || !may_evict(c, req->pinned[v], counts)) {
            bool dropped = all_pinned(c, pool);
            counts->dropped_fills += dropped;
            counts->bypasses += !dropped;
            return false;
        }
        *evicted = c->slot[pool->first_slot + (uint32_t)v].key;
        evict(c, pool, v);
    }
    return true;
}

static moe_slot take_lowest_empty(struct moe_cache *c, struct pool *pool)
{
    uint32_t s = pool->lowest_empty;
    while (c->slot[pool->first_slot + s].key != MOE_NO_KEY)
        s++;
    pool->lowest_empty = s + 1;
    pool->n_empty--;
    return (moe_slot)s;
}

/* An expert that wants a slot. */
struct newcomer {
    uint32_t layer;
    uint64_t bytes;
    uint8_t pin;     /* MOE_PIN_RESERVED, or 0 outside an event */
    uint8_t fetched; /* as in struct slot */
    struct moe_victim_req req;
};

/* Puts the newcomer into an empty slot, in flight. */
static moe_slot fill(struct moe_cache *c, struct pool *pool, const struct newcomer *new)
{
    moe_slot local = take_lowest_empty(c, pool), s = (moe_slot)pool->first_slot + local;
    struct slot *slot = &c->slot[s];
    if (new->pin && !(c->pinned[s] & EVENT_PINS))
        c->event_slot[c->n_event_slots++] = s;
    slot->key = new->req.key;
    slot->layer = new->layer;
    slot->copies++;
    slot->used = slot->late = false;
    slot->fetched = new->fetched;
    c->pinned[s] = (uint8_t)((c->pinned[s] & ~MOE_PIN_EMPTY) | MOE_PIN_FLIGHT | new->pin);
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
        struct pool *pool = &c->pool[p];
        struct moe_counts *counts = &c->now[new->layer];
        new->bytes = bytes_of(c, new->layer);
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
    struct slot *slot = &c->slot[s];
    c->prefetches[slot->fetched - 1].cancelled++;
    slot->fetched = 0;
    slot->used = true; /* no useless fill */
    slot->copies--;
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
        new.bytes = bytes_of(c, new.layer);
        int32_t p = c->geometry->pool_of_layer[new.layer];
        if (p < 0 || c->slot_of[new.req.key] != MOE_NO_SLOT || !has_room(&c->pool[p], new.bytes))
            continue;
        moe_slot s = fill(c, &c->pool[p], &new);
        c->slot[s].used = c->slot[s].late = true; /* no fill: neither useless nor late */
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
    struct slot *slot = &c->slot[s];
    if (slot->copies > 0 && --slot->copies == 0)
        c->pinned[s] &= (uint8_t)~MOE_PIN_FLIGHT;
}

void moe_cache_end_event(struct moe_cache *c)
{
    for (uint32_t i = 0; i < c->n_event_slots; i++)
        c->pinned[c->event_slot[i]] &= (uint8_t)~EVENT_PINS;
    c->n_event_slots = 0;
}

moe_slot moe_cache_find(const struct moe_cache *c, moe_key key)
{
    return c->slot_of[key];
}

bool moe_cache_in_flight(const struct moe_cache *c, moe_slot s)
{
    return c->pinned[s] & MOE_PIN_FLIGHT;
}

bool moe_cache_copying(const struct moe_cache *c, uint32_t layer)
{
    int32_t p = c->geometry->pool_of_layer[layer];
    const struct moe_pool *pool = p >= 0 ? &c->geometry->pool[p] : NULL;
    for (uint32_t s = 0; pool && s < pool->n_slots; s++)
        if (moe_cache_in_flight(c, (moe_slot)(pool->first_slot + s)))
            return true;
    return false;
}

uint32_t moe_cache_copies(const struct moe_cache *c)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < c->geometry->n_slots; s++)
        n += c->slot[s].copies;
    return n;
}

void moe_cache_pin(struct moe_cache *c, moe_slot s)
{
    c->slot[s].holds++;
    c->pinned[s] |= MOE_PIN_HELD;
}

void moe_cache_unpin(struct moe_cache *c, moe_slot s)
{
    if (c->slot[s].holds > 0 && --c->slot[s].holds == 0)
        c->pinned[s] &= (uint8_t)~MOE_PIN_HELD;
}
