#include "sim/replay_places.h"

#include <string.h>

enum { WORD = MOE_PLACES_WORD };

static uint64_t bit_of(uint32_t place)
{
    return (uint64_t)1 << place % WORD;
}

/* Places 1 to n_slots are the oldest taken; higher ones are set in advance. */
static void reset_order(struct moe_places *p)
{
    memset(p->bit, 0xff, p->end / WORD * sizeof *p->bit);
    p->bit[0] = p->word = ~bit_of(0);
    p->base = 0;
    p->oldest = 2;
    p->now = p->n_slots + 1;
}

void moe_places_clear_order(struct moe_places *p)
{
    memset(p->at, 0, p->n_keys * sizeof *p->at);
    reset_order(p);
}

void moe_places_clear_clock(struct moe_places *p)
{
    memset(p->at, 0, p->n_keys * sizeof *p->at);
    memset(p->bit, 0, p->end / WORD * sizeof *p->bit);
    for (uint32_t i = 0; i < p->end; i++)
        p->key_at[i] = UINT32_MAX;
    p->bit[0] = p->word = UINT64_MAX; /* the hand finds nothing there */
    p->base = 0;
    p->now = WORD;
}

void moe_places_renumber(struct moe_places *p, bool recency)
{
    uint32_t n = 1, first_word = p->base / WORD;
    if (recency)
        p->bit[first_word] = p->word;
    memset(p->bit, 0, first_word * sizeof *p->bit);
    for (uint32_t w = first_word; w < p->end / WORD; w++) {
        p->before[w] = n;
        n += (uint32_t)__builtin_popcountll(p->bit[w]);
    }
    for (uint32_t key = 0; key < p->n_keys; key++) {
        uint32_t u = p->at[key], place = u / 2;
        uint64_t bits = p->bit[place / WORD];
        uint32_t rank = (uint32_t)__builtin_popcountll(bits & (bit_of(place) - 1));
        p->at[key] = bits & bit_of(place) ? 2 * (p->before[place / WORD] + rank) | (u & 1) : 0;
    }
    reset_order(p);
}

void moe_places_evict_oldest(struct moe_places *p, uint32_t n_misses)
{
    for (;; n_misses--) {
        while (!p->word) {
            p->base += WORD;
            p->word = p->bit[p->base / WORD];
        }
        if (n_misses == 0)
            return;
        p->word &= p->word - 1;
    }
}

void moe_places_evict_others(struct moe_places *p, const uint32_t *was, uint32_t n,
                             uint32_t n_misses)
{
    for (uint32_t base = p->base; n_misses > 0; base += WORD) {
        uint64_t *bits = &p->bit[base / WORD];
        uint64_t free = *bits & ~moe_pins_in(was, n, base);
        for (; free && n_misses > 0; n_misses--) {
            *bits &= ~(free & (0 - free));
            free &= free - 1;
        }
    }
    while (!p->bit[p->base / WORD])
        p->base += WORD;
}

/* The hand comes to the word at base. Slots begin in the second word: slot i is place 64 + i. */
static void enter_word(struct moe_places *p, uint32_t base)
{
    uint32_t n = p->n_slots + WORD - base;
    p->base = base;
    p->word = n < WORD ? bit_of(n) - 1 : UINT64_MAX;
}

/* Takes the lowest empty slot. The hand comes to the first slot when none is empty any more. */
static uint32_t take_empty(struct moe_places *p)
{
    if (++p->now == p->n_slots + WORD)
        enter_word(p, WORD);
    return p->now - 1;
}

/* Takes the first unmarked slot: the hand goes on, one word at a time and round, until it finds
 * one. It skips *pins, the pinned slots of its word, and leaves them marked. */
static uint32_t take_next(struct moe_places *p, const uint32_t *was, uint32_t n, uint64_t *pins)
{
    for (;;) {
        uint64_t *marks = &p->bit[p->base / WORD], stops = p->word & ~*marks & ~*pins;
        uint64_t stop = stops & (0 - stops), passed = p->word & (stop - 1);
        *marks &= ~passed | *pins;
        if (stop) {
            p->word &= ~(passed | stop);
            return p->base + (uint32_t)__builtin_ctzll(stop);
        }
        enter_word(p, p->base + WORD < p->n_slots + WORD ? p->base + WORD : WORD);
        *pins = moe_pins_in(was, n, p->base);
    }
}

/* Sets at[] of the hits among n <= 64 experts; returns the set of the misses. */
static uint64_t find_missing(uint32_t *at, const moe_expert *expert, const uint32_t *was,
                             uint32_t n)
{
    uint64_t missing = 0;
    for (uint32_t k = 0; k < n; k++) {
        at[expert[k]] = was[k];
        missing |= (uint64_t)(was[k] == 0) << k;
    }
    return missing;
}

void moe_places_turn(struct moe_places *p, uint32_t *at, uint32_t key, const moe_expert *expert,
                     uint32_t *was, uint32_t n, uint64_t pins)
{
    for (uint32_t first = 0; first < n; first += WORD) {
        uint32_t here = n - first < WORD ? n - first : WORD;
        uint64_t missing = find_missing(at, expert + first, was + first, here);
        for (; missing; missing &= missing - 1) {
            uint32_t k = first + (uint32_t)__builtin_ctzll(missing);
            bool empty = p->now < p->n_slots + WORD;
            uint32_t place = empty ? take_empty(p) : take_next(p, was, n, &pins);
            was[k] = 2 * place;
            at[expert[k]] = 2 * place + 1;
            p->key_at[place] = key + expert[k];
            if (empty) /* the hand may have come to the first slots */
                pins = moe_pins_in(was, n, p->base);
        }
    }
}
