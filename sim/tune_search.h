/* The tuner's search over its training part: candidates, timed on prefixes of growing length.
 *
 *   draw     the whole space where it is small. Otherwise a core (every geometry with the paper's
 *            rules and with a fixed placement, everywhere that a miss can go) and a sample of the
 *            rest, four times as many as are wanted, of which those stay that an estimate from
 *            replayed hits ranks first
 *   halve    successive halving (Jamieson, Talwalkar, AISTATS 2016): every candidate is simulated
 *            on a prefix; the best third goes on to twice as many tokens
 *   polish   the best few, and the best whose slots move, are varied in one axis at a time, on all
 *            tokens, until nothing is better
 *   move     the same with single slots moved between layers
 * Ties are broken by the order of the candidates: results do not depend on threads or ranks. */
#ifndef MOELAB_SIM_TUNE_SEARCH_H
#define MOELAB_SIM_TUNE_SEARCH_H

#include "policies/platform.h"
#include "sim/team.h"
#include "sim/tune_space.h"

struct moe_tune_candidate {
    struct moe_tune_point point;
    double ns;      /* a decode token; infinite where it cannot run */
    uint64_t order; /* of creation */
    bool varied;    /* its neighbours have been looked at */
};

struct moe_tune_search {
    const struct moe_trace *train;
    const struct moe_model *model;
    const struct moe_platform *platform;
    struct moe_tune_space *space; /* moving slots adds geometries */
    uint64_t max_points, n_keep, n_rungs, max_tokens, seed;
    uint32_t jobs;
    struct moe_team *team; /* NULL: this process alone; all ranks make the same search */
    uint64_t identity;     /* of the trace: ranks must agree */
    const uint64_t *worth, *static_worth; /* [L, E + 1] of ways: tune_ways.h */
    /* the candidates, best first after each step */
    size_t n, room;
    struct moe_tune_candidate *candidate;
    uint64_t n_made;              /* candidates so far */
    uint64_t simulations, tokens; /* run so far, and their decode tokens */
    size_t n_seen, seen_room;     /* ids of all candidates so far, a hash set; 0: empty */
    uint64_t *seen;
};

void moe_tune_search_release(struct moe_tune_search *search);

/* Adds a candidate, made canonical, unless it was there before. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_tune_add(struct moe_tune_search *search, struct moe_tune_point point,
                             struct moe_err *err);

/* Best first; all but the first `keep` are dropped. */
void moe_tune_rank(struct moe_tune_search *search, size_t keep);

/* The best candidate whose slots change what they hold; n where there is none. */
size_t moe_tune_best_moving(const struct moe_tune_search *search);

/* The same for times over all tokens: of candidates with exactly the same time, which did the same
 * under different names, only the first is kept. The best moving one stays in any case: if the
 * held-out part uses other experts, the best fixed placements are worth nothing. */
void moe_tune_rank_different(struct moe_tune_search *search, size_t keep);

/* Times candidates [first, n) on all tokens; of many only the eighth that was best on a prefix of
 * an eighth of the tokens, the others are dropped. what: for the progress line. Errors:
 * MOE_ERR_INTERRUPTED, MOE_ERR_MEMORY; with first 0 where none can run, why. */
enum moe_status moe_tune_race(struct moe_tune_search *search, size_t first, const char *what,
                              struct moe_err *err);

enum moe_status moe_tune_draw(struct moe_tune_search *search, struct moe_err *err);
enum moe_status moe_tune_halve(struct moe_tune_search *search, struct moe_err *err);
enum moe_status moe_tune_polish(struct moe_tune_search *search, struct moe_err *err);
enum moe_status moe_tune_move(struct moe_tune_search *search, struct moe_err *err);

/* Varies the N and M of the best candidate, whose geometry is N x M, within so many slots, until
 * nothing is better: powers of two first, then what lies near (tune_uniform.c). */
enum moe_status moe_tune_vary_uniform(struct moe_tune_search *search, uint64_t slots,
                                      struct moe_err *err);

#endif
