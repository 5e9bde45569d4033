/* The tuner's finalists on the part of the trace that was held out. */
#ifndef MOELAB_SIM_TUNE_JUDGE_H
#define MOELAB_SIM_TUNE_JUDGE_H

#include "sim/tune.h"
#include "sim/tune_search.h"

struct moe_tune_judging {
    struct moe_team *team;
    uint32_t jobs;
    uint64_t identity; /* as in tune_search.h */
    const struct moe_trace *held_out;
    uint64_t n_tokens; /* its decode tokens */
    const struct moe_model *model;
    const struct moe_platform *platform;
    const struct moe_tune_space *space;
    size_t n;
    const struct moe_tune_candidate *candidate; /* [n] */
    struct moe_tune_row *row;                   /* [n] strategy and held_out are filled */
    double **ms;                                /* [n] filled: [n_tokens] heap, the caller's */
};

/* The same rows on every rank. Errors: of moe_simulate and moe_team_map. */
enum moe_status moe_tune_judge(const struct moe_tune_judging *judging, struct moe_err *err);

#endif
