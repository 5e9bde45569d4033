/* Least frequently used: gives up the expert with the fewest uses since it came in; among equals
 * the one whose last use is longest ago. */
#include "policies/registry.h"

struct use {
    uint64_t count, last; /* last: time of the last use, in uses of the pool */
};

struct state {
    uint64_t now;
    uint32_t n_slots;
    struct use use[]; /* [n_slots] */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots * sizeof(struct use);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->use[slot].count++;
    st->use[slot].last = ++st->now;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->use[slot] = (struct use){.count = 1, .last = ++st->now};
}

static bool is_less(struct use a, struct use b)
{
    return a.count < b.count || (a.count == b.count && a.last < b.last);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    const struct state *st = state;
    struct use least = {.count = UINT64_MAX, .last = UINT64_MAX};
    moe_slot best = MOE_NO_SLOT;
    for (uint32_t s = 0; s < st->n_slots; s++) {
        if (!req->pinned[s] && is_less(st->use[s], least)) {
            least = st->use[s];
            best = (moe_slot)s;
        }
    }
    return best;
}

const struct moe_policy_ops moe_policy_lfu = {
    .name = "lfu",
    .summary = "fewest uses since it came in, ties by recency",
    .source = "libCacheSim LFU.c (same misses, tests/golden/libcachesim)",
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
