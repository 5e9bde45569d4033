/* Substitution: a missing expert of little weight is replaced by the resident one that the router
 * scores highest, if that is near enough. Little: its share of the route's weight, by the softmax
 * of the scores over the route, is less than `below`; near: the ratio of their probabilities is at
 * least `ratio`. The paper fits beforehand how similar experts are; a trace does not tell that, so
 * the router's score of the stand-in takes its place. */
#include "policies/reroute_rules.h"

#include <math.h>

struct params {
    double below, ratio;
    uint64_t keep;
};

static const struct moe_param table[] = {
    {.name = "below",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, below),
     .default_text = "0.5",
     .max = 1,
     .unit = "share of the route's weight",
     .help = "only experts with a smaller share are replaced; 0: none"},
    {.name = "ratio",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, ratio),
     .default_text = "0.1",
     .max = 1e9,
     .unit = "1",
     .help = "least probability of the stand-in, relative to that of the missing expert"},
    MOE_REROUTE_KEEP(struct params),
    {0},
};

static bool replaces(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by)
{
    const struct params *p = state;
    double mine = req->logit[req->expert[i]], sum = 0;
    for (uint32_t k = 0; k < req->n; k++)
        sum += exp(req->logit[req->expert[k]] - mine);
    return i >= p->keep && 1 < p->below * sum && exp(req->logit[by] - mine) >= p->ratio;
}

const struct moe_reroute_ops moe_reroute_substitute = {
    .name = "substitute",
    .summary = "a missing expert of little weight is replaced by the best scored resident one",
    .source = "arXiv 2508.18983 (expert substitution), with router scores for similarity",
    .notes = "The paper fits beforehand which experts are alike; a trace does not tell that, so "
             "the router's score of the stand-in takes its place.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .replaces = replaces,
};
