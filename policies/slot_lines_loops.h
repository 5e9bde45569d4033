/* The loops of slot_lines.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

enum { MOE_LINES_PARTS = 8 };

#define MOE_LINES_NEAR (1 - 0x1p-50) /* of a standing: more than its rounding */

struct moe_lines_loops {
    /* One bit for each of the n <= BLOCK lines from the first on that stands highest, or so near to
     * that that rounding may be why it does not; where that is to *most, -1 where all are barred.
     * Barred are the lines of pinned slots [first + n], or, where that is NULL, the bits of
     * barred. */
    uint64_t (*highest)(const struct moe_lines *lines, uint32_t first, uint32_t n, double now,
                        const uint8_t *pinned, uint64_t barred, double *most);
    /* One bit for each of the block from the first on that stands at least there. */
    uint64_t (*above)(const double *stands, uint32_t first, uint32_t n, double least);
    /* Where n slots, whole blocks, stand at most from now to a later time; and in part what the
     * highest of each of 8 parts of them stands at now, 0 where none stands above that. */
    void (*look_ahead)(const struct moe_lines *lines, uint32_t n, double now, double later,
                       double *most, double part[MOE_LINES_PARTS]);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor has none. */
const struct moe_lines_loops *moe_lines_avx2(void);
const struct moe_lines_loops *moe_lines_avx512(void);

#endif
