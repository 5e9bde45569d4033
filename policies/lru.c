/* Least recently used: evicts the expert whose last use is longest ago. Start here to write a
 * policy: the state of one pool, what a hit, an insertion and an eviction do to it, and the
 * victim. */
#include "policies/registry.h"
#include "policies/slot_list.h"

static void init(void *state, const struct moe_policy_env *env)
{
    moe_slot_list_init(state, env->n_slots);
}

static void on_hit(void *state, moe_slot slot, moe_key key)
{
    (void)key;
    moe_slot_list_remove(state, slot);
    moe_slot_list_push(state, slot);
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

const struct moe_policy_ops moe_policy_lru = {
    .name = "lru",
    .summary = "least recently used",
    .source = "arXiv 2512.16473 section III (as its text says; its code: paper-lru)",
    .notes =
        "True recency, by the last use. The code of that paper keeps a counter under the name LRU: "
        "that is `paper-lru`. One pool for all layers that is smaller than what a token needs hits "
        "nothing: every expert is given up before its layer comes round again. The experts of one "
        "event count as used in gate order. Engines differ there, and so do their decisions: "
        "llama.cpp takes hits in gate order, then misses by number; mixtral-offloading takes hits, "
        "then misses, both by number, and with fewer slots than a token has experts it gives up "
        "some of the same token, where `event` serves the last of them without a slot.",
    .state_size = moe_slot_list_size,
    .init = init,
    .on_hit = on_hit,
    .on_insert = on_insert,
    .on_evict = on_evict,
    .victim = victim,
};
