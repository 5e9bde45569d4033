/* Gate lookahead: the next layer's router, given this layer's input, names the experts of the next
 * layer. The scores are the recorded or computed ones of route->lookahead; events of several tokens
 * have none. */
#include "policies/prefetcher.h"
#include "policies/top_experts.h"

#include <math.h>

struct state {
    uint32_t n_layers, n_experts, n;
};

static size_t state_size(const struct moe_prefetch_env *env)
{
    (void)env;
    return sizeof(struct state);
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    *(struct state *)state = (struct state){
        .n_layers = env->n_layers, .n_experts = env->n_experts, .n = moe_prefetch_width(env)};
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    const struct state *st = state;
    if (!route->lookahead || route->layer + 1 >= st->n_layers)
        return 0;
    return moe_top_experts(route->lookahead, st->n_experts, -INFINITY,
                           (route->layer + 1) * st->n_experts, st->n < max ? st->n : max, out);
}

const struct moe_prefetcher_ops moe_prefetcher_gate_lookahead = {
    .name = "gate-lookahead",
    .summary = "for the next layer, the n experts that its router scores highest on this layer's "
               "input",
    .source = "arXiv 2312.17238 (Mixtral-Offloading) speculative expert loading",
    .notes = "Replays the lookahead scores of a trace: layer l + 1's router on layer l's input; "
             "traces without them are refused.",
    .params = moe_prefetch_width_params,
    .params_size = sizeof(struct moe_prefetch_width),
    .needs = MOE_NEEDS_LOOKAHEAD,
    .state_size = state_size,
    .init = init,
    .predict = predict,
};
