#include "sim/bench.h"

#include "base/numbers.h"
#include "base/progress.h"
#include "sim/bench_case.h"
#include "sim/replay.h"
#include "traces/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEFAULT_TOKENS = 100000, GRID_TOKENS = 10000, DEFAULT_REPEATS = 7, MAX_REPEATS = 1000 };

/* A case that took this long is not repeated further. */
#define SLOW_NS 5000000000u

static const uint32_t memory_ways[] = {1, 2, 4, 8};
enum { N_WAYS = sizeof memory_ways / sizeof *memory_ways, CASES_OF_WAYS = 4 };

/* What a case works on; each uses what it needs. */
struct subject {
    const struct moe_trace *trace;
    struct moe_geometry geometry;
    struct moe_policy_spec lru;
    struct moe_replay_options replay;
    const char *stream_path;
    const struct moe_sim_input *simulate;
    volatile uint64_t sink; /* keeps the read loop from being left out */
};

uint64_t moe_bench_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum moe_status moe_bench_measure(struct moe_bench *bench, const char *name, double goal,
                                  moe_bench_fn *run, void *subject, struct moe_err *err)
{
    double value[MAX_REPEATS];
    uint64_t amount = 0, spent = 0;
    uint32_t n = 0;
    /* the first run warms up and is not counted, unless it took too long for another */
    for (uint32_t i = 0; i <= bench->repeats && spent < SLOW_NS; i++) {
        uint64_t start = moe_bench_cpu_ns();
        enum moe_status s = run(subject, &amount, err);
        uint64_t ns = moe_bench_cpu_ns() - start;
        if (s)
            return s;
        if (moe_interrupted())
            return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted in case '%s'", name);
        double seconds = (double)(ns ? ns : 1) * 1e-9;
        spent += ns;
        if (i > 0 || spent >= SLOW_NS)
            value[n++] = amount ? (double)amount / seconds * 1e-6 : seconds;
    }
    double median = moe_median(value, n);
    struct moe_bench_row *row = &bench->rows[bench->n_rows++];
    *row = (struct moe_bench_row){.unit = amount ? "M/s" : "s",
                                  .value = median,
                                  .accesses = amount,
                                  .goal = goal,
                                  .repeats = n,
                                  .spread = (value[n - 1] - value[0]) / median};
    row->read_share = amount ? median / bench->rows[0].value : NAN;
    snprintf(row->name, sizeof row->name, "%s", name);
    moe_progress_update(&bench->progress, bench->n_rows);
    return MOE_OK;
}

static enum moe_status run_read(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    const struct moe_trace *trace = subject->trace;
    size_t n = (size_t)trace->tokens.n_tokens * trace->info.n_layers * trace->info.top_k;
    uint64_t sum = 0;
    (void)err;
    for (size_t i = 0; i < n; i++)
        sum += trace->tokens.expert[i];
    subject->sink = sum;
    *amount = n;
    return MOE_OK;
}

static enum moe_status run_replay(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    struct moe_replay_result result;
    enum moe_status s = moe_replay(subject->trace, &subject->geometry, &subject->lru,
                                   &subject->replay, &result, err);
    if (s)
        return s;
    *amount = result.both.lookups;
    moe_replay_release(&result);
    return MOE_OK;
}

static enum moe_status run_grid(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    uint64_t *hits;
    enum moe_status s = moe_replay_grid(subject->trace, &subject->lru, &subject->replay,
                                        subject->trace->info.n_experts, &hits, err);
    if (s)
        return s;
    free(hits);
    *amount = 0;
    return MOE_OK;
}

static enum moe_status stream_with(struct moe_reader *reader, struct subject *subject,
                                   uint64_t *amount, struct moe_err *err)
{
    const struct moe_trace_info *info = moe_reader_info(reader);
    struct moe_geometry geometry;
    struct moe_replay_result result;
    char text[32];
    snprintf(text, sizeof text, "%" PRIu32 "x%" PRIu32, info->n_layers,
             info->n_experts < 4 ? info->n_experts : 4);
    enum moe_status s =
        moe_geometry_parse(text, info->n_layers, info->n_experts, NULL, &geometry, err);
    if (s)
        return s;
    s = moe_replay_stream(reader, &geometry, &subject->lru, &subject->replay, &result, err);
    moe_geometry_release(&geometry);
    if (s)
        return s;
    *amount = result.both.lookups;
    moe_replay_release(&result);
    return MOE_OK;
}

static enum moe_status run_stream(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    struct moe_reader *reader;
    enum moe_status s = moe_reader_open(&reader, subject->stream_path, err);
    if (s)
        return s;
    s = stream_with(reader, subject, amount, err);
    moe_reader_close(reader);
    return s;
}

static enum moe_status run_simulate(void *given, uint64_t *amount, struct moe_err *err)
{
    struct subject *subject = given;
    struct moe_result result;
    enum moe_status s = moe_simulate(subject->simulate, &result, err);
    if (!s)
        *amount = result.routed_experts;
    return s;
}

static enum moe_status bench_replay(struct moe_bench *bench, struct subject *subject, uint32_t ways,
                                    struct moe_err *err)
{
    const struct moe_trace_info *info = &subject->trace->info;
    char geometry[32], name[64];
    snprintf(geometry, sizeof geometry, "%" PRIu32 "x%" PRIu32, info->n_layers, ways);
    enum moe_status s = moe_geometry_parse(geometry, info->n_layers, info->n_experts, NULL,
                                           &subject->geometry, err);
    if (s)
        return s;
    for (int i = 0; i < CASES_OF_WAYS && !s; i++) {
        subject->replay = (struct moe_replay_options){
            .contract = i % 2 ? MOE_CONTRACT_ACCESS : MOE_CONTRACT_EVENT, .generic = i >= 2};
        snprintf(name, sizeof name, "replay lru %s %s%s", geometry, i % 2 ? "access" : "event",
                 i >= 2 ? " (generic)" : "");
        s = moe_bench_measure(bench, name, NAN, run_replay, subject, err);
    }
    moe_geometry_release(&subject->geometry);
    return s;
}

/* Mixtral's shape. repeat: measured, mean over layers of expert_repeat_by_lag 1 in
 * routing-stats/mixtral-8x7b-decode.json (chance: 0.25). */
static enum moe_status make_trace(uint64_t tokens, struct moe_trace *trace, struct moe_err *err)
{
    char spec[128];
    snprintf(spec, sizeof spec,
             "sticky:layers=32,experts=8,top_k=2,tokens=%" PRIu64 ",repeat=0.376", tokens);
    return moe_synth_make(spec, trace, err);
}

static enum moe_status bench_memory(struct moe_bench *bench, struct subject *subject,
                                    uint64_t tokens, struct moe_err *err)
{
    struct moe_trace trace;
    enum moe_status s = make_trace(tokens, &trace, err);
    if (s)
        return s;
    subject->trace = &trace;
    s = moe_bench_measure(bench, "read the trace", NAN, run_read, subject, err);
    for (size_t i = 0; i < N_WAYS && !s; i++)
        s = bench_replay(bench, subject, memory_ways[i], err);
    subject->trace = NULL;
    moe_trace_release(&trace);
    return s;
}

static enum moe_status bench_grid(struct moe_bench *bench, struct subject *subject,
                                  struct moe_err *err)
{
    struct moe_trace trace;
    enum moe_status s = make_trace(GRID_TOKENS, &trace, err);
    if (s)
        return s;
    subject->trace = &trace;
    subject->replay = (struct moe_replay_options){.contract = MOE_CONTRACT_EVENT};
    s = moe_bench_measure(bench, "grid lru 0..32 x 0..8 event, 10000 tokens", NAN, run_grid,
                          subject, err);
    moe_trace_release(&trace);
    return s;
}

static enum moe_status run_cases(struct moe_bench *bench, struct subject *subject,
                                 const struct moe_bench_options *options, struct moe_err *err)
{
    enum moe_status s =
        bench_memory(bench, subject, options->tokens ? options->tokens : DEFAULT_TOKENS, err);
    if (!s)
        s = bench_grid(bench, subject, err);
    if (!s && options->policies && *options->policies)
        s = moe_bench_policies(bench, options, err);
    if (!s && options->stream_path)
        s = moe_bench_measure(bench, "replay lru streamed from HDF5, event", NAN, run_stream,
                              subject, err);
    if (!s && options->simulate)
        s = moe_bench_measure(bench, "timed simulation", NAN, run_simulate, subject, err);
    return s;
}

/* Of reading the trace, the grid, and those of run_cases. */
static uint32_t count_cases(const struct moe_bench_options *options)
{
    return 2 + N_WAYS * CASES_OF_WAYS + moe_bench_policy_rows(options) +
           (options->stream_path != NULL) + (options->simulate != NULL);
}

enum moe_status moe_bench_sim(const struct moe_bench_options *options, struct moe_bench_row *rows,
                              uint32_t *n_rows, struct moe_err *err)
{
    struct subject subject = {.stream_path = options->stream_path, .simulate = options->simulate};
    struct moe_bench bench = {.repeats = options->repeats ? options->repeats : DEFAULT_REPEATS,
                              .rows = rows};
    if (bench.repeats > MAX_REPEATS)
        return moe_fail(err, MOE_ERR_USAGE, "repeats %" PRIu32 " exceeds %d", bench.repeats,
                        MAX_REPEATS);
    enum moe_status s = moe_policy_parse("lru", &subject.lru, err);
    if (s)
        return s;
    moe_progress_begin(&bench.progress, "measuring", "cases", count_cases(options));
    s = run_cases(&bench, &subject, options, err);
    moe_progress_end(&bench.progress);
    if (!s)
        *n_rows = bench.n_rows;
    return s;
}
