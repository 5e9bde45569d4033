/* sequences.csv: what stands beside an array of routes. Columns by name, any order, LF or CRLF:
 *   n_tokens        tokens of the sequence in the array
 *   sequence        0, 1, 2, ... (checked)
 *   token_offset    sum of the n_tokens above (checked)
 *   first_position  position in the context of the sequence's first token
 *   n_prompt or prompt_tokens   how many of its first tokens are the prompt
 *   dataset         becomes the sequence's label
 *   category        becomes its category
 * Other columns are skipped and named in `ignored`. */
#ifndef MOELAB_TRACES_SEQUENCES_H
#define MOELAB_TRACES_SEQUENCES_H

#include "base/error.h"
#include "traces/csv.h"
#include "traces/trace.h"

#include <stdio.h>

struct moe_sequence_row {
    uint64_t line;
    uint64_t n_tokens;
    int64_t first_position; /* -1: no such column */
    uint64_t n_prompt;      /* 0 also without the column */
    char *dataset;          /* never NULL */
    char *category;         /* never NULL */
};

struct moe_sequence_rows {
    uint64_t n;
    struct moe_sequence_row *row;
    uint64_t n_tokens; /* sum */
    bool has_n_tokens, has_prompt;
    char *header; /* the column line with its end, without what was skipped */
    struct moe_ignored ignored;
    enum moe_eol eol;
};

/* Reads a whole file from memory. n_tokens may be left out only where optional_tokens is true
 * (vllm: the arrays tell). */
enum moe_status moe_sequences_parse(const char *name, const char *data, size_t size,
                                    bool optional_tokens, struct moe_sequence_rows *out,
                                    struct moe_err *err);
void moe_sequences_release(struct moe_sequence_rows *rows);

/* Fills sequence i of the trace, whose tokens start at `first`: label, category, positions, steps
 * and phases. rows may be NULL: no prompt, positions unknown. */
void moe_sequences_apply(const struct moe_sequence_rows *rows, uint64_t i, struct moe_trace *trace,
                         uint64_t first, uint64_t n);

/* Writes the trace's sequences under the column line `header` (one line; NULL: all columns that the
 * trace has values for) with CRLF line ends or LF. Errors: MOE_ERR_INPUT (columns of `header`),
 * MOE_ERR_UNSUPPORTED (a text with a line break, or that is not UTF-8). */
enum moe_status moe_sequences_write(FILE *out, const struct moe_trace *trace, const char *header,
                                    bool crlf, struct moe_err *err);

#endif
