/* What MoE-Infinity's released code does for Mixtral: counts visits, hits and misses alike, over
 * the whole run, and evicts the expert with the fewest, whatever its layer. Its search goes through
 * experts first and layers second, and keeps the first of equals. */
#include "policies/registry.h"
#include "policies/slot_tree.h"

struct state {
    uint32_t n_slots, n_layers, n_experts;
    struct moe_slot_tree tree; /* by visits, then by expert * L + layer */
    uint64_t visits[];         /* [n_keys] */
};

static size_t count_keys(const struct moe_policy_env *env)
{
    return (size_t)env->n_layers * env->n_experts;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + count_keys(env) * sizeof(uint64_t) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    moe_slot_tree_init(&st->tree, env, st->visits + count_keys(env));
}

static struct moe_rank rank_of(const struct state *st, uint32_t layer, uint32_t expert)
{
    return (struct moe_rank){st->visits[layer * st->n_experts + expert],
                             (uint64_t)expert * st->n_layers + layer};
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    for (uint32_t i = 0; i < route->n; i++) {
        moe_expert expert = route->expert[i];
        st->visits[route->layer * st->n_experts + expert]++;
        if (route->slot[i] != MOE_NO_SLOT)
            moe_slot_tree_raise(&st->tree, route->slot[i], rank_of(st, route->layer, expert));
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    moe_slot_tree_set(&st->tree, slot, rank_of(st, key / st->n_experts, key % st->n_experts));
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
}

static bool victims(void *state, uint32_t n, const uint8_t *pinned, moe_slot *slot)
{
    struct state *st = state;
    return moe_slot_tree_victims(&st->tree, n, pinned, st->n_slots, slot);
}

const struct moe_policy_ops moe_policy_moe_infinity_code = {
    .name = "moe-infinity-code",
    .summary = "as released for Mixtral: evicts the fewest visits (hits and misses) in the whole "
               "run, ties by lowest expert, then lowest layer; not the paper's rule (moe-infinity)",
    .source = "TorchMoE/MoE-Infinity cca059c parallel/expert_dispatcher.cpp",
    .notes = "The released code has the predictor and the prefetcher commented out for Mixtral; "
             "this is what remains. Visits are never forgotten here; the code clears them when a "
             "`generate` begins. One thing is not followed: in the code a hit, too, uses up free "
             "budget, so a cache of n slots never holds more experts than its first n lookups, "
             "hits included, brought in. With that mended the code decides as here.",
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
    .victims = victims,
};
