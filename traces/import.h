/* Importers and exporters: other tools' routing logs to and from a trace in memory.
 *
 * Every format round-trips: import, export in the same format, import again gives the same trace
 * and, for files whose dialect is kept (line ends, header lines, number format), the same text.
 * No importer trusts a count in the file before checking it against the file's size. */
#ifndef MOELAB_TRACES_IMPORT_H
#define MOELAB_TRACES_IMPORT_H

#include "base/progress.h"
#include "traces/model.h"
#include "traces/trace.h"

struct moe_import_options {
    const struct moe_model *model; /* shape when the format does not tell it, or NULL */
    const char *weights;           /* npy: second array, or NULL */
    const char *sequences;         /* npy, vllm: sequences.csv, or NULL */
    const char *licence;           /* provenance, or NULL */
    const char *source;            /* provenance, or NULL: format and content hash */
    uint64_t n_experts;            /* E when neither file nor model tells; 0: largest id + 1 */
    struct moe_progress *progress; /* told how much was read, in bytes of the file, or NULL */
};

/* What a file of a format holds beside the routes of decode tokens, with the bits of enum
 * moe_tokens_part. */
enum moe_format_holds {
    MOE_HOLDS_PROMPTS = 16, /* routes of prefill tokens */
    MOE_HOLDS_TOKEN_IDS = 32,
    MOE_HOLDS_POSITIONS = 64,
    MOE_HOLDS_LABELS = 128, /* of sequences, and their categories */
    MOE_HOLDS_TURNS = 512,  /* prompts behind decode tokens of their sequence */
    MOE_HOLDS_ALL = 1023,
};

struct moe_format {
    const char *name;    /* "route-csv" */
    const char *summary; /* one line for help */
    const char *source;  /* who writes this format */
    /* path "-" is not accepted. On MOE_OK *out is owned by the caller. */
    enum moe_status (*import)(const char *path, const struct moe_import_options *options,
                              struct moe_trace *out, struct moe_err *err);
    /* Writes file(s); npy writes a folder. Appears whole or not at all. NULL: import only. */
    enum moe_status (*export)(const struct moe_trace *trace, const char *path, struct moe_err *err);
    unsigned holds; /* enum moe_format_holds, of what is exported */
};

/* Explicit table, ended by a NULL name: expert-choices, route-csv, npy, jsonl, vllm. */
extern const struct moe_format moe_formats[];

/* By name; an unknown name is MOE_ERR_USAGE with the nearest known one. */
enum moe_status moe_format_find(const char *name, const struct moe_format **out,
                                struct moe_err *err);

/* What the trace has and an export in this format lacks, as "token ids, scores"; "": nothing. Not
 * counted: provenance, and sizes of experts. */
const char *moe_format_loses(const struct moe_format *format, const struct moe_trace *trace,
                             char *buf, size_t size);

#endif
