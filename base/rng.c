#include "base/rng.h"

uint64_t moe_mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void moe_rng_init(struct moe_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        rng->s[i] = moe_mix64(seed + (uint64_t)i * 0x9e3779b97f4a7c15u);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t next(uint64_t s[4])
{
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t moe_rng_next(struct moe_rng *rng)
{
    return next(rng->s);
}

void moe_rng_fill(struct moe_rng *rng, uint64_t *out, size_t n)
{
    struct moe_rng r = *rng; /* kept in registers: `out` may not point into it */
    for (size_t i = 0; i < n; i++)
        out[i] = next(r.s);
    *rng = r;
}

uint64_t moe_rng_below(struct moe_rng *rng, uint64_t n)
{
    /* Values under the threshold would make small remainders more likely. */
    uint64_t threshold = (0 - n) % n;
    for (;;) {
        uint64_t x = moe_rng_next(rng);
        if (x >= threshold)
            return x % n;
    }
}

double moe_rng_unit(struct moe_rng *rng)
{
    return (double)(moe_rng_next(rng) >> 11) * 0x1.0p-53;
}
