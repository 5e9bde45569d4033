/* Clock, or second chance: a hand sweeps over the slots; an expert used since the hand last passed
 * is spared once. A newcomer's reference bit is clear, a hit sets it. */
#include "policies/registry.h"

struct state {
    uint32_t n_slots, hand;
    uint8_t used[]; /* [n_slots] the reference bits */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + env->n_slots;
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
    st->used[slot] = 1;
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    st->used[slot] = 0;
}

/* Two rounds reach every slot that is not pinned once to clear its bit and once to evict it. Pinned
 * slots are passed over and keep their bit. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    for (uint64_t i = 0; i < 2 * (uint64_t)st->n_slots; i++) {
        uint32_t s = st->hand;
        st->hand = s + 1 == st->n_slots ? 0 : s + 1;
        if (req->pinned[s])
            continue;
        if (!st->used[s])
            return (moe_slot)s;
        st->used[s] = 0;
    }
    return MOE_NO_SLOT;
}

const struct moe_policy_ops moe_policy_clock = {
    .name = "clock",
    .summary = "second chance: one reference bit, a sweeping hand",
    .source = "Corbato, A Paging Experiment with the Multics System, 1969",
    .notes = "A newcomer's bit is clear (where it is set, every newcomer survives a round). Pinned "
             "slots are passed over and keep their bit.",
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .victim = victim,
};
