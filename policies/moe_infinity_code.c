/* What MoE-Infinity's released code does for Mixtral: visits are counted for the whole run, hits
 * and misses alike, and the cached expert with the fewest goes, whatever its layer. The search runs
 * over experts first and layers second and keeps the first of equals. */
#include "policies/registry.h"

struct slot {
    uint64_t visits;
    uint32_t place; /* in the order of the search: expert * L + layer */
};

struct state {
    uint32_t n_slots, n_layers, n_experts;
    uint64_t *visits;   /* [n_keys] lies behind slot */
    struct slot slot[]; /* [n_slots] */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           (size_t)env->n_layers * env->n_experts * sizeof(uint64_t);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    st->visits = (uint64_t *)(st->slot + env->n_slots);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    uint64_t *visits = st->visits + (size_t)route->layer * st->n_experts;
    for (uint32_t i = 0; i < route->n; i++) {
        uint64_t n = ++visits[route->expert[i]];
        if (route->slot[i] != MOE_NO_SLOT)
            st->slot[route->slot[i]].visits = n;
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t layer = key / st->n_experts, expert = key % st->n_experts;
    st->slot[slot] = (struct slot){st->visits[key], expert * st->n_layers + layer};
}

static bool is_less(const struct slot *a, const struct slot *b)
{
    return a->visits < b->visits || (a->visits == b->visits && a->place < b->place);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!req->pinned[s] && (best == MOE_NO_SLOT || is_less(&st->slot[s], &st->slot[best])))
            best = (moe_slot)s;
    return best;
}

const struct moe_policy_ops moe_policy_moe_infinity_code = {
    .name = "moe-infinity-code",
    .summary = "as released for Mixtral: fewest visits in the whole run, of hits and misses, ties "
               "by lowest expert, then lowest layer; not the paper's rule (moe-infinity)",
    .source = "TorchMoE/MoE-Infinity cca059c parallel/expert_dispatcher.cpp",
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
