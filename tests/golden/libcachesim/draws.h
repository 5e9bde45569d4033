/* For a copy of libCacheSim's LeCaR.c: its draws from moelab's generator (make.sh says how). */
#include "base/rng.h"

static inline double moelab_draw(void)
{
    static struct moe_rng rng;
    static int ready;
    if (!ready)
        moe_rng_init(&rng, moe_mix64(1 ^ moe_mix64(0)));
    ready = 1;
    return moe_rng_unit(&rng);
}
