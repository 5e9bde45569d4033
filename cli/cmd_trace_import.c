#include "base/file.h"
#include "base/progress.h"
#include "cli/output.h"
#include "traces/hdf5.h"
#include "traces/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    char format[32], output[CLI_PATH_MAX], weights[CLI_PATH_MAX], sequences[CLI_PATH_MAX];
    char model[CLI_PATH_MAX], licence[MOE_TEXT_MAX], source[MOE_TEXT_MAX];
    uint64_t experts;
};

static const struct moe_param options[] = {
    CLI_OPTION_NAME(struct options, format, "format", "",
                    "what FILE is: expert-choices, route-csv, npy, jsonl, vllm (required)"),
    CLI_OPTION_FILE(struct options, output, "output", "", CLI_ENDINGS_TRACE,
                    "trace to write, x.h5 (required)"),
    CLI_OPTION_NAME(struct options, weights, "weights", "", "npy: gate weights [T, L, K]"),
    CLI_OPTION_NAME(struct options, sequences, "sequences", "",
                    "npy, vllm: sequences.csv with n_tokens (and more) of every sequence"),
    CLI_OPTION_NAME(struct options, model, "model", "",
                    "model name or file: experts, top-k and sizes that FILE does not give"),
    CLI_OPTION_U64(struct options, experts, "experts", "0", 0, MOE_MAX_EXPERTS,
                   "experts of a layer",
                   "number of experts, if neither FILE nor --model gives it; 0: largest id + 1"),
    CLI_OPTION_NAME(struct options, licence, "licence", "",
                    "licence of the data, to store in the trace"),
    CLI_OPTION_NAME(struct options, source, "source", "",
                    "where the data comes from (default: the format and the content's hash)"),
    {0},
};

static const char *given(const char *text)
{
    return *text ? text : NULL;
}

/* Adds the model's sizes and name if the log has none. */
static enum moe_status add_model(struct moe_trace_info *info, const struct moe_model *model,
                                 struct moe_err *err)
{
    if (info->n_layers != model->n_layers || info->n_experts != model->n_experts ||
        info->top_k > model->top_k)
        return moe_fail(err, MOE_ERR_USAGE,
                        "the file has %u layers, %u experts, top-%u, but model '%s' has %" PRIu64
                        ", %" PRIu64 ", top-%" PRIu64,
                        info->n_layers, info->n_experts, info->top_k, model->name, model->n_layers,
                        model->n_experts, model->top_k);
    if (strcmp(info->model, "unknown") == 0 || !*info->model)
        snprintf(info->model, sizeof info->model, "%s", model->name);
    if (info->expert_bytes)
        return MOE_OK;
    info->expert_bytes = malloc(info->n_layers * sizeof *info->expert_bytes);
    if (!info->expert_bytes)
        return moe_fail_memory(err, "expert sizes");
    for (uint32_t l = 0; l < info->n_layers; l++)
        info->expert_bytes[l] = moe_model_expert_bytes(model);
    return MOE_OK;
}

static enum moe_status run(const struct cli_call *call, struct moe_err *err)
{
    const struct options *o = call->options;
    const struct moe_format *format;
    struct moe_model model = {0};
    struct moe_trace trace = {0};
    struct moe_progress progress;
    if (!*o->format || !*o->output)
        return moe_fail(err, MOE_ERR_USAGE,
                        "option '%s' is required; usage: moelab trace import %s",
                        *o->format ? "--output" : "--format", "--format FORMAT FILE -o OUT.h5");
    enum moe_status s = moe_format_find(o->format, &format, err);
    if (!s)
        s = moe_output_check(o->output, err);
    if (!s && *o->model)
        s = cli_load_model(o->model, &model, err);
    struct moe_import_options import = {.model = *o->model ? &model : NULL,
                                        .weights = given(o->weights),
                                        .sequences = given(o->sequences),
                                        .licence = given(o->licence),
                                        .source = given(o->source),
                                        .n_experts = o->experts,
                                        .progress = &progress};
    moe_progress_begin(&progress, "importing", "bytes", 0);
    if (!s)
        s = format->import(call->args[0], &import, &trace, err);
    moe_progress_end(&progress);
    if (!s && *o->model)
        s = add_model(&trace.info, &model, err);
    moe_progress_begin(&progress, "writing", "tokens", trace.tokens.n_tokens);
    if (!s)
        s = moe_trace_save_watched(o->output, &trace, &progress, err);
    moe_progress_end(&progress);
    if (!s)
        printf("wrote %s: %" PRIu64 " sequence%s, %" PRIu64 " token%s, %u layer%s, %u experts, "
               "top-%u\n",
               o->output, trace.n_sequences, moe_plural(trace.n_sequences), trace.tokens.n_tokens,
               moe_plural(trace.tokens.n_tokens), trace.info.n_layers,
               moe_plural(trace.info.n_layers), trace.info.n_experts, trace.info.top_k);
    if (!s && *trace.info.note)
        moe_log("note: %s", trace.info.note);
    moe_trace_release(&trace);
    return s;
}

const struct cli_command cli_trace_import = {
    .name = "trace import",
    .usage = "--format FORMAT FILE -o OUT.h5 [options]",
    .summary = "converts another tool's routing log to a trace",
    .description =
        "formats:\n"
        "  expert-choices  CSV of the paper's reference implementation (expert_choices.csv)\n"
        "  route-csv       engine log: turn,phase,step,layer,slot,expert[,weight,residency,...]\n"
        "  npy             ids.npy [T, L, K] (or a folder with ids, weights, sequences)\n"
        "  jsonl           one object per token: sequence, phase, layers [[ids], ...] and more\n"
        "                  (traces/format.md)\n"
        "  vllm            return_routed_experts arrays [T, L, K], one per request: .npy, .npz or "
        "a\n"
        "                  folder of .npy\n"
        "FILE may be a pipe: <(zcat log.jsonl.gz) or /dev/stdin.",
    .options = options,
    .options_size = sizeof(struct options),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
