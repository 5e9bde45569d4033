/* What the files of the cache directory share: cache.c makes it, cache_route.c looks experts up,
 * cache_reserve.c hands slots out and takes them back, cache_at_once.c does both where no copy
 * takes time. No other file may include this. */
#ifndef MOELAB_POLICIES_CACHE_STATE_H
#define MOELAB_POLICIES_CACHE_STATE_H

#include "policies/cache.h"

enum { MOE_EVENT_PINS = MOE_PIN_EVENT | MOE_PIN_RESERVED };

struct moe_cache_slot {
    moe_key key;    /* MOE_NO_KEY: empty */
    uint32_t layer; /* of key */
    uint32_t pool;
    uint32_t copies; /* that have not landed */
    uint32_t holds;  /* moe_cache_pin without moe_cache_unpin */
    bool used, late; /* found by a lookup since it was filled; so while in flight */
    uint8_t fetched; /* ahead of any lookup: in this enum moe_phase + 1; 0: it was not */
};

struct moe_cache_pool {
    void *state; /* the policy's */
    uint32_t first_slot, n_slots;
    uint32_t n_empty, lowest_empty; /* lowest_empty: no empty slot lies below (pool-local) */
    uint32_t n_flight;              /* slots with MOE_PIN_FLIGHT */
    uint64_t bytes, used_bytes;     /* bytes 0: limited by slots alone */
    size_t state_size;
};

struct moe_cache {
    const struct moe_geometry *geometry;
    struct moe_policy_spec policy;
    const struct moe_policy_ops *ops;
    uint64_t seed, clears;
    uint32_t top_k;
    moe_slot *slot_of;           /* [L * E] */
    struct moe_cache_slot *slot; /* [S] and [MOE_NO_SLOT], which holds nothing that is read */
    uint8_t *pinned;             /* [S] and [MOE_NO_SLOT], likewise; enum moe_pin bits */
    moe_slot *event_slot;        /* [S] slots that the event under way pinned */
    uint32_t n_event_slots;
    uint32_t *missed;            /* [E] experts of the event under way, by their number in it */
    moe_slot *victim;            /* [E] what goes for each of them, or MOE_NO_SLOT */
    uint32_t n_flight, n_copies; /* of all pools; copies of all slots */
    struct moe_cache_pool *pool; /* [n_pools] */
    struct moe_counts *counts;   /* [2, L] */
    struct moe_counts *now;      /* [L] those of the latest event's phase */
    void *states;                /* the policy's, pool after pool */
    moe_key *initial;            /* [n_initial] the policy's initial content, or NULL */
    uint32_t n_initial, next_initial;
    struct moe_preloads preloads;
    struct moe_prefetches prefetches[2]; /* by enum moe_phase; without those that lie in slots */
    enum moe_phase phase;                /* of the latest event */
};

static inline struct moe_counts *moe_cache_counts_in(const struct moe_cache *c,
                                                     enum moe_phase phase)
{
    return c->counts + (size_t)phase * c->geometry->n_layers;
}

/* Experts of different layers may differ in bytes; 0: sizes are unknown. */
static inline uint64_t moe_cache_bytes_of(const struct moe_cache *c, uint32_t layer)
{
    return c->geometry->expert_bytes ? c->geometry->expert_bytes[layer] : 0;
}

/* A copy into the slot begins to be waited for; nobody waits any more. */
static inline void moe_cache_set_flight(struct moe_cache *c, moe_slot s)
{
    c->pinned[s] |= MOE_PIN_FLIGHT;
    c->pool[c->slot[s].pool].n_flight++;
    c->n_flight++;
}

static inline void moe_cache_end_flight(struct moe_cache *c, moe_slot s)
{
    if (!(c->pinned[s] & MOE_PIN_FLIGHT))
        return;
    c->pinned[s] &= (uint8_t)~MOE_PIN_FLIGHT;
    c->pool[c->slot[s].pool].n_flight--;
    c->n_flight--;
}

/* Did the policy name a slot that it may? Counts the hazard where it may name pinned ones. */
static inline bool moe_cache_may_evict(const struct moe_cache *c, uint8_t pinned,
                                       struct moe_counts *counts)
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
static inline bool moe_cache_all_pinned(const struct moe_cache *c,
                                        const struct moe_cache_pool *pool)
{
    for (uint32_t s = 0; s < pool->n_slots; s++)
        if (!c->pinned[pool->first_slot + s])
            return false;
    return true;
}

/* The pool-local slot v that the policy named, or MOE_NO_SLOT where it may not be had, counted. */
static inline moe_slot moe_cache_take(const struct moe_cache *c, const struct moe_cache_pool *pool,
                                      const struct moe_victim_req *req, moe_slot v,
                                      struct moe_counts *counts)
{
    if (v != MOE_NO_SLOT && moe_cache_may_evict(c, req->pinned[v], counts))
        return v;
    bool dropped = moe_cache_all_pinned(c, pool);
    counts->dropped_fills += dropped;
    counts->bypasses += !dropped;
    return MOE_NO_SLOT;
}

/* The pool-local slot that the policy gives up for the newcomer, or MOE_NO_SLOT, counted. */
static inline moe_slot moe_cache_victim(const struct moe_cache *c,
                                        const struct moe_cache_pool *pool,
                                        const struct moe_victim_req *req, struct moe_counts *counts)
{
    return moe_cache_take(c, pool, req, c->ops->victim(pool->state, req), counts);
}

/* An event in which n_hits of n experts were found. */
static inline void moe_counts_event(struct moe_counts *counts, uint32_t n_hits, uint32_t n)
{
    if (n == 0)
        return;
    counts->events++;
    counts->any_hit_events += n_hits > 0;
    counts->all_hit_events += n_hits == n;
}

/* The expert in the slot is given up: what it was good for, if it was fetched ahead. */
void moe_cache_end_prefetch(struct moe_cache *cache, const struct moe_cache_slot *slot);

#endif
