#include "cli/repro.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/version.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "sim/sweep.h"
#include "traces/source.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* REDUCED_TOKENS: decode tokens of a reduced run, enough to exercise every rule. */
enum { REDUCED_TOKENS = 48, RESULT_MAX_BYTES = 64 << 20 };

const char *const repro_threads[REPRO_N_THREADS + 1] = {"1", "2", "4", "8", "16", "24", NULL};

const char *repro_path(const struct repro *r, const char *name, const char *ext, char *buf,
                       size_t size)
{
    snprintf(buf, size, "%s/%s%s", r->folder, name, ext);
    return buf;
}

/* Removes the points whose trace is a file that does not exist. */
static void drop_missing(struct moe_experiment *x)
{
    size_t n = 0;
    const char *told = NULL;
    for (size_t i = 0; i < x->n_points; i++) {
        const char *trace = x->points[i].trace;
        if (!moe_trace_name_is_file(trace) || access(trace, R_OK) == 0) {
            x->points[n++] = x->points[i];
            continue;
        }
        if (!told || strcmp(told, trace) != 0)
            moe_log("%s: '%s' does not exist here and is left out", x->name, trace);
        told = trace;
        free(x->points[i].settings);
    }
    x->n_points = n;
}

/* Shortens a synthetic trace "synth:...,tokens=2048,sequences=4,..." to few tokens in one sequence,
 * by keys appended at its end, as the last one counts. */
static enum moe_status shorten(struct repro *r, const char **trace, struct moe_err *err)
{
    char name[CLI_PATH_MAX];
    if (moe_trace_name_is_file(*trace) || !strstr(*trace, "tokens="))
        return MOE_OK;
    snprintf(name, sizeof name, "%s,tokens=%d,sequences=1", *trace, REDUCED_TOKENS);
    for (size_t i = 0; i < r->n_names; i++)
        if (strcmp(r->names[i], name) == 0) {
            *trace = r->names[i];
            return MOE_OK;
        }
    char **names = realloc(r->names, (r->n_names + 1) * sizeof *names);
    if (names)
        r->names = names;
    char *copy = names ? strdup(name) : NULL;
    if (!copy)
        return moe_fail_memory(err, "names of traces");
    *trace = names[r->n_names++] = copy;
    return MOE_OK;
}

static enum moe_status reduce(struct repro *r, struct moe_experiment *x, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (x->max_tokens == 0 || x->max_tokens > REDUCED_TOKENS)
        x->max_tokens = REDUCED_TOKENS;
    for (size_t i = 0; !s && i < x->n_points; i++)
        s = shorten(r, &x->points[i].trace, err);
    return s;
}

enum moe_status repro_experiment(struct repro *r, const char *stem, struct moe_experiment *out,
                                 struct moe_err *err)
{
    char folder[CLI_PATH_MAX], path[CLI_PATH_MAX + 80];
    enum moe_status s = moe_find_folder("experiments", folder, sizeof folder, err);
    if (s)
        return s;
    snprintf(path, sizeof path, "%s/%s.yaml", folder, stem);
    s = moe_experiment_load(path, out, err);
    if (s)
        return s;
    if (r->reduced)
        s = reduce(r, out, err);
    if (s) {
        moe_experiment_release(out);
        return s;
    }
    drop_missing(out);
    return MOE_OK;
}

enum moe_status repro_load(const struct repro *r, const char *stem, struct moe_tsv *out,
                           struct moe_err *err)
{
    char path[CLI_PATH_MAX + 80];
    return moe_tsv_load(repro_path(r, stem, ".tsv", path, sizeof path), RESULT_MAX_BYTES, out, err);
}

enum moe_status repro_sweep(struct repro *r, const char *stem, struct moe_tsv *out,
                            struct moe_err *err)
{
    struct moe_experiment x;
    struct moe_sweep_summary sum;
    char path[CLI_PATH_MAX + 80];
    enum moe_status s = repro_experiment(r, stem, &x, err);
    if (s)
        return s;
    repro_path(r, stem, ".tsv", path, sizeof path);
    s = moe_sweep_run(&x, path, r->jobs, &sum, err);
    if (!s && sum.n_failed)
        moe_log("%s: %zu point%s could not run, the first: %s; see the status column", stem,
                sum.n_failed, moe_plural(sum.n_failed), sum.first_failure);
    if (!s && sum.n_failed == sum.n_points)
        s = moe_fail(err, MOE_ERR_INPUT, "no point of '%s' could run; see '%s'", stem, path);
    moe_experiment_release(&x);
    return s ? s : repro_load(r, stem, out, err);
}

const char *repro_text(const struct moe_tsv *tsv, size_t row, const char *column)
{
    size_t c = moe_tsv_column(tsv, column);
    return row < tsv->n_rows && c < tsv->n_columns ? moe_tsv_cell(tsv, row, c) : "";
}

double repro_number(const struct moe_tsv *tsv, size_t row, const char *column)
{
    double value;
    return moe_tsv_number(repro_text(tsv, row, column), &value) ? value : NAN;
}

/* Does the cell have the value? For the trace it is enough that the name contains it. */
static bool holds(const struct moe_tsv *tsv, size_t row, const char *column, const char *value)
{
    const char *text = repro_text(tsv, row, column);
    return strcmp(column, "trace") == 0 ? strstr(text, value) != NULL : strcmp(text, value) == 0;
}

size_t repro_find(const struct moe_tsv *tsv, size_t from, const char *const *conditions)
{
    for (size_t row = from; row < tsv->n_rows; row++) {
        bool all = strcmp(repro_text(tsv, row, "status"), "ok") == 0;
        for (const char *const *c = conditions; all && *c; c += 2)
            all = holds(tsv, row, c[0], c[1]);
        if (all)
            return row;
    }
    return tsv->n_rows;
}

size_t repro_fastest(const struct moe_tsv *tsv, const char *const *conditions)
{
    static const char column[] = "tokens_per_s";
    size_t best = tsv->n_rows;
    for (size_t row = repro_find(tsv, 0, conditions); row < tsv->n_rows;
         row = repro_find(tsv, row + 1, conditions))
        if (best == tsv->n_rows || repro_number(tsv, row, column) > repro_number(tsv, best, column))
            best = row;
    return best;
}

struct moe_table *repro_recorded_table(const struct repro *r)
{
    struct moe_table *table = moe_table_new();
    moe_table_note(table, "program", "moelab %s", MOELAB_VERSION);
    moe_table_note(table, "command", "moelab repro %s%s", r->figure->name,
                   r->reduced ? " --reduced" : "");
    return table;
}

struct moe_table *repro_table(const struct repro *r)
{
    struct moe_table *table = repro_recorded_table(r);
    if (r->figure->synthetic)
        moe_table_note(table, "synthetic", "yes");
    return table;
}

enum moe_status repro_write(const struct repro *r, struct moe_table *table, enum moe_status status,
                            const char *stem, struct moe_err *err)
{
    char path[CLI_PATH_MAX + 80];
    moe_table_note(table, "title", "%s (%s)", r->figure->title, stem);
    repro_path(r, stem, ".tsv", path, sizeof path);
    return cli_table_end(table, status, CLI_TSV, path, err);
}

enum moe_status repro_plot(struct repro *r, const char *script, const char *stem, const char *title,
                           struct moe_err *err)
{
    char tsv[CLI_PATH_MAX + 80], out[CLI_PATH_MAX + 80];
    if (!r->plot || r->no_gnuplot)
        return MOE_OK;
    repro_path(r, stem, ".tsv", tsv, sizeof tsv);
    repro_path(r, stem, "", out, sizeof out);
    enum moe_status s = moe_plot(script, tsv, out, title, err);
    if (s != MOE_ERR_UNSUPPORTED)
        return s;
    moe_log("%s", err->text);
    r->no_gnuplot = true;
    return MOE_OK;
}

enum moe_status repro_obtain(struct repro *r, struct moe_err *err, const char *variant,
                             double value, const char *id_format, ...)
{
    struct repro_value *values = realloc(r->values, (r->n_values + 1) * sizeof *values);
    if (!values)
        return moe_fail_memory(err, "values");
    r->values = values;
    struct repro_value *v = &values[r->n_values++];
    *v = (struct repro_value){.variant = variant, .value = value};
    va_list args;
    va_start(args, id_format);
    vsnprintf(v->id, sizeof v->id, id_format, args);
    va_end(args);
    return MOE_OK;
}

void repro_check(struct repro *r, bool passed, const char *format, ...)
{
    char text[400];
    va_list args;
    if (passed)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    moe_log("check failed: %s", text);
    r->n_failed++;
}

/* Runs a command with standard output discarded, as ours is for our results. */
static enum moe_status run_quietly(const struct cli_command *command, const struct cli_call *call,
                                   struct moe_err *err)
{
    fflush(stdout);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int saved = null < 0 ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    enum moe_status s = MOE_OK;
    if (saved < 0 || dup2(null, STDOUT_FILENO) < 0)
        s = moe_fail(err, MOE_ERR_IO, "cannot redirect standard output: %s", strerror(errno));
    if (!s)
        s = command->run(call, err);
    fflush(stdout);
    if (saved >= 0)
        dup2(saved, STDOUT_FILENO);
    if (saved >= 0)
        close(saved);
    if (null >= 0)
        close(null);
    return s;
}

enum moe_status repro_command(const struct cli_command *command, int argc, const char *const *argv,
                              struct moe_err *err)
{
    struct cli_call call;
    int help = 0;
    char **copy = calloc((size_t)argc + 1, sizeof *copy);
    bool whole = copy != NULL;
    for (int i = 0; whole && i < argc; i++)
        whole = (copy[i] = strdup(argv[i])) != NULL;
    enum moe_status s = whole ? cli_parse(command, argc, copy, &call, &help, err)
                              : moe_fail_memory(err, "a command");
    if (!s)
        s = run_quietly(command, &call, err);
    if (whole)
        cli_call_release(&call);
    for (int i = 0; copy && i < argc; i++)
        free(copy[i]);
    free(copy);
    return s;
}
