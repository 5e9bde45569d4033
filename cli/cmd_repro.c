#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/output.h"
#include "cli/repro.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    char output[CLI_PATH_MAX];
    uint64_t jobs;
    int reduced, plot;
};

static const struct moe_param options[] = {
    CLI_OPTION_FILE(struct options, output, "output", "results/repro", "",
                    "folder for tables, plots and paper-repro.md"),
    CLI_OPTION_SWITCH(struct options, reduced, "reduced", "off",
                      "timed runs of a few tokens only: a test that everything works"),
    CLI_OPTION_JOBS(struct options, "points"),
    CLI_OPTION_SWITCH(struct options, plot, "plot", "on", "draw the plots (--no-plot: data only)"),
    {0},
};

static const struct repro_figure figures[] = {
    {"fig2", "Fig. 2, selection patterns by layer", "fig2",
     "shape only: the routing of the paper (Mixtral on MMLU) is not published and 90 GB of weights "
     "are not run here: a synthetic trace and other models' recordings stand for it",
     NULL, true, repro_fig2},
    {"fig3", "Fig. 3, experts on the CPU by cores", "fig3",
     "shape only: the bars' values are not published, only where they cross the line", NULL, true,
     repro_fig3},
    {"fig4", "Fig. 4, timelines", "fig4", "shape only: schematic in the paper",
     "the order and overlap that the paper draws", false, repro_fig4},
    {"fig5", "Fig. 5, throughput by threads and geometry", "fig5-mixtral fig5-phi fig5-fixed-time",
     NULL, NULL, true, repro_fig5},
    {"fig6", "Fig. 6, hit rates by geometry and policy", "fig6-mixtral fig6-phi",
     "shape only: the points of LRU and FIFO are not published, only their distances; static "
     "random is checked against its closed form",
     NULL, true, repro_fig6},
    {"tab1", "Tables I and III, times of a layer", "tab1", NULL, NULL, false, repro_tab1},
    {"tab2", "Table II, models", "tab2", NULL, NULL, false, repro_tab2},
    {"tab4", "Table IV, power", "fig5-mixtral fig5-phi", NULL, NULL, true, repro_tab4},
    {"tab5", "Table V, energy", "fig5-mixtral fig5-phi", NULL, NULL, true, repro_tab5},
    {"variants", "what the paper's code does and its text does not say", "variants cold",
     "beside the paper", "not published", true, repro_variants},
    {"beyond", "beyond the paper, on its machine", "beyond beyond-phi", "beside the paper",
     "at least the paper's best", true, repro_beyond},
    {"real", "recorded routing", "real-traces", "beside the paper", "not published", true,
     repro_real},
    {0},
};

static const struct repro_figure *find_figure(const char *name)
{
    for (const struct repro_figure *f = figures; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

static bool is_special(const char *name)
{
    return strcmp(name, "all") == 0 || strcmp(name, "page") == 0;
}

static enum moe_status check_names(const struct cli_call *call, struct moe_err *err)
{
    const char *names[32] = {"all", "page"};
    size_t n = 2;
    for (const struct repro_figure *f = figures; f->name; f++)
        names[n++] = f->name;
    for (int i = 0; i < call->n_args; i++) {
        if (is_special(call->args[i]) || find_figure(call->args[i]))
            continue;
        const char *nearest = moe_nearest_name(call->args[i], names, n);
        return moe_fail(
            err, MOE_ERR_USAGE,
            "unknown figure '%.40s'%s%s%s; known: fig2 to fig6, tab1, tab2, tab4, tab5, "
            "variants, beyond, real, page, all",
            call->args[i], nearest ? " (did you mean '" : "", nearest ? nearest : "",
            nearest ? "'?)" : "");
    }
    return MOE_OK;
}

static const char *status_text(const struct repro *r, const struct repro_figure *f)
{
    return f->status                              ? f->status
           : r->n_within == r->n_compared         ? "reproduced"
           : 5 * r->n_within >= 4 * r->n_compared ? "mostly reproduced"
                                                  : "partly reproduced";
}

/* What the page's first table says of a figure. */
static void add_status(const struct repro *r, double seconds, struct moe_table *table)
{
    const struct repro_figure *f = r->figure;
    char text[700];
    moe_table_row(table);
    moe_table_text(table, "name", f->name);
    moe_table_text(table, "figure", f->title);
    snprintf(text, sizeof text, "moelab repro %s%s", f->name, r->reduced ? " --reduced" : "");
    moe_table_text(table, "command", text);
    moe_table_text(table, "config", f->configs);
    moe_table_f64(table, "minutes", round(seconds / 60 * 100) / 100);
    snprintf(text, sizeof text, "%zu published value%s within tolerance", r->n_compared,
             r->n_compared == 1 ? "" : "s, each");
    moe_table_text(table, "expected", f->goal ? f->goal : text);
    if (*r->worst)
        snprintf(text, sizeof text, "%zu of %zu; farthest %s, %+.1f %s", r->n_within, r->n_compared,
                 r->worst, r->worst_error, r->worst_relative ? "%" : "points");
    else
        snprintf(text, sizeof text, "%zu of %zu", r->n_within, r->n_compared);
    moe_table_text(table, "obtained", f->goal ? "drawn or listed below" : text);
    moe_table_text(table, "status", status_text(r, f));
}

static void copy_status(const struct moe_tsv *from, const char *name, struct moe_table *table)
{
    for (size_t i = 0; i < from->n_rows; i++) {
        if (strcmp(repro_text(from, i, "name"), name) != 0)
            continue;
        moe_table_row(table);
        for (size_t j = 0; j < from->n_columns; j++)
            moe_table_text(table, from->columns[j], moe_tsv_cell(from, i, j));
    }
}

/* status.tsv: the row of this figure is new, those of others stay. */
static enum moe_status write_status(const struct repro *r, double seconds, struct moe_err *err)
{
    char path[CLI_PATH_MAX + 80];
    struct moe_tsv old = {0};
    enum moe_status s = MOE_OK;
    repro_path(r, "status", ".tsv", path, sizeof path);
    if (access(path, F_OK) == 0)
        s = repro_load(r, "status", &old, err);
    if (s)
        return s;
    struct moe_table *table = moe_table_new();
    moe_table_note(table, "program", "moelab %s", MOELAB_VERSION);
    moe_table_note(table, "title", "arXiv 2512.16473, figure by figure");
    for (const struct repro_figure *f = figures; f->name; f++)
        if (f == r->figure)
            add_status(r, seconds, table);
        else
            copy_status(&old, f->name, table);
    moe_tsv_release(&old);
    return cli_table_end(table, MOE_OK, CLI_TSV, path, err);
}

static enum moe_status run_figure(struct repro *r, const struct repro_figure *f,
                                  struct moe_err *err)
{
    const uint64_t begin = moe_clock_ns();
    r->figure = f;
    r->n_values = r->n_compared = r->n_within = 0;
    *r->worst = 0;
    enum moe_status s = f->run(r, err);
    const double seconds = (double)(moe_clock_ns() - begin) * 1e-9;
    if (!s)
        s = write_status(r, seconds, err);
    if (s)
        return moe_fail_prefix(err, "%s", f->name);
    printf("%-8s %5.1f s   ", f->name, seconds);
    if (r->n_compared)
        printf("%2zu of %2zu within tolerance   %s\n", r->n_within, r->n_compared, f->title);
    else
        printf("%-25s   %s\n", "nothing is published", f->title);
    fflush(stdout);
    return MOE_OK;
}

static enum moe_status write_page(const struct repro *r, struct moe_err *err)
{
    enum moe_status s = repro_page(r, err);
    if (!s)
        printf("page     %s/paper-repro.md\n", r->folder);
    return s;
}

static enum moe_status run_named(struct repro *r, const char *name, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (strcmp(name, "page") == 0)
        return write_page(r, err);
    if (strcmp(name, "all") != 0)
        return run_figure(r, find_figure(name), err);
    for (const struct repro_figure *f = figures; !s && f->name; f++)
        s = run_figure(r, f, err);
    return s ? s : write_page(r, err);
}

static enum moe_status load_expected(struct repro *r, struct moe_err *err)
{
    char folder[CLI_PATH_MAX], path[CLI_PATH_MAX + 40];
    enum moe_status s = moe_find_folder("experiments", folder, sizeof folder, err);
    if (s)
        return s;
    snprintf(path, sizeof path, "%s/paper/expected.tsv", folder);
    return moe_expected_load(path, &r->expected, err);
}

static bool only_page(const struct cli_call *call)
{
    return call->n_args == 1 && strcmp(call->args[0], "page") == 0;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct repro r = {.reduced = o->reduced, .plot = o->plot, .jobs = (uint32_t)o->jobs};
    snprintf(r.folder, sizeof r.folder, "%s", o->output);
    const size_t there = moe_directories_there(r.folder);
    enum moe_status s = check_names(call, err);
    if (!s)
        s = moe_make_directories(r.folder, err);
    if (!s)
        s = load_expected(&r, err);
    if (!s && !only_page(call))
        s = repro_traces(&r, err);
    for (int i = 0; !s && i < call->n_args; i++)
        s = run_named(&r, call->args[i], err);
    if (!s && !only_page(call))
        printf("results in %s\n", r.folder);
    if (!s && r.n_failed)
        s = moe_fail(err, MOE_ERR_CHECK, "%zu check%s failed, named above", r.n_failed,
                     moe_plural(r.n_failed));
    if (s)
        moe_remove_directories(r.folder, there);
    moe_expected_release(&r.expected);
    free(r.values);
    for (size_t i = 0; i < r.n_names; i++)
        free(r.names[i]);
    free(r.names);
    return s;
}

const struct cli_command cli_repro = {
    .name = "repro",
    .usage = "FIGURE... [options]",
    .summary = "the figures and tables of arXiv 2512.16473, beside the published values",
    .description =
        "FIGURE: fig2, fig3, fig4, fig5, fig6, tab1 (with tab3), tab2, tab4, tab5; variants (what\n"
        "the paper's code does), beyond (what is faster on its machine), real (recorded routing);\n"
        "page (only paper-repro.md, from tables that exist already); all. Run it from the folder\n"
        "that holds experiments/. The published values are in experiments/paper/expected.tsv and\n"
        "are used for the comparison only.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 16,
    .run = run,
};
