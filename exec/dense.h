/* The dense part of a layer on the CPU, over plain arrays: what a session computes, and the `host`
 * device. All pointers are host memory. The results do not depend on the number of threads, nor on
 * how the tokens are cut into passes. */
#ifndef MOELAB_EXEC_DENSE_H
#define MOELAB_EXEC_DENSE_H

#include "exec/activations.h"
#include "exec/llm.h"
#include "exec/pool.h"

/* One layer at work. */
struct moe_dense {
    const struct moe_llm_config *config;
    const struct moe_llm_layer *layer;    /* experts are not used */
    const struct moe_matrix *next_router; /* NULL: no lookahead scores */
    struct moe_pool *pool;
    float *keys, *values; /* [KV, context, hd] of the layer */
    uint32_t context;
    const struct moe_activations *a;
};

/* Norm, attention (keys and values of the pass go into the cache), residual, norm, router scores:
 * x and cosine, sine in; x, u, score and ahead out. */
void moe_dense_attend(const struct moe_dense *dense);

/* Chooses experts and weights from the scores. */
void moe_dense_choose(const struct moe_dense *dense);

/* count, first and row from the chosen experts. */
void moe_dense_group(const struct moe_llm_config *config, const struct moe_activations *a);

/* ffn_x from u by row. */
void moe_dense_gather(const struct moe_dense *dense);

/* The expert on its rows of ffn_x, into ffn_y. */
struct moe_ffn_job moe_dense_expert(const struct moe_llm_config *config,
                                    const struct moe_expert_weights *weights,
                                    const struct moe_activations *a, moe_expert expert);

/* x += the sum of weight times ffn_y over the choices, in gate order. As in the reference, the
 * experts are added to each other before they are added to x. */
void moe_dense_combine(const struct moe_dense *dense);

/* logits [V] of the last token. */
void moe_dense_head(const struct moe_dense *dense, const struct moe_norm *norm,
                    const struct moe_matrix *head, const float *bias, float *logits);

#endif
