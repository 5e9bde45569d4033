/* The orders of the specialised replay that hits do not rearrange: arrival (fifo) and the clock, of
 * pools of at most 8 slots. Nothing branches on hit or miss, which cannot be foreseen. */
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

/* Byte i is the expert in slot i. A set of slots: bit i is slot i. */
struct moe_clock_lane {
    uint64_t content;
    uint64_t marks; /* slots used since the hand passed them */
    uint64_t from;  /* slots that the hand reaches before it begins anew; higher bits are none */
};

/* The slots of `free` in the order in which newcomers get them; each is a bit, at its number plus a
 * multiple of 8. First those unmarked, from the hand on and round; on its way the hand unmarks the
 * others, which follow. */
static inline uint64_t moe_clock_queue(const struct moe_clock_lane *c, uint64_t free)
{
    uint64_t marked = free & c->marks, all = marked << 16 | (free ^ marked);
    uint64_t ahead = all & (c->from | c->from << 16);
    return ahead | (all ^ ahead) << 8;
}

/* wanted: 1: the first of the queue, which is not empty, gets the expert; 0: none does. difference:
 * of content and that expert in every byte. Returns the rest of the queue. */
static inline uint64_t moe_clock_put(struct moe_clock_lane *c, uint64_t queue, uint64_t difference,
                                     uint64_t wanted)
{
    uint32_t place = (uint32_t)__builtin_ctzll(queue | (uint64_t)1 << 63);
    c->content ^= difference & (0 - wanted) & (uint64_t)0xff << 8 * place % 64;
    return queue & (queue - wanted);
}

/* The hand passes those of `free` up to the last of those taken from the queue, if there are any.
 */
static inline void moe_clock_pass(struct moe_clock_lane *c, uint64_t free, uint64_t taken)
{
    uint32_t last = 63 ^ (uint32_t)__builtin_clzll(taken | 1);
    uint64_t any = 0 - (uint64_t)(taken != 0), ahead = free & c->from;
    uint64_t passed = (ahead | (free ^ ahead) << 8) & (((uint64_t)1 << last) - 1);
    c->marks &= ~(passed | passed >> 8);
    c->from ^= (c->from ^ (uint64_t)0xfe << last % 8) & any;
}

#endif
