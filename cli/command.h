/* Subcommands of the program: one table, one file each; options bound by struct moe_param tables.
 */
#ifndef MOELAB_CLI_COMMAND_H
#define MOELAB_CLI_COMMAND_H

#include "base/error.h"
#include "base/param.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_PATH_MAX = 4096, CLI_SETS_MAX = 64 };

struct cli_command;

/* The parsed command line of one call. */
struct cli_call {
    const struct cli_command *command;
    const void *options; /* the struct that command->options describes */
    int n_args;
    const char *const *args; /* positional arguments */
    int n_sets;
    const char *const *sets; /* "key=value" of every --set */
    const char *const *argv; /* the whole command line, for provenance */
    int argc;
    const bool *given; /* which of command->options the command line sets */
};

struct cli_command {
    const char *name;                /* "replay", "trace import" */
    const char *usage;               /* "TRACE.h5 [options]" */
    const char *summary;             /* one line of `moelab help` */
    const char *description;         /* paragraphs of `moelab NAME --help`; NULL: none */
    const struct moe_param *options; /* NULL: none */
    size_t options_size;
    int min_args, max_args;
    bool takes_sets;              /* --set key=value, repeatable */
    const char *set_keys;         /* which keys --set takes, in words; NULL: all of a strategy */
    bool joins_team;              /* processes under mpirun work together; rank 0 reports errors */
    const struct moe_param *spec; /* keys inside an argument ("KIND:key=value"), or NULL */
    enum moe_status (*run)(const struct cli_call *call, struct moe_err *err);
};

extern const struct cli_command cli_trace_import, cli_trace_info, cli_trace_stats, cli_trace_verify,
    cli_trace_synth, cli_trace_export, cli_trace_cat, cli_trace_batch, cli_replay, cli_sim,
    cli_sweep, cli_sweep_merge, cli_bench, cli_bench_kernels, cli_bench_device, cli_list,
    cli_version, cli_run, cli_record, cli_mrc, cli_calibrate, cli_tune, cli_validate, cli_report,
    cli_repro, cli_whatif, cli_quantize;

/* Parses argv[0..argc) (after the command's words) into call. The options struct and the argument
 * arrays are heap memory of *call; cli_call_release frees them. --help sets *help. */
enum moe_status cli_parse(const struct cli_command *command, int argc, char **argv,
                          struct cli_call *call, int *help, struct moe_err *err);
void cli_call_release(struct cli_call *call);

/* Does the command line set this option (perhaps to its default)? */
bool cli_call_sets(const struct cli_call *call, const char *option);

/* Prints the help of one command on stdout. */
void cli_help_command(const struct cli_command *command);

#endif
