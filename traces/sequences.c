#include "traces/sequences.h"

#include "traces/build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    COL_SEQUENCE,
    COL_OFFSET,
    COL_N_TOKENS,
    COL_FIRST,
    COL_DATASET,
    COL_CATEGORY,
    COL_N_PROMPT,
    COL_PROMPT_TOKENS,
    N_COLUMNS
};

static const char *const names[N_COLUMNS] = {
    [COL_SEQUENCE] = "sequence", [COL_OFFSET] = "token_offset",
    [COL_N_TOKENS] = "n_tokens", [COL_FIRST] = "first_position",
    [COL_DATASET] = "dataset",   [COL_CATEGORY] = "category",
    [COL_N_PROMPT] = "n_prompt", [COL_PROMPT_TOKENS] = "prompt_tokens",
};

struct parser {
    struct moe_csv csv;
    int column[N_COLUMNS];
    size_t n_columns;
    struct moe_text field[MOE_CSV_MAX_COLUMNS];
    struct moe_sequence_rows rows;
    uint64_t capacity;
};

void moe_sequences_release(struct moe_sequence_rows *rows)
{
    for (uint64_t i = 0; i < rows->n; i++) {
        free(rows->row[i].dataset);
        free(rows->row[i].category);
    }
    free(rows->row);
    free(rows->header);
    *rows = (struct moe_sequence_rows){0};
}

/* The number in a column, or `fallback` where the file has no such column. */
static enum moe_status number(const struct parser *p, int column, uint64_t max, uint64_t fallback,
                              uint64_t *out, struct moe_err *err)
{
    int at = p->column[column];
    if (at < 0) {
        *out = fallback;
        return MOE_OK;
    }
    return moe_csv_u64(&p->csv, p->field[at], names[column], 0, max, out, err);
}

static enum moe_status text(const struct parser *p, int column, char **out, struct moe_err *err)
{
    int at = p->column[column];
    struct moe_text empty = {"", 0};
    return moe_csv_string(&p->csv, at < 0 ? empty : p->field[at], names[column], out, err);
}

/* sequence and token_offset are redundant, and must agree with the rows. */
static enum moe_status check_numbering(const struct parser *p, struct moe_err *err)
{
    uint64_t sequence = 0, offset = 0;
    enum moe_status status = number(p, COL_SEQUENCE, UINT32_MAX, p->rows.n, &sequence, err);
    if (status == MOE_OK)
        status = number(p, COL_OFFSET, INT64_MAX, p->rows.n_tokens, &offset, err);
    if (status == MOE_OK && sequence != p->rows.n)
        return moe_csv_fail(&p->csv, err, "sequence %" PRIu64 " is not the expected %" PRIu64,
                            sequence, p->rows.n);
    if (status == MOE_OK && offset != p->rows.n_tokens)
        return moe_csv_fail(&p->csv, err,
                            "token_offset %" PRIu64 " is not the sum %" PRIu64
                            " of the n_tokens above",
                            offset, p->rows.n_tokens);
    return status;
}

static enum moe_status parse_row(struct parser *p, struct moe_sequence_row *row,
                                 struct moe_err *err)
{
    uint64_t first = 0;
    int prompt = p->column[COL_PROMPT_TOKENS] >= 0 ? COL_PROMPT_TOKENS : COL_N_PROMPT;
    row->line = p->csv.line;
    enum moe_status status = moe_csv_row(&p->csv, p->field, p->n_columns, err);
    if (status == MOE_OK)
        status = check_numbering(p, err);
    if (status == MOE_OK)
        status = number(p, COL_N_TOKENS, UINT32_MAX, 0, &row->n_tokens, err);
    if (status == MOE_OK)
        status = number(p, COL_FIRST, INT32_MAX - 1, 0, &first, err);
    if (status == MOE_OK)
        status = number(p, prompt, p->rows.has_n_tokens ? row->n_tokens : UINT32_MAX, 0,
                        &row->n_prompt, err);
    if (status == MOE_OK)
        status = text(p, COL_DATASET, &row->dataset, err);
    if (status == MOE_OK)
        status = text(p, COL_CATEGORY, &row->category, err);
    row->first_position = p->column[COL_FIRST] < 0 ? -1 : (int64_t)first;
    return status;
}

static enum moe_status append_row(struct parser *p, struct moe_err *err)
{
    struct moe_sequence_row row = {0};
    struct moe_sequence_rows *rows = &p->rows;
    enum moe_status status = parse_row(p, &row, err);
    if (status == MOE_OK && rows->n == p->capacity) {
        uint64_t wanted = p->capacity ? 2 * p->capacity : 64;
        struct moe_sequence_row *grown = realloc(rows->row, (size_t)wanted * sizeof *grown);
        if (grown) {
            rows->row = grown;
            p->capacity = wanted;
        } else {
            status = moe_fail_memory(err, "sequences");
        }
    }
    if (status != MOE_OK) {
        free(row.dataset);
        free(row.category);
        return status;
    }
    rows->row[rows->n++] = row;
    rows->n_tokens += row.n_tokens; /* below 2^32 each, and a row is over a byte: no overflow */
    return MOE_OK;
}

static enum moe_status keep_header(struct parser *p, struct moe_err *err)
{
    char *kept = NULL;
    enum moe_status status = moe_csv_kept_columns(&p->csv, p->column, N_COLUMNS, &kept, err);
    if (status != MOE_OK)
        return status;
    size_t n = strlen(kept) + sizeof "\r\n";
    p->rows.header = malloc(n);
    if (p->rows.header)
        snprintf(p->rows.header, n, "%s%s", kept, p->csv.eol == MOE_EOL_CRLF ? "\r\n" : "\n");
    free(kept);
    return p->rows.header ? MOE_OK : moe_fail_memory(err, "a column line");
}

static enum moe_status parse_columns(struct parser *p, bool optional_tokens, struct moe_err *err)
{
    bool got = false;
    enum moe_status status = moe_csv_next(&p->csv, &got, err);
    if (status == MOE_OK && !got)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': file is empty", p->csv.name);
    if (status == MOE_OK)
        status =
            moe_csv_columns(&p->csv, names, N_COLUMNS, optional_tokens ? 0 : 1u << COL_N_TOKENS,
                            1u << COL_N_PROMPT | 1u << COL_PROMPT_TOKENS, p->column, &p->n_columns,
                            &p->rows.ignored, err);
    if (status == MOE_OK && p->column[COL_N_PROMPT] >= 0 && p->column[COL_PROMPT_TOKENS] >= 0)
        return moe_csv_fail(&p->csv, err,
                            "columns 'n_prompt' and 'prompt_tokens' mean the same; keep one");
    p->rows.has_n_tokens = p->column[COL_N_TOKENS] >= 0;
    p->rows.has_prompt = p->column[COL_N_PROMPT] >= 0 || p->column[COL_PROMPT_TOKENS] >= 0;
    return status == MOE_OK ? keep_header(p, err) : status;
}

enum moe_status moe_sequences_parse(const char *name, const char *data, size_t size,
                                    bool optional_tokens, struct moe_sequence_rows *out,
                                    struct moe_err *err)
{
    struct parser p = {0};
    moe_csv_start(&p.csv, name, data, size);
    enum moe_status status = parse_columns(&p, optional_tokens, err);
    bool got = false;
    while (status == MOE_OK) {
        got = false;
        status = moe_csv_next(&p.csv, &got, err);
        if (status != MOE_OK || !got)
            break;
        status = append_row(&p, err);
    }
    if (status != MOE_OK) {
        moe_sequences_release(&p.rows);
        return status;
    }
    p.rows.eol = p.csv.eol;
    *out = p.rows;
    return MOE_OK;
}

void moe_sequences_apply(const struct moe_sequence_rows *rows, uint64_t i, struct moe_trace *trace,
                         uint64_t first, uint64_t n)
{
    struct moe_tokens *tokens = &trace->tokens;
    struct moe_sequence_row *row = rows ? &rows->row[i] : NULL;
    int64_t position = row ? row->first_position : -1;
    for (uint64_t t = first; t < first + n; t++) {
        tokens->sequence[t] = (uint32_t)i;
        if (position >= 0 && position + (int64_t)(t - first) <= INT32_MAX)
            tokens->position[t] = (int32_t)(position + (int64_t)(t - first));
    }
    moe_import_steps(tokens, first, n, row ? row->n_prompt : 0);
    if (!row)
        return;
    free(trace->sequences[i].label);
    free(trace->sequences[i].category);
    trace->sequences[i].label = row->dataset;
    trace->sequences[i].category = row->category;
    row->dataset = row->category = NULL; /* moved */
}

/* A text field, in quotes where it needs them. */
static void write_text(FILE *out, const char *value)
{
    if (!strpbrk(value, "\",\n\r")) {
        fputs(value, out);
        return;
    }
    fputc('"', out);
    for (const char *c = value; *c; c++) {
        if (*c == '"')
            fputc('"', out);
        fputc(*c, out);
    }
    fputc('"', out);
}

static uint64_t prompt_length(const struct moe_tokens *tokens, uint64_t first, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && tokens->phase[first + i] == MOE_PREFILL)
        i++;
    return i;
}

static void write_field(FILE *out, const struct moe_trace *trace, int column, uint64_t i,
                        uint64_t first)
{
    const struct moe_sequence *s = &trace->sequences[i];
    const struct moe_tokens *tokens = &trace->tokens;
    int32_t position = s->n_tokens ? tokens->position[first] : -1;
    uint64_t value[N_COLUMNS] = {
        [COL_SEQUENCE] = i,
        [COL_OFFSET] = first,
        [COL_N_TOKENS] = s->n_tokens,
        [COL_FIRST] = position < 0 ? 0 : (uint64_t)position,
        [COL_N_PROMPT] = prompt_length(tokens, first, s->n_tokens),
    };
    value[COL_PROMPT_TOKENS] = value[COL_N_PROMPT];
    if (column == COL_DATASET || column == COL_CATEGORY)
        write_text(out, column == COL_DATASET ? s->label : s->category);
    else
        fprintf(out, "%" PRIu64, value[column]);
}

/* The columns a foreign trace needs: first_position and n_prompt only where they are known. */
static void default_columns(const struct moe_trace *trace, char *buf, size_t size)
{
    bool position = trace->tokens.n_tokens && trace->tokens.position[0] >= 0;
    bool prompt = false;
    for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
        prompt = prompt || trace->tokens.phase[t] == MOE_PREFILL;
    snprintf(buf, size, "sequence,token_offset,n_tokens,%s%sdataset,category",
             position ? "first_position," : "", prompt ? "n_prompt," : "");
}

/* order[i] becomes the column in place i. Unknown columns are refused: imports keep none. */
static enum moe_status find_columns(const struct moe_csv *csv, int order[N_COLUMNS],
                                    size_t *n_columns, struct moe_err *err)
{
    int column[N_COLUMNS];
    struct moe_ignored ignored = {0};
    enum moe_status status =
        moe_csv_columns(csv, names, N_COLUMNS, 0, 0, column, n_columns, &ignored, err);
    if (status != MOE_OK)
        return status;
    if (ignored.names[0])
        return moe_csv_fail(csv, err, "unknown column '%s'", ignored.names);
    for (int c = 0; c < N_COLUMNS; c++)
        if (column[c] >= 0)
            order[column[c]] = c;
    return MOE_OK;
}

/* Lines of the file are records of UTF-8, so it cannot hold every text. */
static enum moe_status check_texts(const struct moe_trace *trace, const int *order,
                                   size_t n_columns, struct moe_err *err)
{
    for (uint64_t i = 0; i < trace->n_sequences; i++)
        for (size_t c = 0; c < n_columns; c++) {
            const struct moe_sequence *s = &trace->sequences[i];
            const char *value = order[c] == COL_DATASET    ? s->label
                                : order[c] == COL_CATEGORY ? s->category
                                                           : "";
            if (strchr(value, '\n'))
                return moe_fail(err, MOE_ERR_UNSUPPORTED,
                                "%s of sequence %" PRIu64 " has a line break, which sequences.csv "
                                "cannot hold; jsonl holds any trace",
                                names[order[c]], i);
            if (!moe_text_is_utf8(value, strlen(value)))
                return moe_fail(err, MOE_ERR_UNSUPPORTED, "%s of sequence %" PRIu64 " is not UTF-8",
                                names[order[c]], i);
        }
    return MOE_OK;
}

enum moe_status moe_sequences_write(FILE *out, const struct moe_trace *trace, const char *header,
                                    bool crlf, struct moe_err *err)
{
    char line[128];
    int order[N_COLUMNS] = {0};
    size_t n_columns = 0;
    const char *end = crlf ? "\r\n" : "\n";
    default_columns(trace, line, sizeof line);
    struct moe_csv csv = {.name = "header", .line = 1, .text = {line, strlen(line)}};
    if (header)
        csv.text = (struct moe_text){header, strcspn(header, "\r\n")};
    enum moe_status status = find_columns(&csv, order, &n_columns, err);
    if (status == MOE_OK)
        status = check_texts(trace, order, n_columns, err);
    if (status != MOE_OK)
        return status;
    fprintf(out, "%.*s%s", (int)csv.text.n, csv.text.at, end);
    uint64_t first = 0;
    for (uint64_t i = 0; i < trace->n_sequences; i++) {
        for (size_t c = 0; c < n_columns; c++) {
            if (c)
                fputc(',', out);
            write_field(out, trace, order[c], i, first);
        }
        fputs(end, out);
        first += trace->sequences[i].n_tokens;
    }
    return MOE_OK;
}
