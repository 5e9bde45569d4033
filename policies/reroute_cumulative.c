/* Cumulative: as max rank, but the router's list of stand-ins ends as soon as its probabilities, by
 * the softmax over all experts of the layer, sum to `mass`: a confident router's list is short. */
#include "policies/reroute_rules.h"

#include <math.h>

struct params {
    double mass;
    uint64_t keep;
};

static const struct moe_param table[] = {
    {.name = "mass",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, mass),
     .default_text = "0.8",
     .max = 1,
     .unit = "probability",
     .help = "total probability of the router's best scored experts, from which stand-ins are "
             "taken; 0: nothing changes"},
    MOE_REROUTE_KEEP(struct params),
    {0},
};

/* Is it in the list: do those before it sum to less than the mass? */
static bool is_listed(const struct moe_reroute_req *req, moe_expert expert, double mass)
{
    double before = 0, all = 0, mine = req->logit[expert];
    for (uint32_t e = 0; e < req->n_experts; e++) {
        double p = exp(req->logit[e] - mine);
        all += p;
        if (moe_reroute_before(req, e, expert))
            before += p;
    }
    return before < mass * all;
}

static bool replaces(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by)
{
    const struct params *p = state;
    return i >= p->keep && is_listed(req, by, p->mass);
}

const struct moe_reroute_ops moe_reroute_cumulative = {
    .name = "cumulative",
    .summary = "resident experts among the best scored ones, up to total probability `mass`, stand "
               "in for missing ones",
    .source = "arXiv 2412.00099 (cache-conditional experts), cumulative probability",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .replaces = replaces,
};
