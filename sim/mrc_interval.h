/* Error bars of miss ratio curves: hits of each sequence, and intervals by resampling sequences.
 *
 * The sequences are taken as drawn from a workload, independently of each other; the hits inside
 * one are not independent, so whole sequences are what is resampled (with replacement, as many as
 * there are; Efron, Tibshirani, An introduction to the bootstrap, 1993, chapters 6, 13). The
 * interval tells where the hit rate of the workload lies, not only that of this trace: also a trace
 * that was read to the last token has one. */
#ifndef MOELAB_SIM_MRC_INTERVAL_H
#define MOELAB_SIM_MRC_INTERVAL_H

#include "sim/mrc.h"

enum { MOE_MRC_GLOBAL_POINTS = 256, MOE_MRC_REPLICATES = 400 };

/* Hits of every sequence: summed over layers at M = 1..E ways, and at some sizes of one pool. */
struct moe_mrc_sequences {
    uint64_t n;                                   /* sequences */
    uint32_t n_ways;                              /* E */
    uint32_t n_points;                            /* of the one pool; 0: not asked for */
    uint32_t *slots;                              /* [n_points] rising; the last is L * E */
    uint64_t *lookups[2];                         /* [phase][n] of all layers */
    uint64_t *hits_at_ways[MOE_MRC_POLICIES][2];  /* [policy][phase][n, n_ways]; OPT: or NULL */
    uint64_t *hits_at_slots[MOE_MRC_POLICIES][2]; /* [policy][phase][n, n_points]; or NULL */
};

/* Room for n sequences, all zero. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_mrc_sequences_init(struct moe_mrc_sequences *out,
                                       const struct moe_trace_info *info,
                                       const struct moe_mrc_options *options, uint64_t n,
                                       struct moe_err *err);
void moe_mrc_sequences_release(struct moe_mrc_sequences *sequences);

/* Hit rates between which the middle 95 % of the replicates lie; NaN where nothing was looked up.
 */
struct moe_mrc_band {
    double low, high;
};

/* Bands of one policy: at_ways[E] for M = 1..E and at_slots[n_points], either may be NULL.
 * Sequences without a lookup do not take part. Same seed, same bands. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_mrc_bands(const struct moe_mrc_sequences *sequences, enum moe_mrc_policy policy,
                              enum moe_phases phases, uint64_t seed, struct moe_mrc_band *at_ways,
                              struct moe_mrc_band *at_slots, struct moe_err *err);

#endif
