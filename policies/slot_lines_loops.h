/* The loops of slot_lines.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

struct moe_lines_loops {
    /* Where the n lines stand, to a whole stride of them, those that are barred at -1; returns the
     * highest. Barred are the lines of pinned slots [n], or, where that is NULL, those with a bit
     * in barred [blocks]. */
    double (*stand)(const struct moe_lines *lines, uint32_t n, double now, const uint8_t *pinned,
                    const uint64_t *barred, double *stands);
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

#endif
