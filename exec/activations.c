#include "exec/activations.h"

#include "exec/llm.h"

#include <string.h>

void moe_activations_list(struct moe_activations *a, const struct moe_llm_config *c, uint64_t chunk,
                          bool lookahead, struct moe_array out[MOE_ACTIVATION_ARRAYS])
{
    const uint64_t t = chunk, d = c->d_model, e = c->n_experts, half = c->head_dim / 2,
                   q = (uint64_t)c->n_heads * c->head_dim,
                   kv = (uint64_t)c->n_kv_heads * c->head_dim, tk = t * c->top_k, f = sizeof(float);
    const struct moe_array list[] = {
        {&a->x, t * d, f},
        {&a->u, t * d, f},
        {&a->cosine, t * half, f},
        {&a->sine, t * half, f},
        {&a->q, t * q, f},
        {&a->k, t * kv, f},
        {&a->v, t * kv, f},
        {&a->attended, t * q, f},
        {&a->soft, t * c->n_heads, sizeof *a->soft},
        {&a->out, t * d, f},
        {&a->score, t * e, f},
        {&a->ahead, lookahead ? t * e : 0, f},
        {&a->share, t * e, f},
        {&a->expert, tk, sizeof *a->expert},
        {&a->weight, tk, f},
        {&a->count, e, sizeof *a->count},
        {&a->first, e, sizeof *a->first},
        {&a->row, tk, sizeof *a->row},
        {&a->ffn_x, tk * d, f},
        {&a->ffn_h, tk * c->d_ffn, f},
        {&a->ffn_y, tk * d, f},
    };
    _Static_assert(sizeof list / sizeof *list == MOE_ACTIVATION_ARRAYS, "room for every array");
    memcpy(out, list, sizeof list);
}
