#include "base/file.h"
#include "base/progress.h"
#include "cli/output.h"
#include "policies/result_table.h"
#include "sim/gap.h"
#include "sim/prefetch_value.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct options {
    char model[CLI_PATH_MAX], platform[CLI_PATH_MAX], strategy[CLI_PATH_MAX];
    char geometry[1024], policy[256], threads[32];
    char timeline[CLI_PATH_MAX], decisions[CLI_PATH_MAX], output[CLI_PATH_MAX];
    uint64_t max_tokens, timeline_tokens;
    int bound, gap, prefetch_stats, lossy, format;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "model name, file or folder (default: the one that the trace names)"),
    CLI_OPTION_NAME(struct options, platform, "platform", "paper-4090",
                    "machine: a name from `moelab list platforms`, or a file"),
    CLI_OPTION_NAME(struct options, strategy, "strategy", "collab",
                    "a name from `moelab list strategies`, or a file"),
    CLI_OPTION_NAME(struct options, geometry, "geometry", "", "instead of the strategy's"),
    CLI_OPTION_NAME(struct options, policy, "policy", "", "instead of the strategy's"),
    CLI_OPTION_NAME(struct options, threads, "threads", "", "instead of the strategy's"),
    CLI_OPTION_LOSSY(struct options, lossy),
    CLI_OPTION_MAX_TOKENS(struct options, max_tokens, "the trace"),
    CLI_OPTION_SWITCH(struct options, bound, "bound", "on",
                      "compute the time that no schedule can beat on this platform (bound), and "
                      "that none with the same decisions can beat (schedule_bound)"),
    CLI_OPTION_SWITCH(
        struct options, gap, "gap", "off",
        "split the time above the bound by cause: cold, capacity, conflict, dispatch, victim, "
        "admission, prefetch, late fill (sim/gap.h); takes four more simulations"),
    CLI_OPTION_SWITCH(struct options, prefetch_stats, "prefetch_stats", "off",
                      "also simulate without the prefetcher: time saved, and the precision above "
                      "which prefetching pays on a busy link (sim/prefetch_value.h)"),
    CLI_OPTION_TIMELINE(struct options, timeline),
    CLI_OPTION_U64(struct options, timeline_tokens, "timeline_tokens", "16", 1, 100000,
                   "decode tokens",
                   "with --timeline: tokens to simulate and draw, unless --max-tokens is given"),
    CLI_OPTION_DECISIONS(struct options, decisions),
    CLI_OPTION_RESULT(struct options),
    {0},
};

struct inputs {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy;
};

/* Names the option in an error message that names the strategy's key. */
static enum moe_status name_option(const char *key, struct moe_err *err)
{
    const size_t n = strlen(key);
    char why[sizeof err->text];
    if (strncmp(err->text, key, n) != 0 || err->text[n] != ':')
        return err->status;
    snprintf(why, sizeof why, "%s", err->text);
    return moe_fail(err, err->status, "--%s", why);
}

static enum moe_status load_settings(const struct cli_call *call, struct inputs *in,
                                     struct moe_err *err)
{
    const struct options *o = call->options;
    const struct {
        const char *key, *value;
    } shortcuts[] = {{"geometry", o->geometry}, {"policy", o->policy}, {"threads", o->threads}};
    enum moe_status s = cli_load_platform(o->platform, &in->platform, err);
    if (!s)
        s = cli_load_strategy(o->strategy, &in->strategy, err);
    for (size_t i = 0; !s && i < sizeof shortcuts / sizeof *shortcuts; i++)
        if (cli_call_sets(call, shortcuts[i].key)) { /* even to "" */
            if ((s = moe_strategy_set(&in->strategy, shortcuts[i].key, shortcuts[i].value, err)))
                s = name_option(shortcuts[i].key, err);
        }
    for (int i = 0; !s && i < call->n_sets; i++)
        s = cli_apply_set(call->sets[i], &in->strategy, &in->platform, err);
    in->strategy.lossy = o->lossy;
    if (s)
        return s;
    cli_limit_threads(&in->strategy, &in->platform);
    cli_tell_unlisted(&in->strategy);
    return MOE_OK;
}

static enum moe_status load_inputs(const struct cli_call *call, struct inputs *in,
                                   struct moe_err *err)
{
    const struct options *o = call->options;
    enum moe_status s = load_settings(call, in, err);
    if (!s)
        s = cli_load_trace(call->args[0], o->model, moe_strategy_parts(&in->strategy), &in->model,
                           &in->trace, err);
    return s;
}

/* Operations of one token: 32 layers of about ten; generous, and bounded. */
enum { OPERATIONS_PER_TOKEN = 4096 };

static enum moe_status simulate_with_progress(struct moe_sim_input *input,
                                              struct moe_result *result, struct moe_err *err)
{
    struct moe_progress progress;
    moe_progress_begin(&progress, "simulating", "tokens", input->trace->tokens.n_tokens);
    input->progress = &progress;
    enum moe_status s = moe_simulate(input, result, err);
    moe_progress_end(&progress);
    input->progress = NULL;
    return s;
}

static enum moe_status simulate_and_draw(const struct options *o, const struct inputs *in,
                                         struct moe_sim_input *input, struct moe_result *result,
                                         struct moe_err *err)
{
    if (!*o->timeline)
        return simulate_with_progress(input, result, err);
    if (!input->max_tokens)
        input->max_tokens = o->timeline_tokens;
    uint64_t room = (input->max_tokens + in->trace.tokens.n_tokens) * OPERATIONS_PER_TOKEN;
    enum moe_status s = moe_timeline_new(&input->timeline, room < 1u << 22 ? room : 1u << 22, err);
    if (!s)
        s = moe_simulate(input, result, err);
    char title[320];
    snprintf(title, sizeof title, "moelab sim: %s%s, %s, %s%s", in->strategy.name,
             cli_lossy_mark(&in->strategy), in->model.name, in->platform.name,
             in->trace.info.synthetic ? " (SYNTHETIC trace)" : "");
    if (!s)
        s = moe_timeline_write(input->timeline, title, o->timeline, err);
    const uint64_t dropped = s ? 0 : moe_timeline_dropped(input->timeline);
    if (dropped)
        moe_log("the timeline has the first %" PRIu64 " operations; %" PRIu64
                " later ones are left out",
                moe_timeline_count(input->timeline), dropped);
    moe_timeline_free(input->timeline);
    return s;
}

static struct moe_sim_input input_of(const struct options *o, const struct inputs *in)
{
    return (struct moe_sim_input){.trace = &in->trace,
                                  .model = &in->model,
                                  .platform = &in->platform,
                                  .strategy = &in->strategy,
                                  .max_tokens = o->max_tokens,
                                  .bound = o->bound};
}

static enum moe_status simulate(const struct options *o, const struct inputs *in,
                                struct moe_result *result, struct moe_err *err)
{
    struct moe_sim_input input = input_of(o, in);
    if (!*o->decisions)
        return simulate_and_draw(o, in, &input, result, err);
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, o->decisions, err);
    if (s)
        return s;
    struct moe_decision_log log = {.stream = out.stream};
    input.decisions = &log;
    s = simulate_and_draw(o, in, &input, result, err);
    enum moe_status ended = moe_output_end(&out, s, err);
    return s ? s : ended; /* always `ended`; for analyzers, which cannot see that */
}

static enum moe_status add_prefetch_value(const struct options *o, const struct inputs *in,
                                          const struct moe_result *result, struct moe_table *table,
                                          struct moe_err *err)
{
    struct moe_sim_input input = input_of(o, in);
    struct moe_prefetch_value value;
    if (!input.max_tokens && *o->timeline)
        input.max_tokens = o->timeline_tokens;
    input.bound = false;
    enum moe_status s = moe_prefetch_value(&input, &value, err);
    if (s)
        return s;
    moe_table_f64(table, "without_prefetch_tokens_per_s", value.without.tokens_per_s);
    moe_table_f64(table, "prefetch_saved_ms_per_token", value.without.ms_mean - result->ms_mean);
    moe_table_f64(table, "prefetch_copy_ms", value.copy_ms);
    moe_table_f64(table, "prefetch_gain_ms", value.gain_ms);
    moe_table_f64(table, "misses_copied_percent", 100 * value.copied_share);
    moe_table_f64(table, "break_even_precision_percent", 100 * value.break_even);
    return MOE_OK;
}

static enum moe_status add_gap(const struct options *o, const struct inputs *in,
                               const struct moe_result *result, struct moe_table *table,
                               struct moe_err *err)
{
    const struct moe_sim_input input = input_of(o, in);
    struct moe_gap gap;
    enum moe_status s = moe_gap_split(&input, result, &gap, err);
    if (!s)
        moe_gap_cells(table, &gap, result->decode_tokens);
    return s;
}

static enum moe_status write_result(const struct cli_call *call, const struct inputs *in,
                                    const struct moe_result *result, struct moe_err *err)
{
    const struct options *o = call->options;
    struct moe_table *table = cli_table_new(call);
    char described[2048];
    moe_strategy_describe(&in->strategy, described, sizeof described);
    cli_note_trace(table, call->args[0], &in->trace.info);
    moe_table_note(table, "strategy", "%s", described);
    moe_table_row(table);
    moe_result_labels(table, &in->trace.info, &in->model, in->platform.name, &in->strategy);
    moe_result_cells(table, result);
    if (moe_reroute_is_early(&in->strategy.reroute))
        moe_early_cells(table, result);
    enum moe_status s = o->gap ? add_gap(o, in, result, table, err) : MOE_OK;
    if (!s && o->prefetch_stats)
        s = add_prefetch_value(o, in, result, table, err);
    return cli_table_end(table, s, o->format, o->output, err);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    struct inputs in = {0};
    struct moe_result result;
    const struct options *o = call->options;
    enum moe_status s = *o->timeline ? moe_output_check(o->timeline, err) : MOE_OK;
    if (!s)
        s = load_inputs(call, &in, err);
    if (!s)
        s = simulate(call->options, &in, &result, err);
    if (!s)
        s = write_result(call, &in, &result, err);
    moe_trace_release(&in.trace);
    return s;
}

const struct cli_command cli_sim = {
    .name = "sim",
    .usage = "TRACE [options]",
    .summary = "tokens per second of a strategy on a platform, by discrete-event simulation",
    .description = MOE_TRACE_NAME_HELP,
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .takes_sets = true,
    .run = run,
};
