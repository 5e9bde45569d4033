/* What the parsers of prompts share; not for others. */
#ifndef MOELAB_TRACES_PROMPTS_FILE_H
#define MOELAB_TRACES_PROMPTS_FILE_H

#include "traces/prompts.h"

#include <stdbool.h>

struct moe_prompts_file {
    const char *name, *next, *end;
    uint64_t line;  /* 1-based, of the line before next; 0 at the start */
    uint64_t limit; /* prompts; 0: no limit */
    struct moe_prompts *to;
    size_t room; /* of to->prompt */
};

/* Adds a prompt; takes text, also where it fails. */
enum moe_status moe_prompts_push(struct moe_prompts_file *file, char *text, const char *category,
                                 uint64_t line, struct moe_err *err);
bool moe_prompts_full(const struct moe_prompts_file *file);

/* MMLU's CSV: RFC 4180, so a field in quotes may hold line ends. */
enum moe_status moe_prompts_mmlu(struct moe_prompts_file *file, struct moe_err *err);

#endif
