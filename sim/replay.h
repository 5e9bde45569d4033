/* Replay: counts hits of a geometry and policy on a trace, without time.
 *
 * Contract `event`: all experts of a (step, layer) are classified against the contents at its
 * start; none of them can be evicted by the event; misses are admitted and recency updated in gate
 * order. Contract `access`: experts one after another, each evicts and is inserted at once.
 * A reroute rule changes a token's experts of a layer before the first of them is looked up, in
 * both. Layers without a pool are not counted in either. What a policy begins with (static) is
 * resident at the start. */
#ifndef MOELAB_SIM_REPLAY_H
#define MOELAB_SIM_REPLAY_H

#include "base/progress.h"
#include "policies/admission.h"
#include "policies/cache.h"
#include "policies/future.h"
#include "policies/rerouter.h"
#include "traces/hdf5.h"
#include "traces/trace.h"

struct moe_replay_options {
    enum moe_contract contract;
    enum moe_replay_order order;
    enum moe_phases phases; /* tokens of other phases are skipped altogether */
    bool cold;              /* every sequence starts with an empty cache, or as the policy begins */
    bool compare_log;       /* compare each access with the engine's log (access contract) */
    bool generic;           /* never take a specialised path (tests, bench) */
    uint64_t seed;
    struct moe_progress *progress;              /* updated with tokens done, or NULL */
    const struct moe_admission_spec *admission; /* NULL: always */
    const struct moe_reroute_spec *reroute;     /* NULL: none */
    bool lossy; /* the user wants what a lossy reroute rule gives; else it is refused */
};

struct moe_replay_result {
    uint32_t n_layers;
    struct moe_counts *layer[2]; /* [phase][L] */
    struct moe_counts total[2];  /* by enum moe_phase */
    struct moe_counts both;
    uint64_t tokens;
    struct moe_preloads preloads; /* counted again for every sequence that starts cold */
    uint64_t log_rows, log_agree; /* compare_log: accesses compared, and those that agree */
    struct moe_rerouted rerouted; /* what a lossy rule changed */
};

/* Replays a trace in memory. Release the result. Errors: MOE_ERR_USAGE (order file refused, log
 * absent, contract, those of moe_reroute_check), MOE_ERR_MEMORY. */
enum moe_status moe_replay(const struct moe_trace *trace, const struct moe_geometry *geometry,
                           const struct moe_policy_spec *policy,
                           const struct moe_replay_options *options, struct moe_replay_result *out,
                           struct moe_err *err);

/* The same, streaming from a file in constant memory. A policy that needs the future is refused
 * with the advice to load the trace. */
enum moe_status moe_replay_stream(struct moe_reader *reader, const struct moe_geometry *geometry,
                                  const struct moe_policy_spec *policy,
                                  const struct moe_replay_options *options,
                                  struct moe_replay_result *out, struct moe_err *err);
void moe_replay_release(struct moe_replay_result *result);

/* Decode hits of every N x M geometry, N = 0..L and M = 0..max_ways, event or access contract:
 * hits[n * (max_ways + 1) + m]. In such a geometry layers do not affect each other, so each
 * (layer, M) is replayed once and summed over layers. Caller frees *hits. */
enum moe_status moe_replay_grid(const struct moe_trace *trace, const struct moe_policy_spec *policy,
                                const struct moe_replay_options *options, uint32_t max_ways,
                                uint64_t **hits, struct moe_err *err);

#endif
