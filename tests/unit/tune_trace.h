/* Small traces for the tests of the tuner. */
#ifndef MOELAB_TESTS_TUNE_TRACE_H
#define MOELAB_TESTS_TUNE_TRACE_H

#include "base/rng.h"
#include "tests/unit/run_suite.h"
#include "traces/trace.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, EXPERTS = 4, SEQUENCES = 24, TOKENS = 40 };

enum routing {
    UNIFORM,
    SKEWED, /* nine of ten routes go to two experts, others in each layer */
    DRIFTS, /* each layer uses one expert for ten tokens, then another */
};

static inline moe_expert route(struct moe_rng *rng, enum routing routing, uint32_t token,
                               uint32_t layer)
{
    if (routing == SKEWED && moe_rng_below(rng, 10))
        return (moe_expert)(2 * layer + moe_rng_below(rng, 2));
    if (routing == DRIFTS)
        return (moe_expert)((token / 10 + layer) % EXPERTS);
    return (moe_expert)moe_rng_below(rng, EXPERTS);
}

/* A trace of top-1 routes, decode only. The text hash of a sequence is its number. */
static inline struct moe_trace make_trace(enum routing routing, uint32_t n_sequences)
{
    struct moe_rng rng;
    struct moe_trace t = {.info = {.n_layers = LAYERS, .n_experts = EXPERTS, .top_k = 1}};
    const uint32_t n = n_sequences * TOKENS;
    moe_rng_init(&rng, 7);
    ck_assert_int_eq(moe_tokens_init(&t.tokens, &t.info, n, 0, NULL), MOE_OK);
    t.n_sequences = n_sequences;
    t.sequences = calloc(n_sequences, sizeof *t.sequences);
    for (uint32_t s = 0; s < n_sequences; s++)
        t.sequences[s] = (struct moe_sequence){TOKENS, s, strdup("test"), strdup("")};
    for (uint32_t i = 0; i < n; i++) {
        t.tokens.sequence[i] = i / TOKENS;
        t.tokens.step[i] = i % TOKENS;
        t.tokens.phase[i] = MOE_DECODE;
        for (uint32_t l = 0; l < LAYERS; l++)
            t.tokens.expert[i * LAYERS + l] = route(&rng, routing, i, l);
    }
    return t;
}

#endif
