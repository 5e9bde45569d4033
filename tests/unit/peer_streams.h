/* The request streams on which libCacheSim was run (tests/golden/libcachesim). Each is a sequence
 * of single accesses in one layer of PEER_KEYS experts. */
#ifndef MOELAB_TESTS_PEER_STREAMS_H
#define MOELAB_TESTS_PEER_STREAMS_H

#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

/* cachesim prints miss ratios with four decimals, which for 10,000 requests are exact counts. */
enum { PEER_REQUESTS = 10000, PEER_KEYS = 256 };

/* 200 keys, small ids more often: drawn uniformly below a limit that is drawn uniformly. */
static inline void stream_skewed(uint16_t *id)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 42);
    for (int i = 0; i < PEER_REQUESTS; i++)
        id[i] = (uint16_t)moe_rng_below(&rng, 1 + moe_rng_below(&rng, 200));
}

/* Like the decode of a model with 32 layers and 2 of 8 experts: layer by layer; each expert is,
 * with probability 0.6, the one of the token before. */
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
        if (i % 2 && id[i] == id[i - 1]) /* the two of a layer must differ */
            id[i] = (uint16_t)(first + (id[i] - first + 1) % EXPERTS);
    }
}

/* Alternates every 1000 requests between a skewed draw from 60 keys, which are others each time,
 * and a loop over 100 keys mixed with 20 hot ones. */
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
