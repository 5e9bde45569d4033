/* Prompts for recording: text (one a line), JSON lines, or MMLU's CSV. */
#ifndef MOELAB_TRACES_PROMPTS_H
#define MOELAB_TRACES_PROMPTS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum moe_prompts_format { MOE_PROMPTS_AUTO, MOE_PROMPTS_TEXT, MOE_PROMPTS_JSONL, MOE_PROMPTS_MMLU };
#define MOE_PROMPTS_CHOICES "auto|text|jsonl|mmlu"

enum { MOE_CATEGORY_MAX = 255 }; /* bytes: what a trace holds of it */

struct moe_prompt {
    char *text;     /* NUL-terminated UTF-8, no NUL inside, not empty */
    char *category; /* JSON "category" (or "subject", "task_id"); MMLU: the name of the file without
                       _test, _dev, _val and .csv; "" */
    uint64_t hash;  /* FNV-1a of text, as moe_sequence.text_hash */
    uint64_t line;  /* where it begins in its file, for messages */
};

struct moe_prompts {
    struct moe_prompt *prompt; /* [n] */
    size_t n;
    char label[256]; /* name of the file without folder */
};

/* Reads PATH. auto: by the name's ending (.jsonl, .csv, else text). A byte order mark is dropped.
 * Text: one prompt a line, without the line's end; lines of blanks only are left out. JSONL: one
 * object a line, the first of the keys "prompt", "question", "text", "instruction" that is there.
 * MMLU: question, four choices and an answer (A to D or 0 to 3), which becomes the usual form
 * "question\nA. ...\nB. ...\nC. ...\nD. ...\nAnswer:"; with or without a line of column names,
 * quotes as in RFC 4180, CRLF as LF. limit: at most so many (0: all). Errors: MOE_ERR_IO,
 * MOE_ERR_INPUT with file and line: invalid UTF-8 (byte), a NUL byte, not JSON, no such key, an
 * empty prompt, a category that is too long, wrong number of fields, no prompt at all. */
enum moe_status moe_prompts_load(const char *path, enum moe_prompts_format format, uint64_t limit,
                                 struct moe_prompts *out, struct moe_err *err);
/* The same from bytes; name: the file's, for messages, auto and label. */
enum moe_status moe_prompts_parse(const char *name, const char *data, size_t size,
                                  enum moe_prompts_format format, uint64_t limit,
                                  struct moe_prompts *out, struct moe_err *err);
void moe_prompts_release(struct moe_prompts *prompts);

#endif
