#include "policies/prefetcher.h"

#include "policies/spec.h"
#include "policies/top_experts.h"

#include <string.h>

const struct moe_param moe_prefetch_width_params[] = {
    {.name = "n",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct moe_prefetch_width, n),
     .default_text = "0",
     .max = 65535,
     .unit = "experts",
     .help = "number fetched ahead for the next layer; 0: the model's top-k"},
    {0},
};

static uint32_t predict_none(void *state, const struct moe_route *route, moe_key *out, uint32_t max)
{
    (void)state;
    (void)route;
    (void)out;
    (void)max;
    return 0;
}

/* State of previous_token. */
struct previous {
    uint32_t n_layers, n_experts, top_k;
    moe_expert last[]; /* [L, E] experts of the previous pass, then MOE_NO_EXPERT */
};

static size_t previous_size(const struct moe_prefetch_env *env)
{
    return sizeof(struct previous) + sizeof(moe_expert) * env->n_layers * env->n_experts;
}

static void previous_init(void *state, const struct moe_prefetch_env *env)
{
    struct previous *p = state;
    p->n_layers = env->n_layers;
    p->n_experts = env->n_experts;
    p->top_k = env->top_k;
    for (size_t i = 0; i < (size_t)env->n_layers * env->n_experts; i++)
        p->last[i] = MOE_NO_EXPERT;
}

static uint32_t previous_predict(void *state, const struct moe_route *route, moe_key *out,
                                 uint32_t max)
{
    struct previous *p = state;
    moe_expert *mine = p->last + (size_t)route->layer * p->n_experts;
    /* A decode pass has one token of each request, all of them previous tokens; of a prompt's
     * tokens all but the last one are further back, so only top_k experts are kept. */
    uint32_t most = route->phase == MOE_DECODE ? p->n_experts : p->top_k;
    uint32_t n = 0, next = route->layer + 1, kept = route->n < most ? route->n : most;
    for (uint32_t k = 0; k < kept; k++)
        mine[k] = route->expert[k];
    if (kept < p->n_experts)
        mine[kept] = MOE_NO_EXPERT;
    if (next >= p->n_layers)
        return 0;
    const moe_expert *its = mine + p->n_experts;
    for (uint32_t k = 0; k < p->n_experts && n < max && its[k] != MOE_NO_EXPERT; k++)
        out[n++] = next * p->n_experts + its[k];
    return n;
}

static const struct moe_prefetcher_ops none = {
    .name = "none",
    .summary = "nothing is fetched before it is asked for",
    .source = "arXiv 2512.16473 section III",
    .predict = predict_none,
};

static const struct moe_prefetcher_ops previous_token = {
    .name = "previous-token",
    .summary = "for the next layer, the experts that the previous token used there",
    .source = "Helldez/BigMoeOnEdge (previous-token prediction, reported 43/35 % accurate)",
    .notes =
        "All experts of the previous decode pass; after a prompt's pass, the top-k that appear "
        "first in it. Of requests that decode together a pass has a previous token of each. Where "
        "a sequence begins, the pass before is another sequence's, unless its prompt asked the "
        "cache.",
    .state_size = previous_size,
    .init = previous_init,
    .predict = previous_predict,
};

const struct moe_prefetcher_ops *const moe_prefetchers[] = {
    &none,
    &previous_token,
    &moe_prefetcher_popularity,
    &moe_prefetcher_markov,
    &moe_prefetcher_gate_lookahead,
    &moe_prefetcher_moe_infinity,
    &moe_prefetcher_prompt_swap,
    &moe_prefetcher_oracle,
    NULL,
};

enum moe_status moe_prefetcher_check(const struct moe_prefetcher_spec *spec, unsigned parts,
                                     bool future, struct moe_err *err)
{
    const struct moe_prefetcher_ops *ops = spec->ops;
    if ((ops->needs & MOE_NEEDS_FUTURE) && !future)
        return moe_fail(err, MOE_ERR_USAGE,
                        "prefetcher '%s' needs to know the future, which only a trace tells",
                        ops->name);
    if ((ops->needs & MOE_NEEDS_LOOKAHEAD) && !(parts & MOE_HAS_LOOKAHEAD))
        return moe_fail(err, MOE_ERR_USAGE,
                        "prefetcher '%s' needs lookahead scores, which the trace does not have",
                        ops->name);
    return MOE_OK;
}

const char *moe_prefetcher_format(const struct moe_prefetcher_spec *spec, char *buf, size_t size)
{
    return moe_spec_format(spec->ops->name, spec->ops->params, spec->params, buf, size);
}

enum moe_status moe_prefetcher_parse(const char *text, struct moe_prefetcher_spec *out,
                                     struct moe_err *err)
{
    const char *names[sizeof moe_prefetchers / sizeof *moe_prefetchers];
    char name[64];
    const char *rest;
    size_t n = 0;
    enum moe_status s = moe_spec_split("prefetcher", text, name, sizeof name, &rest, err);
    if (s)
        return s;
    for (; moe_prefetchers[n]; n++) {
        if (strcmp(moe_prefetchers[n]->name, name) == 0) {
            struct moe_prefetcher_spec spec = {.ops = moe_prefetchers[n]};
            s = moe_spec_params("prefetcher", name, spec.ops->params, spec.params, rest, err);
            if (!s)
                *out = spec;
            return s;
        }
        names[n] = moe_prefetchers[n]->name;
    }
    return moe_spec_unknown("prefetcher", name, names, n, err);
}
