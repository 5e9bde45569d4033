/* The orders of the specialised replay that hits do not rearrange: arrival (fifo) and the clock, of
 * pools of at most 8 slots. A set of slots is a word: for fifo the high bit of each slot's byte,
 * for the clock one bit a slot. */
#ifndef MOELAB_SIM_REPLAY_ORDER_H
#define MOELAB_SIM_REPLAY_ORDER_H

#include <stdint.h>

/* Byte i is the expert that came in i-th last. */
struct moe_arrivals {
    uint64_t stack;
    uint64_t pinned; /* high bits of the bytes that must stay */
};

/* The expert in the place of the oldest that need not stay, of the bytes in highs; wanted: 0 leaves
 * all as it is. Returns the bytes that moved: 0 when none had to or could. */
static inline uint64_t moe_arrivals_insert(struct moe_arrivals *a, uint64_t highs, uint64_t expert,
                                           uint64_t wanted)
{
    uint64_t free = highs & ~a->pinned;
    uint64_t bytes = ((uint64_t)2 << (63 - __builtin_clzll(free | 1))) - 1;
    bytes &= (0 - wanted) & (0 - (uint64_t)(free != 0)); /* of ?: compilers make a branch here */
    a->stack ^= (a->stack ^ (a->stack << 8 | expert)) & bytes;
    a->pinned = (a->pinned & ~bytes) | ((a->pinned & bytes) << 8 & bytes) | (bytes & 0x80);
    return bytes;
}

/* Byte i is the expert in slot i. */
struct moe_clock_lane {
    uint64_t content;
    uint64_t marks; /* slots used since the hand passed them */
    uint64_t from;  /* slots that the hand reaches before it begins anew; never empty */
};

/* The expert in the slot that the hand stops at, unmarked, of those in free; wanted: 0 leaves all
 * as it is. Returns the slot, or 0 when none was taken. No branch, as hits cannot be foreseen: what
 * depends on the state is chosen by masks. */
static inline uint64_t moe_clock_insert(struct moe_clock_lane *c, uint64_t highs, uint64_t free,
                                        uint64_t expert, uint64_t wanted)
{
    uint64_t clear = free & ~c->marks, ahead = clear & c->from, again = free & c->from;
    uint64_t stops = again ? again : free; /* all are marked: the second round takes the first */
    stops = clear ? clear : stops;
    stops = ahead ? ahead : stops;
    uint64_t first = stops & (0 - stops), below = first - 1;
    uint64_t passed = clear ? c->from | below : UINT64_MAX;
    passed = ahead ? c->from & below : passed;
    uint64_t rest = highs & ~(first | below), byte = (first << 1) - (first >> 7);
    uint64_t take = wanted && free ? UINT64_MAX : 0;
    c->content ^= (c->content ^ expert * 0x0101010101010101u) & byte & take;
    c->marks &= ~(((passed & free) | first) & take);
    c->from ^= (c->from ^ (rest ? rest : highs)) & take;
    return first & take;
}

#endif
