/* What the files of the cache directory share: cache.c makes it, cache_route.c looks experts up,
 * cache_reserve.c reserves and evicts slots, cache_at_once.c does both where no copy takes time. No
 * other file may include this. */
#ifndef MOELAB_POLICIES_CACHE_STATE_H
#define MOELAB_POLICIES_CACHE_STATE_H

#include "policies/cache.h"

enum { MOE_EVENT_PINS = MOE_PIN_EVENT | MOE_PIN_RESERVED };

struct moe_cache_slot {
    moe_key key;    /* MOE_NO_KEY: empty */
    uint32_t layer; /* of key */
    uint32_t pool;
    uint32_t copies; /* into it that have not landed */
    uint32_t holds;  /* moe_cache_pin calls not yet undone by moe_cache_unpin */
    bool used;       /* a lookup has found the expert since it was filled */
    bool late;       /* and found it in flight */
    uint8_t fetched; /* by a prefetch: 1 + the enum moe_phase that asked for it; 0: by a miss */
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
    moe_slot *slot_of;           /* [L * E] by key */
    struct moe_cache_slot *slot; /* [S]; [MOE_NO_SLOT] takes writes too, so that code need not
                                    branch on a miss; its value means nothing */
    uint8_t *pinned;             /* [S] enum moe_pin bits; [MOE_NO_SLOT] likewise */
    moe_slot *event_slot;        /* [n_event_slots], at most S: pinned by the event under way */
    uint32_t n_event_slots;
    uint32_t *missed;            /* [E] scratch: indices of the event's missed experts */
    moe_slot *victim;            /* [E] scratch: the slot evicted for each of them */
    uint32_t n_flight;           /* slots with MOE_PIN_FLIGHT, of all pools */
    uint32_t n_copies;           /* copies that have not landed, into all slots */
    struct moe_cache_pool *pool; /* [n_pools] */
    struct moe_counts *counts;   /* [2, L] by enum moe_phase */
    struct moe_counts *now;      /* [L] the row of `counts` of the latest event's phase */
    void *states;                /* of the policy, pool after pool */
    moe_key *initial;            /* [n_initial] the policy's initial content, or NULL */
    uint32_t n_initial, next_initial;
    struct moe_preloads preloads;
    struct moe_prefetches prefetches[2]; /* by enum moe_phase; without those still in slots */
    enum moe_phase phase;                /* of the latest event */
};

static inline struct moe_counts *moe_cache_counts_in(const struct moe_cache *c,
                                                     enum moe_phase phase)
{
    return c->counts + (size_t)phase * c->geometry->n_layers;
}

/* Bytes of an expert of the layer; 0: unknown. */
static inline uint64_t moe_cache_bytes_of(const struct moe_cache *c, uint32_t layer)
{
    return c->geometry->expert_bytes ? c->geometry->expert_bytes[layer] : 0;
}

/* Marks the slot as in flight. */
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

/* May the policy evict a slot with these pins? Counts the hazard if it may and has any. */
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

/* Is every slot of the pool pinned? Then no slot could be had whatever the policy says. */
static inline bool moe_cache_all_pinned(const struct moe_cache *c,
                                        const struct moe_cache_pool *pool)
{
    for (uint32_t s = 0; s < pool->n_slots; s++)
        if (!c->pinned[pool->first_slot + s])
            return false;
    return true;
}

/* The pool-local slot v that the policy named, or MOE_NO_SLOT if it named none, or one that it may
 * not; that is counted as a dropped fill or a bypass. */
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

/* Asks the policy for a victim; result as of moe_cache_take. */
static inline moe_slot moe_cache_victim(const struct moe_cache *c,
                                        const struct moe_cache_pool *pool,
                                        const struct moe_victim_req *req, struct moe_counts *counts)
{
    return moe_cache_take(c, pool, req, c->ops->victim(pool->state, req), counts);
}

/* Counts an event in which n_hits of n experts were found. */
static inline void moe_counts_event(struct moe_counts *counts, uint32_t n_hits, uint32_t n)
{
    if (n == 0)
        return;
    counts->events++;
    counts->any_hit_events += n_hits > 0;
    counts->all_hit_events += n_hits == n;
}

/* Called when the expert in the slot is evicted: if it was prefetched, counts what became of that.
 */
void moe_cache_end_prefetch(struct moe_cache *cache, const struct moe_cache_slot *slot);

#endif
