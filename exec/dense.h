/* The dense part of a layer on the CPU, on plain arrays in host memory; used by sessions and by the
 * `host` device. The results do not depend on the number of threads, nor on how the tokens are
 * divided into passes. */
#ifndef MOELAB_EXEC_DENSE_H
#define MOELAB_EXEC_DENSE_H

#include "exec/activations.h"
#include "exec/llm.h"
#include "exec/pool.h"

/* One layer, and what it works on. */
struct moe_dense {
    const struct moe_llm_config *config;
    const struct moe_llm_layer *layer;    /* experts are not used */
    const struct moe_matrix *next_router; /* NULL: no lookahead scores */
    struct moe_pool *pool;
    float *keys, *values; /* [KV, context, hd] of the layer */
    uint32_t context;
    const struct moe_activations *a;
};

/* Norm, attention (which stores the pass's keys and values in the cache), residual, norm, router
 * scores. In: x, cosine, sine. Out: x, u, score, ahead. */
void moe_dense_attend(const struct moe_dense *dense);

/* expert and weight from the scores. */
void moe_dense_choose(const struct moe_dense *dense);

/* count, first and row from expert. */
void moe_dense_group(const struct moe_llm_config *config, const struct moe_activations *a);

/* ffn_x: copies each token's u to the rows of its choices. */
void moe_dense_gather(const struct moe_dense *dense);

/* The job that computes an expert on its rows of ffn_x, into ffn_y. */
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
