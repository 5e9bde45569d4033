#include "policies/slot_lines_loops.h"

#include <string.h>

enum { BLOCK = MOE_LINES_MOST, PARTS = MOE_LINES_PARTS };

static uint64_t above(const double *stands, uint32_t n, double least)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        found |= (uint64_t)(stands[i] >= least) << i;
    return found;
}

static uint64_t highest(const struct moe_slot_lines *lines, double now, const uint8_t *pinned)
{
    double stands[BLOCK], most = -1;
    for (uint32_t i = 0; i < lines->n_slots; i++) {
        double line = now - lines->last[i], due = lines->due[i];
        stands[i] = pinned[i] ? -1 : now > due ? line : due - now;
        most = stands[i] > most ? stands[i] : most;
    }
    return above(stands, lines->n_slots, most * MOE_LINES_NEAR);
}

static uint64_t oldest(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                       const uint8_t *pinned, uint64_t barred, float *most)
{
    float stands[BLOCK];
    uint64_t found = 0;
    *most = -1;
    for (uint32_t i = 0; i < n; i++) {
        bool bars = pinned ? pinned[i] : barred >> i & 1;
        stands[i] = bars ? -1 : (float)(now - last[i]) * slope[i];
        *most = stands[i] > *most ? stands[i] : *most;
    }
    for (uint32_t i = 0; i < n; i++)
        found |= (uint64_t)(stands[i] >= *most * MOE_AGES_NEAR) << i;
    return found;
}

static uint32_t reach(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                      float level, uint32_t *found)
{
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i++)
        if ((float)(now - last[i]) >= level * weight[i])
            found[n_found++] = i;
    return n_found;
}

static void find_parts(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                       float part[PARTS])
{
    memset(part, 0, PARTS * sizeof *part);
    for (uint32_t i = 0; i < n; i++) {
        float *high = &part[i % PARTS], stands = (float)(now - last[i]) / weight[i];
        *high = stands > *high ? stands : *high;
    }
}

const struct moe_lines_loops moe_lines_plain = {highest, oldest, reach, find_parts};
