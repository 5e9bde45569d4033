/* The loops of slot_lines.c and slot_ages.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

enum { MOE_LINES_PARTS = 8 };

#define MOE_LINES_NEAR (1 - 0x1p-50)  /* of a standing: more than its rounding */
#define MOE_AGES_NEAR  (1 - 0x1p-20f) /* likewise: four roundings on either side */

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
    uint64_t (*oldest)(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                       const uint8_t *pinned, uint64_t barred, float *most);
    /* Which of n slots, whole blocks, stand at a level or above it: their numbers in order to found
     * [n + 16]; returns how many. */
    uint32_t (*reach)(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                      float level, uint32_t *found);
    /* What the highest of each of 8 parts of n slots, whole blocks, stands at; 0 where none stands
     * above that. */
    void (*find_parts)(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                       float part[MOE_LINES_PARTS]);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor has none. */
const struct moe_lines_loops *moe_lines_avx2(void);
const struct moe_lines_loops *moe_lines_avx512(void);

const struct moe_lines_loops *moe_lines_best(void);

#endif
