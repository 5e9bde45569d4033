/* The loops of slot_lines.c, with vectors and without, to the same results. */
#ifndef MOELAB_POLICIES_SLOT_LINES_LOOPS_H
#define MOELAB_POLICIES_SLOT_LINES_LOOPS_H

#include "policies/slot_lines.h"

struct moe_lines_loops {
    /* Where the n lines stand, to a whole vector of them; returns the highest. */
    double (*stand)(const struct moe_lines *lines, uint32_t n, double now, double *stands);
    double (*highest)(const double *stands, uint32_t n);
    /* One bit for each of the 32 from the first on that stands at least there. */
    uint32_t (*above)(const double *stands, uint32_t first, uint32_t n, double least);
    /* Where n slots, whole blocks, stand at most from now to a later time; returns the lowest of
     * what the highest of each of 8 parts of them stand at now, without parts where none stands
     * above 0. */
    double (*look_ahead)(const struct moe_lines *lines, uint32_t n, double now, double later,
                         double *most);
};

extern const struct moe_lines_loops moe_lines_plain;

/* NULL where the processor has none. */
const struct moe_lines_loops *moe_lines_avx2(void);

#endif
