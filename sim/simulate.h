/* Timed simulation of a strategy on a trace, a model and a platform. */
#ifndef MOELAB_SIM_SIMULATE_H
#define MOELAB_SIM_SIMULATE_H

#include "base/progress.h"
#include "policies/cache.h"
#include "policies/platform.h"
#include "policies/strategy.h"
#include "policies/timeline.h"
#include "policies/usage.h"
#include "traces/model.h"
#include "traces/trace.h"

struct moe_sim_input {
    const struct moe_trace *trace;
    const struct moe_model *model;
    const struct moe_platform *platform;
    const struct moe_strategy *strategy;
    struct moe_timeline *timeline; /* receives every operation, or NULL */
    uint64_t max_tokens;           /* stop after that many decode tokens; 0: all */
    bool bound;                    /* compute the lower bound (costs a pooled OPT replay) */
    struct moe_progress *progress; /* updated with tokens done, or NULL */
};

struct moe_sim_result {
    uint64_t prefill_tokens, decode_tokens;
    uint64_t prefill_ns, decode_ns;
    double tokens_per_s;                        /* decode */
    double ms_mean, ms_p50, ms_p95, ms_p99;     /* per decode token */
    struct moe_time_by_cause cause;             /* decode; the parts sum to decode_ns */
    struct moe_counts decode, prefill;          /* sums over covered layers */
    uint64_t routed_experts;                    /* expert uses of decode, all layers */
    uint64_t cpu_experts, gpu_experts;          /* where decode computed them */
    uint64_t h2d_bytes;                         /* expert copies, decode */
    double gpu_busy, cpu_busy, h2d_busy;        /* share of decode time */
    double dram_gb_per_s;                       /* mean over decode */
    double energy_j, cpu_w, gpu_w, j_per_token; /* decode */
    double bound_ms;    /* per token: no schedule on this platform is faster; NaN: off */
    double bound_share; /* bound / mean */
    uint64_t cache_slots, cache_bytes;
};

/* Errors: MOE_ERR_USAGE (geometry against model, cache larger than GPU memory, trace shape against
 * model; a smaller top-k than the model's is taken from the trace, no decode tokens),
 * MOE_ERR_MEMORY. */
enum moe_status moe_simulate(const struct moe_sim_input *input, struct moe_sim_result *out,
                             struct moe_err *err);

#endif
