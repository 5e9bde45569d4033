/* SIEVE: a queue in order of insertion and a hand that moves from old to new. Experts that were
 * used since it last passed are marked: they lose their mark and stay where they are; the first one
 * without a mark is evicted. */
#include "policies/registry.h"
#include "policies/slot_list.h"

struct state {
    uint32_t hand;              /* a slot, or the list's head: before the oldest */
    uint8_t *used;              /* [n_slots] the marks; behind the list */
    struct moe_slot_list *list; /* behind this struct */
};

static size_t state_size(const struct moe_policy_env *env)
{
    return sizeof(struct state) + moe_slot_list_size(env) + env->n_slots;
}

static void init(void *state, const struct moe_policy_env *env)
{
    struct state *st = state;
    st->list = (struct moe_slot_list *)(st + 1);
    st->used = (uint8_t *)st->list + moe_slot_list_size(env);
    st->hand = env->n_slots;
    moe_slot_list_init(st->list, env->n_slots);
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
    moe_slot_list_push(st->list, slot);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    struct state *st = state;
    (void)key;
    if (st->hand == (uint32_t)slot)
        st->hand = st->list->node[slot].before;
    moe_slot_list_remove(st->list, slot);
}

/* Two rounds, in which the list's head is passed as well, reach every slot that is not pinned once
 * to clear its mark and once to evict it. Pinned slots are passed over and keep their mark; if all
 * are pinned the hand stays where it was. */
static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    struct state *st = state;
    uint32_t head = st->list->n_slots, before = st->hand;
    for (uint64_t i = 0; i < 2 * (uint64_t)head + 3; i++) {
        uint32_t s = st->hand;
        if (s != head && !req->pinned[s] && !st->used[s])
            return (moe_slot)s;
        if (s != head && !req->pinned[s])
            st->used[s] = 0;
        st->hand = st->list->node[s].before;
    }
    st->hand = before;
    return MOE_NO_SLOT;
}

const struct moe_policy_ops moe_policy_sieve = {
    .name = "sieve",
    .summary = "FIFO with one mark and a hand that leaves marked experts where they are",
    .source = "Zhang et al., NSDI 2024, Algorithm 1 (as libCacheSim Sieve.c)",
    .notes = "Pinned slots are passed over and keep their mark; if all slots are pinned the hand "
             "stays where it was.",
    .state_size = state_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
