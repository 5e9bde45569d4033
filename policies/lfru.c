/* Frequency and recency in one rank; two rules go by this name. Uses are counted for the whole run,
 * also while an expert is not in the cache: an event's before it asks for victims.
 * reading=ratio: the smallest uses / age goes, age in uses of the pool since the last one.
 * reading=ties:  the fewest uses go; among equals the one whose last use is longest ago. */
#include "policies/registry.h"
#include "policies/slot_race.h"
#include "policies/slot_tree.h"

struct params {
    int ties;
};

struct use {
    uint64_t count, last;
    moe_key key; /* slots: what they hold */
};

struct state {
    uint64_t now; /* uses of the pool */
    uint32_t n_slots, n_experts;
    bool ties;
    struct moe_slot_tree tree; /* ties: by count, then by time of the last use */
    struct moe_slot_race race; /* ratio */
    struct use *of_key;        /* [n_keys] lies behind of_slot */
    struct use of_slot[];      /* [n_slots] the same, side by side for the search */
};

static const struct moe_param table[] = {
    {.name = "reading",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, ties),
     .default_text = "ratio",
     .choices = "ratio|ties",
     .help = "ratio: smallest uses / age goes; ties: fewest uses, then longest unused"},
    {0},
};

static size_t count_uses(const struct moe_policy_env *env)
{
    return env->n_slots + (size_t)env->n_layers * env->n_experts;
}

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + count_uses(env) * sizeof(struct use) + moe_slot_tree_size(env) +
           moe_slot_race_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->n_experts = env->n_experts;
    st->ties = params->ties;
    st->of_key = st->of_slot + env->n_slots;
    char *behind = (char *)(st->of_slot + count_uses(env));
    moe_slot_tree_init(&st->tree, env, behind);
    moe_slot_race_init(&st->race, env, behind + moe_slot_tree_size(env));
}

static void set_slot(struct state *st, moe_slot slot, struct use use)
{
    if (st->ties) {
        moe_slot_tree_set(&st->tree, slot, (struct moe_rank){use.count, use.last});
        return;
    }
    st->of_slot[slot] = use;
    moe_slot_race_fall(&st->race, (uint32_t)slot);
}

static void on_route(void *state, const struct moe_route *route)
{
    struct state *st = state;
    for (uint32_t i = 0; i < route->n; i++) {
        moe_key key = route->layer * st->n_experts + route->expert[i];
        st->of_key[key] = (struct use){st->of_key[key].count + 1, ++st->now, key};
        if (route->slot[i] != MOE_NO_SLOT)
            set_slot(st, route->slot[i], st->of_key[key]);
    }
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    st->of_key[key].key = key; /* one prefetched may have no use yet */
    set_slot(st, slot, st->of_key[key]);
    if (!st->ties)
        moe_slot_race_enter(&st->race, slot);
}

/* Is b.count / age(b) < a.count / age(a)? Without rounding (for runs of up to 2^32 uses); the
 * smaller key on ties. */
static bool is_colder(const void *state, uint32_t slot_a, uint32_t slot_b, uint64_t now)
{
    const struct use *of_slot = ((const struct state *)state)->of_slot;
    const struct use *a = &of_slot[slot_a], *b = &of_slot[slot_b];
    uint64_t left = b->count * (now - a->last), right = a->count * (now - b->last);
    return left < right || (left == right && b->key < a->key);
}

/* One with more uses catches up: the difference of the products above shrinks by that of the counts
 * with each use of the pool. */
static uint64_t colder_until(const void *state, uint32_t slot_a, uint32_t slot_b, uint64_t now)
{
    const struct use *of_slot = ((const struct state *)state)->of_slot;
    bool second = is_colder(state, slot_a, slot_b, now);
    const struct use *cold = &of_slot[second ? slot_b : slot_a];
    const struct use *warm = &of_slot[second ? slot_a : slot_b];
    if (cold->count <= warm->count)
        return UINT64_MAX;
    uint64_t gap = warm->count * (now - cold->last) - cold->count * (now - warm->last);
    /* less than exact, so that rounding cannot make it too late */
    return now + 1 + (uint64_t)((double)gap / (double)(cold->count - warm->count) * (1 - 1e-9));
}

static const struct moe_slot_order by_ratio = {is_colder, colder_until};

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    if (st->ties)
        return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
    return moe_slot_race_victim(&st->race, req->pinned, st->now, by_ratio, st);
}

const struct moe_policy_ops moe_policy_lfru = {
    .name = "lfru",
    .summary = "by uses in the whole run: smallest uses / age (ratio), or fewest uses, ties by "
               "recency (ties)",
    .source = "arXiv 2608.07911 section 2.3 and shijiuzhang/moe-cache-eval simulation.py (ratio); "
              "ggml-org/llama.cpp pull request 21609 (ties)",
    .notes = "Two rules go by this name, and rank differently: `ratio` by uses / age, `ties` by "
             "uses with recency only among equals. Uses are counted over the whole run in both, "
             "also while an expert is not in a slot. A use is one expert of an event, numbered in "
             "gate order in its pool; all of an event count before it seeks a victim (under the "
             "`access` contract: the one that is looked up). Age in `ratio` is the number of uses "
             "of the pool after the expert's last one. Ratios are compared exactly, as products; "
             "age 0 is the largest ratio, no use at all (prefetched) the smallest. Of equal ones "
             "the lower layer goes, then the lower expert. In `ties` last uses are never equal; of "
             "experts without any the lower slot goes.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_route = on_route,
    .on_insert = on_insert,
    .victim = victim,
};
