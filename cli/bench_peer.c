#include "cli/bench_peer.h"

#include "base/numbers.h"
#include "base/progress.h"
#include "policies/geometry.h"
#include "sim/replay.h"
#include "traces/synth.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* POOL: slots, half of the experts of Mixtral-8x7B and twice those that one token uses. */
enum { POOL = 128, MAX_REPEATS = 99 };

int cli_peer_present(void)
{
    static char program[] = "cachesim", flag[] = "--version";
    char *argv[] = {program, flag, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t child;
    int status = 1;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int failed = posix_spawnp(&child, program, &quiet, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&quiet);
    if (failed)
        return 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) != 127;
}

/* libCacheSim's oracleGeneral record, little endian: u32 time, u64 object, u32 size, i64 next. */
static void put_record(FILE *out, uint64_t object)
{
    unsigned char record[24] = {0};
    for (int i = 0; i < 8; i++)
        record[4 + i] = (unsigned char)(object >> (8 * i));
    record[12] = 1;
    fwrite(record, sizeof record, 1, out);
}

static enum moe_status write_stream(const struct moe_trace *trace, const char *path,
                                    struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    FILE *out = fopen(path, "wb");
    if (!out)
        return moe_fail(err, MOE_ERR_IO, "cannot create '%s': %s", path, strerror(errno));
    size_t row = (size_t)info->n_layers * info->top_k;
    for (size_t i = 0; i < trace->tokens.n_tokens * row; i++)
        put_record(out, i % row / info->top_k * info->n_experts + trace->tokens.expert[i]);
    if (fclose(out) != 0)
        return moe_fail(err, MOE_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    return MOE_OK;
}

/* Runs cachesim in folder; its last line ends "miss ratio R, throughput X MQPS". */
static enum moe_status run_peer(const char *folder, double *rate, double *miss_ratio,
                                struct moe_err *err)
{
    char command[600], line[2048], last[2048] = "";
    snprintf(command, sizeof command,
             "cd '%s' && cachesim stream.bin oracleGeneral lru %d --ignore-obj-size 1 2>/dev/null",
             folder, POOL);
    FILE *in = popen(command, "r");
    if (!in)
        return moe_fail(err, MOE_ERR_IO, "cannot run cachesim: %s", strerror(errno));
    while (fgets(line, sizeof line, in))
        if (strstr(line, "MQPS"))
            memcpy(last, line, sizeof last);
    pclose(in);
    const char *at = strstr(last, "miss ratio ");
    if (!at || sscanf(at, "miss ratio %lf, throughput %lf", miss_ratio, rate) != 2)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "cachesim printed no throughput");
    return MOE_OK;
}

static enum moe_status run_own(const struct moe_trace *trace, double *rate, double *miss_ratio,
                               struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    struct moe_replay_options options = {.contract = MOE_CONTRACT_ACCESS, .seed = 1};
    struct moe_geometry geometry;
    struct moe_policy_spec lru;
    struct moe_replay_result result;
    char text[32];
    snprintf(text, sizeof text, "global:%d", POOL);
    enum moe_status s = moe_policy_parse("lru", &lru, err);
    if (!s)
        s = moe_geometry_parse(text, info->n_layers, info->n_experts, NULL, &geometry, err);
    if (s)
        return s;
    uint64_t start = moe_clock_ns();
    s = moe_replay(trace, &geometry, &lru, &options, &result, err);
    uint64_t ns = moe_clock_ns() - start;
    moe_geometry_release(&geometry);
    if (s)
        return s;
    *rate = (double)result.both.lookups / (double)(ns ? ns : 1) * 1e3;
    *miss_ratio = (double)result.both.misses / (double)result.both.lookups;
    moe_replay_release(&result);
    return MOE_OK;
}

static void add_row(struct moe_table *table, const char *name, double *rates, uint32_t n,
                    double miss_ratio)
{
    double median = moe_median(rates, n);
    moe_table_row(table);
    moe_table_text(table, "case", name);
    moe_table_f64(table, "value", median);
    moe_table_text(table, "unit", "M accesses/s");
    moe_table_u64(table, "repeats", n);
    moe_table_f64(table, "spread_percent", 100 * (rates[n - 1] - rates[0]) / median);
    moe_table_f64(table, "miss_ratio", miss_ratio);
}

static enum moe_status compare(struct moe_table *table, const struct moe_trace *trace,
                               const char *folder, uint32_t repeats, struct moe_err *err)
{
    double own[MAX_REPEATS], peer[MAX_REPEATS], own_misses = 0, peer_misses = 0;
    char path[600];
    uint32_t n = repeats < MAX_REPEATS ? repeats : MAX_REPEATS;
    snprintf(path, sizeof path, "%s/stream.bin", folder);
    enum moe_status s = write_stream(trace, path, err);
    for (uint32_t i = 0; !s && i < n; i++) {
        s = run_own(trace, &own[i], &own_misses, err);
        if (!s)
            s = run_peer(folder, &peer[i], &peer_misses, err);
    }
    if (s)
        return s;
    add_row(table, "moelab lru, one pool of 128", own, n, own_misses);
    add_row(table, "libCacheSim lru, one pool of 128", peer, n, peer_misses);
    return MOE_OK;
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"stream.bin", "result/stream.bin", "result"};
    char path[600];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    remove(folder);
}

enum moe_status cli_bench_peer(struct moe_table *table, uint64_t tokens, uint32_t repeats,
                               struct moe_err *err)
{
    char folder[] = "/tmp/moelab-bench.XXXXXX", spec[160];
    struct moe_trace trace = {0};
    snprintf(spec, sizeof spec,
             "sticky:layers=32,experts=8,top_k=2,sequences=1,tokens=%" PRIu64 ",repeat=0.4",
             tokens);
    enum moe_status s = moe_synth_make(spec, &trace, err);
    if (s)
        return s;
    if (mkdtemp(folder)) {
        s = compare(table, &trace, folder, repeats, err);
        remove_folder(folder);
    } else {
        s = moe_fail(err, MOE_ERR_IO, "cannot create '%s': %s", folder, strerror(errno));
    }
    moe_trace_release(&trace);
    return s;
}
