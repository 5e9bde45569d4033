/* LRU curves of one pool from a few of its experts: SHARDS (Waldspurger, Park, Garthwaite, Ahmad,
 * Efficient MRC construction with SHARDS, FAST 2015).
 *
 * Only experts whose hash is among the lowest of their layer are followed; a pool that holds p of
 * them stands for one of p / rate slots. It costs the share `rate` of the exact computation for
 * each hash, and knows nothing of the future. Different from the paper, because experts are few and
 * all known: every layer gives as many, and the rate is hits by lookups of the sample.
 *
 * The error bar has two parts: the spread over hashes (Student's t), and how far a distance that is
 * seen through a sample may be off, two binomial deviations to either side. With the first alone
 * the bar is wrong: every hash smears the cliff at one token's experts alike. With both it holds
 * the exact curve at more than nine sizes in ten (tests/unit/test_mrc_shards.c), and shows how
 * little a sample of few experts tells. moe_mrc_stream is exact, in constant memory, and about as
 * fast as ten hashes of a tenth: prefer it. */
#ifndef MOELAB_SIM_MRC_SHARDS_H
#define MOELAB_SIM_MRC_SHARDS_H

#include "sim/mrc.h"

enum { MOE_SHARDS_MIN_KEYS = 16 };

struct moe_shards_options {
    double rate;        /* of the experts, in (0, 1) */
    uint32_t n_samples; /* hashes, 2 or more */
    uint64_t seed;
    enum moe_contract contract;
    enum moe_replay_order order;
    enum moe_phases phases;
    bool cold;
    struct moe_progress *progress; /* updated with tokens done, or NULL */
};

struct moe_shards_curve {
    uint32_t n_slots;         /* L * E */
    uint32_t n_keys;          /* experts in a sample */
    uint64_t tokens;          /* visited */
    double *hit, *low, *high; /* [n_slots + 1] hit rates: mean of the samples, error bar */
};

/* From a trace in memory, or from a file in constant memory. Release the curve. Errors:
 * MOE_ERR_USAGE (order file refused; fewer than MOE_SHARDS_MIN_KEYS experts in a sample),
 * MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. Without lookups all rates are 0. Any number of threads gives
 * the same result. */
enum moe_status moe_shards_compute(const struct moe_trace *trace,
                                   const struct moe_shards_options *options,
                                   struct moe_shards_curve *out, struct moe_err *err);
enum moe_status moe_shards_stream(struct moe_reader *reader,
                                  const struct moe_shards_options *options,
                                  struct moe_shards_curve *out, struct moe_err *err);
void moe_shards_release(struct moe_shards_curve *curve);

#endif
