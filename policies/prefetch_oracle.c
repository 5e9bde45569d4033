/* Oracle: the experts that the next layers will really use, read from the trace, each replaced by a
 * wrong one with probability 1 - accuracy. Errors depend only on seed, token, layer and place in
 * the route, so that the guess for a layer is the same from two layers before it as from one. */
#include "policies/prefetcher.h"

#include "base/rng.h"
#include "policies/machine.h"

struct params {
    double accuracy;
    uint64_t horizon;
    int across;
};

struct state {
    struct params params;
    uint64_t seed;
    uint32_t n_layers, n_experts, top_k;
    const struct moe_step *step; /* under way */
};

static const struct moe_param table[] = {
    {.name = "accuracy",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, accuracy),
     .default_text = "1",
     .max = 1,
     .help = "probability that an expert it names is really used"},
    {.name = "horizon",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, horizon),
     .default_text = "1",
     .min = 1,
     .max = 65535,
     .unit = "layers",
     .help = "how far ahead it sees"},
    {.name = "across",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct params, across),
     .default_text = "off",
     .help = "also beyond the end of the forward pass, into the sequence's next one"},
    {0},
};

static size_t state_size(const struct moe_prefetch_env *env)
{
    (void)env;
    return sizeof(struct state);
}

static void init(void *state, const struct moe_prefetch_env *env)
{
    *(struct state *)state = (struct state){.params = *(const struct params *)env->params,
                                            .seed = env->seed,
                                            .n_layers = env->n_layers,
                                            .n_experts = env->n_experts,
                                            .top_k = env->top_k};
}

static void on_step(void *state, const struct moe_step *step)
{
    ((struct state *)state)->step = step;
}

/* Choice k of a token's route in a layer, or a wrong expert in its place, unless the route has all
 * experts. */
static uint32_t guess(const struct state *st, const moe_expert *route, uint64_t row, uint32_t k)
{
    struct moe_rng rng;
    moe_rng_init(&rng, moe_mix64(st->seed ^ moe_mix64(row * st->top_k + k)));
    if (moe_rng_unit(&rng) < st->params.accuracy)
        return route[k];
    uint32_t e = (uint32_t)moe_rng_below(&rng, st->n_experts);
    for (uint32_t i = 0; i < st->n_experts; i++, e = (e + 1) % st->n_experts)
        if (!moe_route_has(route, st->top_k, e))
            return e;
    return route[k];
}

/* Adds the experts that tokens [first, end) will use in a layer to out, which has n keys; returns
 * their new number. */
static uint32_t add_layer(const struct state *st, uint64_t first, uint64_t end, uint32_t layer,
                          moe_key *out, uint32_t n, uint32_t max)
{
    const struct moe_tokens *tokens = st->step->tokens;
    const uint32_t begin = n;
    for (uint64_t t = first; t < end; t++) {
        uint64_t row = t * st->n_layers + layer;
        const moe_expert *route = tokens->expert + row * st->top_k;
        for (uint32_t k = 0; k < st->top_k && route[k] != MOE_NO_EXPERT && n < max; k++) {
            moe_key key = layer * st->n_experts + guess(st, route, row, k);
            bool known = false;
            for (uint32_t i = begin; i < n && !known; i++)
                known = out[i] == key;
            if (!known)
                out[n++] = key;
        }
    }
    return n;
}

static uint32_t predict(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    const struct state *st = state;
    const struct moe_tokens *tokens = st->step->tokens;
    uint64_t first = st->step->first, end = first + st->step->n_tokens;
    uint32_t n = 0, layer = route->layer;
    for (uint64_t h = 0; h < st->params.horizon && n < max; h++) {
        if (++layer == st->n_layers) {
            bool more = st->params.across && end < tokens->n_tokens &&
                        tokens->sequence[end] == tokens->sequence[end - 1];
            if (!more)
                break;
            first = end;
            end = moe_step_end(tokens, first);
            layer = 0;
        }
        /* Beyond a whole pass keys would come a second time. */
        if (layer == route->layer && first > st->step->first)
            break;
        n = add_layer(st, first, end, layer, out, n, max);
    }
    return n;
}

const struct moe_prefetcher_ops moe_prefetcher_oracle = {
    .name = "oracle",
    .summary = "the experts that the next layers will use, with set accuracy and horizon; for "
               "traces only",
    .source = "the limit of every prefetcher; accuracy as a model of learned predictors",
    .notes = "With an accuracy below 1 each expert left out is replaced by a wrong one, so the "
             "amount fetched stays the same. `across` ends before the layer under way comes round.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_FUTURE,
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .predict = predict,
};
