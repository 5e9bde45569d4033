#include "policies/slot_lines_loops.h"

#include <math.h>

enum { BLOCK = MOE_LINES_BLOCK, LANES = MOE_LINES_LANES, PARTS = 2 };

static double stand(const struct moe_lines *lines, uint32_t n, double now, double *stands)
{
    double most = -1;
    n = (n + LANES - 1) / LANES * LANES;
    for (uint32_t i = 0; i < n; i++) {
        double line = (now - lines->last[i]) * lines->slope[i], due = lines->due[i];
        stands[i] = now > due ? line : due - now;
        most = stands[i] > most ? stands[i] : most;
    }
    return most;
}

static double highest(const double *stands, uint32_t n)
{
    double most = -1;
    n = (n + LANES - 1) / LANES * LANES;
    for (uint32_t i = 0; i < n; i++)
        most = stands[i] > most ? stands[i] : most;
    return most;
}

static uint32_t above(const double *stands, uint32_t first, uint32_t n, double least)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < BLOCK && first + i < n; i++)
        found |= (uint32_t)(stands[first + i] >= least) << i;
    return found;
}

static double look_ahead(const struct moe_lines *lines, uint32_t n, double now, double later,
                         double *most)
{
    double part[PARTS][LANES] = {{0}}, least;
    for (uint32_t i = 0; i < n; i++) {
        double *high = &part[i / BLOCK % PARTS][i % LANES], wait = lines->due[i] - now;
        double line = (later - lines->last[i]) * lines->slope[i];
        double stands = (now - lines->last[i]) * lines->slope[i];
        line = line > stands ? line : stands;
        most[i] = wait > line ? wait : line;
        stands = now > lines->due[i] ? stands : wait;
        *high = stands > *high ? stands : *high;
    }
    least = INFINITY;
    for (int p = 0; p < PARTS; p++)
        for (int k = 0; k < LANES; k++)
            least = part[p][k] > 0 && part[p][k] < least ? part[p][k] : least;
    return least;
}

const struct moe_lines_loops moe_lines_plain = {stand, highest, above, look_ahead};
