/* The cache directory: knows which expert is in which slot, and asks the policy for victims. It
 * holds no weights: callers copy them. Replay, simulator and executor use it unchanged.
 *
 * A slot is empty, in flight (reserved, its copy has not landed) or resident. One event:
 *     moe_cache_route      classifies all experts against the contents at the event's start,
 *                          counts them, pins those present, tells the policy (on_route)
 *     then in gate order   moe_cache_touch for a hit, moe_cache_reserve for a miss to be admitted
 *     moe_cache_end_event  unpins
 * A reserved slot stays pinned until the event ends, and cannot be evicted before moe_cache_ready.
 * Slots in this header are global numbers (geometry.h). */
#ifndef MOELAB_POLICIES_CACHE_H
#define MOELAB_POLICIES_CACHE_H

#include "policies/geometry.h"
#include "policies/policy.h"

/* Counters of one layer and phase. lookups = hits + inflight_hits + misses. A fill or an eviction
 * counts for the layer of the expert that comes or goes, in the phase of the latest event; so in
 * every layer, over both phases, fills - evictions = experts present (but see moe_preloads). */
struct moe_counts {
    uint64_t events;         /* with at least one expert */
    uint64_t any_hit_events; /* in which at least one expert was resident or in flight */
    uint64_t all_hit_events; /* in which all of them were */
    uint64_t lookups, hits, inflight_hits, misses;
    uint64_t fills;      /* slots reserved */
    uint64_t fill_bytes; /* their bytes, where expert sizes are known */
    uint64_t evictions;
    uint64_t useless_fills; /* evicted before any lookup found them */
    uint64_t late_fills;    /* fills that a lookup found in flight, each counted once */
    uint64_t dropped_fills; /* no slot: every one of the pool was pinned or in flight */
    uint64_t bypasses;      /* no slot: the policy declined the newcomer */
    uint64_t hazards;       /* evictions of a pinned or in-flight slot (IGNORES_PINS only) */
};

/* The initial content: experts put into slots before the first event, and their bytes where sizes
 * are known. They count as fills of no layer or phase: with them, in every layer, fills - evictions
 * + preloads = experts present. One that is evicted unused is no useless fill either. */
struct moe_preloads {
    uint64_t experts, bytes;
};

/* What became of the prefetches (moe_cache_reserve_key), counted in the phase that asked for them.
 * queued = useful + late + wasted + cancelled + unused. */
struct moe_prefetches {
    uint64_t queued;
    uint64_t useful;    /* the first lookup found them resident */
    uint64_t late;      /* the first lookup found them in flight */
    uint64_t wasted;    /* evicted before any lookup found them */
    uint64_t cancelled; /* taken back before they were copied */
    uint64_t unused;    /* still in their slots, and not looked up so far */
};

void moe_counts_add(struct moe_counts *sum, const struct moe_counts *part);

struct moe_cache; /* opaque; single-threaded */

/* Makes an empty cache; moe_cache_preload or moe_cache_preload_next loads the policy's initial
 * content. geometry must outlive it. Errors: MOE_ERR_MEMORY; those of policy->ops->initial (a hot
 * list that does not fit the model). */
enum moe_status moe_cache_new(struct moe_cache **out, const struct moe_geometry *geometry,
                              uint32_t top_k, const struct moe_policy_spec *policy, uint64_t seed,
                              struct moe_err *err);
void moe_cache_free(struct moe_cache *cache);

/* Empties every slot and resets the policy's state; counters stay. No copy may be in flight. The
 * initial content can then be loaded again, and counts again; it is the same as before
 * (moe_cache_new determines it). */
void moe_cache_clear(struct moe_cache *cache);

/* Reserves a slot for the next expert of the policy's initial content for which there is room,
 * writes its key and returns the slot, in flight: the caller fetches it and reports
 * moe_cache_ready. MOE_NO_SLOT: nothing is left. Only between moe_cache_new or moe_cache_clear and
 * the first event. */
moe_slot moe_cache_preload_next(struct moe_cache *cache, moe_key *key);

struct moe_preloads moe_cache_preloads(const struct moe_cache *cache);

/* A sequence begins: passed on to the policy. */
void moe_cache_begin_sequence(struct moe_cache *cache);

/* A forward pass that uses the cache begins: passed on to the policy. At the start of a sequence
 * after moe_cache_begin_sequence. */
void moe_cache_begin_step(struct moe_cache *cache);

/* Does layer have a pool? */
bool moe_cache_covers(const struct moe_cache *cache, uint32_t layer);

/* Fills, evictions and prefetches count for this phase from now on. For layers without a pool; in
 * the others moe_cache_route does it. */
void moe_cache_enter_phase(struct moe_cache *cache, enum moe_phase phase);

/* Classifies the event and counts it; fills route->slot (global numbers) and route->access. */
void moe_cache_route(struct moe_cache *cache, struct moe_route *route);

/* Counts one event of (layer, phase) with n_hits of n experts found, for callers that look the
 * experts of an event up one at a time (access contract) by moe_cache_route_access. */
void moe_cache_count_event(struct moe_cache *cache, uint32_t layer, enum moe_phase phase,
                           uint32_t n_hits, uint32_t n);
/* As moe_cache_route, but counts lookups only, not the event. */
void moe_cache_route_access(struct moe_cache *cache, struct moe_route *route);

/* Tells the policy of a hit (on_hit): moe_cache_route found an expert in slot. Does nothing if the
 * event has since reserved the slot for another expert (MOE_POLICY_MAY_DROP_EVENT, _IGNORES_PINS).
 */
void moe_cache_touch(struct moe_cache *cache, moe_slot slot);

/* Reserves a slot for the missed expert route->expert[i], evicting if needed. Returns the slot (in
 * flight, pinned until the event ends), or MOE_NO_SLOT when the layer has none, the policy
 * declined, or all are pinned; also when the expert is present already. *evicted (may be NULL) gets
 * the key evicted last, or MOE_NO_KEY. A byte-limited pool evicts experts until the newcomer fits;
 * if the policy declines half-way, those evicted stay out. */
moe_slot moe_cache_reserve(struct moe_cache *cache, const struct moe_route *route, uint32_t i,
                           moe_key *evicted);

/* As moe_cache_reserve, for a prefetch; the slot is not pinned for any event. */
moe_slot moe_cache_reserve_key(struct moe_cache *cache, moe_key key, moe_key *evicted);

/* May moe_cache_cancel be called? True if slot holds a prefetch whose copy, the only one into that
 * slot, has not landed. */
bool moe_cache_may_cancel(const struct moe_cache *cache, moe_slot slot);

/* The copy into slot was taken back and will never land: empties the slot. Counts an eviction, so
 * that fills - evictions + preloads = experts present still holds, but no useless fill. */
void moe_cache_cancel(struct moe_cache *cache, moe_slot slot);

/* A copy into slot has landed; to be called once for each reservation. The slot is resident when
 * all copies into it have landed (more than one only where a policy ignores pins). */
void moe_cache_ready(struct moe_cache *cache, moe_slot slot);

/* Loads all of the initial content, resident at once: for callers without copies. */
static inline void moe_cache_preload(struct moe_cache *cache)
{
    moe_key key;
    for (moe_slot s; (s = moe_cache_preload_next(cache, &key)) != MOE_NO_SLOT;)
        moe_cache_ready(cache, s);
}

/* Unpins the slots that the event's hits and reservations pinned. */
void moe_cache_end_event(struct moe_cache *cache);

/* A whole event where every miss is admitted and every copy lands at once, as in replays: the same
 * contents and counters as from the calls above, faster. No slot may be in flight or pinned, and
 * the layer must have a pool. Fills route->access; what route->slot holds afterwards is undefined.
 */
void moe_cache_event_at_once(struct moe_cache *cache, struct moe_route *route);
/* The same for the experts of one token, one after the other (access contract), without counting an
 * event; returns how many were hits. */
uint32_t moe_cache_accesses_at_once(struct moe_cache *cache, struct moe_route *token);

/* The slot that key is in (resident or in flight), or MOE_NO_SLOT. Counts nothing. */
moe_slot moe_cache_find(const struct moe_cache *cache, moe_key key);
bool moe_cache_in_flight(const struct moe_cache *cache, moe_slot slot);
/* Number of copies into slots, of all pools, that have not landed; a copy counts from its
 * reservation on. */
uint32_t moe_cache_copies(const struct moe_cache *cache);

/* Is any slot of the layer's pool in flight? Of any pool? */
bool moe_cache_copying(const struct moe_cache *cache, uint32_t layer);
bool moe_cache_copying_any(const struct moe_cache *cache);

/* Keeps slot from being evicted until unpinned as often as pinned. */
void moe_cache_pin(struct moe_cache *cache, moe_slot slot);
void moe_cache_unpin(struct moe_cache *cache, moe_slot slot);

/* Counters of a layer in a phase; valid until the cache is freed. */
const struct moe_counts *moe_cache_counts(const struct moe_cache *cache, uint32_t layer,
                                          enum moe_phase phase);

struct moe_prefetches moe_cache_prefetches(const struct moe_cache *cache, enum moe_phase phase);

#endif
