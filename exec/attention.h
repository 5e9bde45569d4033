/* Attention of one token over the KV cache, for the query heads that share one key-value head. The
 * order of every sum follows from the positions alone, so that the result does not depend on the
 * pass a token came in. */
#ifndef MOELAB_EXEC_ATTENTION_H
#define MOELAB_EXEC_ATTENTION_H

#include "exec/kernels.h"

struct moe_attention {
    const struct moe_kernels *kernels;
    uint32_t group;    /* query heads of one key-value head, G */
    uint32_t head_dim; /* hd */
    uint32_t window;   /* keys at distance >= window are not seen; 0: all are */
};

/* A softmax so far: the largest score, and the sum of exp(score - max). */
struct moe_softmax {
    float max, sum;
};

/* y[G, hd] = softmax(q k^T / sqrt(hd)) v over the visible positions 0 .. position. q: [G, hd];
 * keys, values: [position + 1, hd]; state: [G] scratch. */
void moe_attention_run(const struct moe_attention *attention, const float *q, const float *keys,
                       const float *values, uint32_t position, struct moe_softmax *state, float *y);

#endif
