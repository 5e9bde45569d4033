#include "sim/replay_places.h"

#include <string.h>

enum { WORD = MOE_PLACES_WORD };

static uint64_t bit_of(uint32_t place)
{
    return (uint64_t)1 << place % WORD;
}

/* As many are taken, from place 1 on, as there are slots. */
static void begin_line(struct moe_places *p)
{
    memset(p->bit, 0xff, p->end / WORD * sizeof *p->bit);
    p->bit[0] = p->word = ~bit_of(0);
    p->base = 0;
    p->oldest = 2;
    p->now = p->n_slots + 1;
}

void moe_places_clear_line(struct moe_places *p)
{
    memset(p->at, 0, p->n_keys * sizeof *p->at);
    begin_line(p);
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
    p->outside = p->n_slots % WORD ? UINT64_MAX << p->n_slots % WORD : 0;
}

void moe_places_renumber(struct moe_places *p, bool latest)
{
    uint32_t n = 1, first_word = p->base / WORD;
    if (latest)
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
    begin_line(p);
}

void moe_places_give_up(struct moe_places *p, uint32_t n_misses)
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

void moe_places_give_up_but(struct moe_places *p, const uint32_t *was, uint32_t n,
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

/* While slots are empty the lowest is taken, and the hand stays before the first. Then it goes
 * round, one word at a time, until it stops. */
uint32_t moe_places_sweep(struct moe_places *p, const uint32_t *was, uint32_t n)
{
    uint32_t end = p->n_slots + WORD;
    if (p->now < end) {
        if (++p->now == end) {
            p->base = WORD;
            p->word = UINT64_MAX;
        }
        return p->now - 1;
    }
    for (;;) {
        struct moe_hand hand = moe_hand_of(p);
        uint64_t pins = hand.pins | moe_pins_in(was, n, hand.base);
        uint64_t stops = hand.ahead & ~hand.marks & ~pins, stop = stops & (0 - stops);
        p->bit[hand.base / WORD] &= ~(hand.ahead & (stop - 1) & ~pins);
        if (stops) {
            p->word &= ~(stop | (stop - 1));
            return hand.base + (uint32_t)__builtin_ctzll(stops);
        }
        p->base = hand.base + WORD < end ? hand.base + WORD : WORD;
        p->word = UINT64_MAX;
    }
}
