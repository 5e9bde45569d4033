#include "base/tsv.h"

#include "base/file.h"
#include "base/units.h"
#include "base/utf8.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file under way: lines are cut off in place. */
struct reader {
    const char *name;
    char *next, *end;
    size_t line; /* 1-based */
    struct moe_tsv *tsv;
    size_t room_notes, room_cells;
};

static enum moe_status fail(const struct reader *r, struct moe_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum moe_status fail(const struct reader *r, struct moe_err *err, const char *format, ...)
{
    char why[200];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return moe_fail(err, MOE_ERR_INPUT, "'%.250s':%zu: %s", r->name, r->line, why);
}

/* Room for n more items behind `used` of an array. */
static void *grow(void *items, size_t used, size_t n, size_t *room, size_t size)
{
    if (n <= *room - used)
        return items;
    size_t wanted = 2 * *room + n + 16;
    void *more = wanted < SIZE_MAX / size / 4 ? realloc(items, wanted * size) : NULL;
    if (more)
        *room = wanted;
    return more;
}

/* The next line, ended by NUL; NULL at the end. */
static enum moe_status next_line(struct reader *r, char **line, struct moe_err *err)
{
    *line = NULL;
    if (r->next == r->end)
        return MOE_OK;
    r->line++;
    size_t left = (size_t)(r->end - r->next);
    char *end = memchr(r->next, '\n', left);
    if (!end)
        return fail(r, err, "the last line has no line end: the file is cut short");
    size_t n = (size_t)(end - r->next);
    if (moe_utf8_prefix(r->next, n) < n)
        return fail(r, err, "byte %zu is not UTF-8", moe_utf8_prefix(r->next, n) + 1);
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)r->next[i] < ' ' && r->next[i] != '\t') || r->next[i] == 0x7f)
            return fail(r, err, "byte %zu is a control character (0x%02x)", i + 1,
                        (unsigned)r->next[i]);
    *end = 0;
    *line = r->next;
    r->next = end + 1;
    return MOE_OK;
}

static enum moe_status add_note(struct reader *r, char *line, struct moe_err *err)
{
    struct moe_tsv *t = r->tsv;
    struct moe_tsv_note *notes = grow(t->notes, t->n_notes, 1, &r->room_notes, sizeof *notes);
    if (!notes)
        return moe_fail_memory(err, "provenance");
    t->notes = notes;
    line += 1 + (line[1] == ' ');
    char *colon = strchr(line, ':');
    struct moe_tsv_note note = {"", line};
    if (colon) {
        *colon = 0;
        note = (struct moe_tsv_note){line, colon + 1 + (colon[1] == ' ')};
    }
    notes[t->n_notes++] = note;
    return MOE_OK;
}

static size_t count_fields(const char *line)
{
    size_t n = 1;
    for (; *line; line++)
        n += *line == '\t';
    return n;
}

/* The n fields of a line, each ended by NUL. */
static void split(char *line, const char **fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fields[i] = line;
        line += strcspn(line, "\t");
        if (*line)
            *line++ = 0;
    }
}

static enum moe_status read_columns(struct reader *r, char *line, struct moe_err *err)
{
    struct moe_tsv *t = r->tsv;
    size_t n = count_fields(line);
    if (n > MOE_TSV_MAX_COLUMNS)
        return fail(r, err, "%zu columns, at most %d are read", n, MOE_TSV_MAX_COLUMNS);
    t->columns = calloc(n, sizeof *t->columns);
    if (!t->columns)
        return moe_fail_memory(err, "columns");
    t->n_columns = n;
    split(line, t->columns, n);
    for (size_t j = 0; j < n; j++) {
        if (!*t->columns[j])
            return fail(r, err, "column %zu has no name", j + 1);
        for (size_t k = 0; k < j; k++)
            if (strcmp(t->columns[k], t->columns[j]) == 0)
                return fail(r, err, "columns %zu and %zu are both '%.60s'", k + 1, j + 1,
                            t->columns[j]);
    }
    return MOE_OK;
}

static enum moe_status read_row(struct reader *r, char *line, struct moe_err *err)
{
    struct moe_tsv *t = r->tsv;
    size_t n = count_fields(line), used = t->n_rows * t->n_columns;
    if (*line == '#' && (n == 1 || n != t->n_columns)) /* else a cell's text */
        return fail(r, err, "provenance must be above the column names, not below");
    if (n != t->n_columns)
        return fail(r, err, "line has %zu field%s, the header has %zu", n, moe_plural(n),
                    t->n_columns);
    const char **cells = grow(t->cells, used, n, &r->room_cells, sizeof *cells);
    if (!cells)
        return moe_fail_memory(err, "a table");
    t->cells = cells;
    split(line, cells + used, n);
    t->n_rows++;
    return MOE_OK;
}

static enum moe_status read_lines(struct reader *r, struct moe_err *err)
{
    for (;;) {
        char *line;
        enum moe_status s = next_line(r, &line, err);
        if (!s && !line)
            break;
        if (!s && r->tsv->columns)
            s = read_row(r, line, err);
        else if (!s && *line == '#')
            s = add_note(r, line, err);
        else if (!s)
            s = read_columns(r, line, err);
        if (s)
            return s;
    }
    if (!r->tsv->columns)
        return moe_fail(err, MOE_ERR_INPUT, "'%.300s' has no line with column names", r->name);
    return MOE_OK;
}

/* Takes text, a heap buffer of size bytes. */
static enum moe_status parse(const char *name, char *text, size_t size, struct moe_tsv *out,
                             struct moe_err *err)
{
    struct moe_tsv tsv = {.text = text};
    struct reader r = {.name = name, .next = text, .end = text + size, .tsv = &tsv};
    enum moe_status s = read_lines(&r, err);
    if (s)
        moe_tsv_release(&tsv);
    else
        *out = tsv;
    return s;
}

enum moe_status moe_tsv_parse(const char *name, const char *text, size_t size, struct moe_tsv *out,
                              struct moe_err *err)
{
    char *copy = malloc(size + 1);
    if (!copy)
        return moe_fail_memory(err, "a table");
    if (size)
        memcpy(copy, text, size);
    return parse(name, copy, size, out, err);
}

enum moe_status moe_tsv_load(const char *path, uint64_t max_bytes, struct moe_tsv *out,
                             struct moe_err *err)
{
    char *text;
    size_t size;
    enum moe_status s = moe_file_read(path, max_bytes, &text, &size, err);
    return s ? s : parse(path, text, size, out, err);
}

void moe_tsv_release(struct moe_tsv *tsv)
{
    free(tsv->notes);
    free(tsv->columns);
    free(tsv->cells);
    free(tsv->text);
    *tsv = (struct moe_tsv){0};
}

const char *moe_tsv_note(const struct moe_tsv *tsv, const char *key)
{
    for (size_t i = 0; i < tsv->n_notes; i++)
        if (strcmp(tsv->notes[i].key, key) == 0)
            return tsv->notes[i].value;
    return NULL;
}

size_t moe_tsv_column(const struct moe_tsv *tsv, const char *name)
{
    size_t j = 0;
    while (j < tsv->n_columns && strcmp(tsv->columns[j], name) != 0)
        j++;
    return j;
}

const char *moe_tsv_cell(const struct moe_tsv *tsv, size_t row, size_t column)
{
    return tsv->cells[row * tsv->n_columns + column];
}

bool moe_tsv_number(const char *cell, double *out)
{
    return moe_parse_f64(cell, -DBL_MAX, DBL_MAX, out, NULL) == MOE_OK;
}
