/* The tuner: which strategy is the fastest on this platform for this routing, and is it worth it?
 *
 * The trace is divided (tune_split.h). On the training part strategies are searched
 * (tune_search.h), a list of popular experts is fitted, slots are divided over layers by measured
 * curves (tune_ways.h), and of each simple design (enum moe_tune_family) the best is found. These
 * and the best of the search are then simulated on the held-out part, which nothing has seen
 * before, and ordered by decode tokens per second there; which of them are really different,
 * tune_compare.h tells. The winner is reported with the numbers that it was picked by, which
 * favours it a little: it is the best of a dozen or so, not of thousands.
 *
 * Where a design without slots may be as fast as the winner, the verdict is not to cache. Where no
 * expert fits beside the dense part nothing is searched, only the designs without slots compared,
 * at their best numbers of threads; without a GPU that is cpu-only. */
#ifndef MOELAB_SIM_TUNE_H
#define MOELAB_SIM_TUNE_H

#include "policies/hot_list.h"
#include "policies/platform.h"
#include "policies/result.h"
#include "policies/strategy.h"
#include "sim/team.h"
#include "sim/tune_compare.h"
#include "sim/tune_split.h"
#include "traces/model.h"

struct moe_tune_options {
    const struct moe_trace *trace;
    const struct moe_model *model;
    const struct moe_platform *platform;
    const struct moe_strategy *base; /* keys that the search leaves alone; NULL: defaults */
    uint64_t threads;                /* CPU threads of every strategy; 0: searched */
    uint64_t budget_bytes;           /* of device memory for slots; 0: what is left */
    uint64_t max_points;             /* candidates drawn */
    uint64_t n_keep;                 /* finalists */
    uint64_t n_rungs;                /* of halving; 0: until n_keep are left */
    uint64_t max_tokens;             /* decode tokens to train on; 0: all */
    uint64_t seed;                   /* of the division, the sample, and resampling */
    uint32_t jobs;         /* threads of the search, of this process; 0: all it may have */
    struct moe_team *team; /* NULL: this process alone. All ranks get the same result */
};

/* Designs that the winner is held against, each at its best on the training part. */
enum moe_tune_family {
    MOE_TUNE_SEARCHED,
    MOE_TUNE_BEST_UNIFORM, /* the paper's rules (`collab`) with the best N x M */
    MOE_TUNE_BEST_STATIC,  /* nothing moves: popular experts, pools or one, misses anywhere */
    MOE_TUNE_WHOLE_LAYERS, /* nothing moves: all experts of some layers (-ncmoe), misses on the CPU
                            */
    MOE_TUNE_CPU_ONLY,     /* no slots: every expert on the CPU, */
    MOE_TUNE_ON_DEMAND,    /*   or copied and computed on the GPU, */
    MOE_TUNE_BOTH_SIDES,   /*   or on the side where it ends first */
    MOE_TUNE_FAMILIES
};

extern const char *const moe_tune_family_names[MOE_TUNE_FAMILIES];

struct moe_tune_row {
    struct moe_strategy strategy; /* `static` without a list where `fitted` is set */
    bool fitted;                  /* holds the experts of the result's list: moe_tune_name_list */
    unsigned families;            /* bit 1 << f: is the best of family f */
    double train_tokens_per_s;
    struct moe_result held_out; /* with bound */
    struct moe_tune_gain gain;  /* of the chosen strategy over this one */
    bool within_noise;          /* could be as fast as the chosen one */
};

struct moe_tune_result {
    struct moe_tune_split split;
    bool blocks; /* runs of tokens were resampled, not sequences */
    uint32_t
        n_units;  /* what was resampled; fewer than 2: no intervals, nothing can be told apart */
    moe_key *hot; /* [L * E] experts by uses in the training part, and their uses by key */
    uint64_t *uses;
    uint64_t free_bytes, budget_bytes, slots; /* device memory left for slots; used for them */
    uint64_t space, simulations, tokens;      /* combinations; runs and their decode tokens */
    size_t n_rows;
    struct moe_tune_row *row;          /* fastest on the held-out part first */
    size_t chosen;                     /* row 0, or the best without slots where do_not_cache */
    bool do_not_cache;                 /* never without intervals */
    size_t best_of[MOE_TUNE_FAMILIES]; /* rows; n_rows: the family has none */
};

/* Release the result. Errors: MOE_ERR_USAGE (dense weights and KV cache of the longest context that
 * the GPU does not hold; a budget above what it has left beside them and two staging buffers, or
 * where there is no GPU; trace against model; too few decode passes), MOE_ERR_MEMORY,
 * MOE_ERR_INTERRUPTED. */
enum moe_status moe_tune(const struct moe_tune_options *options, struct moe_tune_result *out,
                         struct moe_err *err);
void moe_tune_release(struct moe_tune_result *result); /* also one that is all zero */

#endif
