/* LFU whose counts age, so that an expert that was once much used does not stay for ever.
 * ageing=dynamic: a slot's value is its uses since insertion plus the age of the pool at its last
 * use; the smallest is evicted, and its value becomes the age.
 * ageing=halve: as soon as the counts of all slots sum to more than `limit` times their number,
 * each count is halved. */
#include "policies/registry.h"
#include "policies/slot_tree.h"

struct params {
    int halve;
    uint64_t limit;
};

struct state {
    uint64_t now, age, sum, limit; /* uses of the pool; sum of the counts of all slots */
    uint32_t n_slots;
    bool halve;
    bool has_victim;           /* what is evicted next was named by victim */
    struct moe_slot_tree tree; /* by value, then by time of the last use */
    uint64_t count[];          /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "ageing",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, halve),
     .default_text = "dynamic",
     .choices = "dynamic|halve",
     .help = "dynamic: newcomers start from the value of the latest victim; halve: all counts are "
             "halved"},
    {.name = "limit",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, limit),
     .default_text = "10",
     .min = 2,
     .max = 1e9,
     .unit = "uses",
     .help = "mean count per slot above which ageing=halve halves all counts"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(uint64_t) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->halve = params->halve;
    st->limit = params->limit * env->n_slots;
    moe_slot_tree_init(&st->tree, env, st->count + env->n_slots);
}

static void halve(struct state *st)
{
    st->sum = 0;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        if (st->count[s] == 0)
            continue;
        st->count[s] -= st->count[s] / 2;
        moe_slot_tree_put_first(&st->tree, s, st->count[s]);
        st->sum += st->count[s];
    }
    moe_slot_tree_build(&st->tree);
}

/* Under halve few slots that are hit rank lowest, so that raising them is faster. */
static void count_use(struct state *st, moe_slot slot, bool hit)
{
    struct moe_rank rank = {++st->count[slot] + st->age, ++st->now};
    if (hit && st->halve)
        moe_slot_tree_raise(&st->tree, slot, rank);
    else
        moe_slot_tree_set(&st->tree, slot, rank);
    st->sum++;
    if (st->halve && st->sum > st->limit)
        halve(st);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    count_use(state, slot, true);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    count_use(state, slot, false);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    if (!st->halve && st->has_victim)
        st->age = moe_slot_tree_first(&st->tree, slot);
    st->has_victim = false; /* a copy taken back is no victim: it ages nothing */
    st->sum -= st->count[slot];
    st->count[slot] = 0;
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    moe_slot slot = moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
    st->has_victim = slot != MOE_NO_SLOT;
    return slot;
}

const struct moe_policy_ops moe_policy_lfu_aged = {
    .name = "lfu-aged",
    .summary = "LFU with ageing: dynamic (LFU-DA) or by halving all counts; ties by recency",
    .source = "Arlitt et al., HP Labs HPL-98-173, 1999 (dynamic); Robinson, Devarakonda, "
              "SIGMETRICS 1990 (halve)",
    .notes = "Two rules are called ageing, and both are here: `dynamic` is LFU-DA, `halve` keeps "
             "the sum of the counts bounded. In `dynamic` a use is ranked with the pool's age at "
             "that time, so a hit makes up for all ageing since the slot's last use. In `halve` "
             "counts are rounded up: none falls to 0. Uses are counted from the fill on; halving "
             "is done as soon as the sum of the pool's counts is larger than `limit` times its "
             "slots. A prefetched copy that is taken back is no victim and ages nothing.",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
