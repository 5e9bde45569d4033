/* A model under a strategy on a device: what a real run needs, put together. Two uses: moe_hybrid_*
 * generates, with the model's own routes; moe_execute runs a trace's routes and gives the same
 * result as a simulation of them. */
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
    const struct moe_platform *platform; /* costs for prefill 'auto'; NULL: refused there */
    struct moe_store_options store;
    struct moe_pool_options pool;       /* of the CPU's experts; threads 0: the strategy's */
    struct moe_power *power;            /* energy of decode into the result, or NULL */
    struct moe_timeline *timeline;      /* or NULL */
    struct moe_decision_log *decisions; /* or NULL */
    struct moe_progress *progress;      /* while experts are packed, or NULL */
    bool lookahead;                     /* compute lookahead scores, needed by a policy or not */
};

/* The shape of a model's configuration: for geometries, costs and results. */
void moe_llm_shape(const struct moe_llm *llm, struct moe_model *out);

/* Slots that fit beside all the rest, for a KV cache of `context` tokens and passes of `chunk`:
 * what --fit shrinks a geometry to (policies/geometry_fit.h). Errors: those of
 * moe_expert_layout_of, MOE_ERR_USAGE when not even the rest fits. */
enum moe_status moe_hybrid_room(struct moe_device *device, const struct moe_llm *llm,
                                const struct moe_strategy *strategy, uint32_t context,
                                uint32_t chunk, uint32_t *slots, struct moe_err *err);

struct moe_hybrid; /* opaque */

/* Errors: those of moe_setup_init (a geometry that does not fit: what it takes and what there is),
 * of the store, the device and the machine. llm, device, session and what options point at outlive
 * it. From here on `session` computes its passes on it, until it is freed: experts where the
 * strategy says, the rest on the device. Scores for policies that need them are computed. */
enum moe_status moe_hybrid_new(struct moe_hybrid **out, struct moe_device *device,
                               struct moe_session *session,
                               const struct moe_hybrid_options *options, struct moe_err *err);
void moe_hybrid_free(struct moe_hybrid *hybrid);

/* What has been done so far (for --stats while it runs, and at the end): bound NaN. */
enum moe_status moe_hybrid_result(const struct moe_hybrid *hybrid, struct moe_result *out,
                                  struct moe_err *err);

/* What was really allocated, e.g. for results: slots, their bytes, where the experts lie. */
struct moe_allocation {
    uint64_t slots, slot_bytes; /* one slot takes slot_bytes */
    uint64_t dense_bytes;       /* weights outside the experts */
    uint64_t other_bytes;       /* KV cache, activations, staging buffers */
    uint64_t free_bytes;        /* left on the device */
    enum moe_store_kind store;
    char store_note[256];
    uint32_t threads; /* of the CPU's experts */
    char kernels[32];
    uint64_t redirected; /* see exec/machine.h */
};
void moe_hybrid_allocation(const struct moe_hybrid *hybrid, struct moe_allocation *out);

struct moe_execute_input {
    struct moe_device *device; /* NULL: the CPU computes all, for strategies that let it */
    const struct moe_llm *llm;
    const struct moe_trace *trace; /* of the model's shape; top-k at most the model's */
    struct moe_hybrid_options options;
    uint64_t max_tokens;           /* stop after that many decode tokens; 0: all */
    struct moe_progress *progress; /* of the steps, or NULL */
    double *token_ms;              /* [decode tokens] out, or NULL */
    bool *interrupted;             /* out: the result is that of the steps done before; or NULL */
};

/* The trace's routes on the model's weights: real copies and kernels, meaningless text. With
 * options.platform the result has path_ns. Interrupted: MOE_ERR_INTERRUPTED, but MOE_OK where the
 * input takes that with the result of the steps done, and a decode step is among them. */
enum moe_status moe_execute(const struct moe_execute_input *input, struct moe_result *out,
                            struct moe_allocation *allocation, struct moe_err *err);

#endif
