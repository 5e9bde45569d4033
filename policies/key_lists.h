/* Lists of experts: a key is in one of n lists, or in none. For policies that keep segments, queues
 * or ghosts (evicted experts that are still remembered). A list is a ring, newest first, whose head
 * is a node behind those of the keys. All operations are O(1) except init and
 * moe_key_list_victim, which walks over pinned experts. */
#ifndef MOELAB_POLICIES_KEY_LISTS_H
#define MOELAB_POLICIES_KEY_LISTS_H

#include "policies/policy.h"

#define MOE_NO_LIST UINT32_MAX

struct moe_key_node {
    uint32_t before, after; /* before: newer, after: older */
    uint32_t list; /* of a key: the list that it is in, or MOE_NO_LIST; of a head: the length */
    moe_slot slot; /* of a resident key; kept by the policy */
};

struct moe_key_lists {
    uint32_t n_keys;
    struct moe_key_node *node; /* [n_keys + n_lists] */
};

static inline uint32_t moe_n_keys(const struct moe_policy_env *env)
{
    return env->n_layers * env->n_experts;
}

static inline size_t moe_key_lists_size(const struct moe_policy_env *env, uint32_t n_lists)
{
    return ((size_t)moe_n_keys(env) + n_lists) * sizeof(struct moe_key_node);
}

/* memory: moe_key_lists_size bytes, of 4-byte alignment. */
static inline void moe_key_lists_init(struct moe_key_lists *lists, const struct moe_policy_env *env,
                                      uint32_t n_lists, void *memory)
{
    lists->n_keys = moe_n_keys(env);
    lists->node = memory;
    for (uint32_t k = 0; k < lists->n_keys; k++)
        lists->node[k].list = MOE_NO_LIST;
    for (uint32_t h = lists->n_keys; h < lists->n_keys + n_lists; h++)
        lists->node[h] = (struct moe_key_node){.before = h, .after = h};
}

static inline uint32_t moe_key_list_length(const struct moe_key_lists *lists, uint32_t list)
{
    return lists->node[lists->n_keys + list].list;
}

static inline uint32_t moe_key_list_of(const struct moe_key_lists *lists, moe_key key)
{
    return lists->node[key].list;
}

static inline void moe_key_list_link(struct moe_key_lists *lists, uint32_t list, moe_key key)
{
    struct moe_key_node *node = lists->node;
    uint32_t head = lists->n_keys + list, first = node[head].after;
    node[key].before = head;
    node[key].after = first;
    node[first].before = key;
    node[head].after = key;
}

static inline void moe_key_list_unlink(struct moe_key_lists *lists, moe_key key)
{
    struct moe_key_node *node = lists->node;
    node[node[key].before].after = node[key].after;
    node[node[key].after].before = node[key].before;
}

/* The key, in no list until now, becomes the newest of the list. */
static inline void moe_key_list_push(struct moe_key_lists *lists, uint32_t list, moe_key key)
{
    moe_key_list_link(lists, list, key);
    lists->node[key].list = list;
    lists->node[lists->n_keys + list].list++;
}

static inline void moe_key_list_remove(struct moe_key_lists *lists, moe_key key)
{
    moe_key_list_unlink(lists, key);
    lists->node[lists->n_keys + lists->node[key].list].list--;
    lists->node[key].list = MOE_NO_LIST;
}

/* The key becomes the newest of the list, which may be the one that it is in. */
static inline void moe_key_list_move(struct moe_key_lists *lists, uint32_t list, moe_key key)
{
    moe_key_list_remove(lists, key);
    moe_key_list_push(lists, list, key);
}

/* The oldest key of the list, or MOE_NO_KEY. */
static inline moe_key moe_key_list_oldest(const struct moe_key_lists *lists, uint32_t list)
{
    uint32_t last = lists->node[lists->n_keys + list].before;
    return last < lists->n_keys ? last : MOE_NO_KEY;
}

/* The oldest key of a list of residents whose slot is not pinned, or MOE_NO_KEY. */
static inline moe_key moe_key_list_victim(const struct moe_key_lists *lists, uint32_t list,
                                          const uint8_t *pinned)
{
    const struct moe_key_node *node = lists->node;
    uint32_t key = node[lists->n_keys + list].before;
    while (key < lists->n_keys && pinned[node[key].slot])
        key = node[key].before;
    return key < lists->n_keys ? key : MOE_NO_KEY;
}

#endif
