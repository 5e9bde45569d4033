/* The cache directory: owns residency; used unchanged by replay, simulator and executor.
 *
 * Slot states: empty, in flight (reserved, its copy has not landed), resident. One event:
 *     moe_cache_route      classifies all experts against the contents at the event's start,
 *                          counts them, pins those present, tells the policy (on_route)
 *     then in gate order   moe_cache_touch for a hit, moe_cache_reserve for a miss to be admitted
 *     moe_cache_end_event  unpins
 * Reserved slots are pinned until the event ends and are no victims until moe_cache_ready.
 * Slots in this header are global numbers (geometry.h). */
#ifndef MOELAB_POLICIES_CACHE_H
#define MOELAB_POLICIES_CACHE_H

#include "policies/geometry.h"
#include "policies/policy.h"

/* Counters of one layer and phase. lookups = hits + inflight_hits + misses. What happens to an
 * expert counts for its own layer (an eviction: the layer of the expert given up), in the phase of
 * the latest event; so in every layer, over both phases, fills - evictions = experts present. */
struct moe_counts {
    uint64_t events;         /* with at least one expert */
    uint64_t any_hit_events; /* at least one expert present, resident or in flight */
    uint64_t all_hit_events; /* all of them */
    uint64_t lookups, hits, inflight_hits, misses;
    uint64_t fills;      /* slots reserved */
    uint64_t fill_bytes; /* their bytes, where expert sizes are known */
    uint64_t evictions;
    uint64_t useless_fills; /* evicted before any lookup found them */
    uint64_t late_fills;    /* asked for at least once while in flight (once a fill) */
    uint64_t dropped_fills; /* wanted, but every slot of the pool was pinned or in flight */
    uint64_t bypasses;      /* the policy declined to give up a slot */
    uint64_t hazards;       /* a pinned or in-flight slot was overwritten (IGNORES_PINS only) */
};

/* Experts that the slots were given before the first event, and their bytes where sizes are known.
 * They are no fills of any layer or phase: with them, in every layer, fills - evictions + preloads
 * = experts present. One that is given up unused is no useless fill either. */
struct moe_preloads {
    uint64_t experts, bytes;
};

/* What became of the experts that moe_cache_reserve_key fetched ahead, in the phase that asked for
 * them. queued = useful + late + wasted + cancelled + unused. */
struct moe_prefetches {
    uint64_t queued;
    uint64_t useful;    /* the first lookup found them resident */
    uint64_t late;      /* the first lookup found them in flight */
    uint64_t wasted;    /* given up before any lookup found them */
    uint64_t cancelled; /* taken back before they were copied */
    uint64_t unused;    /* still there, and not looked up so far */
};

void moe_counts_add(struct moe_counts *sum, const struct moe_counts *part);

struct moe_cache; /* opaque; single-threaded */

/* The cache is empty: see moe_cache_preload. geometry must outlive it. Errors: MOE_ERR_MEMORY;
 * those of the policy's initial content (a hot list that does not fit the model). */
enum moe_status moe_cache_new(struct moe_cache **out, const struct moe_geometry *geometry,
                              uint32_t top_k, const struct moe_policy_spec *policy, uint64_t seed,
                              struct moe_err *err);
void moe_cache_free(struct moe_cache *cache);

/* Empties every slot and the policy's state; counters stay. No copy may be in flight. The initial
 * content, which is drawn once a cache, can then be loaded again (and counts again). */
void moe_cache_clear(struct moe_cache *cache);

/* Reserves a slot for the next expert of the policy's initial content that has room, writes its key
 * and returns the slot, in flight: the caller fetches it and reports moe_cache_ready. MOE_NO_SLOT:
 * nothing is left. Only between moe_cache_new or moe_cache_clear and the first event. */
moe_slot moe_cache_preload_next(struct moe_cache *cache, moe_key *key);

struct moe_preloads moe_cache_preloads(const struct moe_cache *cache);

/* A sequence begins (policies with MOE_NEEDS_SEQUENCE). */
void moe_cache_begin_sequence(struct moe_cache *cache);

/* A forward pass begins that asks the cache; after moe_cache_begin_sequence where both do. */
void moe_cache_begin_step(struct moe_cache *cache);

/* Does layer have a pool? */
bool moe_cache_covers(const struct moe_cache *cache, uint32_t layer);

/* A forward pass of the phase asks the cache in a layer without a pool: what happens next counts
 * for the phase, as behind moe_cache_route in the others. */
void moe_cache_enter_phase(struct moe_cache *cache, enum moe_phase phase);

/* Classifies the event and counts it; fills route->slot (global numbers) and route->access. */
void moe_cache_route(struct moe_cache *cache, struct moe_route *route);

/* Counts one event of (layer, phase) with n_hits of n experts found, for callers that route the
 * experts of an event one at a time (access contract) and passed count_event = false. */
void moe_cache_count_event(struct moe_cache *cache, uint32_t layer, enum moe_phase phase,
                           uint32_t n_hits, uint32_t n);
/* As moe_cache_route without counting the event itself. */
void moe_cache_route_access(struct moe_cache *cache, struct moe_route *route);

/* Recency/frequency update of an expert that moe_cache_route found in slot. Nothing happens when
 * the event has handed the slot out anew since (policies that drop experts of the event). */
void moe_cache_touch(struct moe_cache *cache, moe_slot slot);

/* Reserves a slot for the missed expert route->expert[i], evicting if needed. Returns the slot (in
 * flight, pinned until the event ends), or MOE_NO_SLOT when the layer has none, the policy
 * declined, or all are pinned; also when the expert is present already. *evicted (may be NULL) gets
 * the key given up last, or MOE_NO_KEY. A byte-limited pool gives up experts until the newcomer
 * fits; if the policy declines half-way, those given up stay out. */
moe_slot moe_cache_reserve(struct moe_cache *cache, const struct moe_route *route, uint32_t i,
                           moe_key *evicted);

/* As reserve, for a key that no event asks for now (prefetch). */
moe_slot moe_cache_reserve_key(struct moe_cache *cache, moe_key key, moe_key *evicted);

/* May moe_cache_cancel be called? The slot waits for one copy, of an expert fetched ahead. */
bool moe_cache_may_cancel(const struct moe_cache *cache, moe_slot slot);

/* The copy into slot was taken back and will never land: the slot is empty. Counts an eviction, so
 * that fills - evictions + preloads stays what is present, and no useless fill. */
void moe_cache_cancel(struct moe_cache *cache, moe_slot slot);

/* A copy into slot has landed; once a reserve. The slot is resident when all its copies have
 * landed (more than one only where a policy ignores pins). */
void moe_cache_ready(struct moe_cache *cache, moe_slot slot);

/* The initial content all at once, for callers without copies: reserved and ready. */
static inline void moe_cache_preload(struct moe_cache *cache)
{
    moe_key key;
    for (moe_slot s; (s = moe_cache_preload_next(cache, &key)) != MOE_NO_SLOT;)
        moe_cache_ready(cache, s);
}

void moe_cache_end_event(struct moe_cache *cache);

/* A whole event where every miss is admitted and every copy lands at once, as replays have it: the
 * same contents and counters as the calls above give, faster. No slot may be in flight or pinned.
 * The layer has a pool; route->slot is scratch. */
void moe_cache_event_at_once(struct moe_cache *cache, struct moe_route *route);
/* The same of the experts of one token one after the other (access contract), without counting an
 * event; returns how many were there, route->access tells which. */
uint32_t moe_cache_accesses_at_once(struct moe_cache *cache, struct moe_route *token);

/* Where key is (slot or MOE_NO_SLOT), without counting anything. */
moe_slot moe_cache_find(const struct moe_cache *cache, moe_key key);
bool moe_cache_in_flight(const struct moe_cache *cache, moe_slot slot);
/* Copies into slots that have not landed, those of slots just reserved among them. */
uint32_t moe_cache_copies(const struct moe_cache *cache);

/* Is a copy under way into any slot of the layer's pool; of any pool? */
bool moe_cache_copying(const struct moe_cache *cache, uint32_t layer);
bool moe_cache_copying_any(const struct moe_cache *cache);

/* Keeps slot from eviction until unpinned; nests. */
void moe_cache_pin(struct moe_cache *cache, moe_slot slot);
void moe_cache_unpin(struct moe_cache *cache, moe_slot slot);

/* Counters of a layer in a phase; valid until the cache is freed. */
const struct moe_counts *moe_cache_counts(const struct moe_cache *cache, uint32_t layer,
                                          enum moe_phase phase);

struct moe_prefetches moe_cache_prefetches(const struct moe_cache *cache, enum moe_phase phase);

#endif
