/* The activations of one forward pass of n tokens, in arrays with room for a chunk of T, in host
 * memory (a session's) or in device memory. Floating point is float32. */
#ifndef MOELAB_EXEC_ACTIVATIONS_H
#define MOELAB_EXEC_ACTIVATIONS_H

#include "exec/attention.h"
#include "traces/trace.h"

struct moe_activations {
    uint32_t n;      /* tokens of the pass */
    uint32_t length; /* tokens in the KV cache before it */

    float *x;                 /* [T, D] residual stream */
    float *u;                 /* [T, D] normalised: input of attention, then of the experts */
    float *cosine, *sine;     /* [T, hd / 2] rotary angles of the tokens' positions */
    float *q, *k, *v;         /* [T, H, hd], [T, KV, hd] twice */
    float *attended;          /* [T, H, hd] */
    struct moe_softmax *soft; /* [T, H] scratch */
    float *out;               /* [T, D] output of attention; scratch of combine */
    float *score, *ahead;     /* [T, E] router logits, and those of the next layer's router */
    float *share;             /* [T, E] scratch of the router */
    moe_expert *expert;       /* [T, K] chosen experts in gate order */
    float *weight;            /* [T, K] */
    uint32_t *count, *first;  /* [E] tokens that chose the expert; its first row below */
    uint32_t *row; /* [T, K] row of a choice below: rows are sorted by expert, those of one expert
                      by token */
    float *ffn_x, *ffn_h, *ffn_y; /* [T K, D], [T K, F], [T K, D] */
};

/* An array to be allocated: `items` of item_bytes. */
struct moe_array {
    void *at; /* address of the pointer to it */
    uint64_t items, item_bytes;
};

/* Lists all arrays of the activations; `ahead` has no items without lookahead. */
enum { MOE_ACTIVATION_ARRAYS = 21 };
struct moe_llm_config;
void moe_activations_list(struct moe_activations *a, const struct moe_llm_config *config,
                          uint64_t chunk, bool lookahead,
                          struct moe_array out[MOE_ACTIVATION_ARRAYS]);

#endif
