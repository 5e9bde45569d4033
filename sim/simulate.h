/* Timed simulation of a strategy on a trace, a model and a platform. */
#ifndef MOELAB_SIM_SIMULATE_H
#define MOELAB_SIM_SIMULATE_H

#include "base/progress.h"
#include "policies/decision_log.h"
#include "policies/platform.h"
#include "policies/result.h"
#include "policies/strategy.h"
#include "policies/timeline.h"
#include "traces/model.h"
#include "traces/trace.h"

struct moe_sim_input {
    const struct moe_trace *trace;
    const struct moe_model *model;
    const struct moe_platform *platform;
    const struct moe_strategy *strategy;
    struct moe_timeline *timeline;      /* receives every operation, or NULL */
    struct moe_decision_log *decisions; /* receives every event, or NULL */
    uint64_t max_tokens;                /* stop after that many decode tokens; 0: all */
    bool bound;                         /* compute the lower bounds (costs a pooled OPT replay) */
    struct moe_progress *progress;      /* updated with tokens done, or NULL */
    double *token_ms;                   /* [decode tokens] out: of each token run, or NULL */
    bool instant_fills;                 /* as in sim/machine.h */
};

/* Errors: MOE_ERR_USAGE (geometry against model, cache larger than GPU memory, trace shape against
 * model; a smaller top-k than the model's is taken from the trace, no decode tokens),
 * MOE_ERR_MEMORY. */
enum moe_status moe_simulate(const struct moe_sim_input *input, struct moe_result *out,
                             struct moe_err *err);

#endif
