/* Attention of the tokens of a pass over the KV cache, for the query heads that share one key-value
 * head. The order of every sum follows from the positions alone, so that the result does not depend
 * on the pass a token came in. */
#ifndef MOELAB_EXEC_ATTENTION_H
#define MOELAB_EXEC_ATTENTION_H

#include "exec/kernels.h"

struct moe_attention {
    const struct moe_kernels *kernels;
    uint32_t group;    /* query heads of one key-value head, G */
    uint32_t n_heads;  /* query heads of a token, H: the distance between tokens in q and y */
    uint32_t head_dim; /* hd */
    uint32_t window;   /* keys at distance >= window are not seen; 0: all are */
};

/* y[t, G, hd] = softmax(q k^T / sqrt(hd)) v over the visible positions 0 .. position + t, for t <
 * n_tokens. q, y: [n_tokens, H, hd] and state: [n_tokens, H] scratch, all three from the group's
 * first head on; keys, values: [position + n_tokens, hd]. */
void moe_attention_run(const struct moe_attention *attention, uint32_t n_tokens, const float *q,
                       const float *keys, const float *values, uint32_t position,
                       struct moe_softmax *state, float *y);

#endif
