/* Rotary position embedding: plain, and LongRoPE with its short and long factors. Everything is
 * float32 as in the reference, because at position 100,000 an angle's rounding is visible.
 * Source: transformers, modeling_rope_utils (default, longrope), PhimoeRotaryEmbedding of 4.57. */
#ifndef MOELAB_EXEC_ROPE_H
#define MOELAB_EXEC_ROPE_H

#include "exec/config.h"

/* [0]: plain RoPE, or the short factors; [1]: the long factors. */
struct moe_rope {
    uint32_t half; /* head_dim / 2 */
    float inv_freq[2][MOE_HEAD_DIM_MAX / 2];
    float mscale[2]; /* multiplies cos and sin */
};

void moe_rope_init(struct moe_rope *rope, const struct moe_llm_config *config);

/* cosine, sine: [half], for a position; far: with the long factors. */
void moe_rope_angles(const struct moe_rope *rope, bool far, uint32_t position, float *cosine,
                     float *sine);

/* Rotates one head in place: x[i] and x[i + half] are a pair. */
void moe_rope_turn(const float *cosine, const float *sine, uint32_t half, float *x);

#endif
