#include "sim/sweep.h"

#include "base/progress.h"
#include "base/units.h"
#include "sim/sources.h"
#include "sim/sweep_rows.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A sweep and what shows how far it is. */
struct running {
    struct moe_sweep *w;
    struct moe_progress progress;
};

static enum moe_status make_header(struct moe_sweep *w, struct moe_err *err)
{
    struct moe_table *table = moe_table_new();
    if (!table)
        return moe_fail_memory(err, "a result row");
    moe_sweep_columns(w->x, table);
    enum moe_status s = moe_sweep_line(table, true, &w->header, err);
    moe_table_free(table);
    return s;
}

/* Hashes the positions that differ from the token's place in its sequence. Unknown ones are taken
 * to be that place, so they do not differ. */
static uint64_t hash_positions(uint64_t hash, const struct moe_tokens *x)
{
    uint64_t start = 0;
    for (uint64_t t = 0; t < x->n_tokens; t++) {
        if (t > 0 && x->sequence[t] != x->sequence[t - 1])
            start = t;
        const uint64_t place[] = {t, (uint64_t)x->position[t]};
        if (x->position[t] >= 0 && place[1] != t - start)
            hash = moe_hash_bytes(hash, place, sizeof place);
    }
    return hash;
}

/* Hashes what every point sees; of files also their sizes and labels, which for other traces are
 * those of their model. */
static uint64_t hash_trace(const struct moe_trace *trace, bool is_file)
{
    const struct moe_trace_info *info = &trace->info;
    size_t n = trace->tokens.n_tokens;
    size_t routes = n * info->n_layers * info->top_k;
    uint64_t hash =
        moe_hash_bytes(MOE_HASH_SEED, trace->tokens.expert, routes * sizeof(moe_expert));
    hash = moe_hash_bytes(hash, trace->tokens.phase, n);
    hash = moe_hash_bytes(hash, trace->tokens.step, n * sizeof *trace->tokens.step);
    hash = moe_hash_bytes(hash, trace->tokens.sequence, n * sizeof *trace->tokens.sequence);
    hash = hash_positions(hash, &trace->tokens);
    if (trace->tokens.request)
        hash = moe_hash_bytes(hash, trace->tokens.request, n * sizeof *trace->tokens.request);
    if (!is_file)
        return hash;
    if (info->expert_bytes)
        hash = moe_hash_bytes(hash, info->expert_bytes, info->n_layers * sizeof(uint64_t));
    hash = moe_hash_bytes(hash, info->model, strlen(info->model));
    return moe_hash_bytes(hash, &info->synthetic, sizeof info->synthetic);
}

static uint64_t hash_floats(const float *x, size_t n)
{
    return moe_hash_bytes(MOE_HASH_SEED, x, x ? n * sizeof *x : 0);
}

static void hash_parts(struct moe_sweep_trace *trace, unsigned want)
{
    const struct moe_trace_info *info = &trace->trace.info;
    const struct moe_tokens *x = &trace->trace.tokens;
    const size_t rows = x->n_tokens * info->n_layers;
    if (want & MOE_HAS_WEIGHT)
        trace->weight_hash = hash_floats(x->weight, rows * info->top_k);
    if (want & MOE_HAS_SCORE)
        trace->score_hash = hash_floats(x->score, rows * info->n_experts);
    if (want & MOE_HAS_LOOKAHEAD)
        trace->lookahead_hash = hash_floats(x->lookahead, rows * info->n_experts);
}

static bool is_trace(const struct moe_sweep_trace *trace, const char *name, const char *model_name)
{
    return strcmp(trace->name, name) == 0 &&
           (trace->model_name && model_name ? strcmp(trace->model_name, model_name) == 0
                                            : trace->model_name == model_name);
}

/* Index of the point's trace in w->traces; a new one is only named here. As on the command line,
 * what a generator or a log leaves out of its shape is the model's. */
static enum moe_status name_trace(struct moe_sweep *w, size_t i, const struct moe_sweep_inputs *in,
                                  struct moe_err *err)
{
    const char *name = w->x->points[i].trace;
    const bool takes = in->has_model && !moe_trace_name_is_file(name);
    const char *model_name = takes ? w->x->points[i].model : NULL;
    size_t t = 0;
    while (t < w->n_traces && !is_trace(&w->traces[t], name, model_name))
        t++;
    w->trace_of[i] = t;
    if (t < w->n_traces)
        return MOE_OK;
    struct moe_sweep_trace *more = realloc(w->traces, (t + 1) * sizeof *more);
    if (!more)
        return moe_fail_memory(err, "traces");
    w->traces = more;
    w->traces[w->n_traces++] = (struct moe_sweep_trace){name, model_name, in->model, .hash = 0};
    return MOE_OK;
}

static void count_capped(struct moe_sweep *w, const struct moe_sweep_inputs *in)
{
    struct moe_sweep_summary *sum = &w->summary;
    if (in->strategy.threads <= in->platform.cpu.cores || sum->n_capped++ > 0)
        return;
    sum->threads = in->strategy.threads;
    sum->cores = in->platform.cpu.cores;
    snprintf(sum->platform, sizeof sum->platform, "%s", in->platform.name);
}

/* Every point is resolved once before anything runs: a typo in the last one costs no time. */
static enum moe_status check_points(struct moe_sweep *w, unsigned *want, struct moe_err *err)
{
    struct moe_sweep_inputs *in = malloc(sizeof *in);
    enum moe_status s = in ? MOE_OK : moe_fail_memory(err, "a point");
    for (size_t i = 0; !s && i < w->x->n_points; i++) {
        s = moe_sweep_keep(&w->files, w->x, &w->x->points[i], in, err);
        if (s) {
            moe_fail_prefix(err, "point %zu of experiment '%s'", i + 1, w->x->name);
            break;
        }
        w->parts[i] = in->parts;
        *want |= in->parts;
        if (w->x->kind == MOE_EXPERIMENT_SIM && !w->skip[i])
            count_capped(w, in);
        w->ids[i] = in->hash;
        s = name_trace(w, i, in, err);
    }
    free(in);
    return s;
}

static enum moe_status load_traces(struct moe_sweep *w, unsigned want, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t t = 0; !s && t < w->n_traces; t++) {
        struct moe_sweep_trace *trace = &w->traces[t];
        s = moe_trace_from_name(trace->name, want, trace->model_name ? &trace->model : NULL,
                                &trace->trace, err);
        if (s)
            break;
        trace->hash = hash_trace(&trace->trace, moe_trace_name_is_file(trace->name));
        hash_parts(trace, want);
        w->summary.synthetic |= trace->trace.info.synthetic;
    }
    for (size_t i = 0; !s && i < w->x->n_points; i++) {
        struct moe_sweep_inputs in = {
            .trace = &w->traces[w->trace_of[i]], .parts = w->parts[i], .hash = w->ids[i]};
        w->ids[i] = moe_sweep_identity(w->x, &in);
    }
    return s;
}

/* --- running -------------------------------------------------------------------------------- */

static enum moe_status run_point(const struct moe_sweep *w, size_t i, char **row, bool *failed,
                                 struct moe_err *err)
{
    struct moe_sweep_inputs *in = malloc(sizeof *in);
    struct moe_table *table = moe_table_new();
    enum moe_status s = in && table ? MOE_OK : moe_fail_memory(err, "a point");
    if (!s)
        s = moe_sweep_resolve(w->x, &w->files, &w->x->points[i], in, err);
    if (!s) {
        in->trace = &w->traces[w->trace_of[i]];
        moe_sweep_columns(w->x, table); /* the columns of a failed point, too, in their order */
        s = moe_sweep_point(w->x, &w->x->points[i], in, table, failed, err);
    }
    if (!s)
        s = moe_sweep_line(table, false, row, err);
    free(in);
    moe_table_free(table);
    return s;
}

/* An item's result: the row, its NUL, and a byte that is 1 if the point could not run. */
static enum moe_status run_item(void *context, size_t i, char **bytes, size_t *size,
                                struct moe_err *err)
{
    const struct running *running = context;
    char *row;
    bool failed = false;
    enum moe_status s = run_point(running->w, i, &row, &failed, err);
    if (s)
        return s;
    size_t length = strlen(row);
    char *more = realloc(row, length + 2);
    if (!more) {
        free(row);
        return moe_fail_memory(err, "a result row");
    }
    more[length + 1] = failed;
    *bytes = more;
    *size = length + 2;
    return MOE_OK;
}

static enum moe_status finish_item(void *context, size_t i, const char *bytes, size_t size,
                                   uint64_t ns, struct moe_err *err)
{
    struct running *running = context;
    struct moe_sweep *w = running->w;
    char *row = strdup(bytes);
    if (!row)
        return moe_fail_memory(err, "a result row");
    w->summary.n_failed += bytes[size - 1] != 0;
    if (w->o->point_ns)
        w->o->point_ns[i] = ns;
    enum moe_status s = moe_sweep_store(w, i, row, err);
    moe_progress_update(&running->progress, w->summary.n_run);
    return s;
}

static enum moe_status run_points(struct moe_sweep *w, struct moe_err *err)
{
    struct running running = {.w = w};
    const struct moe_team_work work = {
        .n_items = w->x->n_points,
        .skip = w->skip,
        .threads = moe_team_threads(w->o->team, w->o->jobs),
        .identity = moe_hash_bytes(moe_sweep_hash(w->ids, w->x->n_points), moe_sources(),
                                   strlen(moe_sources())),
        .run = run_item,
        .done = finish_item,
        .context = &running,
        .cost = w->o->cost,
    };
    moe_progress_begin(&running.progress, "sweeping", "points",
                       w->summary.n_points - w->summary.n_reused);
    enum moe_status s = moe_team_map(w->o->team, &work, err);
    moe_progress_end(&running.progress);
    return s;
}

/* The status of the first point, in their order, that this run could not run. */
static void find_failure(struct moe_sweep *w)
{
    const size_t size = sizeof w->summary.first_failure;
    for (size_t i = 0; w->summary.n_failed && i < w->x->n_points; i++) {
        const char *status = w->rows[i] ? strchr(w->rows[i], '\t') : NULL;
        if (!status || strncmp(status, "\tok\t", 4) == 0)
            continue;
        snprintf(w->summary.first_failure, size, "%.*s", (int)strcspn(status + 1, "\t"),
                 status + 1);
        return;
    }
}

static enum moe_status lead(struct moe_sweep *w, struct moe_err *err)
{
    char path[4200];
    enum moe_status s = moe_sweep_resume(w, err);
    if (!s)
        s = run_points(w, err);
    find_failure(w);
    moe_sweep_journal_path(w, path, sizeof path);
    if (s == MOE_ERR_INTERRUPTED)
        return moe_fail(err, MOE_ERR_INTERRUPTED,
                        "interrupted: %zu of %zu points are done and kept in '%s'; run the same "
                        "command again to go on",
                        w->summary.n_run + w->summary.n_reused, w->summary.n_points, path);
    return s ? s : moe_sweep_write(w, err);
}

static enum moe_status run_all(struct moe_sweep *w, struct moe_err *err)
{
    unsigned want = 0;
    const uint64_t begin = moe_clock_ns();
    for (size_t i = 0; i < w->x->n_points; i++) {
        w->skip[i] = !moe_sweep_is_ours(w, i);
        w->summary.n_points += !w->skip[i];
    }
    if (w->o->shard.parts && w->summary.n_points == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "experiment '%s' has %zu points: shard %" PRIu32 "/%" PRIu32 " has none",
                        w->x->name, w->x->n_points, w->o->shard.part, w->o->shard.parts);
    enum moe_status s = check_points(w, &want, err);
    if (!s)
        s = make_header(w, err);
    if (!s)
        s = load_traces(w, want, err);
    if (s)
        return s;
    w->summary.prepare_ns = moe_clock_ns() - begin;
    return moe_team_rank(w->o->team) ? run_points(w, err) : lead(w, err);
}

enum moe_status moe_sweep_run_with(const struct moe_experiment *x, const char *output,
                                   const struct moe_sweep_options *options,
                                   struct moe_sweep_summary *summary, struct moe_err *err)
{
    struct moe_sweep w = {.x = x, .o = options, .output = output};
    w.rows = calloc(x->n_points, sizeof *w.rows);
    w.ids = calloc(x->n_points, sizeof *w.ids);
    w.skip = calloc(x->n_points, sizeof *w.skip);
    w.trace_of = calloc(x->n_points, sizeof *w.trace_of);
    w.parts = calloc(x->n_points, sizeof *w.parts);
    enum moe_status s = w.rows && w.ids && w.skip && w.trace_of && w.parts
                            ? run_all(&w, err)
                            : moe_fail_memory(err, "a sweep");
    if (w.journal)
        fclose(w.journal);
    for (size_t i = 0; w.rows && i < x->n_points; i++)
        free(w.rows[i]);
    for (size_t t = 0; t < w.n_traces; t++)
        moe_trace_release(&w.traces[t].trace);
    moe_sweep_files_release(&w.files);
    free(w.traces);
    free(w.rows);
    free(w.ids);
    free(w.skip);
    free(w.trace_of);
    free(w.parts);
    free(w.header);
    if (!s)
        *summary = w.summary;
    return s;
}

enum moe_status moe_sweep_run(const struct moe_experiment *x, const char *output, uint32_t jobs,
                              struct moe_sweep_summary *summary, struct moe_err *err)
{
    return moe_sweep_run_with(x, output, &(struct moe_sweep_options){.jobs = jobs}, summary, err);
}
