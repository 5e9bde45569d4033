#include "base/file.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/output.h"
#include "policies/result_table.h"
#include "policies/spec.h"
#include "sim/tune.h"
#include "sim/tune_file.h"
#include "sim/tune_space.h"
#include "traces/hdf5.h"
#include "traces/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    char model[CLI_PATH_MAX], platform[CLI_PATH_MAX], output[CLI_PATH_MAX], table[CLI_PATH_MAX];
    char held_out[CLI_PATH_MAX];
    uint64_t budget, max_points, rungs, finalists, max_tokens, seed, jobs;
    double lost_after;
    int format;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "model name, file or folder (default: the one that the trace names)"),
    CLI_OPTION_NAME(struct options, platform, "platform", "",
                    "machine: a name from `moelab list platforms`, or a file (required)"),
    {.name = "budget",
     .type = MOE_PARAM_BYTES,
     .offset = offsetof(struct options, budget),
     .default_text = "0",
     .unit = "bytes, as 20GiB",
     .help = "GPU memory for cached experts; 0: all that dense weights, KV cache (for the trace's "
             "longest context) and staging of two experts leave free"},
    CLI_OPTION_U64(struct options, max_points, "max_points", "10000", 1, 10000000, "strategies",
                   "sample and simulate at most N strategies, plus variations of the best ones"),
    CLI_OPTION_U64(struct options, rungs, "rungs", "0", 0, 40, "rungs",
                   "rounds of successive halving: each simulates the best third of the previous "
                   "round on twice as many tokens; 0: until only the finalists are left"),
    CLI_OPTION_U64(
        struct options, finalists, "finalists", "12", 1, 1000, "strategies",
        "best strategies of the search, compared with the simple designs on held-out sequences"),
    CLI_OPTION_MAX_TOKENS(struct options, max_tokens, "the training sequences"),
    CLI_OPTION_SEED(struct options, seed,
                    "the split into training and held-out sequences, the sample and the intervals"),
    CLI_OPTION_JOBS_MPI(struct options, "strategies"),
    CLI_OPTION_LOST_AFTER(struct options),
    CLI_OPTION_FILE(struct options, table, "table", "-", CLI_ENDINGS_TABLE,
                    "file for the table of finalists; - is standard output"),
    CLI_OPTION_FILE_FORMAT(struct options),
    CLI_OPTION_FILE(struct options, held_out, "held-out", "", CLI_ENDINGS_TRACE,
                    "write the held-out sequences as a trace (x.h5), to simulate the result on"),
    CLI_OPTION_FILE(struct options, output, "output", "", CLI_ENDINGS_YAML,
                    "strategy file to write (best.yaml); the hot list of a static placement goes "
                    "beside it (best.hot)"),
    {0},
};

struct inputs {
    struct moe_trace trace;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy base;
    bool sets_threads;
    uint64_t threads; /* 0: to be chosen */
};

/* --- inputs --------------------------------------------------------------------------------- */

/* Applies --set, for keys that the tuner does not choose. */
static enum moe_status apply_set(const char *set, struct inputs *in, struct moe_err *err)
{
    static const char *const fixed[] = {"threads", "fill.memory", "dispatch.order",
                                        "dispatch.overlap", "seed"};
    size_t n = strcspn(set, "=");
    bool known = strncmp(set, "platform.", 9) == 0;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        known = known || (strlen(fixed[i]) == n && strncmp(set, fixed[i], n) == 0);
    if (!known)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--set '%.60s': tune takes platform.*, threads, fill.memory, "
                        "dispatch.order, dispatch.overlap and seed, and chooses the rest itself",
                        set);
    enum moe_status s = cli_apply_set(set, &in->base, &in->platform, err);
    in->sets_threads = in->sets_threads || strncmp(set, "threads=", 8) == 0;
    return s;
}

static enum moe_status load_inputs(const struct cli_call *call, struct inputs *in,
                                   struct moe_err *err)
{
    const struct options *o = call->options;
    if (!*o->platform)
        return moe_fail(err, MOE_ERR_USAGE,
                        "no platform: give --platform NAME (paper-4090, ...) or a file that "
                        "`moelab calibrate -o FILE` wrote on the machine to tune for");
    if (strcmp(o->output, "-") == 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "--output '-': the strategy goes to a file, standard output has the table");
    moe_strategy_default(&in->base);
    enum moe_status s = cli_load_platform(o->platform, &in->platform, err);
    for (int i = 0; !s && i < call->n_sets; i++)
        s = apply_set(call->sets[i], in, err);
    if (!s && in->sets_threads) {
        cli_limit_threads(&in->base, &in->platform);
        in->threads = in->base.threads;
    }
    if (!s)
        s = cli_load_trace(call->args[0], o->model,
                           MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_WEIGHT, &in->model,
                           &in->trace, err);
    return s;
}

/* --- what is told --------------------------------------------------------------------------- */

struct report {
    const struct cli_call *call;
    const struct inputs *in;
    const struct moe_tune_result *r;
};

static double percent(double ratio)
{
    return 100 * (ratio - 1);
}

/* Cuts a geometry for a line of text: the ways of many layers would fill it. */
static const char *cut(const char *text, char *buf, size_t size)
{
    bool fits = strlen(text) < size;
    snprintf(buf, size, "%.*s%s", (int)(fits ? size : size - 4), text, fits ? "" : "...");
    return buf;
}

static void tell_gain(const struct report *p, enum moe_tune_family family, FILE *out)
{
    const struct moe_tune_result *r = p->r;
    if (r->best_of[family] == r->n_rows)
        return;
    const struct moe_tune_row *row = &r->row[r->best_of[family]];
    const struct moe_strategy *s = &row->strategy;
    char geometry[48];
    cut(s->geometry, geometry, sizeof geometry);
    fprintf(out,
            "over %s (%s, %" PRIu64 " thread%s; %.4g tokens/s): ", moe_tune_family_names[family],
            geometry, s->threads, moe_plural(s->threads), row->held_out.tokens_per_s);
    if (r->best_of[family] == r->chosen)
        fprintf(out, "it is that\n");
    else if (r->n_units < 2)
        fprintf(out, "%+.1f %% (no interval)\n", percent(row->gain.ratio));
    else
        fprintf(out, "%+.1f %% (%+.1f to %+.1f)\n", percent(row->gain.ratio),
                percent(row->gain.low), percent(row->gain.high));
}

/* The fastest row with slots; rows are sorted by speed, with and without slots. n_rows: no finalist
 * has slots. */
static size_t best_cache(const struct moe_tune_result *r)
{
    size_t at = 0;
    while (at < r->n_rows && strcmp(r->row[at].strategy.geometry, "none") == 0)
        at++;
    return at;
}

static const char *verdict(const struct report *p, char *buf, size_t size)
{
    const struct moe_tune_result *r = p->r;
    const struct moe_tune_row *chosen = &r->row[r->chosen];
    size_t cache = best_cache(r);
    char expert[32];
    if (!moe_platform_has_gpu(&p->in->platform))
        snprintf(buf, size, "no GPU: only cpu-only can run; %.4g tokens/s, %.1f %% of the bound",
                 chosen->held_out.tokens_per_s, 100 * chosen->held_out.bound_share);
    else if (r->slots == 0)
        snprintf(buf, size, "do not cache: no expert (%s) fits; without slots (%s) %.4g tokens/s",
                 moe_format_bytes(moe_model_expert_bytes(&p->in->model), expert, sizeof expert),
                 chosen->strategy.name, chosen->held_out.tokens_per_s);
    else if (r->n_units < 2)
        snprintf(buf, size,
                 "cannot tell whether to cache: one held-out run of tokens is too little for an "
                 "interval; the fastest there has %.4g tokens/s",
                 chosen->held_out.tokens_per_s);
    else if (r->do_not_cache && cache == r->n_rows)
        snprintf(buf, size,
                 "do not cache: without slots (%s) %.4g tokens/s, and no finalist has any",
                 chosen->strategy.name, chosen->held_out.tokens_per_s);
    else if (r->do_not_cache && cache > 0)
        snprintf(buf, size,
                 "do not cache: without slots (%s) %.4g tokens/s, the best cache has %.4g",
                 chosen->strategy.name, chosen->held_out.tokens_per_s,
                 r->row[cache].held_out.tokens_per_s);
    else if (r->do_not_cache)
        snprintf(buf, size,
                 "do not cache: without slots (%s) %.4g tokens/s, the best cache has %.4g, and the "
                 "interval of its gain holds zero or less",
                 chosen->strategy.name, chosen->held_out.tokens_per_s,
                 r->row[cache].held_out.tokens_per_s);
    else
        snprintf(buf, size, "cache: %.4g tokens/s, %.1f %% of the bound",
                 chosen->held_out.tokens_per_s, 100 * chosen->held_out.bound_share);
    return buf;
}

static const char *rules(const struct moe_strategy *s, char *buf, size_t size)
{
    static const char *const miss[] = {"cpu", "wait", "fastest", "admitted"};
    static const char *const flight[] = {"wait", "cpu", "fastest"};
    char policy[1200], admission[1200], prefetcher[1200];
    snprintf(buf, size, "%s; %s; %s; miss %s, in flight %s, fill %s; prefill %s",
             moe_policy_format(&s->policy, policy, sizeof policy),
             moe_spec_format(s->admission.ops->name, s->admission.ops->params, s->admission.params,
                             admission, sizeof admission),
             moe_prefetcher_format(&s->prefetcher, prefetcher, sizeof prefetcher), miss[s->miss],
             flight[s->in_flight], s->fill_when == MOE_FILL_AT_ONCE ? "at once" : "after compute",
             s->prefill == MOE_PREFILL_AUTO ? "auto, warm" : "cpu");
    return buf;
}

static void tell_split(const struct report *p, FILE *out)
{
    const struct moe_tune_split *split = &p->r->split;
    const uint64_t train = moe_tune_decode_tokens(&split->train);
    const uint64_t held_out = moe_tune_decode_tokens(&split->held_out);
    if (split->in_time && split->train.n_sequences == 1)
        fprintf(out,
                "the trace has one sequence: searched on its first half (%" PRIu64
                " decode tokens), judged by its second (%" PRIu64 ")\n",
                train, held_out);
    else if (split->in_time)
        fprintf(out,
                "no half of the sequences has a quarter of the tokens: searched on the first half "
                "of each (%" PRIu64 " decode tokens), judged by the second (%" PRIu64 ")\n",
                train, held_out);
    else
        fprintf(out,
                "searched on %" PRIu64 " sequence%s (%" PRIu64 " decode tokens), judged by %" PRIu64
                " other%s (%" PRIu64 ")\n",
                split->train.n_sequences, moe_plural(split->train.n_sequences), train,
                split->held_out.n_sequences, moe_plural(split->held_out.n_sequences), held_out);
    if (p->r->slots)
        fprintf(out, "designs that place experts once begin with these in place, all others with "
                     "empty slots\n");
    if (p->r->n_units < 2)
        return;
    fprintf(out,
            "intervals: middle 95 %% of %d resamplings of %u %s; of the tokens alone: they hold no "
            "error of the machine model\n",
            MOE_TUNE_REPLICATES, p->r->n_units,
            p->r->blocks ? "runs of tokens (fewer than 8 sequences were held out)" : "sequences");
}

static void tell(const struct report *p, FILE *out)
{
    const struct moe_tune_result *r = p->r;
    const struct moe_strategy *s = &r->row[r->chosen].strategy;
    char text[4096], a[32], b[32];
    size_t equal = 0;
    for (size_t i = 0; i < r->n_rows; i++)
        equal += i != r->chosen && r->row[i].within_noise;
    fprintf(out, "%s%s\n", p->in->trace.info.synthetic ? "SYNTHETIC routing; " : "",
            verdict(p, text, sizeof text));
    fprintf(out, "strategy: geometry %s; %s; %" PRIu64 " thread%s\n", s->geometry,
            rules(s, text, sizeof text), s->threads, moe_plural(s->threads));
    if (moe_platform_has_gpu(&p->in->platform)) {
        for (int f = MOE_TUNE_BEST_UNIFORM; f < MOE_TUNE_FAMILIES; f++)
            tell_gain(p, (enum moe_tune_family)f, out);
        fprintf(out, "%zu of %zu finalists may be as fast (within_noise)\n", equal, r->n_rows - 1);
        fprintf(out, "slots: %" PRIu64 " of %s each", r->slots,
                moe_format_bytes(moe_model_expert_bytes(&p->in->model), a, sizeof a));
        fprintf(out, "; budget %s of the %s that the GPU has left\n",
                moe_format_bytes(r->budget_bytes, a, sizeof a),
                moe_format_bytes(r->free_bytes, b, sizeof b));
    }
    tell_split(p, out);
    fprintf(out,
            "%" PRIu64 " combination%s; %" PRIu64 " simulations of %s decode tokens together\n\n",
            r->space, moe_plural(r->space), r->simulations,
            moe_format_count((double)r->tokens, a, sizeof a));
}

/* --- tables --------------------------------------------------------------------------------- */

static const char *families(const struct moe_tune_row *row, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (int f = 0; f < MOE_TUNE_FAMILIES && at < size; f++)
        if (row->families & 1U << f)
            at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? "+" : "",
                                   moe_tune_family_names[f]);
    return *buf ? buf : "-";
}

static void add_row(const struct report *p, size_t i, struct moe_table *table)
{
    const struct moe_tune_row *row = &p->r->row[i];
    char text[4096];
    moe_table_row(table);
    moe_table_u64(table, "rank", i + 1);
    moe_table_text(table, "chosen", i == p->r->chosen ? "yes" : "no");
    moe_table_text(table, "best_of", families(row, text, sizeof text));
    moe_table_f64(table, "tokens_per_s", row->held_out.tokens_per_s);
    moe_table_f64(table, "train_tokens_per_s", row->train_tokens_per_s);
    moe_table_f64(table, "gain_percent", percent(row->gain.ratio));
    moe_table_f64(table, "gain_low_percent", percent(row->gain.low));
    moe_table_f64(table, "gain_high_percent", percent(row->gain.high));
    moe_table_text(table, "within_noise", row->within_noise ? "yes" : "no");
    moe_table_f64(table, "share_of_bound_percent", 100 * row->held_out.bound_share);
    moe_table_u64(table, "threads", row->strategy.threads);
    bool text_form = ((const struct options *)p->call->options)->format == CLI_TEXT;
    moe_table_text(table, "geometry",
                   text_form ? cut(row->strategy.geometry, text, 24) : row->strategy.geometry);
    moe_table_text(table, "rules", rules(&row->strategy, text, sizeof text));
    if (text_form)
        return;
    moe_table_text(table, "fitted_list", row->fitted ? "yes" : "no");
    moe_table_text(table, "routing", p->in->trace.info.synthetic ? "SYNTHETIC" : "recorded");
    moe_table_text(table, "model", p->in->model.name);
    moe_table_text(table, "platform", p->in->platform.name);
    moe_result_cells(table, &row->held_out);
}

static void add_notes(const struct report *p, struct moe_table *table)
{
    const struct moe_tune_result *r = p->r;
    char text[512];
    cli_note_trace(table, p->call->args[0], &p->in->trace.info);
    moe_table_note(table, "verdict", "%s", verdict(p, text, sizeof text));
    moe_table_note(table, "budget_bytes", "%" PRIu64, r->budget_bytes);
    moe_table_note(table, "slots", "%" PRIu64, r->slots);
    moe_table_note(table, "split", "%s, seed %" PRIu64,
                   r->split.in_time ? "in time" : "half of the sequences",
                   ((const struct options *)p->call->options)->seed);
    moe_table_note(table, "resampled", "%u %s, %d times", r->n_units,
                   r->blocks ? "runs of tokens" : "sequences", MOE_TUNE_REPLICATES);
    moe_table_note(table, "simulations", "%" PRIu64 " of %" PRIu64 " decode tokens", r->simulations,
                   r->tokens);
}

static enum moe_status write_table(const struct report *p, struct moe_err *err)
{
    const struct options *o = p->call->options;
    struct moe_table *table = cli_table_new(p->call);
    struct moe_output out;
    add_notes(p, table);
    for (size_t i = 0; i < p->r->n_rows; i++)
        add_row(p, i, table);
    if (o->format != CLI_TEXT)
        return cli_table_end(table, MOE_OK, o->format, o->table, err);
    enum moe_status s = moe_output_create(&out, o->table, err);
    if (!s) {
        tell(p, out.stream);
        s = moe_table_write_text(table, out.stream, err);
        if (s)
            moe_fail_prefix(err, "'%.300s'", o->table);
        s = moe_output_end(&out, s, err);
    }
    moe_table_free(table);
    return s;
}

/* --- files ---------------------------------------------------------------------------------- */

/* best.yaml -> best.hot */
static void list_path(const char *output, char *buf, size_t size)
{
    size_t n = strlen(output);
    if (n > 5 && strcmp(output + n - 5, ".yaml") == 0)
        n -= 5;
    snprintf(buf, size, "%.*s.hot", (int)n, output);
}

static enum moe_status write_list(const struct report *p, const char *path, struct moe_err *err)
{
    const struct moe_trace_info *info = &p->in->trace.info;
    struct moe_table *table = cli_table_new(p->call);
    cli_note_trace(table, p->call->args[0], info);
    moe_table_note(table, "fitted_on", "%" PRIu64 " training sequence%s%s, decode",
                   p->r->split.train.n_sequences, moe_plural(p->r->split.train.n_sequences),
                   p->r->split.in_time ? " (first half)" : "");
    for (size_t i = 0; i < (size_t)info->n_layers * info->n_experts; i++) {
        moe_table_row(table);
        moe_table_u64(table, "layer", p->r->hot[i] / info->n_experts);
        moe_table_u64(table, "expert", p->r->hot[i] % info->n_experts);
        moe_table_u64(table, "uses", p->r->uses[p->r->hot[i]]);
    }
    return cli_table_end(table, MOE_OK, CLI_TSV, path, err);
}

static void add_origin(const struct report *p, FILE *out)
{
    const struct moe_tune_row *row = &p->r->row[p->r->chosen];
    char text[512];
    fprintf(out,
            "Found by `moelab tune`, version %s; for `moelab run` and `moelab sim`, with the same "
            "--platform.\ncommand:",
            MOELAB_VERSION);
    fprintf(out, " moelab tune");
    for (int i = 0; i < p->call->argc; i++)
        fprintf(out, " %s", p->call->argv[i]);
    fprintf(out, "\ntrace: %s (%s%s)\n", p->call->args[0],
            p->in->trace.info.synthetic ? "SYNTHETIC, " : "", p->in->trace.info.model);
    fprintf(out, "model: %s, platform: %s, budget: %" PRIu64 " bytes, %" PRIu64 " slot%s\n",
            p->in->model.name, p->in->platform.name, p->r->budget_bytes, p->r->slots,
            moe_plural(p->r->slots));
    fprintf(out, "verdict: %s\n", verdict(p, text, sizeof text));
    fprintf(out, "predicted: %.17g decode tokens/s on the held-out part of the trace\n",
            row->held_out.tokens_per_s);
    if (row->fitted)
        fprintf(out, "The list is as seen from the folder that tune ran in, or lies beside this "
                     "file.\n");
}

static enum moe_status write_strategy(const struct report *p, const char *path, const char *list,
                                      struct moe_err *err)
{
    struct moe_strategy strategy = p->r->row[p->r->chosen].strategy;
    char *notes = NULL;
    size_t size = 0;
    struct moe_output out;
    enum moe_status s = *list ? moe_tune_name_list(&strategy, list, err) : MOE_OK;
    FILE *stream = s ? NULL : open_memstream(&notes, &size);
    if (!s && !stream)
        s = moe_fail_memory(err, "a strategy file");
    if (s)
        return s;
    add_origin(p, stream);
    if (fclose(stream) != 0)
        s = moe_fail_memory(err, "a strategy file");
    if (!s)
        s = moe_output_create(&out, path, err);
    if (!s) {
        s = moe_tune_write_strategy(&strategy, "moelab tune", notes, out.stream, err);
        s = moe_output_end(&out, s, err);
    }
    free(notes);
    return s;
}

/* Writes the strategy last, so that everything is there when it is. */
static enum moe_status write_all(const struct report *p, struct moe_err *err)
{
    const struct options *o = p->call->options;
    const bool fitted = *o->output && p->r->row[p->r->chosen].fitted;
    char list[CLI_PATH_MAX + 8] = "";
    enum moe_status s =
        *o->held_out ? moe_trace_save(o->held_out, &p->r->split.held_out, err) : MOE_OK;
    if (fitted)
        list_path(o->output, list, sizeof list);
    if (!s && fitted)
        s = write_list(p, list, err);
    if (!s)
        s = write_table(p, err);
    if (!s && *o->output)
        s = write_strategy(p, o->output, list, err);
    return s;
}

/* Checks the output files before the search, which can take hours. */
static enum moe_status check_places(const struct options *o, struct moe_err *err)
{
    const char *const files[] = {o->output, o->table, o->held_out};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof files / sizeof *files; i++)
        if (*files[i] && strcmp(files[i], "-") != 0)
            s = moe_output_check(files[i], err);
    return s;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct inputs in = {0};
    struct moe_tune_result result = {0};
    struct moe_team *team;
    enum moe_status s = moe_team_open(o->lost_after, &team, err);
    if (s)
        return s;
    const bool first = moe_team_rank(team) == 0;
    s = first ? check_places(o, err) : MOE_OK;
    if (!s)
        s = load_inputs(call, &in, err);
    const struct moe_tune_options tune = {.trace = &in.trace,
                                          .model = &in.model,
                                          .platform = &in.platform,
                                          .base = &in.base,
                                          .threads = in.threads,
                                          .budget_bytes = o->budget,
                                          .max_points = o->max_points,
                                          .n_keep = o->finalists,
                                          .n_rungs = o->rungs,
                                          .max_tokens = o->max_tokens,
                                          .seed = o->seed,
                                          .jobs = (uint32_t)o->jobs,
                                          .team = team};
    if (!s)
        s = moe_tune(&tune, &result, err);
    if (!s && first)
        s = write_all(&(struct report){call, &in, &result}, err);
    s = moe_team_close(team, s, err);
    moe_tune_release(&result);
    moe_trace_release(&in.trace);
    return s;
}

const struct cli_command cli_tune = {
    .name = "tune",
    .usage = "TRACE --platform P [options]",
    .summary = "the best strategy for a trace, a model and a platform, or \"do not cache\"",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "\n"
    "Searches on half of the sequences and decides on the other half, so that no strategy is\n"
    "judged on what it was fitted to. The result is the strategy with the most decode tokens\n"
    "per second there, its gain over the simple designs with a confidence interval, and a\n"
    "file for `moelab sim --strategy` and `moelab run --strategy`. --set sets what is not\n"
    "searched: platform.KEY, threads, fill.memory, dispatch.order, dispatch.overlap, seed.\n"
    "\n"
    "'mpirun -n N moelab tune ...' divides the search among N processes (in a build with MPI,\n"
    "see 'moelab version'); the result is the same bytes.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .takes_sets = true,
    .joins_team = true,
    .run = run,
};
