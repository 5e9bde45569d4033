#include "base/file.h"
#include "cli/output.h"
#include "traces/hdf5.h"
#include "traces/synth.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct options {
    char output[CLI_PATH_MAX];
};

static const struct moe_param options[] = {
    CLI_OPTION_FILE(struct options, output, "output", "", CLI_ENDINGS_TRACE,
                    "trace to write, x.h5 (required)"),
    {0},
};

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    const char *spec = call->args[0];
    struct moe_trace trace = {0};
    if (strncmp(spec, "synth:", 6) == 0) /* the form that other commands take */
        spec += 6;
    if (!*o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--output' is required: the trace to write, x.h5");
    enum moe_status s = moe_output_check(o->output, err);
    if (!s)
        s = moe_synth_make(spec, &trace, err);
    struct moe_progress progress;
    moe_progress_begin(&progress, "writing", "tokens", trace.tokens.n_tokens);
    if (!s)
        s = moe_trace_save_watched(o->output, &trace, &progress, err);
    moe_progress_end(&progress);
    if (!s)
        printf("wrote %s: SYNTHETIC, %" PRIu64 " sequence%s, %" PRIu64
               " token%s, %u layer%s, %u experts, top-%u\n",
               o->output, trace.n_sequences, moe_plural(trace.n_sequences), trace.tokens.n_tokens,
               moe_plural(trace.tokens.n_tokens), trace.info.n_layers,
               moe_plural(trace.info.n_layers), trace.info.n_experts, trace.info.top_k);
    moe_trace_release(&trace);
    return s;
}

const struct cli_command cli_trace_synth = {
    .name = "trace synth",
    .usage = "KIND:key=value,... -o OUT.h5",
    .summary = "makes a synthetic trace from a spec string or from measured statistics",
    .description =
        "kinds:\n"
        "  uniform   every route is K different experts at random\n"
        "  zipf      popularity falls as rank^-alpha, no memory\n"
        "  sticky    each expert is kept from the previous token with probability `repeat`\n"
        "  stats     fitted to a statistics file (file=PATH): popularity, repeats, LRU hit rates",
    .spec = moe_synth_params,
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
