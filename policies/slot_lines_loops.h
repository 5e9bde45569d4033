/* The inner loops of slot_lines.c and slot_ages.c: plain, with AVX2 and with AVX-512. All give the
 * same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

enum { MOE_LINES_PARTS = 8 };

/* Priorities from this factor times the highest on count as equal to it: the factor covers the
 * rounding of both (of ages: four roundings on either side). */
#define MOE_LINES_NEAR (1 - 0x1p-50)
#define MOE_AGES_NEAR  (1 - 0x1p-20f)

/* A mask of the lowest n bits. */
static inline uint64_t moe_lines_first(uint32_t n)
{
    return n < MOE_LINES_MAX ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
}

/* Arrays are padded to whole blocks of 64. */
struct moe_lines_loops {
    /* One bit for each slot that is not pinned and has the highest priority, or one so near to it
     * that only rounding may differ. */
    uint64_t (*highest)(const struct moe_slot_lines *lines, double now, const uint8_t *pinned);
    /* The same for n <= 64 slots of priority (now - last) * slope. Skips slots that are pinned [n]
     * or, where that is NULL, whose bit in `skipped` is set. *most: the highest priority, -1 if all
     * were skipped. */
    uint64_t (*oldest)(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                       const uint8_t *pinned, uint64_t skipped, float *most);
    /* Writes to found [n + 16], in order, those of n slots whose priority (now - last) / weight is
     * at least `level`; returns how many. n: a multiple of 64. */
    uint32_t (*reach)(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                      float level, uint32_t *found);
    /* The highest priority, 0 at least, in each of 8 parts of n slots: part i has slots i, i + 8,
     * ... n: a multiple of 64. */
    void (*find_parts)(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                       float part[MOE_LINES_PARTS]);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor lacks the instructions. */
const struct moe_lines_loops *moe_lines_avx2(void);
const struct moe_lines_loops *moe_lines_avx512(void);

/* The fastest of the three that the processor has. */
const struct moe_lines_loops *moe_lines_best(void);

#endif
