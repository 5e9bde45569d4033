/* Converts times on a device to times on the clock of moe_clock_ns(). Plain C.
 *
 * CUDA gives the time between two events as a float in milliseconds, and the clocks of host and
 * device drift apart by some millionths. So a base event, whose time the host knows, is recorded
 * four times a second: then the float resolves 15 ns, and drift stays below some microseconds. The
 * host's time of a base is uncertain by microseconds, too; so a new scale starts where the old one
 * was and makes up for the difference until the next base, and time never runs backwards. */
#ifndef MOELAB_EXEC_CUDA_SCALE_H
#define MOELAB_EXEC_CUDA_SCALE_H

#include <math.h>
#include <stdint.h>

enum { MOE_CUDA_BASE_NS = 250000000 }; /* age at which a base is made anew */

/* A larger difference than drift can cause between two bases: there was a pause, and the new scale
 * takes the new time at once. */
enum { MOE_CUDA_STEP_NS = 200000 };

/* host time = base_ns + (1 + rate) * time on the device since the base event. */
struct moe_cuda_scale {
    double base_ns, rate;
};

/* ms: from the base to the event; negative where it came before. */
static inline double moe_cuda_scale_at(const struct moe_cuda_scale *scale, float ms)
{
    return scale->base_ns + (double)ms * 1e6 * (1 + scale->rate);
}

/* The scale of a new base event, `ms` after that of the old one; the host saw it at host_ns. */
static inline struct moe_cuda_scale moe_cuda_scale_next(const struct moe_cuda_scale *old, float ms,
                                                        uint64_t host_ns)
{
    const double expected = moe_cuda_scale_at(old, ms), late = (double)host_ns - expected;
    struct moe_cuda_scale next = {(double)host_ns, 0};
    if (fabs(late) <= MOE_CUDA_STEP_NS) {
        next.base_ns = expected;
        next.rate = late / MOE_CUDA_BASE_NS;
    }
    return next;
}

#endif
