/* First in, first out: evicts the expert that was inserted first; hits change nothing. */
#include "policies/registry.h"
#include "policies/slot_list.h"

static void init(void *state, const struct moe_policy_env *env)
{
    moe_slot_list_init(state, env->n_slots);
}

static void on_insert(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    moe_slot_list_push(state, slot);
}

static void on_evict(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    moe_slot_list_remove(state, slot);
}

static moe_slot victim(void *state, const struct moe_victim_req *req)
{
    return moe_slot_list_oldest(state, req->pinned);
}

const struct moe_policy_ops moe_policy_fifo = {
    .name = "fifo",
    .summary = "first in, first out",
    .source = "arXiv 2512.16473 section III",
    .state_size = moe_slot_list_size,
    .init = init,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
