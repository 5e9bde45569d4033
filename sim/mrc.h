/* Miss ratio curves: hits for every cache size from one pass over a trace, LRU and OPT.
 *
 * Equal to moe_replay's counters (policies `lru` and `opt`, every miss admitted) at every size, in
 * both contracts: with one pool of M slots a layer, M = 0..E (and so for every N x M and per-layer
 * geometry, whose layers do not affect each other), and with one pool of S slots for all layers,
 * S = 0..L*E. How: mrc_lru.h, mrc_opt.h.
 * Part of a trace only, and error bars: mrc_sample.h, mrc_interval.h. */
#ifndef MOELAB_SIM_MRC_H
#define MOELAB_SIM_MRC_H

#include "base/progress.h"
#include "policies/future.h"
#include "traces/hdf5.h"
#include "traces/trace.h"

enum moe_mrc_policy { MOE_MRC_LRU, MOE_MRC_OPT, MOE_MRC_POLICIES };

struct moe_mrc_sequences;

struct moe_mrc_options {
    enum moe_contract contract;
    enum moe_replay_order order;
    enum moe_phases phases; /* tokens of other phases are skipped altogether */
    bool cold;              /* every sequence starts with empty caches */
    bool opt;               /* OPT as well */
    bool global;            /* the curves of one pool for all layers as well */
    /* By the tokens' sequence: 0 where a sequence fills caches but is not counted;
     * NULL: all are counted. */
    const uint8_t *counted;
    struct moe_mrc_sequences *sequences; /* hits of each sequence (mrc_interval.h), or NULL */
    struct moe_progress *progress;       /* updated with tokens done, or NULL */
};

/* Counters by the pool's number of slots, 0..max_slots. */
struct moe_mrc_curve {
    uint32_t max_slots;
    uint64_t lookups, events;
    uint64_t *hits, *any_hit_events, *all_hit_events; /* [max_slots + 1] */
};

struct moe_mrc {
    uint32_t n_layers, n_experts;
    uint64_t tokens;                                  /* visited, counted or not */
    bool has_opt, has_global;                         /* curves that are there */
    struct moe_mrc_curve *layer[MOE_MRC_POLICIES][2]; /* [policy][phase][L] */
    struct moe_mrc_curve global[MOE_MRC_POLICIES][2]; /* [policy][phase] */
};

/* Release the result. Errors: MOE_ERR_USAGE (order file refused), MOE_ERR_UNSUPPORTED (OPT of a
 * trace of 2^32 uses), MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. Uses OpenMP's threads; any number of
 * them gives the same result. */
enum moe_status moe_mrc_compute(const struct moe_trace *trace,
                                const struct moe_mrc_options *options, struct moe_mrc *out,
                                struct moe_err *err);

/* Fails (MOE_ERR_USAGE) if moe_mrc_stream cannot do OPT: it needs AVX-512, and pools of at most
 * MOE_OPT_ENDS_MOST slots. */
enum moe_status moe_mrc_streams_opt(const struct moe_trace_info *info, bool global,
                                    struct moe_err *err);

/* As moe_mrc_compute, exactly, streaming from a file in constant memory. Errors: also those of
 * moe_mrc_streams_opt, with options->opt. */
enum moe_status moe_mrc_stream(struct moe_reader *reader, const struct moe_mrc_options *options,
                               struct moe_mrc *out, struct moe_err *err);
void moe_mrc_release(struct moe_mrc *mrc);

/* One point of a curve. */
struct moe_mrc_point {
    uint64_t lookups, hits, events, any_hit_events, all_hit_events;
};

/* Layers [first, end) with a pool of `ways` slots each, ways <= E; the phases of `phases` summed.
 */
struct moe_mrc_point moe_mrc_at_ways(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                                     enum moe_phases phases, uint32_t first, uint32_t end,
                                     uint32_t ways);

/* One pool of `slots` for all layers, slots <= L * E. */
struct moe_mrc_point moe_mrc_at_slots(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                                      enum moe_phases phases, uint32_t slots);

#endif
