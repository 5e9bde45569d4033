#include "cli/command.h"
#include "cli/output.h"
#include "sim/sweep.h"

#include <stdio.h>

struct options {
    char output[CLI_PATH_MAX];
};

static const struct moe_param options[] = {
    CLI_OPTION_FILE(struct options, output, "output", "", "tsv", "result, x.tsv (required)"),
    {0},
};

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    size_t n_points;
    if (!*o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '--output' is required: the result to write, x.tsv");
    enum moe_status s =
        moe_sweep_merge(call->args, (size_t)call->n_args, o->output, &n_points, err);
    if (!s)
        printf("merged %zu point%s of %d file%s\nresult %s\n", n_points, moe_plural(n_points),
               call->n_args, moe_plural((unsigned)call->n_args), o->output);
    return s;
}

const struct cli_command cli_sweep_merge = {
    .name = "sweep merge",
    .usage = "SHARD.tsv... -o RESULT.tsv",
    .summary = "joins the parts that 'sweep --shard' wrote: the same bytes as from one process",
    .description =
        "Takes all n shards of the same sweep, in any order. Refuses files that do not belong\n"
        "together, and says which shard has to be run again. 'moelab sweep EXPERIMENT.yaml -o\n"
        "RESULT.tsv' then prints and plots the result without running anything.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = MOE_MAX_SHARDS,
    .run = run,
};
