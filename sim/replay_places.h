/* LRU, FIFO and clock in pools of any size, for the specialised replay (replay_wide.c).
 *
 * An expert has a place, a number. LRU: each use takes the next one. FIFO: each arrival does. In
 * both a bit a place tells whether it is taken: by the expert whose latest it is, or by an empty
 * slot, which are the oldest of all; so as many are taken as there are slots, and places that
 * nobody came to yet count as taken, so that nobody need set their bits. When places run out, those
 * taken are numbered anew. Clock: the place is a slot, the bit its reference bit.
 *
 * Whether an expert hits cannot be foreseen, and a branch foreseen wrongly takes longer than all
 * the rest of an access. So hits and misses do the same, and masks choose what it does; branches
 * are left for what is rare: that a word of 64 bits has no place left to give up. */
#ifndef MOELAB_SIM_REPLAY_PLACES_H
#define MOELAB_SIM_REPLAY_PLACES_H

#include "traces/trace.h"

enum { MOE_PLACES_WORD = 64 };

/* Most experts of an event that is taken without a branch; more is right too, and slower. */
enum { MOE_PLACES_FEW = 16 };

#define MOE_PLACES_INLINE static inline __attribute__((always_inline))

/* One pool. Place 0 is nobody's: there is what never came in. */
struct moe_places {
    uint32_t *at;     /* [n_keys] twice the place of each expert of the pool's layers, plus 1 while
                         it has not been asked for since its fill; stale where it was given up */
    uint64_t *bit;    /* [end / 64] */
    uint32_t *key_at; /* clock: [end] whose slot it is */
    uint32_t *before; /* lru, fifo: [end / 64] scratch */
    uint64_t word;    /* lru: the bits of the word at `base`, which are out of date in `bit`; clock:
                         slots of that word that the hand has yet to reach */
    uint32_t end, n_keys; /* end: a multiple of 64 that no place reaches */
    uint32_t base; /* lru, fifo: place of the first bit of the first word with any taken; clock: of
                      the hand's word, 0 while there are empty slots */
    uint32_t oldest; /* lru: twice the first place taken */
    uint32_t now;    /* the next place; clock: the next empty slot */
    uint32_t n_slots;
};

/* What the three orders need, at their start or when all was given up. */
void moe_places_clear_line(struct moe_places *p);
void moe_places_clear_clock(struct moe_places *p);

/* Numbers the places of lru and fifo anew, in the same order. latest: `word` is in use (lru). */
void moe_places_renumber(struct moe_places *p, bool latest);

/* The ways out of the rare branches. The n experts of the event lie in places was[] / 2; turn: the
 * hits do, those in the hand's word are pins, and was[] is 0 of the misses, which get their places.
 */
void moe_places_give_up(struct moe_places *p, uint32_t n_misses);
void moe_places_give_up_but(struct moe_places *p, const uint32_t *was, uint32_t n,
                            uint32_t n_misses);
void moe_places_turn(struct moe_places *p, uint32_t *at, uint32_t key, const moe_expert *expert,
                     uint32_t *was, uint32_t n, uint64_t pins);

/* All bits set where the condition is 1, none where it is 0. */
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

/* The bits of a word that the event under way may not touch. */
static inline uint64_t moe_pins_in(const uint32_t *was, uint32_t n, uint32_t base)
{
    uint64_t pins = 0;
    for (uint32_t k = 0; k < n; k++)
        pins |= moe_bit_in(was[k] / 2, base);
    return pins;
}

/* One event of n different experts, no more than the pool has slots; returns how many were there,
 * and adds to *first_hits those not asked for since their fill. at: [E] of the layer; n places must
 * be left. The hits move to the front, so that the oldest left are those to give up. */
MOE_PLACES_INLINE uint32_t moe_recency_event(struct moe_places *p, uint32_t *at,
                                             const moe_expert *expert, uint32_t n,
                                             uint64_t *first_hits)
{
    uint32_t n_hits = 0, first = 0, oldest = p->oldest, base = p->base, now = p->now;
    uint64_t word = p->word, *bit = p->bit, miss[MOE_PLACES_FEW];
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = at[expert[k]], place = u / 2, missed = (u - oldest) >> 31;
        n_hits += missed ^ 1;
        first += u & ~missed & 1;
        at[expert[k]] = 2 * (now + k) + missed;
        bit[place / MOE_PLACES_WORD] &= ~((uint64_t)1 << place % MOE_PLACES_WORD);
        word &= ~moe_bit_in(place, base);
        if (n <= MOE_PLACES_FEW)
            miss[k] = missed;
    }
    uint64_t left = n <= MOE_PLACES_FEW ? word : 0;
    for (uint32_t k = 0; n <= MOE_PLACES_FEW && k < n; k++)
        left &= left - miss[k]; /* the lowest goes */
    p->now = now + n;
    p->word = left;
    if (__builtin_expect(!left, 0)) {
        p->word = word;
        moe_places_give_up(p, n - n_hits);
    }
    p->oldest = 2 * (p->base + (uint32_t)__builtin_ctzll(p->word));
    *first_hits += first;
    return n_hits;
}

/* The same in order of arrival: hits stay where they are, and misses take the oldest of the rest.
 * was: [n] scratch. */
MOE_PLACES_INLINE uint32_t moe_arrival_event(struct moe_places *p, uint32_t *at,
                                             const moe_expert *expert, uint32_t n, uint32_t *was,
                                             uint64_t *first_hits)
{
    uint32_t n_hits = 0, first = 0, base = p->base, now = p->now;
    uint64_t pins = 0, *bit = p->bit, miss[MOE_PLACES_FEW];
    for (uint32_t k = 0; k < n; k++) {
        uint32_t u = at[expert[k]], place = u / 2;
        uint32_t hit = bit[place / MOE_PLACES_WORD] >> place % MOE_PLACES_WORD & 1;
        n_hits += hit;
        first += u & hit;
        pins |= moe_bit_in(place, base); /* of a miss: a bit that is clear */
        was[k] = u;
        if (n <= MOE_PLACES_FEW)
            miss[k] = hit ^ 1;
        at[expert[k]] = hit ? u & ~1u : 2 * now + 1;
        now += hit ^ 1;
    }
    uint64_t free = bit[base / MOE_PLACES_WORD] & ~pins, left = n <= MOE_PLACES_FEW ? free : 0;
    for (uint32_t k = 0; n <= MOE_PLACES_FEW && k < n; k++)
        left &= left - miss[k];
    if (__builtin_expect(!left, 0))
        moe_places_give_up_but(p, was, n, n - n_hits);
    else
        bit[base / MOE_PLACES_WORD] &= ~(free ^ left);
    p->now = now;
    *first_hits += first;
    return n_hits;
}

/* The word that the clock's hand is in, out of date in the pool while an event is under way. */
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

/* The same as those above, by the clock; key: of the layer's expert 0 in the pool. Newcomers get
 * the lowest unmarked slots that lie ahead; pinned ones are marked. */
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

/* The same of one expert. */
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
    uint64_t passed = (stops ^ (stops - 1)) & missed; /* up to the one that is taken */
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
