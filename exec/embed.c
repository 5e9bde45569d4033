#include "exec/embed.h"

void moe_embed(const struct moe_llm *llm, const struct moe_rope *rope, bool far,
               const int32_t *tokens, const struct moe_activations *a)
{
    const struct moe_matrix *m = &llm->embedding;
    const uint64_t row_bytes = moe_dtype_row_bytes(m->dtype, m->cols);
    const size_t half = rope->half;
    for (uint32_t t = 0; t < a->n; t++) {
        const char *row = (const char *)m->data + (uint64_t)tokens[t] * row_bytes;
        moe_dtype_info(m->dtype)->to_f32(row, m->cols, a->x + (size_t)t * m->cols);
        moe_rope_angles(rope, far, a->length + t, a->cosine + t * half, a->sine + t * half);
    }
}
