/* Distance to layer: experts of the layer that runs next are evicted last. A forward pass runs the
 * layers in turn, so the layer just run is furthest away, then the one before it, and so on. */
#include "policies/key_lists.h"
#include "policies/registry.h"

struct state {
    struct moe_key_lists lists;          /* one for each layer, in order of use */
    uint32_t n_layers, n_experts, layer; /* layer: the one under way */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_key_lists_size(env, env->n_layers);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_layers = env->n_layers;
    st->n_experts = env->n_experts;
    moe_key_lists_init(&st->lists, env, env->n_layers, st + 1);
}

static void on_route(void *state, const struct moe_route *route)
{
    ((struct state *)state)->layer = route->layer;
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    moe_key_list_move(&st->lists, key / st->n_experts, key);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->lists.node[key].slot = slot;
    moe_key_list_push(&st->lists, key / st->n_experts, key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    moe_key_list_remove(&st->lists, key);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    uint32_t layer = st->layer;
    for (uint32_t i = 0; i < st->n_layers; i++) {
        moe_key key = moe_key_list_victim(&st->lists, layer, req->pinned);
        if (key != MOE_NO_KEY)
            return st->lists.node[key].slot;
        layer = (layer ? layer : st->n_layers) - 1;
    }
    return MOE_NO_SLOT;
}

const struct moe_policy_ops moe_policy_distance = {
    .name = "distance-to-layer",
    .summary =
        "evicts last from the layer that runs next: victims come from the current layer, then from "
        "the layers before it, wrapping around the model; within a layer, the least recently used",
    .source = "after the layer distance in HOBBIT, arXiv 2411.01433, alone",
    .notes = "HOBBIT adds this distance to recency, frequency and precision; here it stands alone, "
             "ties by recency. In pools of one layer it is LRU.",
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
