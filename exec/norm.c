#include "exec/norm.h"

#include <math.h>

enum { LANES = 8 }; /* independent partial sums, to hide the latency of additions */

static double sum_lanes(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) +
           ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static double mean(const float *x, uint32_t n)
{
    double lane[LANES] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % LANES] += x[i];
    return sum_lanes(lane) / n;
}

static double mean_square(const float *x, uint32_t n, float centre)
{
    double lane[LANES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        double d = x[i] - centre;
        lane[i % LANES] += d * d;
    }
    return sum_lanes(lane) / n;
}

void moe_norm_apply(const struct moe_norm *norm, float eps, const float *x, uint32_t d_model,
                    float *y)
{
    float centre = norm->shift ? (float)mean(x, d_model) : 0;
    float scale = (float)(1.0 / sqrt(mean_square(x, d_model, centre) + (double)eps));
    for (uint32_t i = 0; i < d_model; i++)
        y[i] = (x[i] - centre) * scale * norm->scale[i];
    if (!norm->shift)
        return;
    for (uint32_t i = 0; i < d_model; i++)
        y[i] += norm->shift[i];
}
