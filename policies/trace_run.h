/* Drives a trace through the step loop on any machine:
 *
 *     moe_trace_run_prepare     strategy set up on the trace's shape, next uses found
 *     (create the machine: it needs run->setup, run->model, run->next_use)
 *     moe_trace_run_attach      the step loop on the machine, initial content in the slots
 *     moe_trace_run_steps       every forward pass of the trace
 *     (results: policies/result.h takes run->times; free the machine)
 *     moe_trace_run_release */
#ifndef MOELAB_POLICIES_TRACE_RUN_H
#define MOELAB_POLICIES_TRACE_RUN_H

#include "base/progress.h"
#include "policies/decision_log.h"
#include "policies/path.h"
#include "policies/result.h"
#include "policies/setup.h"
#include "policies/step.h"
#include "traces/trace.h"

/* Called when a forward pass has ended, with the time it took on the machine's clock. */
typedef void moe_step_observer(void *user, const struct moe_step *step, uint64_t ns);

struct moe_trace_run_spec {
    const struct moe_trace *trace;
    struct moe_setup_spec setup;   /* model's top-k may be larger than the trace's; parts and future
                                      are the trace's and need not be set */
    uint64_t max_tokens;           /* stop after that many decode tokens; 0: all */
    struct moe_progress *progress; /* updated with tokens done, or NULL */
    struct moe_decision_log *decisions; /* every event is written there, or NULL */
    bool path; /* find times.path_ns; needs costs in moe_trace_run_attach, 0 without */
    moe_step_observer *after_step; /* or NULL */
    void *user;
};

/* Stays where it was prepared: cache and loop point into it. */
struct moe_trace_run {
    struct moe_trace_run_spec spec;
    /* The model routes to as many experts as the trace has: engines can be told to use fewer than
     * the model was trained with. */
    struct moe_model model;
    struct moe_setup setup;
    uint32_t *next_use; /* [T, L, K] for a policy that knows the future, else NULL */
    struct moe_loop loop;
    struct moe_run_times times; /* of the steps done so far */
    double *token_ms;           /* [decode tokens of the trace] writable alias of times.token_ms */
    struct moe_path path;       /* costs NULL: not computed */
    uint64_t n_tokens;          /* run so far */
};

/* What spec points at outlives the run. Errors: MOE_ERR_USAGE (the trace's shape against the
 * model's, no decode tokens, those of moe_setup_init), MOE_ERR_MEMORY, MOE_ERR_UNSUPPORTED (too
 * many uses for a policy that knows the future). Then nothing needs releasing. */
enum moe_status moe_trace_run_prepare(struct moe_trace_run *run,
                                      const struct moe_trace_run_spec *spec, struct moe_err *err);

/* Puts the step loop on the machine, which outlives the steps, and the policy's initial content
 * into the slots (moe_loop_preload). costs: of the platform for run->model and the strategy's
 * threads, or NULL; outlives the steps. Errors: those of moe_loop_init. */
enum moe_status moe_trace_run_attach(struct moe_trace_run *run, const struct moe_machine_ops *ops,
                                     void *machine, const struct moe_costs *costs,
                                     struct moe_err *err);

/* Once a run. Errors: MOE_ERR_INTERRUPTED, those of the machine. */
enum moe_status moe_trace_run_steps(struct moe_trace_run *run, struct moe_err *err);

/* Also a run that is all zero. The machine is freed before: its copies may still report to the
 * cache. */
void moe_trace_run_release(struct moe_trace_run *run);

/* For `attend` of a machine that replays: the routes of a layer as the trace has them. step->tokens
 * is not NULL. model: with the trace's top-k. next_use [T, L, K] or NULL. */
void moe_trace_routes(const struct moe_step *step, const struct moe_model *model,
                      const uint32_t *next_use, uint32_t layer, struct moe_layer_routes *out);

#endif
