/* Measured routing statistics of a model, read from JSON, and the generator fitted to them.
 *
 * File: {"model": text, "sequences": n, "tokens": n, "top_k": n, "layers": [{"layer": 0,
 * "popularity": [E], "first_choice_popularity": [E], "expert_repeat_by_lag": {"1": x, "2": ...},
 * "first_choice_repeat": x, "at_least_one_repeat": x, "both_repeat": x,
 * "lru_hit_rate_by_ways": {"1": x, ... "E-1": x}}, ...]}; "tokens" (all sequences together),
 * "top_k" (2), "origin", "definitions" and "licence" (texts) may be left out. All numbers are
 * shares in [0, 1]; definitions as in reuse.h. */
#ifndef MOELAB_TRACES_SYNTH_STATS_H
#define MOELAB_TRACES_SYNTH_STATS_H

#include "traces/reuse.h"
#include "traces/synth_latent.h"

#include <stddef.h>

struct moe_stats_layer {
    double *popularity;       /* [E] */
    double *first_popularity; /* [E] */
    double *lru_hit_rate;     /* [E] by ways M = 0..E-1; a comparison, not a target of the fit */
    double repeat_expert[MOE_LAGS];
    double repeat_first, repeat_any, repeat_all; /* lag 1 */
};

struct moe_stats {
    char model[MOE_TEXT_MAX];
    uint32_t n_layers, n_experts, top_k;
    uint64_t n_sequences, n_tokens; /* n_tokens 0: not told */
    uint64_t hash;                  /* FNV-1a of the file's bytes */
    struct moe_stats_layer *layer;  /* [L] */
};

/* Errors: MOE_ERR_IO, MOE_ERR_INPUT (file, place, value, limit), MOE_ERR_MEMORY. */
enum moe_status moe_stats_load(const char *path, struct moe_stats *out, struct moe_err *err);
/* The same from memory; name stands for the file in messages. */
enum moe_status moe_stats_parse(const char *name, const char *data, size_t size,
                                struct moe_stats *out, struct moe_err *err);
void moe_stats_release(struct moe_stats *stats);

/* Tokens of a measured sequence, rounded; where the file does not tell: 146, the mean of the
 * measured Mixtral sequences (585 tokens in 4). */
uint64_t moe_stats_sequence_tokens(const struct moe_stats *stats);

/* Fits params (made by moe_latent_params_init for E) to the layer by simulating sequences of the
 * measured length and correcting the parameters. Deterministic: depends on the statistics only.
 * Targets: popularity, first choices, repeat by lag, all-repeat. LRU hit rates are not fitted; they
 * follow from these, for sequences of the measured length: longer ones have fewer cold misses.
 * Errors: MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. */
enum moe_status moe_stats_fit(const struct moe_stats *stats, uint32_t layer,
                              struct moe_latent_params *params, struct moe_err *err);

#endif
