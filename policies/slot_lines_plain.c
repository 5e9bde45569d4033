#include "policies/slot_lines_loops.h"

#include <string.h>

enum { BLOCK = MOE_LINES_MAX, PARTS = MOE_LINES_PARTS };

static uint64_t at_least(const double *priority, uint32_t n, double least)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i++)
        found |= (uint64_t)(priority[i] >= least) << i;
    return found;
}

static uint64_t highest(const struct moe_slot_lines *lines, double now, const uint8_t *pinned)
{
    double priority[BLOCK], most = -1;
    for (uint32_t i = 0; i < lines->n_slots; i++) {
        double age = now - lines->last[i], due = lines->due[i];
        priority[i] = pinned[i] ? -1 : now > due ? age : due - now;
        most = priority[i] > most ? priority[i] : most;
    }
    return at_least(priority, lines->n_slots, most * MOE_LINES_NEAR);
}

static uint64_t oldest(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                       const uint8_t *pinned, uint64_t skipped, float *most)
{
    float priority[BLOCK];
    uint64_t found = 0;
    *most = -1;
    for (uint32_t i = 0; i < n; i++) {
        bool skips = pinned ? pinned[i] : skipped >> i & 1;
        priority[i] = skips ? -1 : (float)(now - last[i]) * slope[i];
        *most = priority[i] > *most ? priority[i] : *most;
    }
    for (uint32_t i = 0; i < n; i++)
        found |= (uint64_t)(priority[i] >= *most * MOE_AGES_NEAR) << i;
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
        float *high = &part[i % PARTS], priority = (float)(now - last[i]) / weight[i];
        *high = priority > *high ? priority : *high;
    }
}

const struct moe_lines_loops moe_lines_plain = {highest, oldest, reach, find_parts};
