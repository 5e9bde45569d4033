/* From logits to a token. Order as in transformers: temperature, top-k, top-p, draw. */
#ifndef MOELAB_EXEC_SAMPLER_H
#define MOELAB_EXEC_SAMPLER_H

#include "base/error.h"
#include "base/rng.h"

#include <stdint.h>

struct moe_sampler {
    double temperature; /* 0: greedy, the rest is unused */
    uint32_t top_k;     /* 0: all; tokens equal to the k-th are kept, too */
    double top_p;       /* (0, 1]; 1: all */
    struct moe_rng rng;
    uint32_t n_vocab;
    uint32_t *order; /* [V] scratch */
    float *prob;     /* [V] scratch */
};

/* Errors: MOE_ERR_USAGE (temperature < 0 or not finite, top_p outside (0, 1], no vocabulary),
 * MOE_ERR_MEMORY. */
enum moe_status moe_sampler_init(struct moe_sampler *sampler, uint32_t n_vocab, double temperature,
                                 uint32_t top_k, double top_p, uint64_t seed, struct moe_err *err);
void moe_sampler_release(struct moe_sampler *sampler);

/* Chooses a token from logits [V]. Greedy takes the lowest id among equals, and so does sampling
 * when the largest logit is infinite. top_p keeps the smallest number of most probable tokens that
 * together reach it, lower ids first among equals. NaN logits are never chosen; -1 if there are no
 * others. Draws one random number a call, none when greedy. */
int32_t moe_sampler_next(struct moe_sampler *sampler, const float *logits);

#endif
