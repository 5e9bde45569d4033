/* The slots of a pool in order of insertion or use: a doubly linked ring in one array, whose head
 * is node n_slots. All operations are O(1) except the search, which walks over pinned slots. */
#ifndef MOELAB_POLICIES_SLOT_LIST_H
#define MOELAB_POLICIES_SLOT_LIST_H

#include "policies/policy.h"

struct moe_slot_list {
    uint32_t n_slots;
    struct {
        uint32_t before, after; /* before: pushed later; of the head: the oldest */
    } node[];                   /* [n_slots + 1] */
};

static inline size_t moe_slot_list_size(const struct moe_policy_env *env)
{
    struct moe_slot_list *list;
    return sizeof *list + ((size_t)env->n_slots + 1) * sizeof list->node[0];
}

static inline void moe_slot_list_init(struct moe_slot_list *list, uint32_t n_slots)
{
    list->n_slots = n_slots;
    list->node[n_slots].before = list->node[n_slots].after = n_slots;
}

static inline void moe_slot_list_push(struct moe_slot_list *list, moe_slot slot)
{
    uint32_t s = (uint32_t)slot, head = list->n_slots, first = list->node[head].after;
    list->node[s].before = head;
    list->node[s].after = first;
    list->node[first].before = s;
    list->node[head].after = s;
}

static inline void moe_slot_list_remove(struct moe_slot_list *list, moe_slot slot)
{
    uint32_t s = (uint32_t)slot;
    list->node[list->node[s].before].after = list->node[s].after;
    list->node[list->node[s].after].before = list->node[s].before;
}

/* The slot pushed longest ago that is not pinned, or MOE_NO_SLOT. */
static inline moe_slot moe_slot_list_oldest(const struct moe_slot_list *list, const uint8_t *pinned)
{
    uint32_t s = list->node[list->n_slots].before;
    while (s != list->n_slots && pinned[s])
        s = list->node[s].before;
    return s == list->n_slots ? MOE_NO_SLOT : (moe_slot)s;
}

#endif
