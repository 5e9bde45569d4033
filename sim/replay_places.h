/* LRU, FIFO and clock in pools of any size, for the specialised replay (replay_wide.c).
 *
 * LRU and FIFO: an expert's place is a number; LRU gives it the next one at each use, FIFO at each
 * arrival. A bitmap over the places tells which are taken: the current place of each expert in the
 * pool and, as the oldest of all, one place for each empty slot. So as many are taken as the pool
 * has slots, and to evict is to clear the lowest bit. The bits of places not yet given out are set
 * in advance, so that giving one out writes nothing. When the numbers run out, the places taken are
 * renumbered from 1. Clock: the place is the slot, and the bit its reference bit.
 *
 * Whether an access hits is unpredictable, and a mispredicted branch takes longer than the rest of
 * the access. So hits and misses execute the same instructions, and masks select their effect.
 * Branches remain for what is rare: a 64-bit word of the bitmap with too few places to evict. */
#ifndef MOELAB_SIM_REPLAY_PLACES_H
#define MOELAB_SIM_REPLAY_PLACES_H

#include "traces/trace.h"

enum { MOE_PLACES_WORD = 64 };

/* lru, fifo: events of up to so many experts evict without a branch; larger ones always by the
 * out-of-line functions below, with the same result, but slower. */
enum { MOE_PLACES_BRANCHLESS = 16 };

#define MOE_PLACES_INLINE static inline __attribute__((always_inline))

/* One pool. A key is an expert of one of its layers: layer's first key + expert. Place 0 is never
 * given out: experts that never came in are there. */
struct moe_places {
    uint32_t *at;     /* [n_keys] twice the place of each expert, plus 1 while it has not been asked
                         for since its fill; stale after its eviction */
    uint64_t *bit;    /* [end / 64] the bitmap */
    uint32_t *key_at; /* clock: [end] the key in each slot */
    uint32_t *before; /* lru, fifo: [end / 64] scratch of moe_places_renumber */
    uint64_t word;    /* lru: the bitmap's word at `base`, which is out of date in `bit`; clock: the
                         slots of that word that the hand has yet to reach */
    uint32_t end, n_keys; /* end: a multiple of 64 above all places */
    uint32_t base;   /* lru, fifo: first place of the first word with any place taken; clock: of the
                        hand's word, 0 while there are empty slots */
    uint32_t oldest; /* lru: twice the lowest place taken */
    uint32_t now;    /* the next place to give out; clock: the next empty slot */
    uint32_t n_slots;
};

/* Empties the pool, also a new one: for lru and fifo, and for clock. */
void moe_places_clear_order(struct moe_places *p);
void moe_places_clear_clock(struct moe_places *p);

/* Renumbers the places of lru and fifo, in the same order. recency: lru, which uses `word`. */
void moe_places_renumber(struct moe_places *p, bool recency);

/* Out of line, for the rare branches: evict n_misses experts for an event where the first word has
 * too few to evict. lru: the oldest ones. fifo: the oldest that are not among the event's n
 * experts, whose `at` was[] before it. */
void moe_places_evict_oldest(struct moe_places *p, uint32_t n_misses);
void moe_places_evict_others(struct moe_places *p, const uint32_t *was, uint32_t n,
                             uint32_t n_misses);

/* The same for the clock, which also gives the misses their slots. was: [n] twice the slot of a
 * hit, 0 of a miss; pins: bits of the hits in the hand's word. key: of the layer's expert 0. */
void moe_places_turn(struct moe_places *p, uint32_t *at, uint32_t key, const moe_expert *expert,
                     uint32_t *was, uint32_t n, uint64_t pins);

/* All bits set if the condition is 1, none if it is 0. */
MOE_PLACES_INLINE uint64_t moe_mask_of(uint64_t condition)
{
    return 0 - condition;
}

/* The bit of a place if it is in the word that begins at base, else 0. */
MOE_PLACES_INLINE uint64_t moe_bit_in(uint32_t place, uint32_t base)
{
    uint64_t same = place / MOE_PLACES_WORD == base / MOE_PLACES_WORD;
    return same << place % MOE_PLACES_WORD;
}

/* The bits, of the word that begins at base, of the experts of the event under way, which it may
 * not evict. */
static inline uint64_t moe_pins_in(const uint32_t *was, uint32_t n, uint32_t base)
{
    uint64_t pins = 0;
    for (uint32_t k = 0; k < n; k++)
        pins |= moe_bit_in(was[k] / 2, base);
    return pins;
}

/* LRU: one event of n distinct experts, no more than the pool has slots. Returns the number of hits
 * and adds to *first_hits those that are the first since their fill. at: [E] of the layer. At least
 * n places must be left to give out. All of the event's experts get new places first, so that the
 * oldest of the rest are those to evict. */
MOE_PLACES_INLINE uint32_t moe_recency_event(struct moe_places *p, uint32_t *at,
                                             const moe_expert *expert, uint32_t n,
                                             uint64_t *first_hits)
{
    uint32_t n_hits = 0, first = 0, oldest = p->oldest, base = p->base, now = p->now;
    uint64_t word = p->word, *bit = p->bit, miss[MOE_PLACES_BRANCHLESS];
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = at[expert[k]], place = u / 2, missed = (u - oldest) >> 31;
        n_hits += missed ^ 1;
        first += u & ~missed & 1;
        at[expert[k]] = 2 * (now + k) + missed;
        bit[place / MOE_PLACES_WORD] &= ~((uint64_t)1 << place % MOE_PLACES_WORD);
        word &= ~moe_bit_in(place, base);
        if (n <= MOE_PLACES_BRANCHLESS)
            miss[k] = missed;
    }
    uint64_t left = n <= MOE_PLACES_BRANCHLESS ? word : 0;
    for (uint32_t k = 0; n <= MOE_PLACES_BRANCHLESS && k < n; k++)
        left &= left - miss[k]; /* clears the lowest bit for a miss */
    p->now = now + n;
    p->word = left;
    if (__builtin_expect(!left, 0)) {
        p->word = word;
        moe_places_evict_oldest(p, n - n_hits);
    }
    p->oldest = 2 * (p->base + (uint32_t)__builtin_ctzll(p->word));
    *first_hits += first;
    return n_hits;
}

/* The same for FIFO: hits keep their places, and misses evict the oldest of the other experts. was:
 * [n] scratch. */
MOE_PLACES_INLINE uint32_t moe_arrival_event(struct moe_places *p, uint32_t *at,
                                             const moe_expert *expert, uint32_t n, uint32_t *was,
                                             uint64_t *first_hits)
{
    uint32_t n_hits = 0, first = 0, base = p->base, now = p->now;
    uint64_t pins = 0, *bit = p->bit, miss[MOE_PLACES_BRANCHLESS];
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = at[expert[k]], place = u / 2;
        uint32_t hit = bit[place / MOE_PLACES_WORD] >> place % MOE_PLACES_WORD & 1;
        n_hits += hit;
        first += u & hit;
        pins |= moe_bit_in(place, base); /* of a miss: a bit that is clear */
        was[k] = u;
        if (n <= MOE_PLACES_BRANCHLESS)
            miss[k] = hit ^ 1;
        at[expert[k]] = hit ? u & ~1u : 2 * now + 1;
        now += hit ^ 1;
    }
    uint64_t free = bit[base / MOE_PLACES_WORD] & ~pins,
             left = n <= MOE_PLACES_BRANCHLESS ? free : 0;
    for (uint32_t k = 0; n <= MOE_PLACES_BRANCHLESS && k < n; k++)
        left &= left - miss[k];
    if (__builtin_expect(!left, 0))
        moe_places_evict_others(p, was, n, n - n_hits);
    else
        bit[base / MOE_PLACES_WORD] &= ~(free ^ left);
    p->now = now;
    *first_hits += first;
    return n_hits;
}

/* A copy of the word that the clock's hand is in; out of date in the pool during an event. */
struct moe_hand {
    uint64_t marks; /* reference bits */
    uint64_t ahead; /* slots that the hand has yet to reach */
    uint32_t base;
};

MOE_PLACES_INLINE struct moe_hand moe_hand_of(const struct moe_places *p)
{
    return (struct moe_hand){p->bit[p->base / MOE_PLACES_WORD], p->word, p->base};
}

MOE_PLACES_INLINE void moe_hand_keep(struct moe_places *p, const struct moe_hand *hand)
{
    p->bit[hand->base / MOE_PLACES_WORD] = hand->marks;
    p->word = hand->ahead;
    p->base = hand->base;
}

/* The same for the clock; key: of the layer's expert 0. Misses get the lowest unmarked slots ahead
 * of the hand; those of the event's hits are marked, so they stay. */
MOE_PLACES_INLINE uint32_t moe_clock_event(struct moe_places *p, struct moe_hand *hand,
                                           uint32_t *at, uint32_t key, const moe_expert *expert,
                                           uint32_t n, uint32_t *was, uint64_t *first_hits)
{
    uint32_t n_hits = 0, first = 0, base = hand->base;
    uint64_t pins = 0;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = at[expert[k]], place = u / 2;
        uint64_t hit = p->key_at[place] == key + expert[k];
        uint64_t mark = hit << place % MOE_PLACES_WORD;
        pins |= mark & moe_mask_of(place - base < MOE_PLACES_WORD);
        p->bit[place / MOE_PLACES_WORD] |= mark;
        was[k] = 2 * place & (uint32_t)moe_mask_of(hit);
        n_hits += (uint32_t)hit;
        first += u & (uint32_t)hit;
    }
    *first_hits += first;
    hand->marks |= pins;
    uint64_t stops = hand->ahead & ~hand->marks, left = stops;
    if (__builtin_expect((uint32_t)__builtin_popcountll(stops) < n - n_hits, 0)) {
        moe_hand_keep(p, hand);
        moe_places_turn(p, at, key, expert, was, n, pins);
        *hand = moe_hand_of(p);
        return n_hits;
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t place = base + (uint32_t)__builtin_ctzll(left | (uint64_t)1 << 63);
        uint32_t miss = was[k] == 0, u = was[k] | ((2 * place + 1) & (uint32_t)moe_mask_of(miss));
        at[expert[k]] = u;
        p->key_at[u / 2] = key + expert[k];
        left &= left - miss;
    }
    uint64_t taken = stops ^ left, below = ((uint64_t)1 << (63 ^ __builtin_clzll(taken | 1))) - 1;
    hand->marks &= ~(hand->ahead & below & ~pins);
    hand->ahead &= ~(below | taken);
    return n_hits;
}

/* The same for one expert. */
MOE_PLACES_INLINE uint32_t moe_clock_access(struct moe_places *p, struct moe_hand *hand,
                                            uint32_t *at, uint32_t key, const moe_expert *expert,
                                            uint64_t *first_hits)
{
    uint32_t u = at[*expert], place = u / 2, was = 0;
    uint64_t hit = p->key_at[place] == key + *expert, missed = hit - 1;
    uint64_t mark = hit << place % MOE_PLACES_WORD, stops = hand->ahead & ~hand->marks;
    p->bit[place / MOE_PLACES_WORD] |= mark;
    if (__builtin_expect((stops | hit) == 0, 0)) {
        moe_hand_keep(p, hand);
        moe_places_turn(p, at, key, expert, &was, 1, 0);
        *hand = moe_hand_of(p);
        return 0;
    }
    uint64_t passed = (stops ^ (stops - 1)) & missed; /* up to and with the slot taken */
    hand->marks |= mark & moe_mask_of(place - hand->base < MOE_PLACES_WORD);
    hand->marks &= ~(hand->ahead & passed);
    hand->ahead &= ~passed;
    uint32_t next = hand->base + (uint32_t)__builtin_ctzll(stops | (uint64_t)1 << 63);
    place ^= (place ^ next) & (uint32_t)missed;
    at[*expert] = 2 * place + (uint32_t)(missed & 1);
    p->key_at[place] = key + *expert;
    *first_hits += u & hit;
    return (uint32_t)hit;
}

#endif
