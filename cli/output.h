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

/* A table for a result of this call, its provenance begun: program and command line. */
struct moe_table *cli_table_new(const struct cli_call *call);

/* Where `status` is MOE_OK: writes the table in the format to path ("-" is standard output); the
 * file appears whole or not at all. Frees it in any case. Returns the first failure of both. */
enum moe_status cli_table_end(struct moe_table *table, enum moe_status status, int format,
                              const char *path, struct moe_err *err);

/* More provenance: the trace and its model; marks synthetic ones. */
void cli_note_trace(struct moe_table *table, const char *path, const struct moe_trace_info *info);

/* By name or path (experiments/models, platforms, strategies). A model may also be the folder of
 * one that `moelab run` takes: config.json and weights. */
enum moe_status cli_load_model(const char *name, struct moe_model *out, struct moe_err *err);
bool cli_model_is_folder(const char *name);

/* A trace and its model: by that name, or "": the one that the trace names. Logs where the trace
 * has other numbers, which count: fewer experts a token; or which do not: sizes of experts. parts:
 * enum moe_tokens_part wanted. Free with moe_trace_release. */
enum moe_status cli_load_trace(const char *trace_name, const char *model_name, unsigned parts,
                               struct moe_model *model, struct moe_trace *trace,
                               struct moe_err *err);
enum moe_status cli_load_platform(const char *name, struct moe_platform *out, struct moe_err *err);
enum moe_status cli_load_strategy(const char *name, struct moe_strategy *out, struct moe_err *err);

/* A simulated CPU computes with no more threads than the platform has cores: a strategy that has
 * more is given as many, and that is logged. */
void cli_limit_threads(struct moe_strategy *strategy, const struct moe_platform *platform);

/* Logs that a strategy of hot experts, which are to be in a list, was given none. */
void cli_tell_unlisted(const struct moe_strategy *strategy);

/* Applies key=value: "platform.KEY" to the platform (may be NULL), everything else to the
 * strategy. */
enum moe_status cli_apply_set(const char *key_value, struct moe_strategy *strategy,
                              struct moe_platform *platform, struct moe_err *err);

/* "" or, where the strategy is lossy, ", LOSSY": for titles. */
static inline const char *cli_lossy_mark(const struct moe_strategy *strategy)
{
    return moe_strategy_is_lossy(strategy) ? ", LOSSY" : "";
}

#endif
