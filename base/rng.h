/* Random numbers: SplitMix64 seeding and xoshiro256** (Blackman, Vigna 2018, public domain
 * algorithm). Same seed, same numbers on every machine. */
#ifndef MOELAB_BASE_RNG_H
#define MOELAB_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct moe_rng {
    uint64_t s[4];
};

void moe_rng_init(struct moe_rng *rng, uint64_t seed);
uint64_t moe_rng_next(struct moe_rng *rng);
void moe_rng_fill(struct moe_rng *rng, uint64_t *out, size_t n); /* the next n numbers */

/* Uniform in [0, n), without bias (rejection); n > 0. */
uint64_t moe_rng_below(struct moe_rng *rng, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double moe_rng_unit(struct moe_rng *rng);

/* One 64-bit mixing step: for making independent seeds from (seed, index). */
uint64_t moe_mix64(uint64_t x);

#endif
