#include "base/file.h"
#include "base/progress.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "cli/whatif_show.h"
#include "policies/result_table.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct options {
    char model[CLI_PATH_MAX], platform[CLI_PATH_MAX], strategy[CLI_PATH_MAX], output[CLI_PATH_MAX];
    uint64_t pcie_generation, pcie_lanes, channels, max_tokens, jobs;
    int lossy, plot;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "model name, file or folder (default: the one that the trace names)"),
    CLI_OPTION_NAME(struct options, platform, "platform", "paper-4090",
                    "machine as it is: a name of `moelab list platforms`, or a file"),
    CLI_OPTION_NAME(struct options, strategy, "strategy", "collab",
                    "what runs on it: a name from `moelab list strategies`, or a file; its "
                    "geometry is refitted to each value"),
    CLI_OPTION_LOSSY(struct options, lossy),
    CLI_OPTION_U64(struct options, pcie_generation, "pcie_generation", "0", 0, 6, NULL,
                   "PCIe generation of the machine's slot, 3 to 6; 0: the slowest slot that "
                   "carries the platform's link rate"),
    CLI_OPTION_U64(struct options, pcie_lanes, "pcie_lanes", "0", 0, 16, "lanes",
                   "lanes of that slot, with --pcie-generation; 0: 16"),
    CLI_OPTION_U64(
        struct options, channels, "channels", "0", 0, 64, "memory channels",
        "memory channels of the machine; 0: unknown, bandwidth is varied by factors instead"),
    CLI_OPTION_MAX_TOKENS(struct options, max_tokens, "the trace"),
    CLI_OPTION_JOBS(struct options, "simulations"),
    CLI_OPTION_SWITCH(struct options, plot, "plot", "on",
                      "draw the picture (--no-plot: data only)"),
    CLI_OPTION_FILE(struct options, output, "output", "results/whatif", "",
                    "folder for what-if.tsv and its picture (.svg, .png, .pdf)"),
    {0},
};

struct inputs {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy[MOE_WHATIF_LINES];
};

static enum moe_status apply_set(const char *set, struct inputs *in, struct moe_err *err)
{
    if (strncmp(set, "geometry=", strlen("geometry=")) == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--set '%.60s': whatif fits the geometry to each value itself; "
                        "`moelab sim` takes one",
                        set);
    return cli_apply_set(set, &in->strategy[MOE_WHATIF_STRATEGY], &in->platform, err);
}

static enum moe_status load_strategies(const struct cli_call *call, struct inputs *in,
                                       struct moe_err *err)
{
    const struct options *o = call->options;
    const char *const names[MOE_WHATIF_LINES] = {o->strategy, "cpu-only", "on-demand"};
    enum moe_status s = MOE_OK;
    for (int line = 0; !s && line < MOE_WHATIF_LINES; line++)
        s = cli_load_strategy(names[line], &in->strategy[line], err);
    for (int i = 0; !s && i < call->n_sets; i++)
        s = apply_set(call->sets[i], in, err);
    in->strategy[MOE_WHATIF_STRATEGY].lossy = o->lossy;
    return s;
}

static enum moe_status load_inputs(const struct cli_call *call, struct inputs *in,
                                   struct moe_err *err)
{
    const struct options *o = call->options;
    enum moe_status s = cli_load_platform(o->platform, &in->platform, err);
    if (!s)
        s = load_strategies(call, in, err);
    if (!s) {
        cli_limit_threads(&in->strategy[MOE_WHATIF_STRATEGY], &in->platform);
        cli_tell_unlisted(&in->strategy[MOE_WHATIF_STRATEGY]);
    }
    if (!s)
        s = cli_load_trace(call->args[0], o->model,
                           moe_strategy_parts(&in->strategy[MOE_WHATIF_STRATEGY]), &in->model,
                           &in->trace, err);
    return s;
}

static enum moe_status draw(const struct cli_whatif_view *view, const char *tsv, const char *stem,
                            struct moe_err *err)
{
    char title[256];
    cli_whatif_title(view, title, sizeof title);
    enum moe_status s = moe_plot("what-if", tsv, stem, title, err);
    if (!s)
        printf("plot   %s.svg %s.png %s.pdf\n", stem, stem, stem);
    if (s != MOE_ERR_UNSUPPORTED)
        return s;
    moe_log("%s", err->text);
    return MOE_OK;
}

/* Reports rows that could not run; it is an error if none could. */
static enum moe_status check_ran(const struct moe_whatif *w, struct moe_err *err)
{
    const size_t all = w->n * MOE_WHATIF_LINES;
    size_t n_failed = 0;
    const char *first = NULL;
    for (size_t i = 0; i < w->n; i++)
        for (int line = 0; line < MOE_WHATIF_LINES; line++) {
            const struct moe_err *failed = &w->row[i][line].failed;
            n_failed += failed->status != MOE_OK;
            if (failed->status && !first)
                first = failed->text;
        }
    if (n_failed == all)
        return moe_fail(err, MOE_ERR_INPUT, "none of %zu rows could run, the first: %.400s", all,
                        first ? first : "");
    if (n_failed)
        moe_log("%zu of %zu rows could not run, the first: %s; see their status column", n_failed,
                all, first);
    return MOE_OK;
}

static void paths(const struct options *o, char *stem, size_t stem_size, char *tsv, size_t size)
{
    snprintf(stem, stem_size, "%s/what-if", o->output);
    snprintf(tsv, size, "%s.tsv", stem);
}

/* Checked before the work, not after it. */
static enum moe_status check_output(const struct options *o, struct moe_err *err)
{
    char stem[CLI_PATH_MAX + 16], tsv[CLI_PATH_MAX + 32];
    paths(o, stem, sizeof stem, tsv, sizeof tsv);
    enum moe_status s = moe_make_directories(o->output, err);
    return s ? s : moe_output_check(tsv, err);
}

static enum moe_status write_all(const struct cli_whatif_view *view, struct moe_err *err)
{
    const struct options *o = view->call->options;
    char stem[CLI_PATH_MAX + 16], tsv[CLI_PATH_MAX + 32];
    paths(o, stem, sizeof stem, tsv, sizeof tsv);
    enum moe_status s = cli_table_end(cli_whatif_table(view), MOE_OK, CLI_TSV, tsv, err);
    if (s)
        return s;
    s = check_ran(view->whatif, err);
    if (s)
        return s;
    cli_whatif_tell(view, stdout);
    printf("result %s\n", tsv);
    return o->plot ? draw(view, tsv, stem, err) : MOE_OK;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct inputs in = {0};
    struct moe_whatif whatif = {0};
    enum moe_status s = load_inputs(call, &in, err);
    const struct moe_whatif_spec spec = {
        .trace = &in.trace,
        .model = &in.model,
        .platform = &in.platform,
        .strategy = {&in.strategy[0], &in.strategy[1], &in.strategy[2]},
        .pcie_generation = o->pcie_generation,
        .pcie_lanes = o->pcie_lanes,
        .channels = o->channels,
        .max_tokens = o->max_tokens,
        .jobs = (uint32_t)o->jobs};
    if (!s)
        s = moe_whatif_init(&whatif, &spec, err);
    const size_t there = moe_directories_there(o->output);
    if (!s)
        s = check_output(o, err);
    if (!s)
        s = moe_whatif_run(&whatif, &spec, err);
    if (!s)
        s = write_all(&(struct cli_whatif_view){call, &spec, &whatif}, err);
    if (s)
        moe_remove_directories(o->output, there);
    moe_whatif_release(&whatif);
    moe_trace_release(&in.trace);
    return s;
}

const struct cli_command cli_whatif = {
    .name = "whatif",
    .usage = "TRACE [options]",
    .summary = "what a faster PCIe slot, memory, card or CPU, or smaller weights, would give",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "\n"
    "Varies one thing at a time around the platform as it is: PCIe generation, DRAM channels,\n"
    "VRAM, CPU cores, bits of an expert's weight. At every value the strategy is simulated\n"
    "with its cache refitted, beside cpu-only, on-demand and the bound. sim/whatif.h and the\n"
    "head of the result say how each is scaled and what is assumed. --set KEY=VALUE changes\n"
    "the strategy (but not its geometry), --set platform.KEY=VALUE the machine to start from.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .takes_sets = true,
    .run = run,
};
