#include "base/file.h"
#include "base/progress.h"
#include "cli/mrc_table.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "sim/mrc_sample.h"
#include "sim/mrc_shards.h"
#include "traces/hdf5.h"
#include "traces/source.h"

#include <stdio.h>
#include <stdlib.h>

enum { STREAM_OVER_BYTES = 1 << 30, N_HASHES = 8 };

struct options {
    char model[CLI_PATH_MAX], plot[CLI_PATH_MAX], output[CLI_PATH_MAX];
    int contract, order, phase, cold, opt, global, layers, grid, bands, stream, format;
    double sample, shards;
    uint64_t seed;
};

#define SWITCH(field, fallback, text)                                                              \
    CLI_OPTION_SWITCH(struct options, field, #field, fallback, text)

static const struct moe_param options[] = {
    CLI_OPTION_CONTRACT(struct options),
    CLI_OPTION_ORDER(struct options),
    CLI_OPTION_PHASE(struct options, phase, "phase", "tokens to count; others are skipped"),
    CLI_OPTION_COLD(struct options),
    SWITCH(opt, "on", "OPT (Belady) beside LRU"),
    SWITCH(global, "on", "one pool for all layers as well"),
    SWITCH(layers, "off", "rows for single layers"),
    SWITCH(grid, "off", "rows for every geometry of N indexes x M ways"),
    CLI_OPTION_F64(struct options, sample, "sample", "100", 0.0001, 100, "%",
                   "share of the sequences to count, chosen by a hash; with error bars"),
    SWITCH(bands, "off",
           "95 % error bars of the rates over all layers, by resampling sequences; always on with "
           "--sample"),
    CLI_OPTION_SEED(struct options, seed, "sample and error bars"),
    CLI_OPTION_F64(struct options, shards, "shards", "0", 0, 50, "%",
                   "estimate LRU of one pool for all layers from this share of the experts "
                   "(SHARDS, eight hashes), with error bars; a file is read in blocks. For a first "
                   "look at models with thousands of experts: --stream is exact and seldom slower"),
    SWITCH(stream, "off",
           "read the file in blocks, in constant memory, exactly; with OPT only on processors with "
           "AVX-512 (automatic over 1 GiB of routes where possible)"),
    CLI_OPTION_NAME(
        struct options, model, "model", "",
        "model file or name that gives the size of an expert (default: from the trace)"),
    CLI_OPTION_FILE(struct options, plot, "plot", "", "",
                    "plot every size: STEM.tsv, STEM.svg, STEM.png"),
    CLI_OPTION_RESULT(struct options),
    {0},
};

/* One run of the command. */
struct job {
    const struct cli_call *call;
    const struct options *o;
    struct moe_model model;
    struct moe_trace trace;       /* in memory; or */
    struct moe_reader *reader;    /* streaming; or */
    struct moe_mrc_sample sample; /* a part in memory */
    const struct moe_trace_info *info;
    uint64_t n_tokens, n_sequences;
    uint64_t *expert_bytes; /* [L] from --model; NULL: the trace's, if it has any */
    bool bands;
    struct moe_mrc_sequences sequences;
    struct moe_mrc mrc;
    struct moe_shards_curve shards; /* with --shards, instead of the other curves */
};

static void release(struct job *j)
{
    moe_mrc_release(&j->mrc);
    moe_shards_release(&j->shards);
    moe_mrc_sequences_release(&j->sequences);
    moe_mrc_sample_release(&j->sample);
    moe_trace_release(&j->trace);
    if (j->reader)
        moe_reader_close(j->reader);
    free(j->expert_bytes);
}

static enum moe_status take_sample(struct job *j, struct moe_err *err)
{
    struct moe_mrc_sample_options part = {
        .rate = j->o->sample / 100, .seed = j->o->seed, .cold = j->o->cold};
    enum moe_status s = j->reader ? moe_mrc_sample_stream(j->reader, &part, &j->sample, err)
                                  : moe_mrc_sample_trace(&j->trace, &part, &j->sample, err);
    if (s)
        return s;
    moe_trace_release(&j->trace);
    if (j->reader)
        moe_reader_close(j->reader);
    j->reader = NULL;
    j->info = &j->sample.trace.info;
    j->n_tokens = j->sample.trace.tokens.n_tokens;
    j->n_sequences = j->sample.n_sequences;
    return MOE_OK;
}

/* Opens a file that is not loaded as a whole: it is streamed, or only a sample of it is read. */
static enum moe_status open_file(struct job *j, struct moe_err *err)
{
    const struct options *o = j->o;
    enum moe_status s = moe_reader_open(&j->reader, j->call->args[0], err);
    if (s)
        return s;
    j->info = moe_reader_info(j->reader);
    j->n_tokens = moe_reader_n_tokens(j->reader);
    j->n_sequences = moe_reader_n_sequences(j->reader);
    double bytes = (double)j->n_tokens * j->info->n_layers * j->info->top_k * sizeof(moe_expert);
    const bool streams = !o->opt || !moe_mrc_streams_opt(j->info, o->global, NULL);
    if (o->stream || o->sample < 100 || o->shards > 0 || (bytes > STREAM_OVER_BYTES && streams))
        return MOE_OK;
    moe_reader_close(j->reader);
    j->reader = NULL;
    return MOE_OK;
}

static uint64_t count_sequences(const struct moe_tokens *tokens)
{
    uint64_t n = 0;
    for (uint64_t t = 0; t < tokens->n_tokens; t++)
        n = tokens->sequence[t] >= n ? tokens->sequence[t] + UINT64_C(1) : n;
    return n;
}

static enum moe_status open_trace(struct job *j, struct moe_err *err)
{
    const struct options *o = j->o;
    const char *name = j->call->args[0];
    bool file = moe_trace_name_is_file(name);
    if (o->stream && (!file || o->sample < 100))
        return moe_fail(err, MOE_ERR_USAGE, "--stream needs a trace file, without --sample");
    if (o->shards > 0 && (o->sample < 100 || o->bands || o->layers || o->grid || *o->plot))
        return moe_fail(err, MOE_ERR_USAGE,
                        "--shards gives one pool with its own error bars: without --sample, "
                        "--bands, --layers, --grid, --plot");
    enum moe_status s = file ? open_file(j, err) : MOE_OK;
    if (!s && !j->reader) {
        s = moe_trace_from_name(name, 0, *o->model ? &j->model : NULL, &j->trace, err);
        if (s == MOE_ERR_MEMORY)
            moe_fail_prefix(err, "use --stream for less memory, or --sample 10 for a part");
        j->info = &j->trace.info;
        j->n_tokens = j->trace.tokens.n_tokens;
        j->n_sequences = s ? 0 : count_sequences(&j->trace.tokens);
    }
    return !s && o->sample < 100 ? take_sample(j, err) : s;
}

static enum moe_status find_sizes(struct job *j, struct moe_err *err)
{
    if (!*j->o->model)
        return MOE_OK;
    j->expert_bytes = calloc(j->info->n_layers + 1u, sizeof *j->expert_bytes);
    if (!j->expert_bytes)
        return moe_fail_memory(err, "expert sizes");
    for (uint32_t l = 0; l < j->info->n_layers; l++)
        j->expert_bytes[l] = moe_model_expert_bytes(&j->model);
    return MOE_OK;
}

static enum moe_status compute_shards(struct job *j, struct moe_err *err)
{
    const struct options *o = j->o;
    struct moe_progress progress;
    struct moe_shards_options shards = {.rate = o->shards / 100,
                                        .n_samples = N_HASHES,
                                        .seed = o->seed,
                                        .contract = (enum moe_contract)o->contract,
                                        .order = (enum moe_replay_order)o->order,
                                        .phases = (enum moe_phases)o->phase,
                                        .cold = o->cold,
                                        .progress = &progress};
    moe_progress_begin(&progress, "computing curves", "tokens", j->n_tokens);
    enum moe_status s = j->reader ? moe_shards_stream(j->reader, &shards, &j->shards, err)
                                  : moe_shards_compute(&j->trace, &shards, &j->shards, err);
    moe_progress_end(&progress);
    return s;
}

static enum moe_status compute(struct job *j, struct moe_err *err)
{
    const struct options *o = j->o;
    struct moe_progress progress;
    struct moe_mrc_options mrc = {.contract = (enum moe_contract)o->contract,
                                  .order = (enum moe_replay_order)o->order,
                                  .phases = (enum moe_phases)o->phase,
                                  .cold = o->cold,
                                  .opt = o->opt,
                                  .global = o->global,
                                  .counted = j->sample.counted,
                                  .progress = &progress};
    enum moe_status s = MOE_OK;
    if (j->bands) {
        s = moe_mrc_sequences_init(&j->sequences, j->info, &mrc, j->n_sequences, err);
        mrc.sequences = &j->sequences;
    }
    if (s)
        return s;
    moe_progress_begin(&progress, "computing curves", "tokens", j->n_tokens);
    if (j->reader)
        s = moe_mrc_stream(j->reader, &mrc, &j->mrc, err);
    else
        s = moe_mrc_compute(j->sample.counted ? &j->sample.trace : &j->trace, &mrc, &j->mrc, err);
    moe_progress_end(&progress);
    return s;
}

/* every: all sizes; else those that fit a screen. */
static enum moe_status write_table(const struct job *j, bool every, int format, const char *path,
                                   struct moe_err *err)
{
    static const char *const contracts[] = {"event", "access"};
    static const char *const orders[] = {"step", "file", "token"};
    static const char *const phases[] = {"both", "decode", "prefill"};
    struct cli_mrc_view view = {
        .mrc = &j->mrc,
        .expert_bytes = j->expert_bytes ? j->expert_bytes : j->info->expert_bytes,
        .sequences = j->bands ? &j->sequences : NULL,
        .seed = j->o->seed,
        .every_size = every,
        .layers = j->o->layers,
        .grid = j->o->grid,
    };
    struct moe_table *table = cli_table_new(j->call);
    cli_note_trace(table, j->call->args[0], j->info);
    moe_table_note(table, "contract", "%s", contracts[j->o->contract]);
    moe_table_note(table, "order", "%s", orders[j->o->order]);
    moe_table_note(table, "caches", "%s", j->o->cold ? "empty at every sequence" : "warm");
    if (j->o->shards == 0)
        moe_table_note(table, "chance", "as many experts, chosen at random, as there are slots");
    else
        moe_table_note(
            table, "sample",
            "%u of %u experts, by each of %d hashes; error bars: spread over hashes, and "
            "what a distance seen through the sample may be off",
            j->shards.n_keys, j->shards.n_slots, N_HASHES);
    if (j->sample.counted)
        moe_table_note(table, "sample", "%llu of %llu sequences counted, by a hash, seed %llu",
                       (unsigned long long)j->sample.n_counted, (unsigned long long)j->sample.n_of,
                       (unsigned long long)j->o->seed);
    if (j->bands)
        moe_table_note(table, "error_bars",
                       "95 %% of %d resamplings of the sequences (of the workload, not only of "
                       "this trace)",
                       MOE_MRC_REPLICATES);
    enum moe_status s = MOE_OK;
    if (j->o->shards > 0)
        cli_shards_rows(table, &view, &j->shards, phases[j->o->phase], j->info->n_layers);
    else
        s = cli_mrc_rows(table, &view, err);
    return cli_table_end(table, s, format, path, err);
}

static enum moe_status draw(const struct job *j, struct moe_err *err)
{
    char tsv[CLI_PATH_MAX + 8], title[MOE_TEXT_MAX + 64];
    snprintf(tsv, sizeof tsv, "%s.tsv", j->o->plot);
    snprintf(title, sizeof title, "%s: hit rate by cache size", j->info->model);
    enum moe_status s = write_table(j, true, CLI_TSV, tsv, err);
    return s ? s : moe_plot("mrc", tsv, j->o->plot, title, err);
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    struct job j = {.call = call, .o = o, .bands = o->bands || o->sample < 100};
    char tsv[CLI_PATH_MAX + 8];
    snprintf(tsv, sizeof tsv, "%s.tsv", o->plot);
    enum moe_status s = *o->plot ? moe_output_check(tsv, err) : MOE_OK;
    if (!s && *o->model)
        s = cli_load_model(o->model, &j.model, err);
    if (!s)
        s = open_trace(&j, err);
    if (!s)
        s = find_sizes(&j, err);
    if (!s)
        s = o->shards > 0 ? compute_shards(&j, err) : compute(&j, err);
    if (!s)
        s = write_table(&j, o->format != CLI_TEXT, o->format, o->output, err);
    if (!s && *o->plot)
        s = draw(&j, err);
    release(&j);
    return s;
}

const struct cli_command cli_mrc = {
    .name = "mrc",
    .usage = "TRACE [options]",
    .summary = "hit rate against cache size, every size from one pass, with OPT",
    .description = MOE_TRACE_NAME_HELP
    "\n"
    "Gives what `moelab replay` gives with policies lru and opt, for every size. Rows: one pool\n"
    "of M slots for each layer (LxM), one pool for all layers (global:S). Text shows a selection\n"
    "of sizes; TSV, JSON and plot have all of them.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
