/* Prompts for recording: text (one a line), JSON lines, or MMLU's CSV. */
#ifndef MOELAB_TRACES_PROMPTS_H
#define MOELAB_TRACES_PROMPTS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum moe_prompts_format { MOE_PROMPTS_AUTO, MOE_PROMPTS_TEXT, MOE_PROMPTS_JSONL, MOE_PROMPTS_MMLU };
#define MOE_PROMPTS_CHOICES "auto|text|jsonl|mmlu"

struct moe_prompt {
    char *text; /* NUL-terminated UTF-8, no NUL inside */
    char *
        category; /* JSON "category" (or "subject", "task_id"), MMLU subject of the file name; "" */
    uint64_t hash; /* FNV-1a of text, as moe_sequence.text_hash */
    uint64_t line; /* in its file, for messages */
};

struct moe_prompts {
    struct moe_prompt *prompt; /* [n] */
    size_t n;
    char label[256]; /* name of the file without folder */
};

/* Reads PATH. auto: by the name's ending (.jsonl, .csv, else text). Text: one prompt a line, empty
 * lines left out. JSONL: the first of the keys "prompt", "question", "text", "instruction" that is
 * there. MMLU: question and four choices as the usual few-line form "question\nA. ...\nAnswer:",
 * with or without a header line, quotes as in RFC 4180. limit: at most so many (0: all). Errors:
 * MOE_ERR_IO, MOE_ERR_INPUT with file and line: invalid UTF-8 (byte), not JSON, no such key, wrong
 * number of fields, a NUL byte, no prompt at all. */
enum moe_status moe_prompts_load(const char *path, enum moe_prompts_format format, uint64_t limit,
                                 struct moe_prompts *out, struct moe_err *err);
enum moe_status moe_prompts_parse(const char *name, const char *data, size_t size,
                                  enum moe_prompts_format format, uint64_t limit,
                                  struct moe_prompts *out, struct moe_err *err);
void moe_prompts_release(struct moe_prompts *prompts);

#endif
