/* Real runs of a model under a strategy on a device. Two entry points: moe_hybrid_* generates text
 * with the model's own routes; moe_execute replays the routes of a trace and fills the same struct
 * moe_result as a simulation of that trace. */
#ifndef MOELAB_EXEC_HYBRID_H
#define MOELAB_EXEC_HYBRID_H

#include "base/progress.h"
#include "exec/expert_store.h"
#include "exec/pool.h"
#include "exec/power.h"
#include "exec/session.h"
#include "policies/decision_log.h"
#include "policies/platform.h"
#include "policies/result.h"
#include "policies/strategy.h"
#include "policies/timeline.h"
#include "traces/model.h"

struct moe_hybrid_options {
    const struct moe_strategy *strategy;
    const struct moe_platform *platform; /* costs for prefill 'auto', which is refused if NULL */
    struct moe_store_options store;
    struct moe_pool_options pool;       /* of the CPU's experts; threads 0: the strategy's */
    struct moe_power *power;            /* measures the energy of decode; NULL: not measured */
    struct moe_timeline *timeline;      /* or NULL */
    struct moe_decision_log *decisions; /* or NULL */
    struct moe_progress *progress;      /* shown while experts are packed, or NULL */
    bool lookahead;                     /* compute lookahead scores even if no policy needs them */
};

/* The shape of a model's configuration: for geometries, costs and results. */
void moe_llm_shape(const struct moe_llm *llm, struct moe_model *out);

/* How many expert slots fit on the device beside everything else that lies there, with a KV cache
 * of `context` tokens and passes of at most `chunk` tokens: what --fit shrinks a geometry to
 * (policies/geometry_fit.h). Errors: those of moe_expert_layout_of; MOE_ERR_USAGE when everything
 * else alone does not fit. */
enum moe_status moe_hybrid_room(struct moe_device *device, const struct moe_llm *llm,
                                const struct moe_strategy *strategy, uint32_t context,
                                uint32_t chunk, uint32_t *slots, struct moe_err *err);

struct moe_hybrid; /* opaque */

/* From here on, until the hybrid is freed, `session` computes its passes with it: experts where the
 * strategy says, the rest on the device. Scores are computed for policies that need them. device,
 * session, its llm and what options point at must outlive the hybrid. Errors: those of
 * moe_setup_init (a geometry that does not fit: what it takes and what there is), of the store, the
 * device and the machine. */
enum moe_status moe_hybrid_new(struct moe_hybrid **out, struct moe_device *device,
                               struct moe_session *session,
                               const struct moe_hybrid_options *options, struct moe_err *err);
void moe_hybrid_free(struct moe_hybrid *hybrid);

/* The result of what has been done so far (for --stats while it runs, and at the end); bound is
 * NaN. */
enum moe_status moe_hybrid_result(const struct moe_hybrid *hybrid, struct moe_result *out,
                                  struct moe_err *err);

/* What was actually allocated and chosen, to be reported with the result. */
struct moe_allocation {
    uint64_t slots, slot_bytes; /* one slot takes slot_bytes */
    uint64_t dense_bytes;       /* weights outside the experts */
    uint64_t other_bytes;       /* KV cache, activations, staging buffers */
    uint64_t free_bytes;        /* left on the device */
    enum moe_store_kind store;
    char store_note[256];
    uint32_t threads; /* of the CPU's experts */
    char kernels[32];
    uint64_t redirected; /* see moe_exec_machine_redirected */
};
void moe_hybrid_allocation(const struct moe_hybrid *hybrid, struct moe_allocation *out);

struct moe_execute_input {
    struct moe_device *device; /* NULL: the CPU computes everything, if the strategy allows that */
    const struct moe_llm *llm;
    const struct moe_trace *trace; /* of the model's shape; top-k at most the model's */
    struct moe_hybrid_options options;
    uint64_t max_tokens;           /* stop after that many decode tokens; 0: all */
    struct moe_progress *progress; /* of the steps, or NULL */
    double *token_ms;              /* [decode tokens] out, or NULL */
    bool *interrupted;             /* out: the result covers only the steps done; or NULL */
};

/* Runs the trace's routes on the model's weights: real copies and kernels, meaningless text. With
 * options.platform the result has path_ns. After an interrupt: MOE_ERR_INTERRUPTED; but if
 * input->interrupted is given and at least one decode step was done, MOE_OK with the result of the
 * steps done and *input->interrupted true. */
enum moe_status moe_execute(const struct moe_execute_input *input, struct moe_result *out,
                            struct moe_allocation *allocation, struct moe_err *err);

#endif
