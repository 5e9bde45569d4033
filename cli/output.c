#include "cli/output.h"

#include "base/file.h"
#include "base/progress.h"
#include "base/units.h"
#include "base/version.h"
#include "exec/hybrid.h"
#include "policies/registry.h"
#include "traces/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum moe_status write_table(const struct moe_table *table, int format, const char *path,
                                   struct moe_err *err)
{
    struct moe_output out;
    enum moe_status s = moe_output_create(&out, path, err);
    if (s)
        return s;
    if (format == CLI_JSON)
        s = moe_table_write_json(table, out.stream, err);
    else if (format == CLI_TSV)
        s = moe_table_write_tsv(table, out.stream, err);
    else
        s = moe_table_write_text(table, out.stream, err);
    if (!s)
        return moe_output_commit(&out, err);
    moe_output_abandon(&out);
    (void)(strcmp(path, "-") == 0 ? moe_fail_prefix(err, "standard output")
                                  : moe_fail_prefix(err, "'%.300s'", path));
    return s;
}

enum moe_status cli_table_end(struct moe_table *table, enum moe_status status, int format,
                              const char *path, struct moe_err *err)
{
    if (!status)
        status = write_table(table, format, path, err);
    moe_table_free(table);
    return status;
}

/* The whole command line, however long; heap. */
static char *command_line(const struct cli_call *call)
{
    size_t size = sizeof "moelab " + strlen(call->command->name);
    for (int i = 0; i < call->argc; i++)
        size += 1 + strlen(call->argv[i]);
    char *line = malloc(size);
    if (!line)
        return NULL;
    size_t at = (size_t)snprintf(line, size, "moelab %s", call->command->name);
    for (int i = 0; i < call->argc; i++)
        at += (size_t)snprintf(line + at, size - at, " %s", call->argv[i]);
    return line;
}

struct moe_table *cli_table_new(const struct cli_call *call)
{
    struct moe_table *table = moe_table_new();
    char *line = command_line(call);
    if (!line) {
        moe_table_free(table); /* NULL is reported as lack of memory by cli_table_end */
        return NULL;
    }
    moe_table_note(table, "program", "moelab %s", MOELAB_VERSION);
    moe_table_note(table, "command", "%s", line);
    free(line);
    return table;
}

void cli_note_trace(struct moe_table *table, const char *path, const struct moe_trace_info *info)
{
    moe_table_note(table, "trace", "%s", path);
    moe_table_note(table, "trace_model", "%s, %u layers, %u experts, top-%u", info->model,
                   info->n_layers, info->n_experts, info->top_k);
    moe_table_note(table, "trace_source", "%s%s", info->synthetic ? "SYNTHETIC: " : "",
                   info->source);
    moe_table_note(table, "synthetic", "%s", info->synthetic ? "yes" : "no");
}

/* The shape of a model's folder, as `moelab run` would see it. No expert is read. */
static enum moe_status shape_of_folder(const char *folder, struct moe_model *out,
                                       struct moe_err *err)
{
    struct moe_llm *llm;
    enum moe_status s = moe_llm_open(&llm, folder, err);
    if (s)
        return s;
    moe_llm_shape(llm, out);
    moe_llm_close(llm);
    return MOE_OK;
}

/* Finds the folder or the description that a name means; writes its path. */
static enum moe_status find_model(const char *name, char *path, size_t size, bool *folder,
                                  struct moe_err *err)
{
    enum moe_status s = moe_find_config("models", name, path, size, err);
    if (s)
        snprintf(path, size, "%s", name);
    *folder = moe_is_directory(path);
    return *folder ? MOE_OK : s;
}

enum moe_status cli_load_model(const char *name, struct moe_model *out, struct moe_err *err)
{
    char path[CLI_PATH_MAX];
    bool folder;
    enum moe_status s = find_model(name, path, sizeof path, &folder, err);
    if (s)
        return s;
    return folder ? shape_of_folder(path, out, err) : moe_model_load(path, out, err);
}

bool cli_model_is_folder(const char *name)
{
    char path[CLI_PATH_MAX];
    bool folder;
    return !find_model(name, path, sizeof path, &folder, NULL) && folder;
}

/* Logs differences between trace and model. The experts of a quantized model, in a log, and of a
 * description with 16 bits differ in size by a factor of two or more; differences below a tenth,
 * from scales and padding, are ignored. */
static void tell_differences(const struct moe_trace_info *info, const struct moe_model *model)
{
    const double own = (double)moe_model_expert_bytes(model);
    char a[32], b[32];
    double sum = 0;
    if (info->top_k < model->top_k)
        moe_log("the trace routes to %u expert%s, model '%s' to %" PRIu64 ": simulated with %u",
                info->top_k, moe_plural(info->top_k), model->name, model->top_k, info->top_k);
    for (uint32_t l = 0; info->expert_bytes && l < info->n_layers; l++)
        sum += (double)info->expert_bytes[l] / info->n_layers;
    if (sum > 0 && fabs(sum - own) > 0.1 * own)
        moe_log("the trace's experts have %s each, those of model '%s' %s: simulated with the "
                "latter",
                moe_format_bytes((uint64_t)sum, a, sizeof a), model->name,
                moe_format_bytes((uint64_t)own, b, sizeof b));
}

enum moe_status cli_load_trace(const char *trace_name, const char *model_name, unsigned parts,
                               struct moe_model *model, struct moe_trace *trace,
                               struct moe_err *err)
{
    const bool named = *model_name;
    enum moe_status s = named ? cli_load_model(model_name, model, err) : MOE_OK;
    if (!s)
        s = moe_trace_from_name(trace_name, parts, named ? model : NULL, trace, err);
    if (!s && !named && (s = cli_load_model(trace->info.model, model, err)))
        moe_fail_prefix(err, "the trace names model '%s' and --model is not given",
                        trace->info.model);
    if (!s && !moe_model_check_trace(model, &trace->info, NULL))
        tell_differences(&trace->info, model);
    return s;
}

enum moe_status cli_load_platform(const char *name, struct moe_platform *out, struct moe_err *err)
{
    char path[CLI_PATH_MAX];
    enum moe_status s = moe_find_config("platforms", name, path, sizeof path, err);
    return s ? s : moe_platform_load(path, out, err);
}

enum moe_status cli_load_strategy(const char *name, struct moe_strategy *out, struct moe_err *err)
{
    char path[CLI_PATH_MAX];
    enum moe_status s = moe_find_config("strategies", name, path, sizeof path, err);
    return s ? s : moe_strategy_load(path, out, err);
}

void cli_tell_unlisted(const struct moe_strategy *strategy)
{
    const struct moe_policy_spec *policy = &strategy->policy;
    const char *g = strategy->geometry;
    const bool pools =
        strcmp(g, "none") != 0 && strcmp(g, "all") != 0 && strncmp(g, "ncmoe", 5) != 0;
    char choose[32];
    if (!pools || policy->ops != &moe_policy_static || *policy->ops->file(policy->params))
        return;
    const struct moe_param *param = moe_param_find(policy->ops->params, "choose");
    if (strcmp(moe_param_format(param, policy->params, choose, sizeof choose), "list") == 0)
        moe_log("strategy '%s' has no list of hot experts: it keeps the first ones by number; "
                "'moelab trace stats TRACE --hot-list hot.txt' makes one for --set "
                "policy.list=hot.txt",
                strategy->name);
}

void cli_limit_threads(struct moe_strategy *strategy, const struct moe_platform *platform)
{
    const uint64_t cores = platform->cpu.cores;
    if (strategy->threads <= cores)
        return;
    moe_log("threads %" PRIu64 " exceeds the %" PRIu64
            " core%s of platform '%s': simulated with %" PRIu64,
            strategy->threads, cores, moe_plural(cores), platform->name, cores);
    strategy->threads = cores;
}

enum moe_status cli_apply_set(const char *key_value, struct moe_strategy *strategy,
                              struct moe_platform *platform, struct moe_err *err)
{
    char key[128];
    size_t n = strcspn(key_value, "=");
    if (!key_value[n])
        return moe_fail(err, MOE_ERR_USAGE, "'%.60s' is not of the form key=value", key_value);
    if (n >= sizeof key)
        return moe_fail(err, MOE_ERR_USAGE, "key '%.40s...' is too long", key_value);
    memcpy(key, key_value, n);
    key[n] = 0;
    const char *value = key_value + n + 1;
    if (platform && strncmp(key, "platform.", 9) == 0)
        return moe_platform_set(platform, key + 9, value, err);
    return moe_strategy_set(strategy, key, value, err);
}
