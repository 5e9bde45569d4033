/* The exponential function of float32, with the same bits on every processor and device. (Libraries
 * differ in the last bit, so that experts chosen by a narrow margin would differ, too.) Plain
 * double arithmetic without fused operations (build with -ffp-contract=off, -fmad=false); within
 * 0.51 units in the last place; exp(-inf) is 0, overflow infinity, NaN stays NaN, small results are
 * subnormal. */
#ifndef MOELAB_EXEC_EXP_H
#define MOELAB_EXEC_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define MOE_ANYWHERE __host__ __device__
#else
#define MOE_ANYWHERE
#endif

/* x = n ln 2 + r with |r| <= ln 2 / 2: exp(x) = 2^n exp(r), by Taylor's series up to r^8, whose
 * rest is below 2^-32. */
static inline MOE_ANYWHERE float moe_expf(float x)
{
    /* The argument is clamped, without branches, so that loops over this function are vectorised
     * (gcc: with -fno-trapping-math). The upper bound still gives infinity, the lower one less than
     * half of the smallest subnormal number. */
    const float low = x < -104.5f ? -104.5f : x, bounded = low > 89.0f ? 89.0f : low;
    const double to_integer = 0x1.8p52; /* adding it rounds to an integer, in the lowest bits */
    const double sum = bounded * 0x1.71547652b82fep+0 + to_integer, n = sum - to_integer;
    const double r = bounded - n * 0x1.62e42fefa39efp-1;
    double p = 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits;
    double scale;
    memcpy(&bits, &sum, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&scale, &bits, sizeof scale);
    return (float)(p * scale);
}

#endif
