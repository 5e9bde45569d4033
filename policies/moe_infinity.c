/* MoE-Infinity, the paper's rule: the cached expert with the smallest (probability + eps) *
 * (1 - layer / L) goes, probabilities as eam.h predicts them; equal priorities go by recency. */
#include "policies/eam.h"
#include "policies/registry.h"

struct params {
    uint64_t capacity;
    double eps;
};

struct slot {
    uint64_t last; /* time of the last use, in uses of the pool */
    moe_key key;
};

struct state {
    struct moe_eam eam; /* its arrays lie behind slot */
    uint64_t now;
    double eps;
    uint32_t n_slots;
    struct slot slot[]; /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "capacity",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, capacity),
     .default_text = "120",
     .min = 1,
     .max = 4096,
     .unit = "requests",
     .help = "matrices kept of each phase"},
    {.name = "eps",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, eps),
     .default_text = "1e-6",
     .min = 0,
     .max = 1,
     .help = "added to a probability"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           moe_eam_size(env->n_layers, env->n_experts, params->capacity);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->eps = params->eps;
    moe_eam_init(&st->eam, env->n_layers, env->n_experts, params->capacity,
                 st->slot + env->n_slots);
}

static void on_sequence(void *state)
{
    moe_eam_sequence(&((struct state *)state)->eam);
}

static void on_step(void *state)
{
    moe_eam_step(&((struct state *)state)->eam);
}

static void on_route(void *state, const struct moe_route *route)
{
    moe_eam_route(&((struct state *)state)->eam, route);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->slot[slot].last = ++st->now;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->slot[slot] = (struct slot){++st->now, key};
}

static double priority(struct state *st, moe_key key)
{
    struct moe_eam *eam = &st->eam;
    uint32_t layer = key / eam->n_experts;
    return (moe_eam_share(eam, key) + st->eps) * (1 - (double)layer / eam->n_layers);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    double least = 0;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        if (req->pinned[s])
            continue;
        double p = priority(st, st->slot[s].key);
        bool equal = best != MOE_NO_SLOT && !(p < least) && !(p > least);
        if (best == MOE_NO_SLOT || p < least || (equal && st->slot[s].last < st->slot[best].last)) {
            best = (moe_slot)s;
            least = p;
        }
    }
    return best;
}

const struct moe_policy_ops moe_policy_moe_infinity = {
    .name = "moe-infinity",
    .summary = "the paper's cache: smallest (predicted share of the layer + eps) * (1 - layer / L) "
               "goes, predicted by the past request most like this forward pass; not the released "
               "code's rule (moe-infinity-code)",
    .source = "arXiv 2401.14361v3 sections 4.3 to 4.5, Algorithm 1",
    .notes = "The paper's rule and the released code's differ: a comparison must say which. Here "
             "the matrix of a request is counted anew for each, prompt and answer apart; where "
             "nothing is known yet all shares are 0 and the layer decides, then recency.",
    .params = table,
    .params_size = sizeof(struct params),
    .needs = MOE_NEEDS_SEQUENCE,
    .state_size = state_size,
    .init = init,
    .on_sequence = on_sequence,
    .on_step = on_step,
    .on_route = on_route,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
