/* Slots in an order that changes with time, not only with their own uses: finds the first without
 * looking at all. A kinetic tournament: each inner node of a binary tree knows the first slot below
 * it and until when no order below it can change, if no slot there is touched. Only what is touched
 * or out of date is played again, when somebody asks.
 *
 * A slot that would be first and is pinned leaves until it is pinned no longer.
 *
 * Few slots are looked at one after the other: that is faster than to keep a tournament. */
#ifndef MOELAB_POLICIES_SLOT_RACE_H
#define MOELAB_POLICIES_SLOT_RACE_H

#include "policies/policy.h"

enum { MOE_SLOT_RACE_FEW = 64 }; /* leaves, at most, for which there is no tournament */

struct moe_slot_race {
    uint32_t n_leaves;   /* a power of two, >= n_slots */
    uint32_t n_left;     /* of `left` */
    uint64_t *until;     /* [n_leaves] of a node: sure at any time before this one */
    uint32_t *first;     /* [n_leaves] slot; of node i the nodes below are 2 i and 2 i + 1 */
    uint32_t *left;      /* [n_leaves] slots that left */
    uint8_t *takes_part; /* [n_leaves] */
};

/* What a policy says of two slots; of equals a is the lower one.
 * goes: does b go before a, at this time?
 * until: after now; who asks `goes` before it gets the same answer. */
struct moe_slot_order {
    bool (*goes)(const void *state, uint32_t a, uint32_t b, uint64_t now);
    uint64_t (*until)(const void *state, uint32_t a, uint32_t b, uint64_t now);
};

static inline uint32_t moe_slot_race_leaves(const struct moe_policy_env *env)
{
    uint32_t n = 2;
    while (n < env->n_slots)
        n *= 2;
    return n;
}

/* A multiple of 8, so that arrays of 8-byte alignment may follow. */
static inline size_t moe_slot_race_size(const struct moe_policy_env *env)
{
    size_t n = moe_slot_race_leaves(env);
    return n * (sizeof(uint64_t) + 2 * sizeof(uint32_t)) + (n + 7) / 8 * 8;
}

/* memory: moe_slot_race_size bytes, of 8-byte alignment, zeroed. No slot takes part. */
static inline void moe_slot_race_init(struct moe_slot_race *race, const struct moe_policy_env *env,
                                      void *memory)
{
    uint32_t n = moe_slot_race_leaves(env);
    race->n_leaves = n;
    race->n_left = 0;
    race->until = memory;
    race->first = (uint32_t *)(race->until + n);
    race->left = race->first + n;
    race->takes_part = (uint8_t *)(race->left + n);
}

/* The slot's place in the order has changed. */
static inline void moe_slot_race_touch(struct moe_slot_race *race, uint32_t s)
{
    for (uint32_t i = (race->n_leaves + s) / 2; i > 0; i /= 2)
        race->until[i] = 0;
}

/* The same, where it goes later than it would have at any time: a match that it has lost, or that
 * one which it beat below has then lost too, ends as before. */
static inline void moe_slot_race_fall(struct moe_slot_race *race, uint32_t s)
{
    for (uint32_t i = (race->n_leaves + s) / 2; i > 0 && race->first[i] == s; i /= 2)
        race->until[i] = 0;
}

/* It takes part from now on. */
static inline void moe_slot_race_enter(struct moe_slot_race *race, moe_slot slot)
{
    race->takes_part[slot] = true;
    moe_slot_race_touch(race, (uint32_t)slot);
}

static inline uint32_t moe_slot_race_at(const struct moe_slot_race *race, uint32_t node)
{
    return node < race->n_leaves ? race->first[node] : node - race->n_leaves;
}

static inline uint64_t moe_slot_race_sure(const struct moe_slot_race *race, uint32_t node)
{
    return node < race->n_leaves ? race->until[node] : UINT64_MAX;
}

static inline void moe_slot_race_match(struct moe_slot_race *race, uint32_t node, uint64_t now,
                                       struct moe_slot_order order, const void *state)
{
    uint32_t a = moe_slot_race_at(race, 2 * node), b = moe_slot_race_at(race, 2 * node + 1);
    uint64_t until = UINT64_MAX, below = moe_slot_race_sure(race, 2 * node);
    uint64_t other = moe_slot_race_sure(race, 2 * node + 1);
    bool second = !race->takes_part[a];
    if (race->takes_part[a] && race->takes_part[b]) {
        second = order.goes(state, a, b, now);
        until = order.until(state, a, b, now);
    }
    below = other < below ? other : below;
    race->first[node] = second ? b : a;
    race->until[node] = until < below ? until : below;
}

/* Plays again what is out of date: down to it, then up. */
static inline void moe_slot_race_play(struct moe_slot_race *race, uint64_t now,
                                      struct moe_slot_order order, const void *state)
{
    uint32_t node = 1;
    while (node > 0 && race->until[1] <= now) {
        uint32_t below = 2 * node;
        if (below < race->n_leaves && race->until[below] <= now) {
            node = below;
        } else if (below < race->n_leaves && race->until[below + 1] <= now) {
            node = below + 1;
        } else {
            moe_slot_race_match(race, node, now, order, state);
            node /= 2;
        }
    }
}

static inline void moe_slot_race_return(struct moe_slot_race *race, const uint8_t *pinned)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < race->n_left; i++) {
        uint32_t s = race->left[i];
        if (race->takes_part[s]) /* was filled meanwhile */
            continue;
        if (pinned[s])
            race->left[n++] = s;
        else
            moe_slot_race_enter(race, (moe_slot)s);
    }
    race->n_left = n;
}

static inline moe_slot moe_slot_race_search(const struct moe_slot_race *race, const uint8_t *pinned,
                                            uint64_t now, struct moe_slot_order order,
                                            const void *state)
{
    moe_slot first = MOE_NO_SLOT;
    for (uint32_t s = 0; s < race->n_leaves; s++)
        if (race->takes_part[s] && !pinned[s] &&
            (first == MOE_NO_SLOT || order.goes(state, (uint32_t)first, s, now)))
            first = (moe_slot)s;
    return first;
}

/* The first slot that is not pinned, or MOE_NO_SLOT. */
static inline moe_slot moe_slot_race_victim(struct moe_slot_race *race, const uint8_t *pinned,
                                            uint64_t now, struct moe_slot_order order,
                                            const void *state)
{
    if (race->n_leaves <= MOE_SLOT_RACE_FEW)
        return moe_slot_race_search(race, pinned, now, order, state);
    moe_slot_race_return(race, pinned);
    for (;;) {
        moe_slot_race_play(race, now, order, state);
        uint32_t s = race->first[1];
        if (!race->takes_part[s])
            return MOE_NO_SLOT;
        if (!pinned[s])
            return (moe_slot)s;
        race->takes_part[s] = false;
        race->left[race->n_left++] = s;
        moe_slot_race_touch(race, s);
    }
}

#endif
