#include "policies/usage.h"

#include <stdlib.h>

enum { N_MASKS = 1 << MOE_N_LANES };

uint64_t moe_usage_ns(const struct moe_usage *usage)
{
    uint64_t sum = 0;
    for (unsigned mask = 0; mask < N_MASKS; mask++)
        sum += usage->busy_ns[mask];
    return sum;
}

uint64_t moe_usage_lane_ns(const struct moe_usage *usage, enum moe_lane lane)
{
    uint64_t sum = 0;
    for (unsigned mask = 0; mask < N_MASKS; mask++)
        if (mask >> lane & 1)
            sum += usage->busy_ns[mask];
    return lane == MOE_LANE_GPU ? sum - usage->host_ns : sum;
}

/* Where neither GPU nor CPU computes, activations are on their way, or else a copy is waited
 * for. */
static void add_cause(struct moe_time_by_cause *cause, unsigned mask, uint64_t ns)
{
    const unsigned cpu = 1u << MOE_LANE_CPU, gpu = 1u << MOE_LANE_GPU;
    const unsigned state = 1u << MOE_LANE_DOWN | 1u << MOE_LANE_UP;
    if ((mask & cpu) && (mask & gpu))
        cause->both_ns += ns;
    else if (mask & gpu)
        cause->gpu_ns += ns;
    else if (mask & cpu)
        cause->cpu_ns += ns;
    else if (mask & state)
        cause->state_ns += ns;
    else if (mask)
        cause->copy_wait_ns += ns;
    else
        cause->host_ns += ns;
}

void moe_usage_causes(const struct moe_usage *usage, struct moe_time_by_cause *out)
{
    struct moe_time_by_cause cause = {0};
    for (unsigned mask = 0; mask < N_MASKS; mask++)
        add_cause(&cause, mask, usage->busy_ns[mask]);
    cause.gpu_ns -= usage->host_ns;
    cause.host_ns += usage->host_ns;
    *out = cause;
}

static int by_start(const void *a, const void *b)
{
    uint64_t x = ((const struct moe_interval *)a)->start_ns;
    uint64_t y = ((const struct moe_interval *)b)->start_ns;
    return (x > y) - (x < y);
}

void moe_usage_add_intervals(struct moe_usage *usage, struct moe_interval *intervals, size_t n,
                             uint64_t start_ns, uint64_t end_ns)
{
    uint64_t until[MOE_N_LANES] = {0}; /* latest end of the intervals begun, by lane */
    size_t next = 0;
    if (n)
        qsort(intervals, n, sizeof *intervals, by_start);
    for (uint64_t now = start_ns; now < end_ns;) {
        for (; next < n && intervals[next].start_ns <= now; next++) {
            uint64_t *end = &until[intervals[next].lane];
            *end = intervals[next].end_ns > *end ? intervals[next].end_ns : *end;
        }
        uint64_t stop = end_ns;
        unsigned mask = 0;
        if (next < n && intervals[next].start_ns < stop)
            stop = intervals[next].start_ns;
        for (int lane = 0; lane < MOE_N_LANES; lane++) {
            if (until[lane] <= now)
                continue;
            mask |= 1u << lane;
            stop = until[lane] < stop ? until[lane] : stop;
        }
        usage->busy_ns[mask] += stop - now;
        now = stop;
    }
}
