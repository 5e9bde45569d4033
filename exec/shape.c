#include "exec/hybrid.h"

#include <stdio.h>

static double bits_of(const struct moe_matrix *matrix)
{
    return 8.0 * (double)moe_dtype_row_bytes(matrix->dtype, matrix->cols) / matrix->cols;
}

void moe_llm_shape(const struct moe_llm *llm, struct moe_model *out)
{
    const struct moe_llm_config *c = &llm->config;
    *out = (struct moe_model){.n_layers = c->n_layers,
                              .n_experts = c->n_experts,
                              .top_k = c->top_k,
                              .d_model = c->d_model,
                              .d_ffn = c->d_ffn,
                              .n_heads = c->n_heads,
                              .n_kv_heads = c->n_kv_heads,
                              .head_dim = c->head_dim,
                              .n_vocab = c->n_vocab,
                              .expert_weight_bits = bits_of(&llm->layers[0].experts[0].w1),
                              .dense_weight_bits = bits_of(&llm->layers[0].q),
                              .kv_bits = 8 * sizeof(float)};
    snprintf(out->name, sizeof out->name, "%.63s", llm->name);
    snprintf(out->source, sizeof out->source, "the model's own config.json");
}
