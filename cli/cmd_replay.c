#include "base/file.h"
#include "base/numbers.h"
#include "base/progress.h"
#include "cli/output.h"
#include "policies/geometry.h"
#include "policies/result_table.h"
#include "sim/replay.h"
#include "traces/hdf5.h"
#include "traces/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    char geometry[1024], policy[1200], admission[256], reroute[256], model[CLI_PATH_MAX],
        output[CLI_PATH_MAX];
    int contract, order, phase, cold, compare_log, layers, stream, lossy, format;
    double min_agreement;
    uint64_t seed;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, geometry, "geometry", "all",
                    "cache: 32x2, global:56, global:4000MiB, per-layer:2,2,3, ncmoe:20, none, all"),
    CLI_OPTION_NAME(struct options, policy, "policy", "lru",
                    "replacement: lru, fifo, lfu, random, clock, opt, opt:admit=forced, paper-lru, "
                    "paper-lru:hazards=off, static:list=FILE; all: moelab list policies"),
    CLI_OPTION_NAME(struct options, admission, "admission", "always",
                    "which misses are fetched: always, never, quota:quota=8; all: moelab list "
                    "admissions"),
    CLI_OPTION_NAME(
        struct options, reroute, "reroute", "none",
        "with --lossy: which experts stand in for missing ones: cache-prior:lambda=0.5, "
        "substitute; all: moelab list reroutes"),
    CLI_OPTION_LOSSY(struct options, lossy),
    CLI_OPTION_CONTRACT(struct options),
    CLI_OPTION_ORDER(struct options),
    CLI_OPTION_PHASE(struct options, phase, "phase", "tokens to replay; others are skipped"),
    CLI_OPTION_COLD(struct options),
    CLI_OPTION_SWITCH(
        struct options, compare_log, "compare_log", "off",
        "compare each row with the hits that the recorded engine logged; printed last"),
    CLI_OPTION_F64(struct options, min_agreement, "min_agreement", "99.9", 0, 100, "%",
                   "exit with code 3 if fewer rows agree"),
    CLI_OPTION_SWITCH(struct options, layers, "layers", "on",
                      "rows for single layers (--no-layers: totals only)"),
    CLI_OPTION_SWITCH(
        struct options, stream, "stream", "off",
        "read the file in blocks, in constant memory (automatic over 1 GiB of routes)"),
    CLI_OPTION_SEED(struct options, seed, "policies and rules that choose at random"),
    CLI_OPTION_NAME(
        struct options, model, "model", "",
        "model file or name that gives the size of an expert (default: from the trace)"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

struct inputs {
    struct moe_trace trace; /* in memory; empty when streaming */
    struct moe_reader *reader;
    const struct moe_trace_info *info;
    struct moe_strategy strategy;
    struct moe_geometry geometry;
};

static const char *lossy_text(const struct moe_strategy *strategy, char *buf, size_t size)
{
    return moe_strategy_is_lossy(strategy) ? moe_reroute_format(&strategy->reroute, buf, size)
                                           : "no";
}

/* The sizes of a trace's experts may be unknown. */
static bool has_bytes(uint64_t experts, uint64_t bytes)
{
    return experts == 0 || bytes > 0;
}

/* lossy: of lossy_text; lossless rows are not told so. */
static void add_row(struct moe_table *table, const char *lossy, const char *phase,
                    const char *layer, const struct moe_counts *c)
{
    moe_table_row(table);
    if (strcmp(lossy, "no") != 0)
        moe_table_text(table, "lossy", lossy);
    moe_table_text(table, "phase", phase);
    moe_table_text(table, "layer", layer);
    moe_table_u64(table, "lookups", c->lookups);
    moe_table_u64(table, "hits", c->hits);
    moe_table_u64(table, "misses", c->misses);
    moe_table_f64(table, "hit_rate_percent", moe_percent(c->hits, c->lookups));
    moe_table_u64(table, "events", c->events);
    moe_table_f64(table, "any_hit_percent", moe_percent(c->any_hit_events, c->events));
    moe_table_f64(table, "all_hit_percent", moe_percent(c->all_hit_events, c->events));
    moe_table_u64(table, "fills", c->fills);
    moe_table_u64(table, "evictions", c->evictions);
    moe_table_u64(table, "useless_fills", c->useless_fills);
    moe_table_u64(table, "bypasses", c->bypasses);
    moe_table_u64(table, "dropped_fills", c->dropped_fills);
    moe_table_u64(table, "hazards", c->hazards);
    if (has_bytes(c->fills, c->fill_bytes))
        moe_table_u64(table, "fill_bytes", c->fill_bytes);
    else
        moe_table_f64(table, "fill_bytes", NAN);
}

static void add_layers(struct moe_table *table, const char *lossy,
                       const struct moe_replay_result *r, int phase)
{
    static const char *const names[] = {"prefill", "decode", "both"};
    char layer[16];
    for (uint32_t l = 0; l < r->n_layers; l++) {
        struct moe_counts sum = {0};
        if (phase != MOE_DECODE)
            moe_counts_add(&sum, &r->layer[MOE_PREFILL][l]);
        if (phase != MOE_PREFILL)
            moe_counts_add(&sum, &r->layer[MOE_DECODE][l]);
        snprintf(layer, sizeof layer, "%u", l);
        add_row(table, lossy, names[phase], layer, &sum);
    }
}

static void fill_table(struct moe_table *table, const struct inputs *in,
                       const struct moe_replay_result *r, const struct options *o)
{
    char buf[1200];
    const char *lossy = lossy_text(&in->strategy, buf, sizeof buf);
    bool prefill = r->total[MOE_PREFILL].events > 0, decode = r->total[MOE_DECODE].events > 0;
    enum { BOTH = 2 };
    if (o->layers && decode)
        add_layers(table, lossy, r, MOE_DECODE);
    if (o->layers && prefill)
        add_layers(table, lossy, r, MOE_PREFILL);
    if (o->layers && prefill && decode)
        add_layers(table, lossy, r, BOTH);
    add_row(table, lossy, "decode", "all", &r->total[MOE_DECODE]);
    add_row(table, lossy, "prefill", "all", &r->total[MOE_PREFILL]);
    add_row(table, lossy, "both", "all", &r->both);
}

struct count_field {
    const char *name;
    size_t offset;
};
#define COUNT(member)                                                                              \
    {                                                                                              \
#member, offsetof(struct moe_counts, member)                                               \
    }
static const struct count_field count_fields[] = {
    COUNT(lookups),       COUNT(hits),           COUNT(misses),         COUNT(fills),
    COUNT(evictions),     COUNT(any_hit_events), COUNT(all_hit_events), COUNT(events),
    COUNT(useless_fills), COUNT(late_fills),     COUNT(dropped_fills),  COUNT(bypasses),
    COUNT(hazards),
};

static void json_bytes(FILE *out, uint64_t experts, uint64_t bytes)
{
    if (has_bytes(experts, bytes))
        fprintf(out, "%" PRIu64, bytes);
    else
        fprintf(out, "null");
}

static void json_counts(FILE *out, const char *indent, const struct moe_counts *c)
{
    for (size_t i = 0; i < sizeof count_fields / sizeof *count_fields; i++) {
        uint64_t value;
        memcpy(&value, (const char *)c + count_fields[i].offset, sizeof value);
        fprintf(out, "%s\"%s\": %" PRIu64 ",", indent, count_fields[i].name, value);
    }
    fprintf(out, "%s\"fill_bytes\": ", indent);
    json_bytes(out, c->fills, c->fill_bytes);
}

/* Totals over both phases as top-level keys, then each phase, then the layers. */
static void write_json(FILE *out, const struct moe_replay_result *r, const struct inputs *in,
                       const struct options *o)
{
    const struct moe_geometry *geometry = &in->geometry;
    const struct moe_rerouted_shares share = moe_rerouted_shares(&r->rerouted);
    char lossy[1200];
    uint32_t covered = 0;
    for (uint32_t l = 0; l < r->n_layers; l++)
        covered += geometry->pool_of_layer[l] >= 0;
    fprintf(out, "{");
    json_counts(out, "\n  ", &r->both);
    fprintf(out, ",\n  \"tokens\": %" PRIu64, r->tokens);
    fprintf(out, ",\n  \"preloaded_experts\": %" PRIu64 ",\n  \"preloaded_bytes\": ",
            r->preloads.experts);
    json_bytes(out, r->preloads.experts, r->preloads.bytes);
    fprintf(out, ",\n  \"layers\": %u,\n  \"covered_layers\": %u", r->n_layers, covered);
    if (o->compare_log)
        fprintf(out, ",\n  \"log_rows\": %" PRIu64 ",\n  \"log_agree\": %" PRIu64, r->log_rows,
                r->log_agree);
    fprintf(out, ",\n  \"contract\": \"%s\"", o->contract ? "access" : "event");
    fprintf(out, ",\n  \"lossy\": \"%s\"", lossy_text(&in->strategy, lossy, sizeof lossy));
    fprintf(out,
            ",\n  \"rerouted_percent\": %.17g,\n  \"weight_moved_percent\": %.17g"
            ",\n  \"gate_mass_lost_percent\": %.17g",
            share.replaced, share.weight_moved, share.mass_lost);
    fprintf(out, ",\n  \"decode\": {");
    json_counts(out, " ", &r->total[MOE_DECODE]);
    fprintf(out, "},\n  \"prefill\": {");
    json_counts(out, " ", &r->total[MOE_PREFILL]);
    fprintf(out, "}");
    static const char *const lists[] = {"prefill_layers", "decode_layers"};
    for (int phase = 0; o->layers && phase < 2; phase++) {
        fprintf(out, ",\n  \"%s\": [", lists[phase]);
        for (uint32_t l = 0; l < r->n_layers; l++) {
            fprintf(out, "%s\n    {\"layer\": %u,", l ? "," : "", l);
            json_counts(out, " ", &r->layer[phase][l]);
            fprintf(out, "}");
        }
        fprintf(out, "]");
    }
    fprintf(out, "\n}\n");
}

static enum moe_status write_json_file(const struct moe_replay_result *r, const struct inputs *in,
                                       const struct options *o, struct moe_err *err)
{
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, o->output, err);
    if (s)
        return s;
    write_json(out.stream, r, in, o);
    return moe_output_commit(&out, err);
}

static enum moe_status write_result(const struct cli_call *call, const struct inputs *in,
                                    const struct moe_replay_result *r, struct moe_err *err)
{
    const struct options *o = call->options;
    if (o->format == CLI_JSON)
        return write_json_file(r, in, o, err);
    const struct moe_rerouted_shares share = moe_rerouted_shares(&r->rerouted);
    char policy[1200];
    struct moe_table *table = cli_table_new(call);
    cli_note_trace(table, call->args[0], in->info);
    moe_table_note(table, "contract", "%s", o->contract ? "access" : "event");
    moe_table_note(table, "geometry", "%s", in->strategy.geometry);
    moe_table_note(table, "policy", "%s",
                   moe_policy_format(&in->strategy.policy, policy, sizeof policy));
    moe_table_note(table, "lossy", "%s", moe_strategy_is_lossy(&in->strategy) ? "yes" : "no");
    moe_table_note(table, "reroute", "%s", lossy_text(&in->strategy, policy, sizeof policy));
    moe_table_note(table, "rerouted_percent", "%.6g", share.replaced);
    moe_table_note(table, "weight_moved_percent", "%.6g", share.weight_moved);
    moe_table_note(table, "gate_mass_lost_percent", "%.6g", share.mass_lost);
    moe_table_note(table, "preloaded_experts", "%" PRIu64, r->preloads.experts);
    if (has_bytes(r->preloads.experts, r->preloads.bytes))
        moe_table_note(table, "preloaded_bytes", "%" PRIu64, r->preloads.bytes);
    fill_table(table, in, r, o);
    return cli_table_end(table, MOE_OK, o->format, o->output, err);
}

/* What a terminal shows of it besides the column. */
static void print_lossy(const struct options *o, const struct inputs *in,
                        const struct moe_replay_result *r)
{
    const struct moe_rerouted_shares share = moe_rerouted_shares(&r->rerouted);
    if (moe_strategy_is_lossy(&in->strategy) && o->format == CLI_TEXT &&
        strcmp(o->output, "-") == 0)
        printf("LOSSY: %.4g %% of the routers' choices replaced, %.4g %% of their weight moved, "
               "%.4g %% of their gate mass lost\n",
               share.replaced, share.weight_moved, share.mass_lost);
}

/* Reports the agreement with the engine's own hits, as the last line of the output and in the exit
 * code. */
static enum moe_status check_log(const struct options *o, const struct moe_replay_result *r,
                                 struct moe_err *err)
{
    if (!o->compare_log)
        return MOE_OK;
    double share = moe_percent(r->log_agree, r->log_rows);
    if (o->format == CLI_TEXT && strcmp(o->output, "-") == 0)
        printf("agreement with the engine's log: %" PRIu64 " of %" PRIu64 " rows, %.4f %%\n",
               r->log_agree, r->log_rows, share);
    if (share < o->min_agreement)
        return moe_fail(err, MOE_ERR_CHECK, "agreement %.4f %% is below the limit of %g %%", share,
                        o->min_agreement);
    return MOE_OK;
}

#define SET_KEYS "geometry, policy.KEY, admission.KEY, reroute.KEY"

/* Refuses --set keys of a strategy that a replay does not have, instead of ignoring them. */
static enum moe_status check_set(const char *key_value, struct moe_err *err)
{
    static const char *const used[] = {"geometry", "policy", "admission", "reroute"};
    const int key = (int)strcspn(key_value, "="), head = (int)strcspn(key_value, ".=");
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        if (strlen(used[i]) == (size_t)head && strncmp(used[i], key_value, (size_t)head) == 0)
            return MOE_OK;
    if (strncmp(key_value, "seed=", 5) == 0)
        return moe_fail(err, MOE_ERR_USAGE, "--set seed has no effect on replay: write --seed %s",
                        key_value + 5);
    return moe_fail(err, MOE_ERR_USAGE,
                    "--set %.*s has no effect on replay, which has no time: it uses " SET_KEYS
                    "; 'moelab sim' uses all keys",
                    key, key_value);
}

static enum moe_status load_strategy(const struct cli_call *call, struct moe_strategy *strategy,
                                     struct moe_err *err)
{
    const struct options *o = call->options;
    moe_strategy_default(strategy);
    enum moe_status s = moe_strategy_set(strategy, "geometry", o->geometry, err);
    if (!s)
        s = moe_strategy_set(strategy, "policy", o->policy, err);
    if (!s)
        s = moe_strategy_set(strategy, "admission", o->admission, err);
    if (!s)
        s = moe_strategy_set(strategy, "reroute", o->reroute, err);
    for (int i = 0; !s && i < call->n_sets; i++)
        if (!(s = cli_apply_set(call->sets[i], strategy, NULL, err)))
            s = check_set(call->sets[i], err);
    strategy->lossy = o->lossy;
    return s;
}

enum { STREAM_OVER_BYTES = 1 << 30 };

static enum moe_status open_trace(const struct cli_call *call, const struct moe_model *model,
                                  struct inputs *in, struct moe_err *err)
{
    const struct options *o = call->options;
    const char *name = call->args[0];
    unsigned want = moe_strategy_parts(&in->strategy) | (o->compare_log ? MOE_HAS_LOG : 0u);
    bool future = in->strategy.policy.ops->needs & MOE_NEEDS_FUTURE;
    if (moe_trace_name_is_file(name)) {
        enum moe_status s = moe_reader_open(&in->reader, name, err);
        if (s)
            return s;
        in->info = moe_reader_info(in->reader);
        double bytes = (double)moe_reader_n_tokens(in->reader) * in->info->n_layers *
                       in->info->top_k * sizeof(moe_expert);
        if (o->stream || (bytes > STREAM_OVER_BYTES && !future))
            return MOE_OK;
        moe_reader_close(in->reader);
        in->reader = NULL;
    } else if (o->stream) {
        return moe_fail(err, MOE_ERR_USAGE, "--stream needs a trace file, not '%.60s'", name);
    }
    enum moe_status s = moe_trace_from_name(name, want, model, &in->trace, err);
    in->info = &in->trace.info;
    return s;
}

/* Makes the geometry, with the sizes of experts from the model or, without one, from the trace. */
static enum moe_status make_geometry(const struct options *o, const struct moe_model *model,
                                     struct inputs *in, struct moe_err *err)
{
    const struct moe_trace_info *info = in->info;
    uint64_t *bytes = NULL;
    if (*o->model) {
        bytes = malloc(info->n_layers * sizeof *bytes);
        if (!bytes)
            return moe_fail_memory(err, "expert sizes");
        for (uint32_t l = 0; l < info->n_layers; l++)
            bytes[l] = moe_model_expert_bytes(model);
    }
    enum moe_status s = moe_geometry_parse(in->strategy.geometry, info->n_layers, info->n_experts,
                                           bytes ? bytes : info->expert_bytes, &in->geometry, err);
    free(bytes);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct inputs in = {0};
    struct moe_model model = {0};
    struct moe_replay_result result = {0};
    struct moe_progress progress = {0};
    enum moe_status s = MOE_OK;
    if (!o->compare_log && cli_call_sets(call, "min_agreement"))
        s = moe_fail(err, MOE_ERR_USAGE, "--min-agreement needs --compare-log, which measures it");
    if (!s)
        s = load_strategy(call, &in.strategy, err);
    if (!s && *o->model)
        s = cli_load_model(o->model, &model, err);
    if (!s)
        s = open_trace(call, *o->model ? &model : NULL, &in, err);
    if (!s)
        s = make_geometry(o, &model, &in, err);
    struct moe_replay_options replay = {.contract = (enum moe_contract)o->contract,
                                        .order = (enum moe_replay_order)o->order,
                                        .phases = (enum moe_phases)o->phase,
                                        .cold = o->cold,
                                        .compare_log = o->compare_log,
                                        .seed = o->seed,
                                        .progress = &progress,
                                        .admission = &in.strategy.admission,
                                        .reroute = &in.strategy.reroute,
                                        .lossy = in.strategy.lossy};
    if (!s)
        moe_progress_begin(&progress, "replaying", "tokens",
                           in.reader ? moe_reader_n_tokens(in.reader) : in.trace.tokens.n_tokens);
    if (!s && in.reader)
        s = moe_replay_stream(in.reader, &in.geometry, &in.strategy.policy, &replay, &result, err);
    else if (!s)
        s = moe_replay(&in.trace, &in.geometry, &in.strategy.policy, &replay, &result, err);
    moe_progress_end(&progress);
    if (!s)
        s = write_result(call, &in, &result, err);
    if (!s)
        print_lossy(o, &in, &result);
    if (!s)
        s = check_log(o, &result, err);
    moe_replay_release(&result);
    moe_geometry_release(&in.geometry);
    if (in.reader)
        moe_reader_close(in.reader);
    moe_trace_release(&in.trace);
    return s;
}

const struct cli_command cli_replay = {
    .name = "replay",
    .usage = "TRACE [options]",
    .summary = "cache hits of a geometry and policy on a trace, without timing",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "Only layers with slots are counted: lookups in other layers are left out.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .takes_sets = true,
    .set_keys = SET_KEYS,
    .run = run,
};
