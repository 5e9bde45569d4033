/* Token ids to what the first layer takes: rows of the embedding, and rotary angles. */
#ifndef MOELAB_EXEC_EMBED_H
#define MOELAB_EXEC_EMBED_H

#include "exec/llm.h"
#include "exec/rope.h"

/* n tokens at positions position .. position + n - 1. far: with LongRoPE's long factors. x: [n, D];
 * cosine, sine: [n, hd / 2]; tokens within the vocabulary. */
void moe_embed(const struct moe_llm *llm, const struct moe_rope *rope, bool far,
               const int32_t *tokens, uint32_t n, uint32_t position, float *x, float *cosine,
               float *sine);

#endif
