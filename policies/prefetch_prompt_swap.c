/* Prompt swap: when a prompt has passed a layer, fetches the experts that most of the sequence's
 * tokens used there, for the passes that follow. No expert of an event is evicted for a prefetch,
 * and a prompt uses nearly all of a layer's: so a layer's experts are fetched one layer later, and
 * the last layer's when the next pass begins. Naming experts that are in a slot costs nothing; the
 * policy, prompt-count, decides which are evicted for which. */
#include "policies/prefetcher.h"
#include "policies/top_experts.h"

#include <string.h>

struct params {
    uint64_t n;
};

struct state {
    uint32_t n_layers, n_experts, n;
    bool last_is_due; /* the prompt has passed the last layer, whose experts are not fetched yet */
    float tokens[];   /* [L, E] of the prompt that used the expert */
};

static const struct moe_param table[] = {
    {.name = "n",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, n),
     .default_text = "8",
     .min = 1,
     .max = 65535,
     .unit = "experts",
     .help = "most experts to fetch for a layer"},
    {0},
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
    st->n = (uint32_t)((const struct params *)env->params)->n;
}

static void on_sequence(void *state)
{
    struct state *st = state;
    memset(st->tokens, 0, sizeof(float) * st->n_layers * st->n_experts);
    st->last_is_due = false;
}

static uint32_t hottest(const struct state *st, uint32_t layer, moe_key *out, uint32_t max)
{
    return moe_top_experts(st->tokens + (size_t)layer * st->n_experts, st->n_experts, 0,
                           layer * st->n_experts, st->n < max ? st->n : max, out);
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    struct state *st = state;
    const bool due = st->last_is_due && route->layer == 0;
    if (due)
        st->last_is_due = false;
    if (route->phase == MOE_PREFILL) {
        float *tokens = st->tokens + (size_t)route->layer * st->n_experts;
        for (uint32_t i = 0; i < route->n; i++)
            tokens[route->expert[i]] += route->tokens ? (float)route->tokens[i] : 1;
        if (route->layer + 1 == st->n_layers)
            st->last_is_due = true;
        if (route->layer > 0)
            return hottest(st, route->layer - 1, out, max);
    }
    return due ? hottest(st, st->n_layers - 1, out, max) : 0;
}

const struct moe_prefetcher_ops moe_prefetcher_prompt_swap = {
    .name = "prompt-swap",
    .summary = "after each layer of a prompt, the experts that the prompt used most there; nothing "
               "in decode",
    .source = "arXiv 2501.10375 (DAOP) and ecolab-nus/DAOP 08fef33, model/modeling_daop.py: "
              "hot_experts, swapped before the layer instead of after it",
    .notes = "DAOP swaps before it computes the layer, and waits; here the copies run behind the "
             "prompt, a layer's when the one after it is routed, the last one's when the next pass "
             "begins, and one that has not begun when decode comes to its layer is taken back "
             "unless it is asked for. DAOP takes the eight hottest of the missing experts; here "
             "residents count among the `n`.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_sequence = on_sequence,
    .predict = predict,
};
