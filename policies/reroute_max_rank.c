/* Max rank: resident experts among the `rank` highest logits are preferred to all that are not
 * resident. */
#include "policies/reroute_rules.h"

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
    MOE_REROUTE_KEEP(struct params),
    {0},
};

/* Rank by the router's logits, from 1. */
static uint32_t rank_of(const struct moe_reroute_req *req, moe_expert expert)
{
    uint32_t rank = 1;
    for (uint32_t e = 0; e < req->n_experts; e++)
        rank += moe_reroute_before(req, e, expert);
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
    .replaces = replaces,
};
