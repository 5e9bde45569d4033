/* Fig. 4: operations of a few layers of one token, simulated under each strategy, and of a real
 * run. */
#include "base/file.h"
#include "cli/output.h"
#include "cli/repro.h"
#include "policies/result_table.h"
#include "policies/timeline.h"
#include "sim/simulate.h"
#include "traces/chrome_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_DRAWN = 4, MAX_RUNS = 8, ROOM = 1 << 21, JSON_MAX_BYTES = 64 << 20 };

/* The operations of a run, in no order. */
struct run {
    char name[64];
    struct moe_operation *op;
    size_t n;
};

/* The part that is drawn: index of the token, and the first layer. */
struct place {
    size_t token;
    int32_t layer;
};

static const struct moe_operation *find_token(const struct run *run, size_t k)
{
    for (size_t i = 0; i < run->n; i++)
        if (run->op[i].track == MOE_TRACK_TOKEN && k-- == 0)
            return &run->op[i];
    return NULL;
}

static size_t count_tokens(const struct run *run)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++)
        n += run->op[i].track == MOE_TRACK_TOKEN;
    return n;
}

static bool inside(const struct moe_operation *op, const struct moe_operation *span)
{
    return op->start_ns >= span->start_ns && op->start_ns < span->end_ns;
}

/* How well a token shows the paper's cases, two hits, one and none, in the last layers with slots:
 * best in that order, second best in any order. */
static int worth(const struct run *run, const struct moe_operation *token, int32_t layer)
{
    int hits[LAYERS_DRAWN - 1] = {0}, seen[3] = {0};
    for (size_t i = 0; i < run->n; i++) {
        const struct moe_operation *op = &run->op[i];
        int32_t at = op->layer - layer;
        if (op->track == MOE_TRACK_GPU && op->cause && strcmp(op->cause, "hit") == 0 && at >= 0 &&
            at < LAYERS_DRAWN - 1 && inside(op, token))
            hits[at]++;
    }
    if (hits[0] == 2 && hits[1] == 1 && hits[2] == 0)
        return 4;
    for (int i = 0; i < LAYERS_DRAWN - 1; i++)
        seen[hits[i] > 2 ? 2 : hits[i]] = 1;
    return seen[0] + seen[1] + seen[2];
}

/* When the layer's dense part begins in that token; 0: never. */
static uint64_t layer_start(const struct run *run, const struct moe_operation *token, int32_t layer)
{
    for (size_t i = 0; i < run->n; i++)
        if (run->op[i].layer == layer && inside(&run->op[i], token) &&
            strcmp(run->op[i].name, "attend") == 0)
            return run->op[i].start_ns;
    return 0;
}

/* The duration of the layers drawn, in ns; up to the token's end if they are its last. */
static uint64_t window(const struct run *run, size_t k, int32_t layer, uint64_t *begin)
{
    const struct moe_operation *token = find_token(run, k);
    uint64_t end = layer_start(run, token, layer + LAYERS_DRAWN);
    *begin = layer_start(run, token, layer);
    return (end ? end : token->end_ns) - *begin;
}

/* The best token in the second half of the run, when the cache is full; of equal ones the shortest,
 * as a real run may be disturbed by other programs. covered: layers with slots. */
static struct place choose(const struct run *run, int32_t covered)
{
    struct place p = {.layer = covered - (LAYERS_DRAWN - 1)};
    size_t n = count_tokens(run);
    int most = -1;
    uint64_t shortest = 0, begin;
    p.layer = p.layer < 0 ? 0 : p.layer;
    for (size_t k = n / 2; k < n; k++) {
        int w = worth(run, find_token(run, k), p.layer);
        uint64_t ns = w < most ? 0 : window(run, k, p.layer, &begin);
        if (w > most || (w == most && ns < shortest)) {
            most = w;
            shortest = ns;
            p.token = k;
        }
    }
    return p;
}

static void add_operation(struct moe_table *table, const struct run *run,
                          const struct moe_operation *op, uint64_t begin, uint64_t end)
{
    static const char *const lanes[MOE_N_TRACKS] = {"GPU", "CPU", "copies", "state", "token"};
    uint64_t from = op->start_ns > begin ? op->start_ns : begin;
    uint64_t to = op->end_ns < end ? op->end_ns : end;
    bool expert = strncmp(op->name, "expert", 6) == 0;
    moe_table_row(table);
    moe_table_text(table, "run", run->name);
    moe_table_text(table, "lane", lanes[op->track]);
    moe_table_text(table, "operation",
                   !expert                      ? op->name
                   : op->track == MOE_TRACK_CPU ? "expert on the CPU"
                                                : "expert on the GPU");
    moe_table_text(table, "cause", op->cause ? op->cause : "-");
    moe_table_f64(table, "layer", (double)op->layer);
    moe_table_f64(table, "expert", (double)op->expert);
    moe_table_f64(table, "start_ms", (double)(from - begin) * 1e-6);
    moe_table_f64(table, "end_ms", (double)(to - begin) * 1e-6);
}

static enum moe_status add_run(struct moe_table *table, const struct run *run, struct place p,
                               struct moe_err *err)
{
    if (!find_token(run, p.token))
        return moe_fail(err, MOE_ERR_INPUT, "the timeline of '%s' has no token %zu", run->name,
                        p.token);
    uint64_t begin, end = window(run, p.token, p.layer, &begin);
    end += begin;
    for (size_t i = 0; i < run->n; i++) {
        const struct moe_operation *op = &run->op[i];
        if (op->track != MOE_TRACK_TOKEN && op->end_ns > begin && op->start_ns < end)
            add_operation(table, run, op, begin, end);
    }
    return MOE_OK;
}

static enum moe_status copy_timeline(const struct moe_timeline *timeline, struct run *run,
                                     struct moe_err *err)
{
    run->n = moe_timeline_count(timeline);
    run->op = calloc(run->n + 1, sizeof *run->op);
    if (!run->op)
        return moe_fail_memory(err, "operations");
    for (size_t i = 0; i < run->n; i++)
        run->op[i] = *moe_timeline_at(timeline, i);
    return MOE_OK;
}

struct inputs {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy;
};

static enum moe_status load(const struct moe_point *p, struct inputs *in, struct moe_err *err)
{
    enum moe_status s = cli_load_platform(p->platform, &in->platform, err);
    if (!s)
        s = cli_load_strategy(p->strategy, &in->strategy, err);
    for (size_t i = 0; !s && i < p->n_settings; i++)
        s = moe_strategy_set(&in->strategy, p->settings[i].key, p->settings[i].value, err);
    return s ? s
             : cli_load_trace(p->trace, p->model, moe_strategy_parts(&in->strategy), &in->model,
                              &in->trace, err);
}

/* Simulates the point. *covered: layers with slots, for an NxM geometry; else unchanged. */
static enum moe_status simulate(const struct moe_point *p, uint64_t max_tokens, struct run *run,
                                int32_t *covered, struct moe_err *err)
{
    struct inputs in = {0};
    struct moe_result result;
    struct moe_timeline *timeline = NULL;
    enum moe_status s = load(p, &in, err);
    struct moe_sim_input input = {.trace = &in.trace,
                                  .model = &in.model,
                                  .platform = &in.platform,
                                  .strategy = &in.strategy,
                                  .max_tokens = max_tokens};
    if (!s)
        s = moe_timeline_new(&timeline, ROOM, err);
    input.timeline = timeline;
    if (!s)
        s = moe_simulate(&input, &result, err);
    if (!s)
        s = copy_timeline(timeline, run, err);
    char *end;
    unsigned long n = strtoul(in.strategy.geometry, &end, 10);
    if (!s && *end == 'x' && n > 0 && n < MOE_MAX_LAYERS)
        *covered = (int32_t)n;
    snprintf(run->name, sizeof run->name, "%s", in.strategy.name);
    moe_timeline_free(timeline);
    moe_trace_release(&in.trace);
    return s;
}

static enum moe_status write_simulated(struct repro *r, const struct moe_experiment *x,
                                       struct run *runs, struct moe_err *err)
{
    int32_t covered = LAYERS_DRAWN - 1;
    struct moe_table *table = repro_table(r);
    moe_table_note(table, "platform", "%s", x->points[0].platform);
    moe_table_note(table, "trace", "%s", x->points[0].trace);
    moe_table_note(table, "synthetic", "yes");
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < x->n_points; i++)
        s = simulate(&x->points[i], x->max_tokens, &runs[i], &covered, err);
    struct place p = {0};
    if (!s)
        p = choose(&runs[x->n_points - 1], covered);
    for (size_t i = 0; !s && i < x->n_points; i++)
        s = add_run(table, &runs[i], p, err);
    return repro_write(r, table, s, "fig4", err);
}

/* Copies the operations of a timeline file into run; their texts remain in `from`. */
static enum moe_status copy_chrome(const struct moe_chrome_trace *from, struct run *run,
                                   struct moe_err *err)
{
    run->op = calloc(from->n_events + 1, sizeof *run->op);
    if (!run->op)
        return moe_fail_memory(err, "operations");
    for (size_t i = 0; i < from->n_events; i++) {
        const struct moe_chrome_event *e = &from->events[i];
        int64_t track = from->tracks[e->track].id;
        if (track < 0 || track >= MOE_N_TRACKS)
            continue;
        run->op[run->n++] = (struct moe_operation){.track = (enum moe_track)track,
                                                   .name = from->words[e->name],
                                                   .cause = from->words[e->cause],
                                                   .layer = e->layer,
                                                   .expert = e->expert,
                                                   .slot = e->slot,
                                                   .start_ns = e->start_ns,
                                                   .end_ns = e->start_ns + e->length_ns};
    }
    return MOE_OK;
}

static enum moe_status write_host(struct repro *r, const char *json, int32_t covered,
                                  struct moe_err *err)
{
    struct moe_chrome_trace trace = {0};
    struct run run = {.name = "host"};
    char *text = NULL;
    size_t size;
    enum moe_status s = moe_file_read(json, JSON_MAX_BYTES, &text, &size, err);
    if (!s)
        s = moe_chrome_trace_parse(json, text, size, ROOM, &trace, err);
    if (!s)
        s = copy_chrome(&trace, &run, err);
    struct moe_table *table = repro_table(r);
    if (!s) {
        moe_table_note(table, "run", "real: tiny-mixtral");
        moe_table_note(table, "device", "host: threads and an arena, link throttled");
        s = add_run(table, &run, choose(&run, covered), err);
    }
    s = repro_write(r, table, s, "fig4-host", err);
    free(run.op);
    moe_chrome_trace_release(&trace);
    free(text);
    return s;
}

/* Six of the eight layers have slots, as more than half of the paper's have none or all. */
static enum moe_status real_run(struct repro *r, struct moe_err *err)
{
    char json[CLI_PATH_MAX + 80];
    repro_path(r, "fig4-host", ".json", json, sizeof json);
    const char *const words[] = {"--model",      "tiny-mixtral",
                                 "--trace",      "results/traces/tiny-mixtral.h5",
                                 "--strategy",   "collab",
                                 "--geometry",   "6x4",
                                 "--threads",    "1",
                                 "--device",     "host:link_gb_per_s=1",
                                 "--max-tokens", "128",
                                 "--timeline",   json};
    enum moe_status s = repro_command(&cli_run, (int)(sizeof words / sizeof *words), words, err);
    return s ? s : write_host(r, json, 6, err);
}

enum moe_status repro_fig4(struct repro *r, struct moe_err *err)
{
    struct moe_experiment x;
    struct run runs[MAX_RUNS] = {0};
    enum moe_status s = repro_experiment(r, "fig4", &x, err);
    if (s)
        return s;
    if (x.n_points > MAX_RUNS)
        s = moe_fail(err, MOE_ERR_USAGE, "fig4 has %zu points, %d at most", x.n_points, MAX_RUNS);
    if (!s)
        s = write_simulated(r, &x, runs, err);
    for (size_t i = 0; i < MAX_RUNS; i++)
        free(runs[i].op);
    if (!s)
        s = real_run(r, err);
    if (!s)
        s = repro_plot(r, "fig4", "fig4", x.title, err);
    if (!s)
        s = repro_plot(r, "fig4", "fig4-host",
                       "Operations of four layers of one token (real run on the host device)", err);
    moe_experiment_release(&x);
    return s;
}
