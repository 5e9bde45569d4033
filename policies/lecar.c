/* LeCaR: draws between the LRU and the LFU victim by weights. A miss that one of the two gave up
 * not long ago takes weight from it, the more the more recent that was. */
#include "policies/key_lists.h"
#include "policies/registry.h"

#include "base/rng.h"

#include <math.h>

enum list { RECENCY, GHOST_LRU, GHOST_LFU, N_LISTS };

struct params {
    double learning, discount, lru_weight;
    int learn;
};

struct use {
    uint64_t count, last; /* last: time of the last use */
};

struct state {
    struct moe_key_lists lists;
    struct moe_rng rng;
    uint64_t now;     /* uses of the pool */
    double weight[2]; /* of LRU and LFU */
    double learning, discount;
    uint32_t n_slots;
    bool learn;
    uint32_t blamed;    /* the ghosts that the victim joins, or MOE_NO_LIST: both chose it */
    uint64_t *given_up; /* [n_keys] when; lies behind use */
    struct use *use;    /* [n_slots] lies behind this struct */
};

static const struct moe_param table[] = {
    {.name = "learn",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct params, learn),
     .default_text = "on",
     .help = "off: the weights stay as they are"},
    {.name = "lru_weight",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, lru_weight),
     .default_text = "0.5",
     .min = 0,
     .max = 1,
     .help = "first probability of the LRU victim"},
    {.name = "learning",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, learning),
     .default_text = "0.45",
     .min = 0,
     .max = 100,
     .help = "learning rate"},
    {.name = "discount",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct params, discount),
     .default_text = "0.005",
     .min = 0,
     .max = 1,
     .help = "what a regret is worth after as many uses as the pool has slots"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct use) +
           moe_n_keys(env) * sizeof(uint64_t) + moe_key_lists_size(env, N_LISTS);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->learn = params->learn;
    st->learning = params->learning;
    st->discount = pow(params->discount, 1.0 / env->n_slots);
    st->weight[0] = params->lru_weight;
    st->weight[1] = 1 - params->lru_weight;
    st->use = (struct use *)(st + 1);
    st->given_up = (uint64_t *)(st->use + env->n_slots);
    moe_key_lists_init(&st->lists, env, N_LISTS, st->given_up + moe_n_keys(env));
    moe_rng_init(&st->rng, env->seed);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->use[slot].count++;
    st->use[slot].last = ++st->now;
    moe_key_list_move(&st->lists, RECENCY, key);
}

/* The small constants keep a weight from ever being 0. */
static void blame(struct state *st, int which, uint64_t age)
{
    double regret = pow(st->discount, (double)age), *w = st->weight;
    w[which] = w[which] * exp(-st->learning * regret) + 1e-10;
    double sum = w[0] + w[1] + 2e-10;
    w[which] /= sum;
    w[!which] = (w[!which] + 1e-10) / sum;
}

/* Learns from a ghost; never declines. */
static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t list = moe_key_list_of(&st->lists, req->key);
    st->now++;
    if (list == MOE_NO_LIST)
        return true;
    if (st->learn)
        blame(st, list == GHOST_LFU, st->now - st->given_up[req->key]);
    moe_key_list_remove(&st->lists, req->key);
    return true;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->use[slot] = (struct use){.count = 1, .last = st->now};
    st->lists.node[key].slot = slot;
    moe_key_list_push(&st->lists, RECENCY, key);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)slot;
    moe_key_list_remove(&st->lists, key);
    if (st->blamed == MOE_NO_LIST)
        return;
    st->given_up[key] = st->now;
    moe_key_list_push(&st->lists, st->blamed, key);
    if (moe_key_list_length(&st->lists, st->blamed) > st->n_slots / 2)
        moe_key_list_remove(&st->lists, moe_key_list_oldest(&st->lists, st->blamed));
}

static bool is_less(struct use a, struct use b)
{
    return a.count < b.count || (a.count == b.count && a.last < b.last);
}

static moe_slot least_used(const struct state *st, moe_slot lru, const uint8_t *pinned)
{
    moe_slot best = lru;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!pinned[s] && is_less(st->use[s], st->use[best]))
            best = (moe_slot)s;
    return best;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_key key = moe_key_list_victim(&st->lists, RECENCY, req->pinned);
    if (key == MOE_NO_KEY)
        return MOE_NO_SLOT;
    moe_slot lru = st->lists.node[key].slot, lfu = least_used(st, lru, req->pinned);
    st->blamed = MOE_NO_LIST;
    if (lru == lfu)
        return lru;
    bool recency = moe_rng_unit(&st->rng) < st->weight[0];
    st->blamed = recency ? GHOST_LRU : GHOST_LFU;
    return recency ? lru : lfu;
}

const struct moe_policy_ops moe_policy_lecar = {
    .name = "lecar",
    .summary = "draws between LRU and LFU (uses since it came in) by weights learnt from regret; "
               "half as many ghosts of each as slots, none where both agree (seeded)",
    .source = "Vietri et al., HotStorage 2018; ghosts and constants: libCacheSim LeCaR.c",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .wants = wants,
    .victim = victim,
};
