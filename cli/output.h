/* Where results go: standard output or -o FILE, as text, TSV or JSON; and the inputs that commands
 * share. */
#ifndef MOELAB_CLI_OUTPUT_H
#define MOELAB_CLI_OUTPUT_H

#include "base/file.h"
#include "base/table.h"
#include "cli/option_records.h"
#include "policies/platform.h"
#include "policies/strategy.h"
#include "traces/model.h"
#include "traces/trace.h"

enum cli_format { CLI_TEXT, CLI_TSV, CLI_JSON };

/* A table for a result of this call, with program and command line as the first provenance. */
struct moe_table *cli_table_new(const struct cli_call *call);

/* If `status` is MOE_OK, writes the table in the format to path ("-" is standard output); the file
 * appears complete or not at all. Frees the table in any case. Returns the first failure, `status`
 * or its own. */
enum moe_status cli_table_end(struct moe_table *table, enum moe_status status, int format,
                              const char *path, struct moe_err *err);

/* Adds provenance: the trace and its model; marks synthetic ones. */
void cli_note_trace(struct moe_table *table, const char *path, const struct moe_trace_info *info);

/* Loads a description by name (in experiments/models, platforms, strategies) or path. A model may
 * also be a folder that `moelab run` takes: config.json and weights. */
enum moe_status cli_load_model(const char *name, struct moe_model *out, struct moe_err *err);
bool cli_model_is_folder(const char *name);

/* Loads a trace and its model: the one of that name, or, if "", the one that the trace names. Logs
 * differences: with fewer experts a token in the trace, the trace's number is used; with other
 * sizes of experts, the model's are. parts: enum moe_tokens_part wanted. Free with
 * moe_trace_release. */
enum moe_status cli_load_trace(const char *trace_name, const char *model_name, unsigned parts,
                               struct moe_model *model, struct moe_trace *trace,
                               struct moe_err *err);
enum moe_status cli_load_platform(const char *name, struct moe_platform *out, struct moe_err *err);
enum moe_status cli_load_strategy(const char *name, struct moe_strategy *out, struct moe_err *err);

/* Limits a strategy's threads to the platform's cores, as a simulated CPU has no more; logs that.
 */
void cli_limit_threads(struct moe_strategy *strategy, const struct moe_platform *platform);

/* Logs that a strategy for a list of hot experts was given no list. */
void cli_tell_unlisted(const struct moe_strategy *strategy);

/* Applies key=value: "platform.KEY" to the platform (may be NULL), everything else to the
 * strategy. */
enum moe_status cli_apply_set(const char *key_value, struct moe_strategy *strategy,
                              struct moe_platform *platform, struct moe_err *err);

/* For titles: ", LOSSY" if the strategy is lossy, else "". */
static inline const char *cli_lossy_mark(const struct moe_strategy *strategy)
{
    return moe_strategy_is_lossy(strategy) ? ", LOSSY" : "";
}

#endif
