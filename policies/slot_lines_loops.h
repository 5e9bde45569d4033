/* The loops of slot_lines.c and slot_ages.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

enum { MOE_LINES_PARTS = 8 };

#define MOE_LINES_NEAR (1 - 0x1p-50) /* of a standing: more than its rounding */

/* One bit for each of the first n. */
static inline uint64_t moe_lines_first(uint32_t n)
{
    return n < MOE_LINES_MOST ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
}

/* Arrays are as long as whole blocks of 64. */
struct moe_lines_loops {
    /* One bit for each slot that is not pinned and stands highest, or so near to that that rounding
     * may be why it does not. */
    uint64_t (*highest)(const struct moe_slot_lines *lines, double now, const uint8_t *pinned);
    /* The same of n <= 64 that stand at (now - last) * slope; where the highest does to *most, -1
     * where all are barred. Barred are the pinned [n], or, where that is NULL, the bits of barred.
     */
    uint64_t (*oldest)(const double *last, const double *slope, uint32_t n, double now,
                       const uint8_t *pinned, uint64_t barred, double *most);
    /* Which of n times, whole blocks, lie after one and not after another: their indexes in order
     * to found [n + 16]; returns how many. */
    uint32_t (*between)(const double *time, uint32_t n, double after, double until,
                        uint32_t *found);
    /* What the highest of each of 8 parts of n slots, whole blocks, stands at; 0 where none stands
     * above that. */
    void (*find_parts)(const double *last, const double *weight, uint32_t n, double now,
                       double part[MOE_LINES_PARTS]);
    /* When n slots, whole blocks, pass a level. */
    void (*pass_level)(const double *last, const double *weight, uint32_t n, double level,
                       double *pass);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor has none. */
const struct moe_lines_loops *moe_lines_avx2(void);
const struct moe_lines_loops *moe_lines_avx512(void);

const struct moe_lines_loops *moe_lines_best(void);

#endif
