/* Finds the slot whose next use is latest, of equals the one of the lowest number. A short sorted
 * list, `late`, has the slots of the latest next uses; of other slots the next use is only stored,
 * so that most hits change one number. When the list is used up it is made anew of all slots.
 *
 * In small pools there is no list: all slots are scanned, with vectors where the processor has
 * them. That is faster. */
#ifndef MOELAB_POLICIES_SLOT_USES_H
#define MOELAB_POLICIES_SLOT_USES_H

#include "policies/policy.h"

#include <string.h>

enum {
    MOE_USES_SMALL = 128, /* slots of a small pool, at most */
    MOE_USES_LATE = 128,  /* capacity of the list, at most */
    MOE_USES_LANES = 8,   /* of a vector; fewer slots are scanned without vectors */
};

/* moe_uses_last and moe_uses_count, or the same with vectors. */
struct moe_uses_loops {
    moe_slot (*last)(const uint32_t *use, uint32_t n, const uint8_t *pinned, uint8_t forbids);
    uint32_t (*count)(const uint32_t *use, uint32_t n, const uint8_t *pinned, uint8_t forbids,
                      uint32_t next_use);
};

struct moe_slot_uses {
    uint32_t n_slots;
    const struct moe_uses_loops *loops;
    uint32_t *use;                /* [n_slots] next uses */
    uint32_t n_late, capacity;    /* of the list */
    uint64_t threshold;           /* every slot whose key is not below it is in the list */
    uint64_t late[MOE_USES_LATE]; /* [n_late] keys, ascending: the first to be evicted is last. One
                                     whose slot has another next use by now is stale */
};

static inline size_t moe_slot_uses_size(const struct moe_policy_env *env)
{
    return ((size_t)env->n_slots + 1) / 2 * 2 * sizeof(uint32_t);
}

/* Next use and slot in one number: the highest key is evicted first. */
static inline uint64_t moe_use_key(uint32_t next_use, uint32_t slot)
{
    return (uint64_t)next_use << 32 | (UINT32_MAX - 1 - slot);
}

static inline uint32_t moe_use_key_slot(uint64_t key)
{
    return UINT32_MAX - 1 - (uint32_t)key;
}

/* memory: moe_slot_uses_size bytes, of 8-byte alignment. All next uses begin as 0. */
void moe_slot_uses_init(struct moe_slot_uses *uses, const struct moe_policy_env *env, void *memory);

/* moe_slot_uses_last by a scan of all slots, without vectors. */
static inline moe_slot moe_uses_last(const uint32_t *use, uint32_t n, const uint8_t *pinned,
                                     uint8_t forbids)
{
    uint64_t last = 0;
    for (uint32_t s = 0; s < n; s++) {
        uint64_t key = moe_use_key(use[s], s) & (0 - (uint64_t) !(pinned[s] & forbids));
        last = key > last ? key : last;
    }
    return last ? (moe_slot)moe_use_key_slot(last) : MOE_NO_SLOT;
}

/* The number of slots used after next_use and without a pin of `forbids`; likewise. */
static inline uint32_t moe_uses_count(const uint32_t *use, uint32_t n, const uint8_t *pinned,
                                      uint8_t forbids, uint32_t next_use)
{
    uint32_t found = 0;
    for (uint32_t s = 0; s < n; s++)
        found += (use[s] > next_use) & !(pinned[s] & forbids);
    return found;
}

/* The same, in the fastest way. */
static inline moe_slot moe_slot_uses_search(const struct moe_slot_uses *uses, const uint8_t *pinned,
                                            uint8_t forbids)
{
    if (uses->n_slots < MOE_USES_LANES)
        return moe_uses_last(uses->use, uses->n_slots, pinned, forbids);
    return uses->loops->last(uses->use, uses->n_slots, pinned, forbids);
}

static inline uint32_t moe_slot_uses_count_all(const struct moe_slot_uses *uses,
                                               const uint8_t *pinned, uint8_t forbids,
                                               uint32_t next_use)
{
    if (uses->n_slots < MOE_USES_LANES)
        return moe_uses_count(uses->use, uses->n_slots, pinned, forbids, next_use);
    return uses->loops->count(uses->use, uses->n_slots, pinned, forbids, next_use);
}

/* Enters a key that is not below the threshold into the list. Of a full list the lower half goes.
 */
static inline void moe_slot_uses_list(struct moe_slot_uses *uses, uint64_t key)
{
    uint64_t *late = uses->late;
    uint32_t i, half = uses->capacity / 2;
    if (uses->n_late == uses->capacity) {
        uses->n_late -= half;
        uses->threshold = late[half - 1] + 1;
        memmove(late, late + half, uses->n_late * sizeof *late);
        if (key < uses->threshold)
            return;
    }
    for (i = uses->n_late; i > 0 && late[i - 1] > key; i--)
        ;
    if (i > 0 && late[i - 1] == key)
        return;
    for (uint32_t k = uses->n_late++; k > i; k--)
        late[k] = late[k - 1];
    late[i] = key;
}

static inline void moe_slot_uses_set(struct moe_slot_uses *uses, moe_slot slot, uint32_t next_use)
{
    uint64_t key = moe_use_key(next_use, (uint32_t)slot);
    uses->use[slot] = next_use;
    if (key >= uses->threshold)
        moe_slot_uses_list(uses, key);
}

static inline uint32_t moe_slot_uses_of(const struct moe_slot_uses *uses, moe_slot slot)
{
    return uses->use[slot];
}

static inline void moe_slot_uses_refill(struct moe_slot_uses *uses)
{
    uses->n_late = 0;
    uses->threshold = 0;
    for (uint32_t s = 0; s < uses->n_slots; s++)
        if (moe_use_key(uses->use[s], s) >= uses->threshold)
            moe_slot_uses_list(uses, moe_use_key(uses->use[s], s));
}

/* Does the slot of a listed key still have that next use? */
static inline bool moe_slot_uses_is_valid(const struct moe_slot_uses *uses, uint64_t key)
{
    return uses->use[moe_use_key_slot(key)] == key >> 32;
}

/* The listed slot that is used last and has no pin of `forbids`, or MOE_NO_SLOT. */
static inline moe_slot moe_slot_uses_listed(struct moe_slot_uses *uses, const uint8_t *pinned,
                                            uint8_t forbids)
{
    const uint64_t *late = uses->late;
    while (uses->n_late > 0 && !moe_slot_uses_is_valid(uses, late[uses->n_late - 1]))
        uses->n_late--;
    for (uint32_t i = uses->n_late; i > 0; i--) {
        uint32_t s = moe_use_key_slot(late[i - 1]);
        if (moe_slot_uses_is_valid(uses, late[i - 1]) && !(pinned[s] & forbids))
            return (moe_slot)s;
    }
    return MOE_NO_SLOT;
}

/* The slot whose next use is latest among those with no pin of `forbids` (enum moe_pin bits), or
 * MOE_NO_SLOT. */
static inline moe_slot moe_slot_uses_last(struct moe_slot_uses *uses, const uint8_t *pinned,
                                          uint8_t forbids)
{
    if (uses->n_slots <= MOE_USES_SMALL)
        return moe_slot_uses_search(uses, pinned, forbids);
    moe_slot s = moe_slot_uses_listed(uses, pinned, forbids);
    if (s != MOE_NO_SLOT)
        return s;
    moe_slot_uses_refill(uses);
    s = moe_slot_uses_listed(uses, pinned, forbids);
    return s != MOE_NO_SLOT ? s : moe_slot_uses_search(uses, pinned, forbids);
}

/* The number of slots that are used after next_use, which is not MOE_NEVER, and have no pin of
 * `forbids`; counts no further than `most`. */
static inline uint32_t moe_slot_uses_count(const struct moe_slot_uses *uses, const uint8_t *pinned,
                                           uint8_t forbids, uint32_t next_use, uint32_t most)
{
    uint64_t limit = ((uint64_t)next_use + 1) << 32;
    uint32_t found = 0;
    for (uint32_t i = uses->n_late; i > 0 && found < most && uses->late[i - 1] >= limit; i--) {
        uint64_t key = uses->late[i - 1];
        found += (uint32_t)moe_slot_uses_is_valid(uses, key) &
                 !(pinned[moe_use_key_slot(key)] & forbids);
    }
    if (found >= most || limit >= uses->threshold)
        return found;
    found = moe_slot_uses_count_all(uses, pinned, forbids, next_use);
    return found < most ? found : most;
}

#endif
