/* The loops of slot_lines.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

struct moe_lines_loops {
    /* Where the n lines stand, to a whole stride of them, the pinned ones at -1; returns the
     * highest. pinned: NULL: none. slot: of each line, or NULL: as they are numbered. */
    double (*stand)(const struct moe_lines *lines, uint32_t n, double now, const uint8_t *pinned,
                    const uint32_t *slot, double *stands);
    /* One bit for each of the block from the first on that stands at least there. */
    uint64_t (*above)(const double *stands, uint32_t first, uint32_t n, double least);
    /* Where n slots, whole blocks, stand at most from now to a later time; returns the lowest of
     * what the highest of each of 8 parts of them stand at now, without parts where none stands
     * above 0. */
    double (*look_ahead)(const struct moe_lines *lines, uint32_t n, double now, double later,
                         double *most);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor has none. */
const struct moe_lines_loops *moe_lines_avx2(void);
const struct moe_lines_loops *moe_lines_avx512(void);

/* One bit for each line of the block from the first on whose slot is pinned. */
static inline uint64_t moe_lines_pinned(const uint8_t *pinned, const uint32_t *slot, uint32_t first,
                                        uint32_t n)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < MOE_LINES_BLOCK && first + i < n; i++)
        found |= (uint64_t)(pinned[slot ? slot[first + i] : first + i] != 0) << i;
    return found;
}

#endif
