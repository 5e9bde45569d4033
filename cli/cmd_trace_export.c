#include "base/progress.h"
#include "cli/output.h"
#include "traces/import.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct options {
    char format[32], output[CLI_PATH_MAX];
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, format, "format", "jsonl",
                    "format to write: expert-choices, route-csv, npy (a folder), jsonl"),
    CLI_OPTION_FILE(struct options, output, "output", "", "jsonl|csv|txt",
                    "x.jsonl or x.csv to write, or a folder for npy (required)"),
    {0},
};

static void tell_losses(const struct moe_format *format, const struct moe_trace *trace)
{
    char lost[200];
    if (*moe_format_loses(format, trace, lost, sizeof lost))
        moe_log("%s cannot hold these and leaves them out: %s; jsonl holds any trace", format->name,
                lost);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    const struct moe_format *format;
    struct moe_trace trace = {0};
    if (!*o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--output' is required: the file or folder to write");
    const char *dot = strrchr(o->output, '.');
    if (dot && strcasecmp(dot, ".csv") == 0 && !cli_call_sets(call, "format"))
        return moe_fail(err, MOE_ERR_USAGE,
                        "'%.300s' would be JSON lines: --format route-csv or expert-choices writes "
                        "CSV",
                        o->output);
    enum moe_status s = moe_format_find(o->format, &format, err);
    if (!s && !format->export)
        s = moe_fail(err, MOE_ERR_USAGE, "format '%s' can only be imported, not exported",
                     format->name);
    unsigned all = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG;
    if (!s)
        s = moe_trace_from_name(call->args[0], all, NULL, &trace, err);
    if (!s)
        s = format->export(&trace, o->output, err);
    if (!s)
        tell_losses(format, &trace);
    if (!s)
        printf("wrote %s: %" PRIu64 " token%s as %s\n", o->output, trace.tokens.n_tokens,
               moe_plural(trace.tokens.n_tokens), format->name);
    moe_trace_release(&trace);
    return s;
}

const struct cli_command cli_trace_export = {
    .name = "trace export",
    .usage = "TRACE --format FORMAT -o OUT",
    .summary = "converts a trace to another tool's format, and names what that cannot hold",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "\n"
    "An imported log is exported as the same bytes. A line on stderr names what the format\n"
    "cannot hold.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
