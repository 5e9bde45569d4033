#include "base/file.h"
#include "base/progress.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "cli/sweep_show.h"
#include "sim/experiment_sets.h"
#include "sim/plan.h"
#include "sim/sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    char output[CLI_PATH_MAX], shard[40];
    uint64_t jobs, plan;
    double lost_after;
    int plot;
};

static const struct moe_param options[] = {
    CLI_OPTION_FILE(struct options, output, "output", "", "tsv",
                    "result, x.tsv (default: results/NAME.tsv); plots stand beside it"),
    CLI_OPTION_JOBS_MPI(struct options, "points"),
    CLI_OPTION_NAME(struct options, shard, "shard", "",
                    "i/n: run only part i (from 1) of n, and write it to a file of its own "
                    "(default: results/NAME.shard-i-of-n.tsv), for 'moelab sweep merge'"),
    CLI_OPTION_LOST_AFTER(struct options),
    CLI_OPTION_U64(struct options, plan, "plan", "0", 0, 65536, "processes",
                   "under mpirun: also predict the speed-up with up to N processes, from the "
                   "measured times of points and messages"),
    CLI_OPTION_SWITCH(struct options, plot, "plot", "on",
                      "draw the experiment's plots (--no-plot: data only)"),
    {0},
};

struct sweep {
    const struct options *o;
    const struct cli_call *call;
    struct moe_experiment x;
    struct moe_named_model *models; /* x.models */
    struct moe_sweep_options how;
    struct moe_sweep_summary sum;
    struct moe_team_cost cost;
    char path[CLI_PATH_MAX + 128];
};

/* Loads a model that is given as a folder, unless it is loaded already. */
static enum moe_status load_folder(struct sweep *w, const char *name, struct moe_err *err)
{
    for (size_t i = 0; i < w->x.n_models; i++)
        if (strcmp(w->models[i].name, name) == 0)
            return MOE_OK;
    if (!cli_model_is_folder(name))
        return MOE_OK;
    struct moe_named_model *more = realloc(w->models, (w->x.n_models + 1) * sizeof *more);
    if (!more)
        return moe_fail_memory(err, "models");
    w->x.models = w->models = more;
    more[w->x.n_models].name = name;
    enum moe_status s = cli_load_model(name, &more[w->x.n_models].model, err);
    w->x.n_models += !s;
    return s;
}

static enum moe_status load_folders(struct sweep *w, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    const char *before = NULL;
    for (size_t i = 0; !s && i < w->x.n_points; i++) {
        const char *name = w->x.points[i].model;
        if (name && name != before)
            s = load_folder(w, name, err);
        before = name;
    }
    return s;
}

static enum moe_status output_path(struct sweep *w, struct moe_err *err)
{
    const struct moe_shard shard = w->how.shard;
    if (*w->o->output)
        snprintf(w->path, sizeof w->path, "%s", w->o->output);
    else if (shard.parts)
        snprintf(w->path, sizeof w->path, "results/%s.shard-%" PRIu32 "-of-%" PRIu32 ".tsv",
                 w->x.name, shard.part, shard.parts);
    else
        snprintf(w->path, sizeof w->path, "results/%s.tsv", w->x.name);
    bool makes = !*w->o->output && moe_team_rank(w->how.team) == 0;
    if (makes && moe_make_directories("results", err))
        return moe_fail_prefix(err, "without -o the result is '%.200s'", w->path);
    return MOE_OK;
}

/* Checks the plots' names before the sweep, so that a typo does not cost one. Only rank 0 draws. */
static enum moe_status check_plots(const struct sweep *w, const char *file, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (!w->o->plot || moe_team_rank(w->how.team) != 0)
        return MOE_OK;
    for (size_t i = 0; !s && i < w->x.n_plots; i++) {
        s = moe_plot_check(w->x.plot[i], err);
        if (s)
            return moe_fail_prefix(err, "'%.200s':%d", file, w->x.plot_line[i]);
    }
    return s;
}

/* x.tsv -> x; with several plots x-SCRIPT. */
static enum moe_status draw(const struct moe_experiment *x, const char *tsv, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    size_t n = strlen(tsv);
    if (n > 4 && strcmp(tsv + n - 4, ".tsv") == 0)
        n -= 4;
    for (size_t i = 0; !s && i < x->n_plots; i++) {
        char stem[CLI_PATH_MAX + 200];
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

/* --- what more processes would bring -------------------------------------------------------- */

static enum moe_status print_plan(const struct moe_plan *plan, uint64_t most, struct moe_err *err)
{
    struct moe_table *table = moe_table_new();
    enum moe_status s = MOE_OK;
    for (uint64_t ranks = 1; !s && ranks <= most;) {
        struct moe_plan_row row;
        s = moe_plan_ranks(plan, (uint32_t)ranks, &row, err);
        if (s)
            break;
        moe_table_row(table);
        moe_table_u64(table, "processes", row.ranks);
        moe_table_f64(table, "seconds", row.seconds);
        moe_table_f64(table, "speedup", row.speedup);
        moe_table_f64(table, "efficiency_percent", 100 * row.efficiency);
        moe_table_u64(table, "messages", row.messages);
        moe_table_text(table, "limited_by", row.limit);
        ranks = ranks < most && 2 * ranks > most ? most : 2 * ranks;
    }
    if (!s)
        s = moe_table_write_text(table, stdout, err);
    moe_table_free(table);
    return s;
}

/* Estimates from this run's measured times, so the numbers are never quite the same twice. */
static enum moe_status tell_plan(const struct sweep *w, uint32_t threads, struct moe_err *err)
{
    const struct moe_team_cost *cost = &w->cost;
    if (cost->answers == 0) {
        moe_log("no --plan: too few points were run to measure messages");
        return MOE_OK;
    }
    const struct moe_plan plan = {
        .item_ns = w->how.point_ns,
        .n_items = w->x.n_points,
        .threads = threads,
        .prepare_ns = w->sum.prepare_ns,
        .handling_ns = (double)cost->handling_ns / (double)cost->messages,
        .answer_ns = (double)cost->waiting_ns / (double)cost->answers,
    };
    printf("plan   simulated from %zu measured points; preparation %.3g s, a message %.3g us of "
           "rank 0,\n       items %.3g us after they are asked for; %" PRIu32
           " thread%s a process\n",
           w->sum.n_run, (double)plan.prepare_ns / 1e9, plan.handling_ns / 1e3,
           plan.answer_ns / 1e3, threads, threads > 1 ? "s" : "");
    return print_plan(&plan, w->o->plan, err);
}

/* --- the command ---------------------------------------------------------------------------- */

static enum moe_status tell(const struct sweep *w, struct moe_err *err)
{
    const struct moe_sweep_summary *sum = &w->sum;
    const struct moe_shard shard = w->how.shard;
    char part[48] = "";
    if (sum->n_capped)
        moe_log("%zu of %zu points have more threads than their platform cores, the first: %" PRIu64
                " of %" PRIu64 ", platform '%s': simulated with as many as there are cores",
                sum->n_capped, sum->n_points, sum->threads, sum->cores, sum->platform);
    /* A shard is complete even if none of its points could run, and a batch system has to go on to
     * the merge. */
    if (!shard.parts && sum->n_failed == sum->n_points)
        return moe_fail(err, MOE_ERR_INPUT, "none of %zu point%s could run, the first: %.255s",
                        sum->n_points, moe_plural(sum->n_points), sum->first_failure);
    if (shard.parts)
        snprintf(part, sizeof part, " shard %" PRIu32 "/%" PRIu32, shard.part, shard.parts);
    printf("sweep  %s%s: %zu point%s (%zu run, %zu reused)%s%s\n", w->x.name, part, sum->n_points,
           moe_plural(sum->n_points), sum->n_run, sum->n_reused,
           sum->synthetic ? ", SYNTHETIC trace" : "",
           w->x.lossy ? ", LOSSY strategies among them" : "");
    printf("result %s\n", w->path);
    if (sum->n_failed)
        moe_log("%zu of %zu points could not run, the first: %s; see their status column",
                sum->n_failed, sum->n_points, sum->first_failure);
    if (shard.parts)
        return MOE_OK;
    enum moe_status s = cli_sweep_show(&w->x, w->path, err);
    return !s && w->o->plot ? draw(&w->x, w->path, err) : s;
}

static enum moe_status load(struct sweep *w, const char *file, struct moe_err *err)
{
    enum moe_status s = moe_experiment_load(file, &w->x, err);
    if (!s && w->call->n_sets && !*w->o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--set needs -o X.tsv: results/%s.tsv is for the unchanged experiment",
                        w->x.name);
    if (!s)
        s = moe_experiment_set(&w->x, w->call->sets, (size_t)w->call->n_sets, err);
    return s;
}

static enum moe_status sweep(struct sweep *w, const char *file, struct moe_err *err)
{
    enum moe_status s = load(w, file, err);
    if (!s)
        s = check_plots(w, file, err);
    if (!s)
        s = load_folders(w, err);
    if (s)
        return s;
    if (w->o->plan) {
        w->how.cost = &w->cost;
        w->how.point_ns = calloc(w->x.n_points + 1, sizeof *w->how.point_ns);
        if (!w->how.point_ns)
            return moe_fail_memory(err, "a plan");
    }
    w->how.jobs = (uint32_t)w->o->jobs;
    w->how.file = file;
    const size_t there = moe_directories_there("results");
    s = output_path(w, err);
    if (!s)
        s = moe_sweep_run_with(&w->x, w->path, &w->how, &w->sum, err);
    /* After a full disk; after other errors another sweep may be about to write there. */
    if (s == MOE_ERR_IO && !*w->o->output && moe_team_rank(w->how.team) == 0)
        moe_remove_directories("results", there);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct sweep w = {.o = o, .call = call};
    if (*o->shard && moe_shard_parse(o->shard, &w.how.shard, err))
        return err->status;
    enum moe_status s = moe_team_open(o->lost_after, &w.how.team, err);
    if (s)
        return s;
    const bool first = moe_team_rank(w.how.team) == 0;
    const uint32_t threads = moe_team_threads(w.how.team, (uint32_t)o->jobs);
    if (o->plan && moe_team_size(w.how.team) == 1)
        s = moe_fail(err, MOE_ERR_USAGE,
                     "--plan needs measured messages: run it under 'mpirun -n 2' or more");
    else
        s = sweep(&w, call->args[0], err);
    s = moe_team_close(w.how.team, s, err);
    if (!s && first) /* after MPI has ended, since plots start another program */
        s = tell(&w, err);
    if (!s && first && o->plan)
        s = tell_plan(&w, threads, err);
    free(w.how.point_ns);
    free(w.models);
    moe_experiment_release(&w.x);
    return s;
}

const struct cli_command cli_sweep = {
    .name = "sweep",
    .usage = "EXPERIMENT.yaml [options]",
    .summary = "runs every combination of an experiment's keys, in parallel, resumable, with plots",
    .description =
        "The format of an experiment is described in sim/experiment.h;\n"
        "experiments/fig5-mixtral.yaml is an example. A point that is finished is not run again.\n"
        "\n"
        "--set changes a key of every point, here also trace, model, platform and max_tokens. To\n"
        "compare all strategies on a trace of your own, with a hot list fitted to it:\n"
        "  moelab trace stats t.h5 --hot-list hot.txt\n"
        "  moelab sweep experiments/league.yaml -o league.tsv --set trace=t.h5 \\\n"
        "      --set model=qwen3-30b-a3b --set platform=laptop-4060 \\\n"
        "      --set geometry=global:4GiB --set policy.list=hot.txt\n"
        "A geometry applies to strategies with slots only: cpu-only still has none. The others\n"
        "keep their names, though ncmoe with a pool is not llama.cpp's: see the column "
        "'geometry'.\n"
        "\n"
        "If a point cannot run, the column 'status' says why, and the next call tries it again;\n"
        "the exit code is 1 if no point could run.\n"
        "\n"
        "For many machines: 'mpirun -n N moelab sweep ...' (in a build with MPI, see 'moelab\n"
        "version') deals the points out to N processes; or --shard i/n in n separate jobs, then\n"
        "'moelab sweep merge'. The result is the same bytes either way. experiments/sweep.slurm\n"
        "does both on a Slurm cluster.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .takes_sets = true,
    .joins_team = true,
    .run = run,
};
