/* LeCaR: draws between the LRU and the LFU victim by weights. When an expert is missed that one of
 * the two rules had evicted not long ago, that rule loses weight: the more, the more recent that
 * was. */
#include "policies/key_lists.h"
#include "policies/registry.h"
#include "policies/slot_counts.h"
#include "policies/slot_list.h"

#include "base/rng.h"

#include <math.h>

/* Ages for which loss_of keeps its result: so many, and so many for each slot; few ghosts grow
 * older. */
enum { KNOWN_AGES = 1024, KNOWN_AGES_OF_SLOT = 8 };

enum list { GHOST_LRU, GHOST_LFU, N_LISTS };

struct params {
    double learning, discount, lru_weight;
    int learn;
};

struct state {
    struct moe_slot_counts counts;
    struct moe_slot_list *recency;
    struct moe_key_lists ghosts;
    struct moe_rng rng;
    uint64_t now;     /* uses of the pool */
    double weight[2]; /* of LRU and LFU */
    double learning, discount;
    uint32_t n_slots;
    bool learn;
    uint32_t blamed; /* the list of ghosts that the victim joins, or MOE_NO_LIST: both rules chose
                        it, or there is none */
    uint32_t n_known;
    double *known;      /* [n_known] results of loss_of by age; 0: not yet computed */
    uint64_t evicted[]; /* [n_keys] time at which a ghost was evicted; `known` lies behind */
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
     .help = "weight of a regret after as many uses as the pool has slots"},
    {0},
};

static uint32_t count_known(const struct moe_policy_env *env)
{
    return KNOWN_AGES + KNOWN_AGES_OF_SLOT * env->n_slots;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_n_keys(env) * sizeof(uint64_t) +
           count_known(env) * sizeof(double) + moe_slot_counts_size(env) + moe_slot_list_size(env) +
           moe_key_lists_size(env, N_LISTS);
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
    st->n_known = count_known(env);
    st->known = (double *)(st->evicted + moe_n_keys(env));
    char *at = (char *)(st->known + st->n_known);
    moe_slot_counts_init(&st->counts, env, at);
    at += moe_slot_counts_size(env);
    st->recency = (struct moe_slot_list *)at;
    moe_slot_list_init(st->recency, env->n_slots);
    moe_key_lists_init(&st->ghosts, env, N_LISTS, at + moe_slot_list_size(env));
    st->blamed = MOE_NO_LIST;
    moe_rng_init(&st->rng, env->seed);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->now++;
    moe_slot_counts_use(&st->counts, slot);
    moe_slot_list_remove(st->recency, slot);
    moe_slot_list_push(st->recency, slot);
}

/* The factor for the weight of a rule whose ghost, evicted `age` ago, is missed. The same ages come
 * again and again, so results are kept. */
static double loss_of(struct state *st, uint64_t age)
{
    double *known = age < st->n_known ? &st->known[age] : NULL;
    if (known && *known > 0)
        return *known;
    double loss = exp(-st->learning * pow(st->discount, (double)age));
    if (known)
        *known = loss;
    return loss;
}

/* Takes weight from a rule (0: LRU, 1: LFU) and makes both sum to 1 again. The small constants keep
 * a weight from ever being 0. */
static void blame(struct state *st, int which, uint64_t age)
{
    double *w = st->weight;
    w[which] = w[which] * loss_of(st, age) + 1e-10;
    double sum = w[0] + w[1] + 2e-10;
    w[which] /= sum;
    w[!which] = (w[!which] + 1e-10) / sum;
}

/* Learns from a ghost; never declines. */
static bool wants(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t list = moe_key_list_of(&st->ghosts, req->key);
    st->now++;
    if (list == MOE_NO_LIST)
        return true;
    if (st->learn)
        blame(st, list == GHOST_LFU, st->now - st->evicted[req->key]);
    moe_key_list_remove(&st->ghosts, req->key);
    return true;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    moe_slot_counts_add(&st->counts, slot);
    moe_slot_list_push(st->recency, slot);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    uint32_t blamed = st->blamed;
    moe_slot_counts_remove(&st->counts, slot);
    moe_slot_list_remove(st->recency, slot);
    st->blamed = MOE_NO_LIST; /* a copy taken back is no victim: no rule is to blame for it */
    if (blamed == MOE_NO_LIST)
        return;
    st->evicted[key] = st->now;
    moe_key_list_push(&st->ghosts, blamed, key);
    if (moe_key_list_length(&st->ghosts, blamed) > st->n_slots / 2)
        moe_key_list_remove(&st->ghosts, moe_key_list_oldest(&st->ghosts, blamed));
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot lru = moe_slot_list_oldest(st->recency, req->pinned);
    moe_slot lfu = moe_slot_counts_victim(&st->counts, req->pinned);
    st->blamed = MOE_NO_LIST;
    if (lru == lfu) /* also where every slot is pinned */
        return lru;
    bool recency = moe_rng_unit(&st->rng) < st->weight[0];
    st->blamed = recency ? GHOST_LRU : GHOST_LFU;
    return recency ? lru : lfu;
}

const struct moe_policy_ops moe_policy_lecar = {
    .name = "lecar",
    .summary =
        "draws between LRU and LFU (uses since loading) by weights learnt from regret; each has "
        "half as many ghosts as slots, and a victim on which both agree leaves none (seeded)",
    .source = "Vietri et al., HotStorage 2018; ghosts and constants: libCacheSim LeCaR.c",
    .notes = "Ghosts and constants follow libCacheSim, not the paper's own code. The pool's clock "
             "counts hits and newcomers, including those that find an empty slot. A newcomer that "
             "is a ghost ceases to be one, whether it gets a slot or not, and the rule that gave "
             "it up loses weight: with a = clock (the newcomer counted) minus the clock when it "
             "was given up, and d = discount^(1/slots), that rule's weight w becomes "
             "w exp(-learning d^a) + 1e-10; then, with v the other weight and t = w + v + 2e-10, w "
             "becomes w / t and v becomes (v + 1e-10) / t. Each rule names its victim among the "
             "slots that can go. Where the two differ, one draw u decides: LRU's if u is below "
             "LRU's weight, else LFU's; the victim becomes the newest ghost of that rule, and if "
             "that then has more than slots / 2 ghosts, rounded down, its oldest is forgotten. "
             "Where the two agree nothing is drawn, and there is no ghost. LFU counts the fill as "
             "a use; ties by recency. A prefetched copy that is taken back is no victim and blames "
             "no rule.",
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
