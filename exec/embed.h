/* Token ids to what the first layer takes: rows of the embedding, and rotary angles. */
#ifndef MOELAB_EXEC_EMBED_H
#define MOELAB_EXEC_EMBED_H

#include "exec/activations.h"
#include "exec/llm.h"
#include "exec/rope.h"

/* Sets a->x, cosine and sine for the a->n tokens at positions from a->length on. far: with
 * LongRoPE's long factors. Tokens must be within the vocabulary. */
void moe_embed(const struct moe_llm *llm, const struct moe_rope *rope, bool far,
               const int32_t *tokens, const struct moe_activations *a);

#endif
