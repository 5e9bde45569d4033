#include "base/file.h"
#include "cli/output.h"
#include "traces/batch.h"
#include "traces/hdf5.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    uint64_t size;
    int prefill, log;
    char output[CLI_PATH_MAX];
};

static const struct moe_param options[] = {
    CLI_OPTION_U64(struct options, size, "size", "4", 1, MOE_BATCH_MAX, "requests",
                   "requests that decode together"),
    CLI_OPTION_CHOICE(struct options, prefill, "prefill", "one-by-one|together", "one-by-one",
                      "prompts: one request after another, or all in the same passes"),
    CLI_OPTION_SWITCH(
        struct options, log, "log", "yes",
        "keep the engine's log of hits; no: drop it (its cache served one request at a time)"),
    CLI_OPTION_FILE(struct options, output, "output", "", CLI_ENDINGS_TRACE,
                    "trace to write, x.h5 (required)"),
    {0},
};

/* Loads all inputs; the caller releases those that were loaded, after an error, too. */
static enum moe_status load_inputs(const struct cli_call *call, const struct options *o,
                                   struct moe_trace *inputs, struct moe_err *err)
{
    const unsigned log = o->log ? (unsigned)MOE_HAS_LOG : 0;
    const unsigned want = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | log;
    enum moe_status s = MOE_OK;
    for (int i = 0; !s && i < call->n_args; i++) {
        s = moe_trace_from_name(call->args[i], want, NULL, &inputs[i], err);
        if (!s && !o->log) { /* importers give all there is */
            struct moe_tokens *x = &inputs[i].tokens;
            free(x->log_residency);
            free(x->log_bytes);
            x->log_residency = NULL;
            x->log_bytes = NULL;
        }
    }
    return s;
}

static enum moe_status save(const struct moe_trace *trace, const struct options *o,
                            struct moe_err *err)
{
    struct moe_progress progress;
    moe_progress_begin(&progress, "writing", "tokens", trace->tokens.n_tokens);
    enum moe_status s = moe_trace_save_watched(o->output, trace, &progress, err);
    moe_progress_end(&progress);
    return s;
}

static enum moe_status make(const struct cli_call *call, const struct options *o,
                            struct moe_trace *inputs, struct moe_trace *made, struct moe_err *err)
{
    const struct moe_batch_options batch = {(uint32_t)o->size, o->prefill};
    enum moe_status s = load_inputs(call, o, inputs, err);
    if (!s)
        s = moe_batch_make(inputs, (const char *const *)call->args, (uint64_t)call->n_args, &batch,
                           made, err);
    return s ? s : save(made, o, err);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_trace made = {0};
    if (!*o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--output' is required: the trace to write, x.h5");
    enum moe_status s = moe_output_check(o->output, err);
    if (s)
        return s;
    struct moe_trace *inputs = calloc((size_t)call->n_args, sizeof *inputs);
    if (!inputs)
        return moe_fail_memory(err, "the traces");
    s = make(call, o, inputs, &made, err);
    if (!s)
        printf("wrote %s: %s%" PRIu64 " sequence%s of up to %" PRIu64 " request%s, %" PRIu64
               " token%s\n",
               o->output, made.info.synthetic ? "SYNTHETIC, " : "", made.n_sequences,
               moe_plural(made.n_sequences), o->size, moe_plural(o->size), made.tokens.n_tokens,
               moe_plural(made.tokens.n_tokens));
    for (int i = 0; i < call->n_args; i++)
        moe_trace_release(&inputs[i]);
    free(inputs);
    moe_trace_release(&made);
    return s;
}

const struct cli_command cli_trace_batch = {
    .name = "trace batch",
    .usage = "TRACE... -o OUT.h5 --size N",
    .summary = "merges N requests at a time into one sequence that decodes in lockstep",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "\n"
    "Takes the sequences of all traces in order, N at a time. Decode runs in lockstep: each\n"
    "pass has the next tokens of every request that has not ended. Routes, weights, scores,\n"
    "positions and token ids are kept unchanged; docs/simulate.md says what the numbers of\n"
    "other commands mean for such a trace.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 4096,
    .run = run,
};
