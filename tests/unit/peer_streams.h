/* Request streams that libCacheSim was run on too (tests/golden/libcachesim). Each is one layer of
 * PEER_KEYS experts, one access after another. */
#ifndef MOELAB_TESTS_PEER_STREAMS_H
#define MOELAB_TESTS_PEER_STREAMS_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

/* cachesim prints miss ratios of four decimals: of 10,000 requests these are exact counts. */
enum { PEER_REQUESTS = 10000, PEER_KEYS = 256 };

/* Small ids more often: the limit of a uniform draw is itself uniform. 200 keys. */
static inline void stream_skewed(uint16_t *id)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 42);
    for (int i = 0; i < PEER_REQUESTS; i++)
        id[i] = (uint16_t)moe_rng_below(&rng, 1 + moe_rng_below(&rng, 200));
}

/* Like decode of a model with 32 layers and 2 of 8 experts: in turn by layer, each expert with
 * probability 0.6 again that of the token before. */
static inline void stream_layers(uint16_t *id)
{
    enum { EXPERTS = 8, ROW = 64 };
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    for (int i = 0; i < PEER_REQUESTS; i++) {
        int first = i % ROW / 2 * EXPERTS;
        bool again = moe_rng_below(&rng, 10) < 6;
        uint16_t draw = (uint16_t)(first + (int)moe_rng_below(&rng, EXPERTS));
        id[i] = again && i >= ROW ? id[i - ROW] : draw;
        if (i % 2 && id[i] == id[i - 1]) /* two different ones */
            id[i] = (uint16_t)(first + (id[i] - first + 1) % EXPERTS);
    }
}

/* In turn, for 1000 requests each: skewed over 60 keys that move on, and a loop over 100 keys with
 * 20 hot ones in between. */
static inline void stream_shifting(uint16_t *id)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 11);
    for (int i = 0; i < PEER_REQUESTS; i++) {
        int phase = i / 1000;
        uint64_t skewed = moe_rng_below(&rng, 1 + moe_rng_below(&rng, 60));
        uint64_t hot = 100 + moe_rng_below(&rng, 20);
        if (phase % 2 == 0)
            id[i] = (uint16_t)((uint64_t)phase * 20 + skewed);
        else
            id[i] = (uint16_t)(moe_rng_below(&rng, 2) ? hot : (uint64_t)i % 100);
    }
}

static const struct {
    const char *name;
    void (*make)(uint16_t *id); /* [PEER_REQUESTS] */
} peer_streams[] = {
    {"skewed", stream_skewed}, {"layers", stream_layers}, {"shifting", stream_shifting}};

enum { N_PEER_STREAMS = sizeof peer_streams / sizeof *peer_streams };

#endif
