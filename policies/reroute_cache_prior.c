/* Cache prior: adds a bonus to the logits of resident experts, and chooses by the sums. The bonus
 * is lambda times the mean range of the layer's logits (largest less smallest, over the rerouted
 * events so far, this one included). As it is the same for all residents, residents keep their
 * order among themselves, and so do the others: the choice by sums is reached by exchanging the
 * lowest choice that is not resident for the highest resident that is not chosen, as long as the
 * latter's sum is larger. Weights come from the logits without the bonus. */
#include "policies/reroute_rules.h"

struct params {
    double lambda;
    uint64_t keep;
};

struct layer {
    double ranges; /* sum */
    uint64_t n;
};

struct state {
    struct params params;
    struct layer layer[]; /* [L] */
};

static const struct moe_param table[] = {
    {.name = "lambda",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, lambda),
     .default_text = "0.5",
     .max = 1e9,
     .unit = "mean ranges of the logits",
     .help = "added to the logits of resident experts; 0: nothing changes"},
    MOE_REROUTE_KEEP(struct params),
    {0},
};

static size_t state_size(const struct moe_reroute_env *env)
{
    return sizeof(struct state) + env->n_layers * sizeof(struct layer);
}

static void init(void *state, const struct moe_reroute_env *env)
{
    ((struct state *)state)->params = *(const struct params *)env->params;
}

static void on_route(void *state, const struct moe_reroute_req *req)
{
    struct layer *layer = &((struct state *)state)->layer[req->layer];
    float low = req->logit[0], high = req->logit[0];
    for (uint32_t e = 1; e < req->n_experts; e++) {
        low = req->logit[e] < low ? req->logit[e] : low;
        high = req->logit[e] > high ? req->logit[e] : high;
    }
    layer->ranges += (double)high - (double)low;
    layer->n++;
}

static bool replaces(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by)
{
    const struct state *s = state;
    const struct layer *layer = &s->layer[req->layer];
    double bonus = s->params.lambda * layer->ranges / (double)layer->n;
    return i >= s->params.keep &&
           (double)req->logit[by] + bonus > (double)req->logit[req->expert[i]];
}

const struct moe_reroute_ops moe_reroute_cache_prior = {
    .name = "cache-prior",
    .summary = "adds lambda times the mean range of the logits to the logits of resident experts",
    .source = "arXiv 2412.00099 (cache-conditional experts), cache prior",
    .notes =
        "The mean range is that of the rerouted events of the layer so far; weights come from the "
        "logits without the bonus. What is on its way into a slot counts as resident.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .replaces = replaces,
};
