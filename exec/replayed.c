#include "exec/replayed.h"

#include <math.h>

/* The routes of one token; `from` is its index into the trace's arrays. */
static void fill_route(const struct moe_tokens *tokens, size_t from, uint32_t k, moe_expert *expert,
                       float *weight)
{
    const moe_expert first = tokens->expert[from] != MOE_NO_EXPERT ? tokens->expert[from] : 0;
    for (uint32_t i = 0; i < k; i++) {
        const bool absent = tokens->expert[from + i] == MOE_NO_EXPERT;
        const float w = tokens->weight ? tokens->weight[from + i] : NAN;
        expert[i] = absent ? first : tokens->expert[from + i];
        weight[i] = absent ? 0 : isfinite(w) ? w : 1.0f / (float)k;
    }
}

void moe_replayed_routes(const struct moe_step *step, const struct moe_llm_config *c,
                         uint32_t layer, moe_expert *expert, float *weight)
{
    const size_t k = c->top_k;
    for (size_t t = 0; t < step->n_tokens; t++)
        fill_route(step->tokens, ((step->first + t) * c->n_layers + layer) * k, c->top_k,
                   expert + t * k, weight + t * k);
}

void moe_replayed_reroute(const struct moe_layer_routes *routes, uint32_t top_k, moe_expert *expert,
                          float *weight)
{
    for (uint32_t i = 0; i < top_k; i++) {
        const bool absent = routes->expert[i] == MOE_NO_EXPERT;
        expert[i] = absent ? routes->expert[0] : routes->expert[i];
        weight[i] = absent ? 0 : routes->weight[i];
    }
}

void moe_replayed_tokens(const struct moe_step *step, const struct moe_llm_config *c, int32_t *id)
{
    for (size_t t = 0; t < step->n_tokens; t++) {
        const int32_t known = step->tokens ? step->tokens->token_id[step->first + t] : 0;
        id[t] = known >= 0 && (uint32_t)known < c->n_vocab ? known : 0;
    }
}
