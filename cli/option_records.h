/* Option records (base/param.h) that several commands share, and their forms. `owner` is the
 * command's options struct, `field` the member that takes the value. */
#ifndef MOELAB_CLI_OPTION_RECORDS_H
#define MOELAB_CLI_OPTION_RECORDS_H

#include "base/param.h"
#include "cli/command.h"

/* --- forms ---------------------------------------------------------------------------------- */

#define CLI_OPTION_NAME(owner, field, what, fallback, text)                                        \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_STRING, .offset = offsetof(owner, field),                  \
        .default_text = fallback, .size = sizeof(((owner *)0)->field), .help = text                \
    }

/* The name of a file that the command writes; forms: its endings, as in base/param.h. */
#define CLI_OPTION_FILE(owner, field, what, fallback, forms, text)                                 \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_STRING, .offset = offsetof(owner, field),                  \
        .default_text = fallback, .size = sizeof(((owner *)0)->field), .help = text,               \
        .endings = forms                                                                           \
    }

#define CLI_ENDINGS_TABLE "txt|tsv|json"
#define CLI_ENDINGS_TRACE "h5|hdf5"
#define CLI_ENDINGS_YAML  "yaml|yml"

/* An int: 0 or 1. */
#define CLI_OPTION_SWITCH(owner, field, what, fallback, text)                                      \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_BOOL, .offset = offsetof(owner, field),                    \
        .default_text = fallback, .help = text                                                     \
    }

/* A uint64_t in [least, most]; both 0: no limit. */
#define CLI_OPTION_U64(owner, field, what, fallback, least, most, of, text)                        \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_U64, .offset = offsetof(owner, field),                     \
        .default_text = fallback, .min = least, .max = most, .unit = of, .help = text              \
    }

/* The same for a double. */
#define CLI_OPTION_F64(owner, field, what, fallback, least, most, of, text)                        \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_F64, .offset = offsetof(owner, field),                     \
        .default_text = fallback, .min = least, .max = most, .unit = of, .help = text              \
    }

/* An int: index of the chosen word among `words`. */
#define CLI_OPTION_CHOICE(owner, field, what, words, fallback, text)                               \
    {                                                                                              \
        .name = what, .type = MOE_PARAM_CHOICE, .offset = offsetof(owner, field),                  \
        .default_text = fallback, .choices = words, .help = text                                   \
    }

/* --- records -------------------------------------------------------------------------------- */

#define CLI_OPTION_FORMAT(owner)                                                                   \
    CLI_OPTION_CHOICE(owner, format, "format", "text|tsv|json", "text", "format of the result")

/* of a result that can go to a file */
#define CLI_OPTION_FILE_FORMAT(owner)                                                              \
    CLI_OPTION_CHOICE(                                                                             \
        owner, format, "format", "text|tsv|json", "text",                                          \
        "format of the result; not given: by the ending of the file's name, .tsv or .json")

#define CLI_OPTION_RESULT(owner)                                                                   \
    CLI_OPTION_FILE_FORMAT(owner),                                                                 \
        CLI_OPTION_FILE(owner, output, "output", "-", CLI_ENDINGS_TABLE,                           \
                        "file for the result: text, x.tsv or x.json; - is standard output")

/* --lossy, without which no result is lossy (policies/reroute.h). */
#define CLI_OPTION_LOSSY(owner, field)                                                             \
    CLI_OPTION_SWITCH(owner, field, "lossy", "off",                                                \
                      "allow rules that change which experts are computed (`moelab list "          \
                      "reroutes`); every result then says so")

#define CLI_OPTION_LOST_AFTER(owner)                                                               \
    CLI_OPTION_F64(                                                                                \
        owner, lost_after, "lost_after", "30", 0.1, 86400, "seconds",                              \
        "under mpirun: give the work of a process that is silent for this long to others; needs "  \
        "a launcher under which the job survives a lost process (mpirun --enable-recovery)")

#define CLI_OPTION_SEED(owner, field, of)                                                          \
    CLI_OPTION_U64(owner, field, "seed", "1", 0, 0, NULL, "seed of " of)

/* of: what is run at once. */
#define CLI_OPTION_JOBS(owner, of)                                                                 \
    CLI_OPTION_U64(owner, jobs, "jobs", "0", 0, 4096, "threads",                                   \
                   of " to run at the same time; does not change the result; 0: "                  \
                      "OMP_NUM_THREADS, or every core")
#define CLI_OPTION_JOBS_MPI(owner, of)                                                             \
    CLI_OPTION_U64(owner, jobs, "jobs", "0", 0, 4096, "threads",                                   \
                   of                                                                              \
                   " to run at the same time; does not change the result; 0: OMP_NUM_THREADS, or " \
                   "every core; under mpirun: for each process, 0: its share of the machine")

/* of: what the tokens are part of. */
#define CLI_OPTION_MAX_TOKENS(owner, field, of)                                                    \
    CLI_OPTION_U64(owner, field, "max_tokens", "0", 0, 0, "decode tokens",                         \
                   "stop after N decode tokens of " of "; 0: all")

#define CLI_OPTION_PIN(owner, field)                                                               \
    CLI_OPTION_SWITCH(owner, field, "pin", "on", "keep each thread on its core")

#define CLI_OPTION_KERNELS(owner, field)                                                           \
    CLI_OPTION_NAME(owner, field, "kernels", "auto",                                               \
                    "CPU kernels, by instruction set (`moelab bench kernels` lists them); auto "   \
                    "never takes amx, which halves the time of long prompts")

/* --- how a trace is replayed ----------------------------------------------------------------- */

#define CLI_OPTION_CONTRACT(owner)                                                                 \
    CLI_OPTION_CHOICE(owner, contract, "contract", "event|access", "event",                        \
                      "event: all experts of a (step, layer) are looked up before any is "         \
                      "evicted; access: one expert after another")
#define CLI_OPTION_ORDER(owner)                                                                    \
    CLI_OPTION_CHOICE(owner, order, "order", "step|file|token", "step",                            \
                      "order of the lookups: forward passes as they ran, rows of the imported "    \
                      "file, or token by token")
#define CLI_OPTION_PHASE(owner, field, what, text)                                                 \
    CLI_OPTION_CHOICE(owner, field, what, "both|decode|prefill", "both", text)
#define CLI_OPTION_COLD(owner)                                                                     \
    CLI_OPTION_SWITCH(owner, cold, "cold", "off", "every sequence starts with an empty cache")

/* --- results of a simulation or a run --------------------------------------------------------- */

#define CLI_OPTION_TIMELINE(owner, field)                                                          \
    CLI_OPTION_FILE(owner, field, "timeline", "", "json",                                          \
                    "write every operation as Chrome trace JSON (open in ui.perfetto.dev)")
#define CLI_OPTION_DECISIONS(owner, field)                                                         \
    CLI_OPTION_FILE(owner, field, "decisions", "", "txt",                                          \
                    "write every decision as text (format in policies/decision_log.h)")

#endif
