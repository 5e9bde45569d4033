/* Decayed count with hysteresis: an expert's score is its uses, each worth half as much after
 * `half_life` forward passes. A newcomer replaces the lowest score only if its own is larger by the
 * factor `margin`, and only an expert that has stayed `stay` forward passes. */
#include "policies/registry.h"

#include <math.h>

struct params {
    double half_life, margin;
    uint64_t stay;
};

struct slot {
    double score;
    uint64_t since; /* forward pass in which the expert came in */
};

/* Scores are not decayed: instead a use counts the more, the later it is. */
struct state {
    double worth, growth; /* of a use in this forward pass; from one to the next */
    double margin;
    uint64_t pass, stay;
    uint32_t n_slots, n_keys, n_experts;
    double *score;      /* [n_keys] lies behind slot */
    struct slot slot[]; /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "half_life",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, half_life),
     .default_text = "32",
     .min = 0.01,
     .max = 1e9,
     .unit = "forward passes",
     .help = "after which a use counts half"},
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
     .help = "for which an expert that came in cannot be replaced"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct slot) +
           (size_t)env->n_layers * env->n_experts * sizeof(double);
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
    st->score = (double *)(st->slot + env->n_slots);
}

/* Scores grow without end otherwise; a power of two leaves their order alone. */
static void rescale(struct state *st)
{
    const double small = 0x1p-200;
    st->worth *= small;
    for (uint32_t k = 0; k < st->n_keys; k++)
        st->score[k] *= small;
    for (uint32_t s = 0; s < st->n_slots; s++)
        st->slot[s].score *= small;
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
            st->slot[route->slot[i]].score = score[route->expert[i]];
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->slot[slot] = (struct slot){st->score[key], st->pass};
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    double limit = st->score[req->key] / st->margin;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        const struct slot *slot = &st->slot[s];
        if (req->pinned[s] || slot->score >= limit || st->pass - slot->since < st->stay)
            continue;
        best = (moe_slot)s;
        limit = slot->score;
    }
    return best;
}

const struct moe_policy_ops moe_policy_decayed_count = {
    .name = "decayed-count",
    .summary = "lowest decayed count goes, but only to a newcomer that beats it by a margin and "
               "after a minimum stay; the default constants are moelab's",
    .source = "rule of ggml-org/llama.cpp pull request 26563",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_step = on_step,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
