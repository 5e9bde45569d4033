/* What use_groups.h does, for pools of very few slots: the same decisions, found without keeping
 * groups. The next uses of all candidates are stored side by side, so that a candidate that is used
 * again changes one number. Which one goes first is found by comparing all with all: for eight, one
 * vector, that takes a few instructions. */
#ifndef MOELAB_POLICIES_USE_FEW_H
#define MOELAB_POLICIES_USE_FEW_H

#include "policies/policy.h"

#define MOE_USE_NONE UINT32_MAX

/* The times of the model of an event (opt_time.c): with `hits` of its n experts on the GPU it takes
 * max(cpu(n - hits), hits gpu), where cpu(0) = 0 and cpu(m) = state + m cpu. */
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

/* What each kept candidate saves in a group of n candidates of which n_kept >= 1 are kept. */
static inline double moe_use_saved_by_each(const struct moe_use_times *times, uint32_t top_k,
                                           uint32_t n, uint32_t n_kept)
{
    n = n > top_k ? n : top_k;
    return moe_use_event_ns(times, n, n_kept - 1) - moe_use_event_ns(times, n, n_kept);
}

#define MOE_FEW_IDLE UINT32_MAX /* key of a candidate that is never used again */

/* A key is 1 + the next use, or IDLE; 0: no candidate. */
struct moe_use_few {
    bool in_use;        /* the pool suits; otherwise nothing else here may be called */
    bool pairs_at_most; /* no group has more than two candidates: found by the last search, and
                           none joined or changed its next use since */
    bool stuck;         /* a candidate would have gone, but is pinned */
    struct moe_use_times times;
    double value_alone, value_of_two; /* value of each candidate of a group of one, of two */
    uint32_t n_slots, top_k, row;     /* row: number of candidates, rounded up to whole vectors */
    uint32_t end;                     /* no candidate has this number or a higher one */
    uint32_t n_gone;                  /* number of candidates given up */
    uint32_t *use;  /* [row + 1] keys of those kept, residents by slot, then newcomers; [row] takes
                       writes that are to have no effect */
    uint32_t *gone; /* [row] keys of those given up */
};

/* A multiple of 8. */
size_t moe_few_size(const struct moe_policy_env *env);

/* Sets in_use: whether it suits the pool. memory: moe_few_size bytes, of 8-byte alignment, zeroed.
 */
void moe_few_init(struct moe_use_few *few, const struct moe_policy_env *env,
                  const struct moe_use_times *times, void *memory);

static inline uint32_t moe_few_key(uint32_t next_use)
{
    return next_use + (next_use != MOE_NEVER);
}

/* The key of a candidate, kept or given up. */
static inline uint32_t moe_few_key_of(const struct moe_use_few *few, uint32_t i)
{
    return few->use[i] ? few->use[i] : few->gone[i];
}

static inline void moe_few_join(struct moe_use_few *few, uint32_t i, uint32_t next_use)
{
    few->pairs_at_most = false;
    few->use[i] = moe_few_key(next_use);
    few->end = i < few->end ? few->end : i + 1;
}

/* Candidate i, which is kept, is used, and next then. */
static inline void moe_few_again(struct moe_use_few *few, uint32_t i, uint32_t next_use)
{
    few->pairs_at_most = false;
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
    few->pairs_at_most = false;
}

/* The number of candidates with the next use of i, i included. */
uint32_t moe_few_sharing(const struct moe_use_few *few, uint32_t i);
/* The value of i, which is kept. */
double moe_few_value(const struct moe_use_few *few, uint32_t i);

/* Do at least `least` >= 2 candidates have the next use of i? */
static inline bool moe_few_shares(const struct moe_use_few *few, uint32_t i, uint32_t least)
{
    return (least == 2 || !few->pairs_at_most) && moe_few_sharing(few, i) >= least;
}

/* Is the value of i, which is kept, positive? In groups of one and of two it always is (in_use). */
static inline bool moe_few_saves(const struct moe_use_few *few, uint32_t i)
{
    return few->use[i] != MOE_FEW_IDLE && (few->pairs_at_most || moe_few_value(few, i) > 0);
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
