/* Reuse statistics of a trace, each beside what uniform random routing would give ("chance").
 *
 * Definitions, for decode tokens t and t+lag of one sequence and layer l, both with routes R:
 *   per expert    |R(t) n R(t+lag)| / |R(t+lag)|            chance K/E
 *   at least one  R(t) n R(t+lag) not empty                 chance 1 - C(E-K,K)/C(E,K)
 *   all           R(t) = R(t+lag) as sets                   chance 1/C(E,K)
 * Consecutive layers: the same with R(l), R(l+1) of one token.
 * Reuse distance: number of different experts of the layer used since the last use of this one
 * (LRU stack distance, per access, gate order, cold start per sequence): an LRU of M ways hits
 * exactly the accesses of distance < M; chance: the mean over i < K of max(0, M-i)/(E-i), as the
 * i-th expert of a token is none of the i before it, which have ways already. */
#ifndef MOELAB_TRACES_REUSE_H
#define MOELAB_TRACES_REUSE_H

#include "traces/trace.h"

enum { MOE_LAGS = 6 };
extern const uint32_t moe_lags[MOE_LAGS]; /* 1 2 3 4 8 16 */

struct moe_reuse_layer {
    uint64_t n_routes; /* decode routes */
    uint64_t n_accesses;
    double *popularity;             /* [E] share of accesses */
    double *first_popularity;       /* [E] share of first choices */
    double entropy;                 /* of popularity, in bits; chance log2 E */
    double repeat_expert[MOE_LAGS]; /* NaN where no pair exists */
    double repeat_any[MOE_LAGS];
    double repeat_all[MOE_LAGS];
    double repeat_first;      /* first choice equal, lag 1; chance 1/E */
    double next_layer_expert; /* overlap with layer l+1; NaN for the last */
    double next_layer_any;
    double next_layer_all;
    double *lru_hit_rate; /* [E + 1]: by ways M = 0..E, per access, cold per sequence */
    double working_set;   /* mean number of different experts in 16 consecutive tokens */
};

struct moe_reuse {
    uint32_t n_layers, n_experts, top_k;
    uint64_t n_sequences, n_prefill, n_decode;
    struct moe_reuse_layer *layer; /* [L] */
    struct moe_reuse_layer mean;   /* mean over the layers that have the value */
    double chance_expert, chance_any, chance_all, chance_first, chance_entropy;
    double chance_working_set;
    /* Template contamination: mean share of a sequence's prompt tokens (or, without token ids,
     * prefill routes) that are a common prefix with another sequence; NaN when no prefill. */
    double prompt_common_share;
};

/* Statistics of the decode tokens (of all tokens where there are none). The trace holds what
 * moe_tokens_check promises. In `mean`, the counts are sums. Release after use. Errors:
 * MOE_ERR_UNSUPPORTED (several requests in a sequence), MOE_ERR_MEMORY. */
enum moe_status moe_reuse_compute(const struct moe_trace *trace, struct moe_reuse *out,
                                  struct moe_err *err);
/* The same for loops that need popularity and repeats only: lru_hit_rate and working_set stay 0. */
enum moe_status moe_reuse_compute_repeats(const struct moe_trace *trace, struct moe_reuse *out,
                                          struct moe_err *err);
/* What `lru_hit_rate[ways]` is by chance, once the ways are full. */
double moe_reuse_chance_lru(const struct moe_reuse *reuse, uint32_t ways);
void moe_reuse_release(struct moe_reuse *reuse);

#endif
