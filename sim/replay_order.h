/* The orders of the specialised replay that hits do not rearrange: arrival (fifo) and the clock, of
 * pools of at most 8 slots. Nothing branches on hit or miss, which is unpredictable. */
#ifndef MOELAB_SIM_REPLAY_ORDER_H
#define MOELAB_SIM_REPLAY_ORDER_H

#include <stdint.h>

/* Byte i is the i-th most recent arrival. */
struct moe_arrivals {
    uint64_t stack;
    uint64_t pinned; /* high bits of the bytes that must stay */
};

/* Replaces the oldest unpinned expert among the bytes in highs by `expert`, which becomes the
 * latest arrival. wanted 0: changes nothing. Returns a mask of the bytes that moved, 0 if none. */
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

/* Byte i is the expert in slot i. A set of slots: bit i is slot i. */
struct moe_clock_lane {
    uint64_t content;
    uint64_t marks; /* slots used since the hand passed them */
    uint64_t from;  /* slots that the hand reaches before it begins anew; higher bits are none */
};

/* The slots of `free` in the order in which newcomers get them, as a queue in four groups of 8
 * bits: slot s is bit s of its group. Unmarked slots come first, from the hand on and then round;
 * the marked ones, which the hand unmarks on its way, follow in the same order. */
static inline uint64_t moe_clock_queue(const struct moe_clock_lane *c, uint64_t free)
{
    uint64_t marked = free & c->marks, all = marked << 16 | (free ^ marked);
    uint64_t ahead = all & (c->from | c->from << 16);
    return ahead | (all ^ ahead) << 8;
}

/* wanted 1: the first slot of the queue, which is not empty, gets the expert; 0: none does.
 * difference: content ^ (the expert in every byte). Returns the rest of the queue. */
static inline uint64_t moe_clock_put(struct moe_clock_lane *c, uint64_t queue, uint64_t difference,
                                     uint64_t wanted)
{
    uint32_t place = (uint32_t)__builtin_ctzll(queue | (uint64_t)1 << 63);
    c->content ^= difference & (0 - wanted) & (uint64_t)0xff << 8 * place % 64;
    return queue & (queue - wanted);
}

/* Moves the hand behind the last slot taken from the queue, if any was, and unmarks the slots of
 * `free` that it passes. */
static inline void moe_clock_pass(struct moe_clock_lane *c, uint64_t free, uint64_t taken)
{
    uint32_t last = 63 ^ (uint32_t)__builtin_clzll(taken | 1);
    uint64_t any = 0 - (uint64_t)(taken != 0), ahead = free & c->from;
    uint64_t passed = (ahead | (free ^ ahead) << 8) & (((uint64_t)1 << last) - 1);
    c->marks &= ~(passed | passed >> 8);
    c->from ^= (c->from ^ (uint64_t)0xfe << last % 8) & any;
}

#endif
