/* Max rank: resident experts among the `rank` highest logits go before all that are missing. */
#include "policies/reroute.h"

struct params {
    uint64_t rank, keep;
};

static const struct moe_param table[] = {
    {.name = "rank",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, rank),
     .default_text = "4",
     .max = 65535,
     .unit = "experts",
     .help = "how far down the router's list a stand-in may be; at most top-k: nothing changes"},
    {.name = "keep",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, keep),
     .default_text = "1",
     .max = 65535,
     .unit = "experts",
     .help = "the first so many choices are never replaced (the paper's J)"},
    {0},
};

static size_t state_size(const struct moe_reroute_env *env)
{
    (void)env;
    return sizeof(struct params);
}

static void init(void *state, const struct moe_reroute_env *env)
{
    *(struct params *)state = *(const struct params *)env->params;
}

/* From 1; of equal logits the lower number first. */
static uint32_t rank_of(const struct moe_reroute_req *req, moe_expert expert)
{
    uint32_t rank = 1;
    for (uint32_t e = 0; e < req->n_experts; e++)
        rank += req->logit[e] > req->logit[expert] ||
                (e < expert && !(req->logit[e] < req->logit[expert]));
    return rank;
}

static bool replaces(void *state, const struct moe_reroute_req *req, uint32_t i, moe_expert by)
{
    const struct params *p = state;
    return i >= p->keep && rank_of(req, by) <= p->rank;
}

const struct moe_reroute_ops moe_reroute_max_rank = {
    .name = "max-rank",
    .summary = "resident experts among the `rank` best scored stand in for missing ones",
    .source = "arXiv 2412.00099 (cache-conditional experts), max rank",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SCORES,
    .state_size = state_size,
    .init = init,
    .replaces = replaces,
};
