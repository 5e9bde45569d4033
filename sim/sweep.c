#include "sim/sweep.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"
#include "base/version.h"
#include "policies/result_table.h"
#include "sim/sweep_point.h"
#include "traces/source.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sweep {
    const struct moe_experiment *x;
    const char *output;
    char *header;     /* the column line of every row */
    char **rows;      /* [n_points] finished rows without newline, or NULL */
    uint64_t *ids;    /* [n_points] */
    size_t *trace_of; /* [n_points] */
    size_t n_traces;
    struct moe_sweep_trace *traces;
    FILE *journal;
    struct moe_sweep_summary summary;
    struct moe_err first_error;
    int stop; /* set with first_error; read without the lock */
};

/* The last line of the table's TSV, or its column line. Caller frees. */
static enum moe_status table_line(const struct moe_table *table, bool header, char **out,
                                  struct moe_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return moe_fail_memory(err, "a result row");
    enum moe_status s = moe_table_write_tsv(table, stream, err);
    if (fclose(stream) != 0 && !s)
        s = moe_fail_memory(err, "a result row");
    if (!s && header)
        text[strcspn(text, "\n")] = 0;
    if (!s && !header)
        text[size - 1] = 0; /* the final newline */
    char *last = s || header ? NULL : strrchr(text, '\n');
    char *line = s ? NULL : strdup(last ? last + 1 : text);
    free(text);
    if (s)
        return s;
    *out = line;
    return line ? MOE_OK : moe_fail_memory(err, "a result row");
}

static enum moe_status make_header(struct sweep *w, struct moe_err *err)
{
    struct moe_table *table = moe_table_new();
    if (!table)
        return moe_fail_memory(err, "a result row");
    moe_sweep_columns(w->x, table);
    enum moe_status s = table_line(table, true, &w->header, err);
    moe_table_free(table);
    return s;
}

static uint64_t hash_routes(const struct moe_trace *trace)
{
    const struct moe_trace_info *info = &trace->info;
    size_t n = trace->tokens.n_tokens;
    size_t routes = n * info->n_layers * info->top_k;
    uint64_t hash =
        moe_hash_bytes(MOE_HASH_SEED, trace->tokens.expert, routes * sizeof(moe_expert));
    hash = moe_hash_bytes(hash, trace->tokens.phase, n);
    hash = moe_hash_bytes(hash, trace->tokens.step, n * sizeof *trace->tokens.step);
    return moe_hash_bytes(hash, trace->tokens.sequence, n * sizeof *trace->tokens.sequence);
}

/* Index of the point's trace in w->traces; a new one is only named here. */
static enum moe_status name_trace(struct sweep *w, size_t i, struct moe_err *err)
{
    const char *name = w->x->points[i].trace;
    size_t t = 0;
    while (t < w->n_traces && strcmp(w->traces[t].name, name) != 0)
        t++;
    w->trace_of[i] = t;
    if (t < w->n_traces)
        return MOE_OK;
    struct moe_sweep_trace *more = realloc(w->traces, (t + 1) * sizeof *more);
    if (!more)
        return moe_fail_memory(err, "traces");
    w->traces = more;
    w->traces[w->n_traces++] = (struct moe_sweep_trace){.name = name};
    return MOE_OK;
}

/* Every point is resolved once before anything runs: a typo in the last one costs no time. */
static enum moe_status check_points(struct sweep *w, unsigned *want, struct moe_err *err)
{
    struct moe_sweep_inputs *in = malloc(sizeof *in);
    enum moe_status s = in ? MOE_OK : moe_fail_memory(err, "a point");
    for (size_t i = 0; !s && i < w->x->n_points; i++) {
        s = moe_sweep_resolve(w->x, &w->x->points[i], in, err);
        if (s) {
            moe_fail_prefix(err, "point %zu of experiment '%s'", i + 1, w->x->name);
            break;
        }
        *want |= moe_strategy_parts(&in->strategy);
        w->ids[i] = in->hash;
        s = name_trace(w, i, err);
    }
    free(in);
    return s;
}

static enum moe_status load_traces(struct sweep *w, unsigned want, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t t = 0; !s && t < w->n_traces; t++) {
        s = moe_trace_from_name(w->traces[t].name, want, NULL, &w->traces[t].trace, err);
        if (s)
            break;
        w->traces[t].hash = hash_routes(&w->traces[t].trace);
        w->summary.synthetic |= w->traces[t].trace.info.synthetic;
    }
    for (size_t i = 0; !s && i < w->x->n_points; i++) {
        struct moe_sweep_inputs in = {.trace = &w->traces[w->trace_of[i]], .hash = w->ids[i]};
        w->ids[i] = moe_sweep_identity(w->x, &in);
    }
    return s;
}

static size_t count_tabs(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\t';
    return n;
}

/* Takes over a finished row: it has the sweep's columns and the identity of a point. Rows of points
 * that could not run are tried again. */
static void reuse_row(struct sweep *w, const char *line)
{
    char *end;
    uint64_t id = strtoull(line, &end, 16);
    if (end != line + 16 || strncmp(end, "\tok\t", 4) != 0 ||
        count_tabs(line) != count_tabs(w->header))
        return;
    for (size_t i = 0; i < w->x->n_points; i++) {
        if (w->ids[i] != id || w->rows[i])
            continue;
        w->rows[i] = strdup(line);
        w->summary.n_reused += w->rows[i] != NULL;
    }
}

/* Rows of an earlier run. A last line without newline was cut by a kill and does not count. */
static void reuse_file(struct sweep *w, const char *path)
{
    char *text;
    size_t size;
    enum { MAX_BYTES = 1 << 30 };
    if (moe_file_read(path, MAX_BYTES, &text, &size, NULL))
        return;
    bool same_columns = false;
    for (char *line = text, *newline; (newline = strchr(line, '\n')); line = newline + 1) {
        *newline = 0;
        if (line[0] == '#')
            continue;
        if (strcmp(line, w->header) == 0)
            same_columns = true;
        else if (same_columns)
            reuse_row(w, line);
    }
    free(text);
}

static void journal_path(const struct sweep *w, char *buf, size_t size)
{
    snprintf(buf, size, "%s.journal", w->output);
}

/* The journal of an earlier run is replaced in one step: a full disk must not cost its rows. */
static enum moe_status open_journal(struct sweep *w, struct moe_err *err)
{
    char path[4200];
    struct moe_output out;
    journal_path(w, path, sizeof path);
    enum moe_status s = moe_output_create(&out, path, err);
    if (s)
        return s;
    fprintf(out.stream, "%s\n", w->header);
    for (size_t i = 0; i < w->x->n_points; i++)
        if (w->rows[i])
            fprintf(out.stream, "%s\n", w->rows[i]);
    s = moe_output_commit(&out, err);
    if (s)
        return s;
    w->journal = fopen(path, "a");
    if (!w->journal)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    return MOE_OK;
}

static enum moe_status run_point(struct sweep *w, size_t i, char **row, bool *failed,
                                 struct moe_err *err)
{
    struct moe_sweep_inputs *in = malloc(sizeof *in);
    struct moe_table *table = moe_table_new();
    enum moe_status s = in && table ? MOE_OK : moe_fail_memory(err, "a point");
    if (!s)
        s = moe_sweep_resolve(w->x, &w->x->points[i], in, err);
    if (!s) {
        in->trace = &w->traces[w->trace_of[i]];
        moe_sweep_columns(w->x, table); /* the columns of a failed point, too, in their order */
        s = moe_sweep_point(w->x, &w->x->points[i], in, table, failed, err);
    }
    if (!s)
        s = table_line(table, false, row, err);
    free(in);
    moe_table_free(table);
    return s;
}

/* Stores a finished point; called under the lock. */
static void finish_point(struct sweep *w, size_t i, char *row, bool failed)
{
    w->rows[i] = row;
    w->summary.n_run++;
    w->summary.n_failed += failed;
    fprintf(w->journal, "%s\n", row);
    if (fflush(w->journal) != 0 && !w->first_error.status)
        moe_fail(&w->first_error, MOE_ERR_IO, "cannot write '%s.journal': disk full?", w->output);
}

static void run_points(struct sweep *w, uint32_t jobs)
{
    struct moe_progress progress;
    size_t n = w->x->n_points;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): read by the OpenMP clause below */
    int threads = jobs ? (int)jobs : omp_get_max_threads();
    moe_progress_begin(&progress, "sweeping", "points", n - w->summary.n_reused);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t i = 0; i < n; i++) {
        struct moe_err err = {0};
        char *row = NULL;
        bool failed = false;
        int stop;
#pragma omp atomic read
        stop = w->stop;
        if (w->rows[i] || stop || moe_interrupted())
            continue;
        enum moe_status s = run_point(w, i, &row, &failed, &err);
#pragma omp critical(sweep)
        {
            if (s && s != MOE_ERR_INTERRUPTED && !w->first_error.status)
                w->first_error = err;
            if (!s)
                finish_point(w, i, row, failed);
            if (w->first_error.status) {
#pragma omp atomic write
                w->stop = 1;
            }
            moe_progress_update(&progress, w->summary.n_run);
        }
    }
    moe_progress_end(&progress);
}

static enum moe_status write_result(const struct sweep *w, struct moe_err *err)
{
    struct moe_output out;
    char path[4200];
    enum moe_status s = moe_output_create(&out, w->output, err);
    if (s)
        return s;
    fprintf(out.stream, "# program: moelab %s\n# experiment: %s\n", MOELAB_VERSION, w->x->name);
    if (*w->x->title)
        fprintf(out.stream, "# title: %s\n", w->x->title);
    for (size_t t = 0; t < w->n_traces; t++) {
        const struct moe_trace_info *info = &w->traces[t].trace.info;
        fprintf(out.stream, "# trace: %s (%s%s, %s)\n", w->traces[t].name,
                info->synthetic ? "SYNTHETIC, " : "", info->model, info->source);
    }
    fprintf(out.stream, "# synthetic: %s\n", w->summary.synthetic ? "yes" : "no");
    fprintf(out.stream, "%s\n", w->header);
    for (size_t i = 0; i < w->x->n_points; i++)
        fprintf(out.stream, "%s\n", w->rows[i]);
    s = moe_output_commit(&out, err);
    journal_path(w, path, sizeof path);
    if (!s)
        remove(path);
    return s;
}

static enum moe_status run_all(struct sweep *w, uint32_t jobs, struct moe_err *err)
{
    char path[4200];
    unsigned want = 0;
    enum moe_status s = check_points(w, &want, err);
    if (!s)
        s = make_header(w, err);
    if (!s)
        s = load_traces(w, want, err);
    if (s)
        return s;
    journal_path(w, path, sizeof path);
    reuse_file(w, w->output);
    reuse_file(w, path);
    s = open_journal(w, err);
    if (s)
        return s;
    run_points(w, jobs);
    if (w->first_error.status) {
        *err = w->first_error;
        return w->first_error.status;
    }
    if (w->summary.n_run + w->summary.n_reused < w->x->n_points)
        return moe_fail(err, MOE_ERR_INTERRUPTED,
                        "interrupted: %zu of %zu points are done and kept in '%s'; run the same "
                        "command again to go on",
                        w->summary.n_run + w->summary.n_reused, w->x->n_points, path);
    return write_result(w, err);
}

enum moe_status moe_sweep_run(const struct moe_experiment *x, const char *output, uint32_t jobs,
                              struct moe_sweep_summary *summary, struct moe_err *err)
{
    struct sweep w = {.x = x, .output = output, .summary = {.n_points = x->n_points}};
    w.rows = calloc(x->n_points, sizeof *w.rows);
    w.ids = calloc(x->n_points, sizeof *w.ids);
    w.trace_of = calloc(x->n_points, sizeof *w.trace_of);
    enum moe_status s =
        w.rows && w.ids && w.trace_of ? run_all(&w, jobs, err) : moe_fail_memory(err, "a sweep");
    if (w.journal)
        fclose(w.journal);
    for (size_t i = 0; w.rows && i < x->n_points; i++)
        free(w.rows[i]);
    for (size_t t = 0; t < w.n_traces; t++)
        moe_trace_release(&w.traces[t].trace);
    free(w.traces);
    free(w.rows);
    free(w.ids);
    free(w.trace_of);
    free(w.header);
    if (!s)
        *summary = w.summary;
    return s;
}
