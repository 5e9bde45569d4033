/* Popularity: for the next layer, the experts that were used most often there so far, whatever the
 * token. With n set to all experts of a layer, whole layers are fetched ahead. */
#include "policies/prefetcher.h"
#include "policies/top_experts.h"

struct state {
    uint32_t n_layers, n_experts, n;
    float count[]; /* [L, E] */
};

static size_t state_size(const struct moe_prefetch_env *env)
{
    return sizeof(struct state) + sizeof(float) * env->n_layers * env->n_experts;
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    struct state *st = state;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->n = moe_prefetch_width(env);
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    struct state *st = state;
    float *count = st->count + (size_t)route->layer * st->n_experts;
    for (uint32_t i = 0; i < route->n; i++)
        count[route->expert[i]] += route->tokens ? (float)route->tokens[i] : 1;
    if (route->layer + 1 >= st->n_layers)
        return 0;
    /* -1: experts never used so far come last, by number */
    return moe_top_experts(count + st->n_experts, st->n_experts, -1,
                           (route->layer + 1) * st->n_experts, st->n < max ? st->n : max, out);
}

const struct moe_prefetcher_ops moe_prefetcher_popularity = {
    .name = "popularity",
    .summary = "for the next layer, the n experts that were used most often there so far",
    .source = "BrainStorm (OSDI'23) as arXiv 2401.14361 section 5 describes its re-implementation",
    .notes = "Counts of the whole run so far, tokens that use an expert, not of a fitted list; the "
             "lower number first where equal, also those never used.",
    .params = moe_prefetch_width_params,
    .params_size = sizeof(struct moe_prefetch_width),
    .state_size = state_size,
    .init = init,
    .predict = predict,
};
