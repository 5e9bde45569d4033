/* MoE-Infinity, the paper's rule: evicts the expert of the smallest priority (probability + eps) *
 * (1 - layer / L), with probabilities as eam.h predicts them; equal priorities by recency. All
 * priorities are computed anew when the prediction changes. */
#include "policies/eam.h"
#include "policies/registry.h"
#include "policies/slot_tree.h"

#include <string.h>

enum { SMALL = 64 }; /* with at most so many slots hits set ranks, else they raise them: faster */

struct params {
    uint64_t capacity;
    double eps;
};

struct state {
    struct moe_eam eam; /* its arrays lie behind the tree's */
    uint64_t now;       /* uses of the pool */
    uint64_t version;   /* of the prediction that the tree was built for */
    double eps;
    uint32_t n_slots;
    uint32_t layer;            /* of the latest event */
    double *layer_factor;      /* [L] 1 - layer / L */
    struct moe_slot_tree tree; /* by priority, then by time of the last use */
    moe_key key[];             /* [n_slots] MOE_NO_KEY: empty until now */
};

static const struct moe_param table[] = {
    {.name = "capacity",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, capacity),
     .default_text = "120",
     .min = 1,
     .max = 4096,
     .unit = "requests",
     .help = "matrices kept for each phase"},
    {.name = "eps",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, eps),
     .default_text = "1e-6",
     .min = 0,
     .max = 1,
     .help = "added to a probability"},
    {0},
};

static size_t key_bytes(const struct moe_policy_env *env)
{
    return ((size_t)env->n_slots + 1) / 2 * 2 * sizeof(moe_key); /* the tree's are aligned to 8 */
}

static size_t state_size(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return sizeof(struct state) + key_bytes(env) + moe_slot_tree_size(env) +
           env->n_layers * sizeof(double) +
           moe_eam_size(env->n_layers, env->n_experts, params->capacity);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->eps = params->eps;
    char *at = (char *)st->key + key_bytes(env);
    for (uint32_t i = 0; i < env->n_slots; i++)
        st->key[i] = MOE_NO_KEY;
    moe_slot_tree_init(&st->tree, env, at);
    st->layer_factor = (double *)(at + moe_slot_tree_size(env));
    for (uint32_t l = 0; l < env->n_layers; l++)
        st->layer_factor[l] = 1 - (double)l / env->n_layers;
    moe_eam_init(&st->eam, env->n_layers, env->n_experts, params->capacity,
                 st->layer_factor + env->n_layers);
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
    struct state *st = state;
    st->layer = route->layer;
    moe_eam_route(&st->eam, route);
}

/* Usually it is the layer of the latest event, which saves a division: one takes as long as twenty
 * other instructions. */
static uint32_t layer_of(const struct state *st, moe_key key)
{
    uint32_t n_experts = st->eam.n_experts;
    return key - st->layer * n_experts < n_experts ? st->layer : key / n_experts;
}

/* Priorities are not negative, so that their bits, as whole numbers, are in the same order. */
static uint64_t priority(struct state *st, moe_key key)
{
    uint32_t layer = layer_of(st, key);
    double p = (moe_eam_share(&st->eam, layer, key) + st->eps) * st->layer_factor[layer];
    uint64_t bits;
    memcpy(&bits, &p, sizeof bits);
    return bits;
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    struct moe_rank rank = {moe_slot_tree_first(&st->tree, slot), ++st->now};
    if (st->n_slots <= SMALL)
        moe_slot_tree_set(&st->tree, slot, rank);
    else
        moe_slot_tree_raise(&st->tree, slot, rank);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->key[slot] = key;
    moe_slot_tree_set(&st->tree, slot, (struct moe_rank){priority(st, key), ++st->now});
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_eam_match(&st->eam);
    if (st->version != st->eam.version) {
        st->version = st->eam.version;
        for (uint32_t s = 0; s < st->n_slots; s++)
            if (st->key[s] != MOE_NO_KEY)
                moe_slot_tree_put_first(&st->tree, s, priority(st, st->key[s]));
        moe_slot_tree_build(&st->tree);
    }
    return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
}

const struct moe_policy_ops moe_policy_moe_infinity = {
    .name = "moe-infinity",
    .summary = "the paper's cache: evicts the smallest (predicted share of the layer + eps) * (1 - "
               "layer / L), predicted from the past request most like this forward pass; not the "
               "released code's rule (moe-infinity-code)",
    .source = "arXiv 2401.14361v3 sections 4.3 to 4.5, Algorithm 1",
    .notes = "The paper's rule and the released code's differ: a comparison must say which. Here "
             "the matrix is counted anew for each request, separately for prompt and answer; "
             "while nothing is known all shares are 0, and the layer decides, then recency. The "
             "matrices count tokens, those of the layer under way included. The cosine is that "
             "of the past request's whole matrix with the pass so far; equally similar ones are "
             "added up, and a full collection replaces the most similar of its matrices (of "
             "equals the oldest place). Every pool has matrices of its own, of its layers only: "
             "with a pool for each layer that is one row.",
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
