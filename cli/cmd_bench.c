#include "base/progress.h"
#include "cli/bench_peer.h"
#include "cli/output.h"
#include "sim/bench.h"
#include "traces/source.h"

#include <stdio.h>
#include <string.h>

struct options {
    char stream[CLI_PATH_MAX], model[CLI_PATH_MAX], platform[CLI_PATH_MAX];
    char strategy[CLI_PATH_MAX], geometry[64], policies[64], output[CLI_PATH_MAX];
    uint64_t tokens, repeats, policy_accesses;
    int peers, format;
};

static const struct moe_param options[] = {
    CLI_OPTION_U64(struct options, tokens, "tokens", "100000", 100, 1e8, "tokens",
                   "length of the synthetic Mixtral-shaped trace (64 accesses a token)"),
    CLI_OPTION_U64(struct options, repeats, "repeats", "7", 1, 99, "runs",
                   "runs of each case, after one that is not counted; the median is shown"),
    CLI_OPTION_NAME(struct options, stream, "stream", "",
                    "trace file for the streaming case (default: left out)"),
    CLI_OPTION_NAME(struct options, model, "model", "mixtral-8x7b", "model of the timed case"),
    CLI_OPTION_NAME(struct options, platform, "platform", "paper-4090",
                    "platform of the timed case"),
    CLI_OPTION_NAME(struct options, strategy, "strategy", "collab", "strategy of the timed case"),
    CLI_OPTION_NAME(struct options, geometry, "geometry", "14x4", "geometry of the timed case"),
    CLI_OPTION_NAME(struct options, policies, "policies", "all",
                    "policies to replay on two model shapes, shown beside their goal: all, or one"),
    CLI_OPTION_U64(struct options, policy_accesses, "policy-accesses", "500000", 1000, 1e8,
                   "accesses",
                   "replay at most N accesses in each run of a policy; slow ones replay fewer, so "
                   "that a run takes 15 ms"),
    CLI_OPTION_SWITCH(struct options, peers, "peers", "on",
                      "alternate with runs of libCacheSim, if its `cachesim` is installed"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

struct subject {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy;
};

static enum moe_status load(const struct options *o, struct subject *x, struct moe_err *err)
{
    char name[256];
    snprintf(name, sizeof name,
             "synth:sticky:layers=32,experts=8,top_k=2,repeat=0.4,sequences=4,tokens=%llu",
             (unsigned long long)(o->tokens < 20000 ? o->tokens : 20000));
    enum moe_status s = cli_load_model(o->model, &x->model, err);
    if (!s)
        s = cli_load_platform(o->platform, &x->platform, err);
    if (!s)
        s = cli_load_strategy(o->strategy, &x->strategy, err);
    if (!s)
        s = moe_strategy_set(&x->strategy, "geometry", o->geometry, err);
    return s ? s : moe_trace_from_name(name, 0, NULL, &x->trace, err);
}

static void add_rows(struct moe_table *table, const struct moe_bench_row *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        moe_table_row(table);
        moe_table_text(table, "case", rows[i].name);
        moe_table_f64(table, "value", rows[i].value);
        moe_table_text(table, "unit", strcmp(rows[i].unit, "M/s") ? rows[i].unit : "M accesses/s");
        moe_table_u64(table, "accesses", rows[i].accesses);
        moe_table_u64(table, "repeats", rows[i].repeats);
        moe_table_f64(table, "goal", rows[i].goal);
        moe_table_text(table, "goal_is",
                       rows[i].value >= rows[i].goal  ? "met"
                       : rows[i].value < rows[i].goal ? "missed"
                                                      : "");
        moe_table_f64(table, "spread_percent", 100 * rows[i].spread);
        moe_table_f64(table, "share_of_read_rate_percent", 100 * rows[i].read_share);
    }
}

static enum moe_status measure(const struct options *o, const struct subject *x,
                               struct moe_table *table, struct moe_err *err)
{
    struct moe_bench_row rows[MOE_BENCH_ROWS_MAX];
    uint32_t n_rows = 0;
    struct moe_sim_input timed = {
        .trace = &x->trace, .model = &x->model, .platform = &x->platform, .strategy = &x->strategy};
    struct moe_bench_options bench = {.tokens = o->tokens,
                                      .repeats = (uint32_t)o->repeats,
                                      .stream_path = *o->stream ? o->stream : NULL,
                                      .simulate = &timed,
                                      .policies = o->policies,
                                      .policy_accesses = o->policy_accesses};
    enum moe_status s = moe_bench_sim(&bench, rows, &n_rows, err);
    if (s)
        return s;
    add_rows(table, rows, n_rows);
    if (!o->peers)
        return MOE_OK;
    if (cli_peer_present())
        return cli_bench_peer(table, o->tokens, (uint32_t)o->repeats, err);
    moe_log("libCacheSim's `cachesim` is not on the PATH: no peer in this table");
    return MOE_OK;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct subject x = {0};
    if (strcmp(call->args[0], "sim") != 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "unknown benchmark '%.40s'; known: sim, kernels, device", call->args[0]);
    struct moe_table *table = cli_table_new(call);
    moe_table_note(table, "synthetic", "yes");
    enum moe_status s = load(o, &x, err);
    if (!s)
        s = measure(o, &x, table, err);
    moe_trace_release(&x.trace);
    return cli_table_end(table, s, o->format, o->output, err);
}

const struct cli_command cli_bench = {
    .name = "bench",
    .usage = "sim|kernels|device [options]",
    .summary = "speed of replay and simulation on one core of this machine, beside its limit",
    .description =
        "The first row is the limit: one core reads the trace and does nothing with it.\n"
        "For the CPU kernels: moelab bench kernels --help; for a device: moelab bench device "
        "--help",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
