/* Least frequently used: evicts the expert with the fewest uses since it was inserted; among equals
 * the one whose last use is longest ago. */
#include "policies/registry.h"
#include "policies/slot_tree.h"

struct state {
    uint64_t now; /* uses of the pool */
    uint32_t n_slots;
    struct moe_slot_tree tree; /* by count, then by time of the last use */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_slot_tree_size(env);
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->n_slots = env->n_slots;
    moe_slot_tree_init(&st->tree, env, st + 1);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    struct moe_rank rank = {moe_slot_tree_first(&st->tree, slot) + 1, ++st->now};
    moe_slot_tree_raise(&st->tree, slot, rank);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    moe_slot_tree_set(&st->tree, slot, (struct moe_rank){1, ++st->now});
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    return moe_slot_tree_victim(&st->tree, req->pinned, st->n_slots);
}

const struct moe_policy_ops moe_policy_lfu = {
    .name = "lfu",
    .summary = "fewest uses since it was loaded, ties by recency",
    .source = "libCacheSim LFU.c (same misses, tests/golden/libcachesim)",
    .notes = "Of the rules called LFU this is the one that forgets: uses are counted from the fill "
             "on and lost with the slot. With counts of the whole run and ties by recency: "
             "`lfru:reading=ties`; the same with ties by expert and layer: `moe-infinity-code`; "
             "with counts that age: `lfu-aged`, `decayed-count`.",
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
