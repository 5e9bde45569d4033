/* Frequency and recency in one rank; three rules go by this name. Uses are counted over the whole
 * run, also while an expert is in no slot; in `stay` since it was inserted. Those of an event count
 * before it asks for victims. The victim is
 *     ratio: the one of the smallest uses / age; age: uses of the pool since its last use
 *     ties:  the one of the fewest uses; among equals the one whose last use is longest ago
 *     stay:  as ratio; among equals the one that was inserted first */
#include "policies/registry.h"
#include "policies/slot_ages.h"
#include "policies/slot_tree.h"

enum reading { RATIO, TIES, STAY };

struct params {
    int reading;
};

struct use {
    int64_t count, last;
};

struct state {
    int64_t now; /* uses of the pool */
    uint64_t n_fills;
    uint32_t n_slots, n_experts;
    bool ties;
    struct moe_slot_tree tree; /* ties: by count, then by time of the last use */
    struct moe_slot_ages ages; /* others: by age / uses */
    struct use *of_key;        /* [n_keys] */
    uint64_t *since;           /* [n_slots] stay: number of the fill of the pool; else NULL */
    moe_key of_slot[];         /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "reading",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, reading),
     .default_text = "ratio",
     .choices = "ratio|ties|stay",
     .help = "evicts: ratio: smallest uses / age; ties: fewest uses, then longest unused; stay: "
             "smallest uses since loading / age"},
    {0},
};

static size_t slot_bytes(const struct moe_policy_env *env)
{
    return (env->n_slots * sizeof(moe_key) + 7) / 8 * 8;
}

static size_t key_bytes(const struct moe_policy_env *env)
{
    return (size_t)env->n_layers * env->n_experts * sizeof(struct use);
}

static size_t since_bytes(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return params->reading == STAY ? env->n_slots * sizeof(uint64_t) : 0;
}

static size_t state_size(const struct moe_policy_env *env)
{
    const struct params *params = env->params;
    return sizeof(struct state) + slot_bytes(env) + since_bytes(env) + key_bytes(env) +
           (params->reading == TIES ? moe_slot_tree_size(env) : moe_slot_ages_size(env));
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    char *at = (char *)st->of_slot + slot_bytes(env);
    st->since = since_bytes(env) ? (uint64_t *)at : NULL;
    at += since_bytes(env);
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->ties = params->reading == TIES;
    st->of_key = (struct use *)at;
    if (st->ties)
        moe_slot_tree_init(&st->tree, env, at + key_bytes(env));
    else
        moe_slot_ages_init(&st->ages, env, at + key_bytes(env));
}

/* An expert that was never used (prefetched) has a higher priority than all that were. */
static float weight_of(const struct use *use)
{
    return use->count ? (float)use->count : 1e-20f;
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    const struct moe_slot_ages ages = st->ages; /* a copy, which no store below can alias */
    struct use *of_key = st->of_key + (size_t)route->layer * st->n_experts;
    int64_t now = st->now;
    st->now += route->n;
    for (uint32_t i = 0; i < route->n; i++) {
        moe_slot slot = route->slot[i];
        struct use use = {of_key[route->expert[i]].count + 1, ++now};
        of_key[route->expert[i]] = use;
        if (!st->ties)
            moe_slot_ages_use(&ages, slot, (uint32_t)now, (float)use.count);
        else if (slot != MOE_NO_SLOT)
            moe_slot_tree_raise(&st->tree, slot,
                                (struct moe_rank){(uint64_t)use.count, (uint64_t)now});
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    struct use *use = &st->of_key[key];
    st->of_slot[slot] = key;
    if (st->since) {
        use->count = 1;
        st->since[slot] = ++st->n_fills;
    }
    if (st->ties)
        moe_slot_tree_set(&st->tree, slot,
                          (struct moe_rank){(uint64_t)use->count, (uint64_t)use->last});
    else
        moe_slot_ages_set(&st->ages, slot, (uint32_t)use->last, weight_of(use));
}

/* Is the ratio of slot b smaller than that of slot a: b.count / age(b) < a.count / age(a)? Exact
 * for runs of up to 2^32 uses. Ties: the smaller key (stay: the earlier fill). */
static bool is_colder(const void *state, uint32_t slot_a, uint32_t slot_b)
{
    const struct state *st = state;
    moe_key key_a = st->of_slot[slot_a], key_b = st->of_slot[slot_b];
    const struct use *a = &st->of_key[key_a], *b = &st->of_key[key_b];
    int64_t left = b->count * (st->now - a->last), right = a->count * (st->now - b->last);
    bool first = st->since ? st->since[slot_b] < st->since[slot_a] : key_b < key_a;
    return left < right || (left == right && first);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    if (st->ties)
        return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
    return moe_slot_ages_victim(&st->ages, req->pinned, (uint32_t)st->now, is_colder, st);
}

static bool victims(void *state, uint32_t n, const uint8_t *pinned, moe_slot *slot)
{
    struct state *st = state;
    return st->ties && moe_slot_tree_victims(&st->tree, n, pinned, st->n_slots, slot);
}

const struct moe_policy_ops moe_policy_lfru = {
    .name = "lfru",
    .summary = "evicts the smallest uses / age, with uses counted over the whole run (ratio) or "
               "since loading (stay), or the fewest uses in the whole run, ties by recency (ties)",
    .source = "arXiv 2608.07911 section 2.3 and shijiuzhang/moe-cache-eval simulation.py (ratio); "
              "ggml-org/llama.cpp pull request 21609 (ties); vLLM pull request 37190 at 6d0ac79, "
              "expert_weight_provider.py (stay)",
    .notes =
        "Three rules go by this name, and rank differently: `ratio` by uses / age, `ties` by "
        "uses with recency only among equals, `stay` as `ratio` but with uses since the fill. "
        "In the others uses are counted over the whole run, also while an expert is not in a "
        "slot. A use is one expert of an event; those of a pool are numbered in gate order, and "
        "all of an event count before it seeks a victim (under the `access` contract: the one that "
        "is looked up). Age in `ratio` is the number of uses of the pool after the expert's last "
        "one. Ratios are compared exactly, as products; age 0 is the largest ratio, no use at all "
        "(prefetched) the smallest. Of equal ones the lower layer goes, then the lower expert; in "
        "`stay` the one that came in first. In `ties` last uses are never equal; of experts "
        "without any use the lower slot goes. moe-cache-eval counts ages in uses of all pools, "
        "also where every layer has its own. vLLM's code pins nothing and goes through an event's "
        "experts by number: under the `access` contract, on routes sorted by number, `stay` "
        "decides as that code does; vLLM refuses fewer slots than a pass needs in a layer. "
        "moe-lrc's LFU is `ties`, but takes only its hits from the contents at the event's start: "
        "its misses then come in one after another and may push each other out, which neither "
        "contract allows (of experts 0 1, 0 1, 2 0, 0 1 it hits 5 with two slots, `ties` 4).",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
    .victims = victims,
};
