/* Decayed count with hysteresis: an expert's score is its uses, each worth half as much after
 * `half_life` forward passes. A newcomer replaces the lowest score only if its own is larger by the
 * factor `margin`, and only an expert that has stayed `stay` forward passes. */
#include "policies/registry.h"
#include "policies/slot_tree.h"

#include <math.h>
#include <string.h>

struct params {
    double half_life, margin;
    uint64_t stay;
};

/* Scores are not decayed; instead, later uses count more. That leaves their order the same. */
struct state {
    double worth, growth; /* of a use in this forward pass; its factor from one pass to the next */
    double margin;
    uint64_t pass, stay;
    uint32_t n_slots, n_keys, n_experts;
    struct moe_slot_tree tree; /* by score */
    uint64_t *since;           /* [n_slots] forward pass in which the expert was inserted */
    double score[];            /* [n_keys] */
};

static const struct moe_param table[] = {
    {.name = "half_life",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, half_life),
     .default_text = "32",
     .min = 0.01,
     .max = 1e9,
     .unit = "forward passes",
     .help = "time after which a use counts half"},
    {.name = "margin",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, margin),
     .default_text = "1.1",
     .min = 1,
     .max = 1e6,
     .help = "a newcomer's score must exceed the victim's by this factor"},
    {.name = "stay",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, stay),
     .default_text = "4",
     .min = 0,
     .max = 1e9,
     .unit = "forward passes",
     .help = "time for which a newly loaded expert cannot be evicted"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + (size_t)env->n_layers * env->n_experts * sizeof(double) +
           env->n_slots * sizeof(uint64_t) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->n_keys = env->n_layers * env->n_experts;
    st->worth = 1;
    st->growth = exp2(1 / params->half_life);
    st->margin = params->margin;
    st->stay = params->stay;
    st->since = (uint64_t *)(st->score + st->n_keys);
    moe_slot_tree_init(&st->tree, env, st->since + env->n_slots);
}

/* Scores are not negative, so that their bits, as whole numbers, are in the same order. */
static struct moe_rank rank_of(double score)
{
    struct moe_rank rank = {0, 0};
    memcpy(&rank.first, &score, sizeof score);
    return rank;
}

static void rescale_slot(struct moe_slot_tree *tree, uint32_t s, double factor)
{
    uint64_t first = moe_slot_tree_first(tree, (moe_slot)s);
    double score;
    memcpy(&score, &first, sizeof score);
    if (first != UINT64_MAX)
        moe_slot_tree_put_first(tree, s, rank_of(score * factor).first);
}

/* Keeps scores from overflowing; a power of two does not change their order. */
static void rescale(struct state *st)
{
    const double small = 0x1p-200;
    st->worth *= small;
    for (uint32_t k = 0; k < st->n_keys; k++)
        st->score[k] *= small;
    for (uint32_t s = 0; s < st->n_slots; s++)
        rescale_slot(&st->tree, s, small);
    moe_slot_tree_build(&st->tree);
}

static void on_step(void *state)
{
    struct state *st = state;
    st->pass++;
    st->worth *= st->growth;
    if (st->worth > 0x1p200)
        rescale(st);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    double *score = st->score + (size_t)route->layer * st->n_experts;
    for (uint32_t i = 0; i < route->n; i++) {
        score[route->expert[i]] += st->worth;
        if (route->slot[i] != MOE_NO_SLOT)
            moe_slot_tree_set(&st->tree, route->slot[i], rank_of(score[route->expert[i]]));
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->since[slot] = st->pass;
    moe_slot_tree_set(&st->tree, slot, rank_of(st->score[key]));
}

static bool may_go(const struct state *st, const struct moe_victim_req *req, uint32_t slot)
{
    return !req->pinned[slot] && st->pass - st->since[slot] >= st->stay;
}

/* Walks the tournament down, but only into nodes whose lowest score is low enough: usually not even
 * the root's is. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    const struct moe_slot_tree *tree = &st->tree;
    moe_slot best = MOE_NO_SLOT;
    uint64_t limit = rank_of(st->score[req->key] / st->margin).first;
    uint32_t stack[64], n = 0;
    for (uint32_t s = 0; moe_slot_tree_is_small(tree) && s < st->n_slots; s++)
        if (moe_slot_tree_first(tree, (moe_slot)s) < limit && may_go(st, req, s)) {
            best = (moe_slot)s;
            limit = moe_slot_tree_first(tree, (moe_slot)s);
        }
    if (moe_slot_tree_is_small(tree))
        return best;
    for (stack[n++] = 1; n > 0;) {
        uint32_t node = stack[--n], s = moe_slot_key_slot(tree, tree->node[node]);
        uint64_t first = moe_slot_key_first(tree->node[node]);
        if (first >= limit)
            continue;
        if (may_go(st, req, s)) {
            best = (moe_slot)s;
            limit = first;
        } else if (node < tree->n_leaves) {
            stack[n++] = 2 * node + 1;
            stack[n++] = 2 * node;
        }
    }
    return best;
}

const struct moe_policy_ops moe_policy_decayed_count = {
    .name = "decayed-count",
    .summary = "evicts the lowest decayed count, but only for a newcomer that exceeds it by a "
               "margin, and only after a minimum stay; the default constants are moelab's",
    .source = "rule of ggml-org/llama.cpp pull request 26563",
    .notes =
        "May decline: a newcomer must beat the victim by `margin`. The count decays by "
        "forward passes, not by uses or time; it covers the whole run, also while an expert "
        "is in no slot, and all of an event count before it seeks a victim. The victim is "
        "the lowest of those that came in at least `stay` passes ago. Of equal counts the "
        "one in the lower slot goes. A use in pass i counts as 2^(i / `half_life`) does in "
        "double precision, each pass' worth a product of the one before it: that rounding "
        "decides between counts that are equal on paper, and of uses more than about 1000 half "
        "lives apart the earlier counts as none.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
