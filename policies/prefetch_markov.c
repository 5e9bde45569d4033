/* Markov over layers: counts during the run how often a token that used expert i in one layer used
 * expert j in the next. For each expert of a route these counts, as shares of the expert's uses,
 * are scores of the next layer's experts; they are added up. */
#include "policies/prefetcher.h"
#include "policies/top_experts.h"

#include <string.h>

struct state {
    uint32_t n_layers, n_experts, top_k, n;
    uint32_t layer, n_last; /* of the latest route */
    moe_expert *last;       /* [K] */
    float *score;           /* [E] scratch */
    float *uses;            /* [L, E] by tokens whose route in the next layer is known too */
    float follows[];        /* [L, E, E] of these: by expert of the layer, then of the next */
};

static size_t n_floats(const struct moe_prefetch_env *env)
{
    size_t e = env->n_experts;
    return env->n_layers * e * (e + 1) + e;
}

static size_t state_size(const struct moe_prefetch_env *env)
{
    return sizeof(struct state) + sizeof(float) * n_floats(env) + sizeof(moe_expert) * env->top_k;
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    struct state *st = state;
    size_t e = env->n_experts;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->top_k = env->top_k;
    st->n = moe_prefetch_width(env);
    st->uses = st->follows + env->n_layers * e * e;
    st->score = st->uses + env->n_layers * e;
    st->last = (moe_expert *)(st->score + e);
}

/* Learns from routes of one token only: of several, one cannot tell which expert followed which. */
static void learn(struct state *st, const struct moe_route *route)
{
    bool follows = route->layer == st->layer + 1 && route->n <= st->top_k;
    for (uint32_t i = 0; follows && i < st->n_last; i++) {
        size_t from = (size_t)st->layer * st->n_experts + st->last[i];
        st->uses[from] += 1;
        for (uint32_t j = 0; j < route->n; j++)
            st->follows[from * st->n_experts + route->expert[j]] += 1;
    }
    st->layer = route->layer;
    st->n_last = route->n <= st->top_k ? route->n : 0;
    for (uint32_t i = 0; i < st->n_last; i++)
        st->last[i] = route->expert[i];
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    struct state *st = state;
    learn(st, route);
    if (route->layer + 1 >= st->n_layers)
        return 0;
    memset(st->score, 0, st->n_experts * sizeof *st->score);
    for (uint32_t i = 0; i < route->n; i++) {
        size_t from = (size_t)route->layer * st->n_experts + route->expert[i];
        float uses = st->uses[from] > 0 ? st->uses[from] : 1;
        for (uint32_t j = 0; j < st->n_experts; j++)
            st->score[j] += st->follows[from * st->n_experts + j] / uses;
    }
    return moe_top_experts(st->score, st->n_experts, 0, (route->layer + 1) * st->n_experts,
                           st->n < max ? st->n : max, out);
}

const struct moe_prefetcher_ops moe_prefetcher_markov = {
    .name = "markov",
    .summary =
        "for the next layer, the n experts that have most often followed this layer's so far",
    .source = "transition counts between neighbouring layers, as in JustVugg/colibri (which found "
              "it a loss)",
    .notes = "Counts pairs of neighbouring layers for the same token; for pairs of tokens see "
             "`previous-token`. Each expert of the route gives the next layer's the shares of its "
             "uses after which they followed; the largest sums win, the lower number where equal, "
             "and none that never followed.",
    .params = moe_prefetch_width_params,
    .params_size = sizeof(struct moe_prefetch_width),
    .state_size = state_size,
    .init = init,
    .predict = predict,
};
