/* Where results go: stdout or -o FILE, as text, TSV or JSON; and the inputs that commands share. */
#ifndef MOELAB_CLI_OUTPUT_H
#define MOELAB_CLI_OUTPUT_H

#include "base/file.h"
#include "base/table.h"
#include "cli/command.h"
#include "policies/platform.h"
#include "policies/strategy.h"
#include "traces/model.h"
#include "traces/trace.h"

enum cli_format { CLI_TEXT, CLI_TSV, CLI_JSON };

/* Option records that several commands share; `type` is the options struct. */
#define CLI_OPTION_FORMAT(owner)                                                                   \
    {                                                                                              \
        .name = "format", .type = MOE_PARAM_CHOICE, .offset = offsetof(owner, format),             \
        .default_text = "text", .choices = "text|tsv|json",                                        \
        .help = "form of the result; not given: as its file's name ends in .tsv or .json"          \
    }
#define CLI_OPTION_OUTPUT(owner, text)                                                             \
    {                                                                                              \
        .name = "output", .type = MOE_PARAM_STRING, .offset = offsetof(owner, output),             \
        .default_text = "-", .size = CLI_PATH_MAX, .help = text                                    \
    }
#define CLI_OPTION_NAME(owner, field, what, fallback, text)                                        \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_STRING, .offset = offsetof(owner, field),                  \
        .default_text = fallback, .size = sizeof(((owner *)0)->field), .help = text                \
    }

/* The one way to a lossy result (policies/reroute.h); `field` is an int. */
#define CLI_OPTION_LOSSY(owner, field)                                                             \
    {                                                                                              \
        .name = "lossy", .type = MOE_PARAM_BOOL, .offset = offsetof(owner, field),                 \
        .default_text = "off",                                                                     \
        .help = "allow rules that change which experts are computed (`moelab list reroutes`); "    \
                "every result then says so"                                                        \
    }

#define CLI_OPTION_LOST_AFTER(owner)                                                               \
    {                                                                                              \
        .name = "lost_after", .type = MOE_PARAM_F64, .offset = offsetof(owner, lost_after),        \
        .default_text = "30", .min = 0.1, .max = 86400, .unit = "seconds",                         \
        .help = "under mpirun: what a process has that is silent for so long is run by others; "   \
                "needs a launcher that lets a job outlive one (mpirun --enable-recovery)"          \
    }

/* Writes the table in the format to path ("-" is stdout); the file appears whole or not at all. */
enum moe_status cli_write_table(const struct moe_table *table, int format, const char *path,
                                struct moe_err *err);

/* Provenance that every result starts with: program, command line, trace, model; marks synthetic
 * traces. */
void cli_note_run(struct moe_table *table, const struct cli_call *call, const char *command);
void cli_note_trace(struct moe_table *table, const char *path, const struct moe_trace_info *info);

/* By name or path (experiments/models, platforms, strategies). */
enum moe_status cli_load_model(const char *name, struct moe_model *out, struct moe_err *err);
enum moe_status cli_load_platform(const char *name, struct moe_platform *out, struct moe_err *err);
enum moe_status cli_load_strategy(const char *name, struct moe_strategy *out, struct moe_err *err);

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
