#include "base/table.h"

#include "base/utf8.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum cell_kind { CELL_EMPTY, CELL_U64, CELL_F64, CELL_TEXT };

struct cell {
    enum cell_kind kind;
    union {
        uint64_t u64;
        double f64;
        char *text;
    };
};

struct row {
    struct cell *cells; /* n of them; columns made later are empty */
    size_t n;
};

struct note {
    char *key, *value;
};

struct moe_table {
    char **columns;
    struct row *rows;
    struct note *notes;
    size_t n_columns, n_rows, n_notes;
    size_t room_columns, room_rows, room_notes;
    int out_of_memory;
};

struct moe_table *moe_table_new(void)
{
    return calloc(1, sizeof(struct moe_table));
}

const char *const *moe_table_columns(const struct moe_table *table, size_t *n)
{
    *n = table->n_columns;
    return (const char *const *)table->columns;
}

static void clear_cell(struct cell *cell)
{
    if (cell->kind == CELL_TEXT)
        free(cell->text);
    *cell = (struct cell){.kind = CELL_EMPTY};
}

void moe_table_free(struct moe_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->n_rows; i++) {
        for (size_t j = 0; j < table->rows[i].n; j++)
            clear_cell(&table->rows[i].cells[j]);
        free(table->rows[i].cells);
    }
    for (size_t i = 0; i < table->n_columns; i++)
        free(table->columns[i]);
    for (size_t i = 0; i < table->n_notes; i++) {
        free(table->notes[i].key);
        free(table->notes[i].value);
    }
    free(table->rows);
    free(table->columns);
    free(table->notes);
    free(table);
}

/* Room for one more item of a growing array; NULL (and remembered) when memory ran out. */
static void *grow(struct moe_table *table, void *items, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return items;
    size_t wanted = *room ? 2 * *room : 16;
    void *more = realloc(items, wanted * size);
    if (more)
        *room = wanted;
    else
        table->out_of_memory = 1;
    return more;
}

/* Tabs and newlines would break TSV, other control characters a terminal, and a name of a file need
 * not be UTF-8. */
static char *clean_copy(struct moe_table *table, const char *text)
{
    const size_t n = strlen(text);
    char *copy = malloc(3 * n + 1);
    if (copy)
        moe_utf8_clean(copy, text, n);
    else
        table->out_of_memory = 1;
    return copy;
}

static void set_note(struct moe_table *table, const char *key, const char *value)
{
    char *text = clean_copy(table, value), *name = clean_copy(table, key);
    size_t i = 0;
    while (name && i < table->n_notes && strcmp(table->notes[i].key, name) != 0)
        i++;
    struct note *notes = NULL;
    if (text && name)
        notes = grow(table, table->notes, i, &table->room_notes, sizeof *notes);
    if (!notes) {
        free(text);
        free(name);
        return;
    }
    table->notes = notes;
    if (i < table->n_notes) {
        free(notes[i].key);
        free(notes[i].value);
    } else {
        table->n_notes++;
    }
    notes[i] = (struct note){name, text};
}

void moe_table_note(struct moe_table *table, const char *key, const char *format, ...)
{
    va_list args;
    if (!table)
        return;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t size = length < 0 ? 1 : (size_t)length + 1;
    char *value = calloc(size, 1);
    if (!value) {
        table->out_of_memory = 1;
        return;
    }
    va_start(args, format);
    vsnprintf(value, size, format, args);
    va_end(args);
    set_note(table, key, value);
    free(value);
}

void moe_table_row(struct moe_table *table)
{
    if (!table)
        return;
    struct row *rows = grow(table, table->rows, table->n_rows, &table->room_rows, sizeof *rows);
    if (!rows)
        return;
    table->rows = rows;
    rows[table->n_rows++] = (struct row){0};
}

/* Index of the column, made if new; n_columns when memory ran out. */
static size_t column_index(struct moe_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_columns; i++)
        if (strcmp(table->columns[i], name) == 0)
            return i;
    char **columns =
        grow(table, table->columns, table->n_columns, &table->room_columns, sizeof *columns);
    if (!columns)
        return table->n_columns;
    table->columns = columns;
    columns[table->n_columns] = clean_copy(table, name);
    if (!columns[table->n_columns])
        return table->n_columns;
    return table->n_columns++;
}

/* The cleared cell of the last row, or NULL when memory ran out. */
static struct cell *cell_at(struct moe_table *table, const char *column)
{
    if (!table)
        return NULL;
    if (table->n_rows == 0)
        moe_table_row(table);
    size_t index = column_index(table, column);
    if (table->n_rows == 0 || index == table->n_columns)
        return NULL;
    struct row *row = &table->rows[table->n_rows - 1];
    if (index >= row->n) {
        struct cell *cells = realloc(row->cells, table->n_columns * sizeof *cells);
        if (!cells) {
            table->out_of_memory = 1;
            return NULL;
        }
        memset(cells + row->n, 0, (table->n_columns - row->n) * sizeof *cells);
        row->cells = cells;
        row->n = table->n_columns;
    }
    clear_cell(&row->cells[index]);
    return &row->cells[index];
}

void moe_table_u64(struct moe_table *table, const char *column, uint64_t value)
{
    struct cell *cell = cell_at(table, column);
    if (cell)
        *cell = (struct cell){.kind = CELL_U64, .u64 = value};
}

void moe_table_f64(struct moe_table *table, const char *column, double value)
{
    struct cell *cell = cell_at(table, column);
    if (cell)
        *cell = (struct cell){.kind = CELL_F64, .f64 = value};
}

void moe_table_text(struct moe_table *table, const char *column, const char *value)
{
    struct cell *cell = cell_at(table, column);
    char *text = cell ? clean_copy(table, value) : NULL;
    if (text)
        *cell = (struct cell){.kind = CELL_TEXT, .text = text};
}

const char *moe_format_f64(double value, char *buf, size_t size)
{
    if (isnan(value)) {
        snprintf(buf, size, "nan"); /* never "-nan", whatever the sign bit says */
        return buf;
    }
    /* 15 digits always survive text -> double -> text, except where doubles lose precision. */
    char text[40];
    int digits = fabs(value) < DBL_MIN ? 1 : 15;
    do
        snprintf(text, sizeof text, "%.*g", digits, value);
    while (digits++ < 17 && (strtod(text, NULL) < value || strtod(text, NULL) > value));
    snprintf(buf, size, "%s", text);
    return buf;
}

static struct cell get_cell(const struct moe_table *table, size_t row, size_t column)
{
    const struct row *r = &table->rows[row];
    return column < r->n ? r->cells[column] : (struct cell){.kind = CELL_EMPTY};
}

static enum moe_status begin(const struct moe_table *table, struct moe_err *err)
{
    errno = 0;
    return table && !table->out_of_memory ? MOE_OK : moe_fail_memory(err, "a result table");
}

static enum moe_status finish(FILE *out, struct moe_err *err)
{
    if (ferror(out))
        return moe_fail(err, MOE_ERR_IO, "cannot write table: %s", strerror(errno ? errno : EIO));
    return MOE_OK;
}

static void put_tsv_cell(struct cell cell, FILE *out)
{
    char buf[40];
    switch (cell.kind) {
    case CELL_EMPTY:
        fputs("nan", out);
        break;
    case CELL_U64:
        fprintf(out, "%" PRIu64, cell.u64);
        break;
    case CELL_F64:
        fputs(moe_format_f64(cell.f64, buf, sizeof buf), out);
        break;
    case CELL_TEXT:
        fputs(cell.text, out);
        break;
    }
}

enum moe_status moe_table_write_tsv(const struct moe_table *table, FILE *out, struct moe_err *err)
{
    if (begin(table, err))
        return MOE_ERR_MEMORY;
    for (size_t i = 0; i < table->n_notes; i++)
        fprintf(out, "# %s: %s\n", table->notes[i].key, table->notes[i].value);
    for (size_t j = 0; j < table->n_columns; j++)
        fprintf(out, "%s%s", j ? "\t" : "", table->columns[j]);
    if (table->n_columns)
        fputc('\n', out);
    for (size_t i = 0; i < table->n_rows && table->n_columns; i++) {
        for (size_t j = 0; j < table->n_columns; j++) {
            if (j)
                fputc('\t', out);
            put_tsv_cell(get_cell(table, i, j), out);
        }
        fputc('\n', out);
    }
    return finish(out, err);
}

void moe_json_text(const char *text, FILE *out)
{
    const char *end = text + strlen(text);
    fputc('"', out);
    while (text < end) {
        int length = moe_utf8_char(text, (size_t)(end - text));
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if (*text > 0 && *text < ' ')
            fprintf(out, "\\u%04x", (unsigned)*text);
        else if (length > 0)
            fwrite(text, 1, (size_t)length, out);
        else
            fputs("\\ufffd", out);
        text += length > 0 ? length : 1;
    }
    fputc('"', out);
}

static void put_json_cell(struct cell cell, FILE *out)
{
    if (cell.kind == CELL_TEXT)
        moe_json_text(cell.text, out);
    else if (cell.kind == CELL_EMPTY || (cell.kind == CELL_F64 && !isfinite(cell.f64)))
        fputs("null", out);
    else
        put_tsv_cell(cell, out);
}

/* A column must not hide the three keys that every document has. */
static int is_reserved(const char *column)
{
    return !strcmp(column, "provenance") || !strcmp(column, "columns") || !strcmp(column, "rows");
}

static void put_json_row(const struct moe_table *table, size_t i, FILE *out)
{
    for (size_t j = 0; j < table->n_columns; j++) {
        fputs(j ? ", " : "[", out);
        put_json_cell(get_cell(table, i, j), out);
    }
    fputs(table->n_columns ? "]" : "[]", out);
}

enum moe_status moe_table_write_json(const struct moe_table *table, FILE *out, struct moe_err *err)
{
    if (begin(table, err))
        return MOE_ERR_MEMORY;
    fputs("{\n\"provenance\": {", out);
    for (size_t i = 0; i < table->n_notes; i++) {
        fputs(i ? ",\n  " : "\n  ", out);
        moe_json_text(table->notes[i].key, out);
        fputs(": ", out);
        moe_json_text(table->notes[i].value, out);
    }
    fputs("},\n", out);
    for (size_t j = 0; j < table->n_columns && table->n_rows == 1; j++) {
        if (is_reserved(table->columns[j]))
            continue;
        moe_json_text(table->columns[j], out);
        fputs(": ", out);
        put_json_cell(get_cell(table, 0, j), out);
        fputs(",\n", out);
    }
    fputs("\"columns\": [", out);
    for (size_t j = 0; j < table->n_columns; j++) {
        fputs(j ? ", " : "", out);
        moe_json_text(table->columns[j], out);
    }
    fputs("],\n\"rows\": [", out);
    for (size_t i = 0; i < table->n_rows; i++) {
        fputs(i ? ",\n  " : "\n  ", out);
        put_json_row(table, i, out);
    }
    fputs("]\n}\n", out);
    return finish(out, err);
}

/* Cell as it is shown to a reader; texts are not copied. */
static const char *show_cell(struct cell cell, char *buf, size_t size)
{
    switch (cell.kind) {
    case CELL_EMPTY:
        return "-";
    case CELL_U64:
        snprintf(buf, size, "%" PRIu64, cell.u64);
        return buf;
    case CELL_F64:
        if (isnan(cell.f64))
            return "-";
        /* From 1000 to a billion whole numbers read better than an exponent. */
        snprintf(buf, size, fabs(cell.f64) >= 1000 && fabs(cell.f64) < 1e9 ? "%.0f" : "%.4g",
                 cell.f64);
        return buf;
    case CELL_TEXT:
        break;
    }
    return cell.text;
}

static int shown_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void put_padded(const char *text, int width, int right, int last, FILE *out)
{
    int pad = width - shown_width(text);
    if (right)
        fprintf(out, "%*s%s", pad, "", text);
    else
        fprintf(out, "%s%*s", text, last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", out);
}

/* Width of a column, negative when a text in it makes it left-aligned. */
static int column_width(const struct moe_table *table, size_t j)
{
    char buf[40];
    int width = shown_width(table->columns[j]), text = 0;
    for (size_t i = 0; i < table->n_rows; i++) {
        struct cell cell = get_cell(table, i, j);
        int w = shown_width(show_cell(cell, buf, sizeof buf));
        width = w > width ? w : width;
        text |= cell.kind == CELL_TEXT;
    }
    return text ? -width : width;
}

/* One row of many columns reads better downwards: a line a column. */
static void put_downwards(const struct moe_table *table, FILE *out)
{
    char buf[40];
    size_t width = 0;
    for (size_t j = 0; j < table->n_columns; j++)
        if (strlen(table->columns[j]) > width)
            width = strlen(table->columns[j]);
    for (size_t j = 0; j < table->n_columns; j++)
        fprintf(out, "%-*s  %s\n", (int)width, table->columns[j],
                show_cell(get_cell(table, 0, j), buf, sizeof buf));
}

enum { WIDE_COLUMNS = 8 };

enum moe_status moe_table_write_text(const struct moe_table *table, FILE *out, struct moe_err *err)
{
    char buf[40];
    if (begin(table, err))
        return MOE_ERR_MEMORY;
    if (table->n_rows == 1 && table->n_columns > WIDE_COLUMNS) {
        put_downwards(table, out);
        return finish(out, err);
    }
    int *widths = calloc(table->n_columns + 1, sizeof *widths);
    if (!widths)
        return moe_fail_memory(err, "a result table");
    for (size_t j = 0; j < table->n_columns; j++) {
        widths[j] = column_width(table, j);
        put_padded(table->columns[j], abs(widths[j]), widths[j] > 0, j + 1 == table->n_columns,
                   out);
    }
    for (size_t i = 0; i < table->n_rows; i++)
        for (size_t j = 0; j < table->n_columns; j++)
            put_padded(show_cell(get_cell(table, i, j), buf, sizeof buf), abs(widths[j]),
                       widths[j] > 0, j + 1 == table->n_columns, out);
    free(widths);
    return finish(out, err);
}
