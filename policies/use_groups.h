/* Who may stay in a pool, for opt-time: candidates in groups by their next use, of which the one
 * that saves the least time for the time that it holds a slot is found without looking at all.
 *
 * What each kept candidate of a group saves depends on nothing but its group's numbers, and there
 * are few different savings: most hits save an expert's time on the CPU, the last one of an event
 * more. Of groups that save the same (a kind) the one that is used last goes first, at any time:
 * the next uses of a kind stand side by side, a bound for each block of them, so that few blocks
 * are looked at. One candidate of each kind is compared. */
#ifndef MOELAB_POLICIES_USE_GROUPS_H
#define MOELAB_POLICIES_USE_GROUPS_H

#include "policies/use_few.h"

#define MOE_USE_IDLE (UINT32_MAX - 1) /* never used again: saves nothing, whatever else is kept */

enum {
    MOE_USE_KINDS = 4, /* of positive values */
    MOE_USE_RANKS = MOE_USE_KINDS + 2,
    MOE_USE_BLOCK = 128, /* of 64, 128, 256 and 512 what replays were fastest with */
};

struct moe_use_candidate {
    uint32_t next_use;
    uint32_t group; /* of those with the same next use, IDLE, or NONE: no candidate */
    uint32_t after; /* the next one of the group, or NONE */
    bool kept;
};

/* Only together do they have a value, and all have the same. */
struct moe_use_group {
    uint32_t next_use;
    uint32_t chained;   /* the next group of the bucket, or of the unused ones, or NONE */
    uint32_t first;     /* of its candidates */
    uint32_t n, n_kept; /* n: with those given up */
    uint8_t kind;       /* by what each that is kept saves */
};

struct moe_use_groups {
    struct moe_use_times times;
    uint32_t n_slots, n_new, top_k;
    uint32_t n_groups, unused; /* n_groups: numbers below were in use once; unused: a chain */
    uint32_t n_buckets, shift; /* a power of two, 32 less its logarithm */
    uint32_t n_idle;           /* bits of `idle` that are set */
    uint8_t n_kinds;
    bool some_stuck; /* what may not go was in the way */
    double value[MOE_USE_KINDS];
    uint32_t n_of[MOE_USE_RANKS]; /* groups by kind */
    uint32_t row, n_blocks;       /* row: n rounded up to whole vectors; n_blocks: of a row */
    uint32_t *use;                /* [RANKS][row] 1 + next use of the kind's groups, of others 0 */
    uint32_t *bound;              /* [RANKS][n_blocks] no use of the block is higher */
    uint32_t top[MOE_USE_RANKS];  /* no use of the kind is higher */
    uint32_t (*latest)(struct moe_use_groups *all, uint8_t kind);
    struct moe_use_group *group;         /* [n] n: n_slots + n_new */
    uint64_t *idle;                      /* [n] bits of those kept, in the order in which they go */
    struct moe_use_candidate *candidate; /* [n] slots' residents, then newcomers */
    uint32_t *bucket;                    /* [n_buckets] a group, by next use, or NONE */
    uint32_t n_stuck, *stuck;            /* [n] groups none of which may go */
    uint8_t *kind_by;                    /* [top_k + 1] by those kept of at most top_k */
};

/* For n_slots residents and E + 1 newcomers. A multiple of 8. */
size_t moe_use_groups_size(const struct moe_policy_env *env);

/* memory: moe_use_groups_size bytes, of 8-byte alignment, zeroed. */
void moe_use_groups_init(struct moe_use_groups *all, const struct moe_policy_env *env,
                         const struct moe_use_times *times, void *memory);

/* Candidate i, which is none yet, is one that is kept. */
void moe_use_join(struct moe_use_groups *all, uint32_t i, uint32_t next_use);

void moe_use_leave(struct moe_use_groups *all, uint32_t i);

struct moe_used {
    uint32_t candidate, next_use;
};

/* These candidates, all of them kept, are used, and next then. */
void moe_use_again(struct moe_use_groups *all, const struct moe_used *used, uint32_t n);
void moe_use_one_again(struct moe_use_groups *all, uint32_t i, uint32_t next_use);

/* The newcomer is now the resident of this slot, which has none. */
void moe_use_settle(struct moe_use_groups *all, uint32_t newcomer, uint32_t slot);

void moe_use_set_kept(struct moe_use_groups *all, uint32_t i, bool kept);

/* Candidates that share i's value, with i. */
static inline uint32_t moe_use_sharing(const struct moe_use_groups *all, uint32_t i)
{
    uint32_t g = all->candidate[i].group;
    return g == MOE_USE_IDLE ? 1 : all->group[g].n;
}

bool moe_use_unstick_all(struct moe_use_groups *all);

/* What i, which is kept, saves. */
double moe_use_value(const struct moe_use_groups *all, uint32_t i);

/* Of the candidates that are kept the one that goes first, at this event; or NONE: none can go. The
 * smallest value for each event that a slot is held; of equals the one used later, so that experts
 * that are never used again go before others that save nothing; then a newcomer, the lowest. A
 * resident with a pin other than MOE_PIN_EVENT cannot go: that is remembered until unstick. */
uint32_t moe_use_first(struct moe_use_groups *all, uint32_t now, const uint8_t *pinned);

/* Was any in the way? */
static inline bool moe_use_unstick(struct moe_use_groups *all)
{
    return (all->some_stuck || all->n_stuck > 0) && moe_use_unstick_all(all);
}

#endif
