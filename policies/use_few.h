/* The candidates of a pool of very few slots, for opt-time: their next uses stand side by side, no
 * group is kept. Used again, a candidate changes one number; who goes first is found by comparing
 * all with all, which takes a vector of eight a few instructions. The rules are those of
 * use_groups.h. */
#ifndef MOELAB_POLICIES_USE_FEW_H
#define MOELAB_POLICIES_USE_FEW_H

#include "policies/policy.h"

#define MOE_USE_NONE UINT32_MAX

/* What an event takes, of which `hits` of n experts are on the GPU:
 * max(cpu(n - hits), hits gpu), cpu(0) = 0, cpu(m) = state + m cpu. */
struct moe_use_times {
    double cpu_ns, gpu_ns, state_ns;
};

static inline double moe_use_event_ns(const struct moe_use_times *times, uint32_t n, uint32_t hits)
{
    double misses = (double)(n - hits);
    double cpu = misses > 0 ? times->state_ns + misses * times->cpu_ns : 0;
    double gpu = (double)hits * times->gpu_ns;
    return cpu > gpu ? cpu : gpu;
}

/* What each of those that are kept saves, in a group of n with those given up. */
static inline double moe_use_saved_by_each(const struct moe_use_times *times, uint32_t top_k,
                                           uint32_t n, uint32_t n_kept)
{
    n = n > top_k ? n : top_k;
    return moe_use_event_ns(times, n, n_kept - 1) - moe_use_event_ns(times, n, n_kept);
}

#define MOE_FEW_IDLE UINT32_MAX /* the key of what is never used again */

/* Keys are next uses plus 1, IDLE, or 0 for none. */
struct moe_use_few {
    bool in_use; /* the pool is one for it */
    bool by_two; /* known, since the last search: no group is of more than two */
    bool stuck;  /* what may not go was in the way */
    struct moe_use_times times;
    double value_alone, value_of_two; /* each saves so much in a group of so many */
    uint32_t n_slots, top_k, row;     /* row: all candidates, in whole vectors */
    uint32_t end;                     /* from here on there is none */
    uint32_t n_gone;                  /* given up */
    uint32_t *use;                    /* [row + 1] of those kept; of residents, newcomers, nobody */
    uint32_t *gone;                   /* [row] of those given up */
};

/* A multiple of 8. */
size_t moe_few_size(const struct moe_policy_env *env);

/* Takes the pool if it is one for it. memory: moe_few_size bytes, of 8-byte alignment, zeroed. */
void moe_few_init(struct moe_use_few *few, const struct moe_policy_env *env,
                  const struct moe_use_times *times, void *memory);

static inline uint32_t moe_few_key(uint32_t next_use)
{
    return next_use + (next_use != MOE_NEVER);
}

/* Of a candidate, kept or given up. */
static inline uint32_t moe_few_key_of(const struct moe_use_few *few, uint32_t i)
{
    return few->use[i] ? few->use[i] : few->gone[i];
}

static inline void moe_few_join(struct moe_use_few *few, uint32_t i, uint32_t next_use)
{
    few->by_two = false;
    few->use[i] = moe_few_key(next_use);
    few->end = i < few->end ? few->end : i + 1;
}

/* Candidate i, which is kept, is used, and next then. */
static inline void moe_few_again(struct moe_use_few *few, uint32_t i, uint32_t next_use)
{
    few->by_two = false;
    few->use[i] = moe_few_key(next_use);
}

static inline void moe_few_leave(struct moe_use_few *few, uint32_t i)
{
    few->n_gone -= few->gone[i] > 0;
    few->use[i] = few->gone[i] = 0;
}

static inline void moe_few_settle(struct moe_use_few *few, uint32_t newcomer, uint32_t slot)
{
    few->use[slot] = few->use[newcomer];
    few->gone[slot] = few->gone[newcomer];
    few->use[newcomer] = few->gone[newcomer] = 0;
}

static inline void moe_few_set_kept(struct moe_use_few *few, uint32_t i, bool kept)
{
    uint32_t key = moe_few_key_of(few, i);
    few->n_gone -= few->gone[i] > 0;
    few->n_gone += !kept;
    few->use[i] = kept ? key : 0;
    few->gone[i] = kept ? 0 : key;
}

/* An event begins: no newcomer is a candidate. */
static inline void moe_few_begin_event(struct moe_use_few *few)
{
    few->end = few->n_slots;
    few->by_two = false;
}

/* Candidates with the next use of i, with i. */
uint32_t moe_few_sharing(const struct moe_use_few *few, uint32_t i);
/* What i, which is kept, saves. */
double moe_few_value(const struct moe_use_few *few, uint32_t i);

/* Do at least so many, two or more, have the next use of i? */
static inline bool moe_few_shares(const struct moe_use_few *few, uint32_t i, uint32_t least)
{
    return (least == 2 || !few->by_two) && moe_few_sharing(few, i) >= least;
}

/* Does i, which is kept, save anything? */
static inline bool moe_few_saves(const struct moe_use_few *few, uint32_t i)
{
    return few->use[i] != MOE_FEW_IDLE && (few->by_two || moe_few_value(few, i) > 0);
}

/* As moe_use_first. */
uint32_t moe_few_first(struct moe_use_few *few, uint32_t now, const uint8_t *pinned);

/* As moe_use_unstick. */
static inline bool moe_few_unstick(struct moe_use_few *few)
{
    bool stuck = few->stuck;
    few->stuck = false;
    return stuck;
}

#endif
