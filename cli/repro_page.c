/* paper-repro.md: experiments/paper/page.md with its directives replaced by rows of the tables.
 *
 * A line that begins with '@' is a directive:
 *     @table STEM COLUMNS [COLUMN=VALUE]   rows of STEM.tsv that have the value; "a,b=Title,c": the
 *                                          columns, each with the title that it gets; in titles
 *                                          and values '_' stands for a blank */
#include "cli/repro.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_MAX_BYTES = 1 << 20, MAX_COLUMNS = 16 };

struct column {
    char name[96], title[96];
};

struct columns {
    int n;
    struct column column[MAX_COLUMNS];
};

/* Four significant digits, integers whole; '|' would end a cell. */
static void print_cell(const char *cell, FILE *out)
{
    double value;
    if (moe_tsv_number(cell, &value) && strchr(cell, '.')) {
        if (fabs(value) >= 1000)
            fprintf(out, "%.0f", value);
        else
            fprintf(out, "%.4g", value);
        return;
    }
    for (const char *c = strcmp(cell, "nan") == 0 ? "-" : cell; *c; c++)
        fprintf(out, *c == '|' ? "\\|" : "%c", *c);
}

static void print_head(const struct columns *c, FILE *out)
{
    for (int i = 0; i < c->n; i++)
        fprintf(out, "| %s ", c->column[i].title);
    fprintf(out, "|\n");
    for (int i = 0; i < c->n; i++)
        fprintf(out, "|---");
    fprintf(out, "|\n");
}

static void print_row(const struct columns *c, const struct moe_tsv *tsv, size_t row, FILE *out)
{
    for (int i = 0; i < c->n; i++) {
        fprintf(out, "| ");
        print_cell(repro_text(tsv, row, c->column[i].name), out);
        fprintf(out, " ");
    }
    fprintf(out, "|\n");
}

/* "a,b=Title_of_b"; a title is the name where there is none, '_' stands for a blank. */
static enum moe_status parse_columns(const char *text, struct columns *out, struct moe_err *err)
{
    out->n = 0;
    while (*text) {
        size_t length = strcspn(text, ","), name = strcspn(text, ",=");
        size_t title = name < length ? name + 1 : 0;
        struct column *c = &out->column[out->n];
        if (out->n == MAX_COLUMNS || length >= sizeof c->title)
            return moe_fail(err, MOE_ERR_INPUT, "page: columns '%.40s': too many or too long",
                            text);
        snprintf(c->name, sizeof c->name, "%.*s", (int)name, text);
        snprintf(c->title, sizeof c->title, "%.*s", (int)(length - title), text + title);
        for (char *t = c->title; *t; t++)
            *t = *t == '_' ? ' ' : *t;
        out->n++;
        text += length + (text[length] == ',');
    }
    return MOE_OK;
}

static enum moe_status check_columns(const struct columns *c, const struct moe_tsv *tsv,
                                     const char *stem, struct moe_err *err)
{
    for (int i = 0; i < c->n; i++)
        if (moe_tsv_column(tsv, c->column[i].name) == tsv->n_columns)
            return moe_fail(err, MOE_ERR_INPUT, "page: '%s.tsv' has no column '%s'", stem,
                            c->column[i].name);
    return MOE_OK;
}

/* '_' in the value stands for itself or a blank. */
static bool matches(const char *text, const char *value)
{
    while (*text && (*text == *value || (*text == ' ' && *value == '_'))) {
        text++;
        value++;
    }
    return !*text && !*value;
}

static enum moe_status print_table(const struct repro *r, char *words, FILE *out,
                                   struct moe_err *err)
{
    char *save = NULL;
    const char *stem = strtok_r(words, " ", &save), *columns = strtok_r(NULL, " ", &save);
    char *condition = strtok_r(NULL, " ", &save);
    struct moe_tsv tsv = {0};
    struct columns c;
    if (!stem || !columns)
        return moe_fail(err, MOE_ERR_INPUT, "page: @table needs a stem and columns");
    char *value = condition ? strchr(condition, '=') : NULL;
    if (value)
        *value++ = 0;
    enum moe_status s = parse_columns(columns, &c, err);
    if (!s)
        s = repro_load(r, stem, &tsv, err);
    if (!s)
        s = check_columns(&c, &tsv, stem, err);
    if (!s)
        print_head(&c, out);
    for (size_t row = 0; !s && row < tsv.n_rows; row++)
        if (!value || matches(repro_text(&tsv, row, condition), value))
            print_row(&c, &tsv, row, out);
    moe_tsv_release(&tsv);
    return s;
}

static enum moe_status print_line(const struct repro *r, char *line, FILE *out, struct moe_err *err)
{
    if (strncmp(line, "@table ", 7) == 0)
        return print_table(r, line + 7, out, err);
    if (*line == '@')
        return moe_fail(err, MOE_ERR_INPUT, "page: unknown directive '%.40s'", line);
    fprintf(out, "%s\n", line);
    return MOE_OK;
}

static enum moe_status load_template(char **out, struct moe_err *err)
{
    char folder[CLI_PATH_MAX], path[CLI_PATH_MAX + 40];
    size_t size;
    enum moe_status s = moe_find_folder("experiments", folder, sizeof folder, err);
    if (s)
        return s;
    snprintf(path, sizeof path, "%s/paper/page.md", folder);
    return moe_file_read(path, TEMPLATE_MAX_BYTES, out, &size, err);
}

enum moe_status repro_page(const struct repro *r, struct moe_err *err)
{
    char path[CLI_PATH_MAX + 80], *text = NULL;
    struct moe_output out;
    enum moe_status s = load_template(&text, err);
    if (s)
        return s;
    s = moe_output_create(&out, repro_path(r, "paper-repro", ".md", path, sizeof path), err);
    if (s) {
        free(text);
        return s;
    }
    for (char *line = text; !s && *line;) {
        size_t n = strcspn(line, "\n");
        bool last = line[n] == 0;
        line[n] = 0;
        s = print_line(r, line, out.stream, err);
        line += n + !last;
    }
    free(text);
    return moe_output_end(&out, s, err);
}
