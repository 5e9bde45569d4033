/* Latent-score generator behind the `stats` kind of synthetic traces.
 *
 * Per layer and expert a score
 *     s_e(t) = bias_e + sum_i sqrt(share_i) x_{i,e}(t)
 * where x_i are unit-variance first-order autoregressive processes of different memory (the first
 * has none) and the shares sum to 1. A token's route is the K experts of highest score, in falling
 * order of s_e + order_bias_e; with probability `copy` it is the previous token's route instead.
 * bias sets popularity, order_bias first-choice popularity, shares repeat by lag, and copy how
 * often the whole route repeats. Only adds, products and square roots: the same bytes on every
 * machine. */
#ifndef MOELAB_TRACES_SYNTH_LATENT_H
#define MOELAB_TRACES_SYNTH_LATENT_H

#include "base/error.h"
#include "base/rng.h"
#include "traces/trace.h"

#include <stdint.h>

enum { MOE_LATENT_PROCESSES = 4 };

/* Correlation of neighbouring tokens in each process. */
extern const double moe_latent_memory[MOE_LATENT_PROCESSES];

struct moe_latent_params {
    double *bias;       /* [E] */
    double *order_bias; /* [E] */
    double share[MOE_LATENT_PROCESSES];
    double copy;
};

/* Errors: MOE_ERR_MEMORY. All zero but share[0] = 1: uniform routing. */
enum moe_status moe_latent_params_init(struct moe_latent_params *params, uint32_t n_experts,
                                       struct moe_err *err);
void moe_latent_params_release(struct moe_latent_params *params);

struct moe_latent {
    uint32_t n_experts, top_k;
    bool started;      /* within a sequence */
    double *x;         /* [P, E] */
    uint64_t *draw;    /* [P, E] random numbers of the token under way */
    double *score;     /* [E] */
    moe_expert *route; /* [K] of the last token */
};

enum moe_status moe_latent_init(struct moe_latent *latent, uint32_t n_experts, uint32_t top_k,
                                struct moe_err *err);
void moe_latent_release(struct moe_latent *latent);

/* The next token starts a new sequence: its scores owe nothing to the last one. */
void moe_latent_restart(struct moe_latent *latent);

/* Writes the next token's route [K]. params are of the same E. */
void moe_latent_next(struct moe_latent *latent, const struct moe_latent_params *params,
                     struct moe_rng *rng, moe_expert *route);

#endif
