/* LFU whose counts age, so that an expert much used once does not stay for ever.
 * ageing=dynamic: a slot's value is its uses since it came in plus the age of the pool at its last
 * use; the smallest goes, and its value becomes the age.
 * ageing=halve: as soon as the slots' counts sum to more than `limit` a slot, each is halved. */
#include "policies/registry.h"

struct params {
    int halve;
    uint64_t limit;
};

struct use {
    uint64_t count, value, last; /* last: time of the last use, in uses of the pool */
};

struct state {
    uint64_t now, age, sum, limit; /* sum of the counts, of all slots */
    uint32_t n_slots;
    bool halve;
    struct use use[]; /* [n_slots] */
};

static const struct moe_param table[] = {
    {.name = "ageing",
     .type = MOE_PARAM_CHOICE,
     .offset = offsetof(struct params, halve),
     .default_text = "dynamic",
     .choices = "dynamic|halve",
     .help = "dynamic: newcomers start from the value of the latest victim; halve: all counts"},
    {.name = "limit",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct params, limit),
     .default_text = "10",
     .min = 2,
     .max = 1e9,
     .unit = "uses",
     .help = "mean count a slot above which ageing=halve halves"},
    {0},
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct use);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    const struct params *params = env->params;
    st->n_slots = env->n_slots;
    st->halve = params->halve;
    st->limit = params->limit * env->n_slots;
}

static void halve(struct state *st)
{
    st->sum = 0;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        st->use[s].count -= st->use[s].count / 2;
        st->use[s].value = st->use[s].count;
        st->sum += st->use[s].count;
    }
}

static void count_use(struct state *st, moe_slot slot)
{
    struct use *use = &st->use[slot];
    use->count++;
    use->value = use->count + st->age;
    use->last = ++st->now;
    st->sum++;
    if (st->halve && st->sum > st->limit)
        halve(st);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    count_use(state, slot);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    count_use(state, slot);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    if (!st->halve)
        st->age = st->use[slot].value;
    st->sum -= st->use[slot].count;
    st->use[slot] = (struct use){0};
}

static bool is_less(const struct use *a, const struct use *b)
{
    return a->value < b->value || (a->value == b->value && a->last < b->last);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++)
        if (!req->pinned[s] && (best == MOE_NO_SLOT || is_less(&st->use[s], &st->use[best])))
            best = (moe_slot)s;
    return best;
}

const struct moe_policy_ops moe_policy_lfu_aged = {
    .name = "lfu-aged",
    .summary = "LFU with ageing: dynamic (LFU-DA) or by halving all counts; ties by recency",
    .source = "Arlitt et al., HP Labs HPL-98-173, 1999 (dynamic); Robinson, Devarakonda, "
              "SIGMETRICS 1990 (halve)",
    .params = table,
    .params_size = sizeof(struct params),
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
