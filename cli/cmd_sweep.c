#include "base/file.h"
#include "base/progress.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "cli/sweep_show.h"
#include "sim/experiment.h"
#include "sim/sweep.h"

#include <stdio.h>
#include <string.h>

struct options {
    char output[CLI_PATH_MAX];
    uint64_t jobs;
    int plot;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, output, "output", "",
                    "result, x.tsv (default: results/NAME.tsv); plots stand beside it"),
    {.name = "jobs",
     .type = MOE_PARAM_U64,
     .offset = offsetof(struct options, jobs),
     .default_text = "0",
     .max = 4096,
     .unit = "threads; 0: all cores",
     .help = "points that run at the same time; the result is the same for any number"},
    {.name = "plot",
     .type = MOE_PARAM_BOOL,
     .offset = offsetof(struct options, plot),
     .default_text = "on",
     .help = "draw the experiment's plots (--no-plot: data only)"},
    {0},
};

static enum moe_status output_path(const struct options *o, const struct moe_experiment *x,
                                   char *path, size_t size, struct moe_err *err)
{
    if (*o->output) {
        snprintf(path, size, "%s", o->output);
        return MOE_OK;
    }
    snprintf(path, size, "results/%s.tsv", x->name);
    return moe_make_directories("results", err);
}

/* x.tsv -> x; with several plots x-SCRIPT. */
static enum moe_status draw(const struct moe_experiment *x, const char *tsv, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    size_t n = strlen(tsv);
    if (n > 4 && strcmp(tsv + n - 4, ".tsv") == 0)
        n -= 4;
    for (size_t i = 0; !s && i < x->n_plots; i++) {
        char stem[CLI_PATH_MAX + 80];
        snprintf(stem, sizeof stem, x->n_plots > 1 ? "%.*s-%s" : "%.*s", (int)n, tsv, x->plot[i]);
        s = moe_plot(x->plot[i], tsv, stem, x->title, err);
        if (!s)
            printf("plot   %s.svg %s.png\n", stem, stem);
    }
    if (s == MOE_ERR_UNSUPPORTED) {
        moe_log("%s", err->text);
        return MOE_OK;
    }
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_experiment x;
    struct moe_sweep_summary sum;
    char path[CLI_PATH_MAX + 8];
    enum moe_status s = moe_experiment_load(call->args[0], &x, err);
    if (s)
        return s;
    s = output_path(o, &x, path, sizeof path, err);
    if (!s)
        s = moe_sweep_run(&x, path, (uint32_t)o->jobs, &sum, err);
    if (!s) {
        printf("sweep  %s: %zu points (%zu run, %zu taken over)%s%s\n", x.name, sum.n_points,
               sum.n_run, sum.n_reused, sum.synthetic ? ", SYNTHETIC trace" : "",
               x.lossy ? ", LOSSY strategies among them" : "");
        printf("result %s\n", path);
        if (sum.n_failed)
            moe_log("%zu points could not run; see their status column", sum.n_failed);
        s = cli_sweep_show(&x, path, err);
        if (!s && o->plot)
            s = draw(&x, path, err);
    }
    moe_experiment_release(&x);
    return s;
}

const struct cli_command cli_sweep = {
    .name = "sweep",
    .usage = "EXPERIMENT.yaml [options]",
    .summary = "every combination of an experiment's keys, in parallel, resumable, with plots",
    .description = "The format of an experiment is described in sim/experiment.h and shown by\n"
                   "experiments/fig5-mixtral.yaml. A finished point is not run again.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
