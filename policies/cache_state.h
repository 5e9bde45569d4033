/* What the files of the cache directory share: cache.c makes it, cache_route.c looks experts up,
 * cache_reserve.c hands slots out and takes them back. No other file may include this. */
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
    struct moe_cache_slot *slot; /* [S] */
    uint8_t *pinned;             /* [S] enum moe_pin bits */
    moe_slot *event_slot;        /* [S] slots that the event under way pinned */
    uint32_t n_event_slots;
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

/* The expert in the slot is given up: what it was good for, if it was fetched ahead. */
void moe_cache_end_prefetch(struct moe_cache *cache, const struct moe_cache_slot *slot);

#endif
