/* The candidates for the slots of a pool, for opt-time: residents and newcomers, each kept or given
 * up so far. Finds the kept one to give up next without scanning all: the one that saves the least
 * time (its value) for each event that it holds a slot.
 *
 * Candidates with the same next use form a group. The value of a kept candidate depends only on the
 * size of its group and on how many of it are kept, and there are few different values: most hits
 * save an expert's time on the CPU, the last one of an event more. Groups of the same value form a
 * kind; of these the group that is used last goes first, whatever the time. So the next uses of a
 * kind are kept in one row, with an upper bound for each block of the row, of which few blocks have
 * to be scanned; and only the first group of each kind is compared with the others. */
#ifndef MOELAB_POLICIES_USE_GROUPS_H
#define MOELAB_POLICIES_USE_GROUPS_H

#include "policies/use_few.h"

/* In place of a group: never used again, and so of value 0 whatever else is kept. */
#define MOE_USE_IDLE (UINT32_MAX - 1)

enum {
    MOE_USE_VALUES = 4,                 /* kinds of one positive value, at most */
    MOE_USE_KINDS = MOE_USE_VALUES + 2, /* and two more: use_groups.c */
    MOE_USE_BLOCK = 128,                /* of 64, 128, 256 and 512 what replays were fastest with */
};

struct moe_use_candidate {
    uint32_t next_use;
    uint32_t group; /* that it is in, IDLE, or NONE: this is no candidate now */
    uint32_t after; /* next candidate of the group, or NONE */
    bool kept;
};

/* Candidates with the same next use. */
struct moe_use_group {
    uint32_t next_use;
    uint32_t chained;   /* next group of the bucket, or next unused group; or NONE */
    uint32_t first;     /* first candidate */
    uint32_t n, n_kept; /* candidates; those of them that are kept */
    uint8_t kind;       /* by the value of each kept candidate */
};

/* n below is n_slots + n_new. */
struct moe_use_groups {
    struct moe_use_times times;
    uint32_t n_slots, n_new, top_k;
    uint32_t n_groups, unused; /* group numbers handed out so far; chain of those free again */
    uint32_t n_buckets, shift; /* n_buckets: a power of two; shift: 32 less its logarithm */
    uint32_t n_idle;           /* bits of `idle` that are set */
    uint8_t n_kinds;           /* kinds of one positive value */
    bool some_stuck;           /* an idle candidate would have gone, but is pinned */
    double value[MOE_USE_VALUES];
    uint32_t n_of[MOE_USE_KINDS]; /* number of groups by kind */
    uint32_t row, n_blocks;       /* row: n rounded up to whole vectors; n_blocks: of a row */
    uint32_t *use;   /* [KINDS][row] by group: 1 + next use if it is of that kind, or 0 */
    uint32_t *bound; /* [KINDS][n_blocks] upper bound of `use` in the block */
    uint32_t top[MOE_USE_KINDS]; /* upper bound of `use` in the row */
    uint32_t (*latest)(struct moe_use_groups *all, uint8_t kind); /* the highest `use` of a row */
    struct moe_use_group *group;                                  /* [n] */
    uint64_t *idle;                      /* n bits: kept idle ones, in the order in which they go */
    struct moe_use_candidate *candidate; /* [n] residents by slot, then newcomers */
    uint32_t *bucket;                    /* [n_buckets] hash table by next use: a group, or NONE */
    uint32_t n_stuck, *stuck;            /* [n] groups that would have gone, but are all pinned */
    uint8_t *kind_by;                    /* [top_k + 1] kind by n_kept, in groups of n <= top_k */
};

/* For n_slots residents and E + 1 newcomers. A multiple of 8. */
size_t moe_use_groups_size(const struct moe_policy_env *env);

/* memory: moe_use_groups_size bytes, of 8-byte alignment, zeroed. */
void moe_use_groups_init(struct moe_use_groups *all, const struct moe_policy_env *env,
                         const struct moe_use_times *times, void *memory);

/* i becomes a candidate, kept. */
void moe_use_join(struct moe_use_groups *all, uint32_t i, uint32_t next_use);

/* i is no candidate any more. */
void moe_use_leave(struct moe_use_groups *all, uint32_t i);

struct moe_used {
    uint32_t candidate, next_use;
};

/* These candidates, all of them kept, are used now and have new next uses. */
void moe_use_again(struct moe_use_groups *all, const struct moe_used *used, uint32_t n);
void moe_use_one_again(struct moe_use_groups *all, uint32_t i, uint32_t next_use);

/* The candidate becomes the resident of a slot that has none. */
void moe_use_settle(struct moe_use_groups *all, uint32_t newcomer, uint32_t slot);

/* Keeps a candidate, or gives it up. */
void moe_use_set_kept(struct moe_use_groups *all, uint32_t i, bool kept);

/* The number of candidates in i's group, i included: those whose values depend on each other. */
static inline uint32_t moe_use_sharing(const struct moe_use_groups *all, uint32_t i)
{
    uint32_t g = all->candidate[i].group;
    return g == MOE_USE_IDLE ? 1 : all->group[g].n;
}

bool moe_use_unstick_all(struct moe_use_groups *all);

/* The value of i, which is kept. */
double moe_use_value(const struct moe_use_groups *all, uint32_t i);

/* The kept candidate to give up first at event `now`, or NONE: none can go. That is the one of the
 * smallest value for each event until its next use; of equals the one used later, so that experts
 * that are never used again go before others of value 0; then a newcomer, then the lowest number. A
 * resident with a pin other than MOE_PIN_EVENT cannot go: it is stuck, and groups that consist of
 * such are not looked at again until moe_use_unstick. */
uint32_t moe_use_first(struct moe_use_groups *all, uint32_t now, const uint8_t *pinned);

/* Lets stuck candidates be found again; were there any? */
static inline bool moe_use_unstick(struct moe_use_groups *all)
{
    return (all->some_stuck || all->n_stuck > 0) && moe_use_unstick_all(all);
}

#endif
