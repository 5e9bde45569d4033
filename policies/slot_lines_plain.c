#include "policies/slot_lines_loops.h"

#include <string.h>

enum { BLOCK = MOE_LINES_BLOCK, PARTS = MOE_LINES_PARTS };

static uint64_t above(const double *stands, uint32_t first, uint32_t n, double least)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < BLOCK && first + i < n; i++)
        found |= (uint64_t)(stands[first + i] >= least) << i;
    return found;
}

static uint64_t highest(const struct moe_lines *lines, uint32_t first, uint32_t n, double now,
                        const uint8_t *pinned, uint64_t barred, double *most)
{
    double stands[BLOCK];
    *most = -1;
    for (uint32_t i = 0, at = first; i < n; i++, at++) {
        double line = (now - lines->last[at]) * lines->slope[at], due = lines->due[at];
        bool bars = pinned ? pinned[at] : barred >> i & 1;
        stands[i] = bars ? -1 : now > due ? line : due - now;
        *most = stands[i] > *most ? stands[i] : *most;
    }
    return above(stands, 0, n, *most * MOE_LINES_NEAR);
}

static void look_ahead(const struct moe_lines *lines, uint32_t n, double now, double later,
                       double *most, double part[PARTS])
{
    memset(part, 0, PARTS * sizeof *part);
    for (uint32_t i = 0; i < n; i++) {
        double *high = &part[i % PARTS], wait = lines->due[i] - now;
        double line = (later - lines->last[i]) * lines->slope[i];
        double stands = (now - lines->last[i]) * lines->slope[i];
        line = line > stands ? line : stands;
        most[i] = wait > line ? wait : line;
        stands = now > lines->due[i] ? stands : wait;
        *high = stands > *high ? stands : *high;
    }
}

const struct moe_lines_loops moe_lines_plain = {highest, above, look_ahead};
