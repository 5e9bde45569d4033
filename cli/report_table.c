#include "base/html.h"
#include "cli/report.h"

#include <string.h>

enum { NAME_MAX_BYTES = 200, LONG_TEXT = 40 /* bytes that still stand in one line */ };

/* Columns that have a bar behind the number. */
static bool has_bar(const struct moe_tsv *t, size_t column)
{
    return strcmp(t->columns[column], "tokens_per_s") == 0 ||
           strcmp(t->columns[column], "hit_rate_percent") == 0;
}

/* Is the column left out: the same in every row, or the row's identity, which says nothing to a
 * reader? */
static bool is_hidden(const struct report_table *table, size_t column)
{
    return table->constant[column] || strcmp(table->tsv.columns[column], "point") == 0;
}

static void put_name(const char *column, FILE *out)
{
    char label[NAME_MAX_BYTES], unit[NAME_MAX_BYTES];
    report_split_name(column, label, unit, sizeof label);
    moe_html_text(label, out);
    if (*unit) {
        fputs(" <span class=\"unit\">", out);
        moe_html_text(unit, out);
        fputs("</span>", out);
    }
}

static double largest(const struct moe_tsv *t, size_t column)
{
    double most = 0, x;
    for (size_t i = 0; i < t->n_rows; i++)
        if (moe_tsv_number(moe_tsv_cell(t, i, column), &x) && x > most)
            most = x;
    return most;
}

static void put_cell(const struct report_table *table, size_t row, size_t column, double most,
                     FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    const char *cell = moe_tsv_cell(t, row, column);
    char buf[40];
    double x = 0;
    const char *shown = report_cell(cell, buf, sizeof buf);
    bool bar = most > 0 && moe_tsv_number(cell, &x) && x >= 0;
    bool best = row == table->best && column == table->value && t->n_rows > 1;
    fputs("<td", out);
    if (!table->numeric[column] && strlen(cell) > LONG_TEXT)
        fputs(" class=\"long\"", out);
    if (table->numeric[column])
        fprintf(out, " class=\"n%s%s\"", bar ? " bar" : "", best ? " best" : "");
    if (bar)
        fprintf(out, " style=\"--share:%.1f%%\"", 100 * x / most);
    if (table->numeric[column] && strcmp(shown, cell) != 0) {
        fputs(" data-v=\"", out);
        moe_html_text(cell, out);
        fputc('"', out);
    }
    fputc('>', out);
    fputs(best ? "<span class=\"mark\">best</span> " : "", out);
    moe_html_text(shown, out);
    fputs("</td>", out);
}

static void put_rows(const struct report_table *table, size_t n_rows, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    double most[MOE_TSV_MAX_COLUMNS];
    for (size_t j = 0; j < t->n_columns; j++)
        most[j] = has_bar(t, j) ? largest(t, j) : 0;
    for (size_t i = 0; i < n_rows; i++) {
        fputs(report_row_ok(table, i) ? "<tr>" : "<tr class=\"failed\">", out);
        for (size_t j = 0; j < t->n_columns; j++)
            if (!is_hidden(table, j))
                put_cell(table, i, j, most[j], out);
        fputs("</tr>\n", out);
    }
}

static void put_grid(const struct report_table *table, size_t index, size_t n_rows, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    fprintf(out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"title-%zu\">\n"
            "<table class=\"sortable\"><caption>",
            index + 1);
    moe_html_text(table->file, out);
    fprintf(out, ": %zu of %zu row%s", n_rows, t->n_rows, t->n_rows == 1 ? "" : "s");
    if (n_rows < t->n_rows)
        fputs("; the others are in the file (option --max-rows)", out);
    fputs("</caption>\n<thead><tr>", out);
    for (size_t j = 0; j < t->n_columns; j++) {
        if (is_hidden(table, j))
            continue;
        fprintf(out, "<th scope=\"col\"%s title=\"", table->numeric[j] ? " class=\"n\"" : "");
        moe_html_text(t->columns[j], out);
        fputs("\">", out);
        put_name(t->columns[j], out);
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
    put_rows(table, n_rows, out);
    fputs("</tbody></table>\n</div>\n", out);
}

/* Writes columns as a list: all of them (for a table of one row), or those with the same cell in
 * every row. */
static void put_list(const struct report_table *table, bool all, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    char buf[40];
    fputs("<dl class=\"facts\">\n", out);
    for (size_t j = 0; j < t->n_columns; j++) {
        if (!all && !table->constant[j])
            continue;
        const char *cell = moe_tsv_cell(t, 0, j);
        fputs("<div><dt title=\"", out);
        moe_html_text(t->columns[j], out);
        fputs("\">", out);
        put_name(t->columns[j], out);
        fprintf(out, "</dt><dd%s>", table->numeric[j] ? " class=\"n\"" : "");
        moe_html_text(report_cell(cell, buf, sizeof buf), out);
        fputs("</dd></div>\n", out);
    }
    fputs("</dl>\n", out);
}

static void put_constants(const struct report_table *table, FILE *out)
{
    size_t n = 0;
    for (size_t j = 0; j < table->tsv.n_columns; j++)
        n += table->constant[j];
    if (n == 0)
        return;
    fprintf(out, "<details><summary>The same in every row: %zu column%s</summary>\n", n,
            n == 1 ? "" : "s");
    put_list(table, false, out);
    fputs("</details>\n", out);
}

static void put_provenance(const struct moe_tsv *t, FILE *out)
{
    if (t->n_notes == 0)
        return;
    fputs("<details><summary>Provenance</summary>\n<dl class=\"notes\">\n", out);
    for (size_t i = 0; i < t->n_notes; i++) {
        fputs("<div><dt>", out);
        moe_html_text(*t->notes[i].key ? t->notes[i].key : "remark", out);
        fputs("</dt><dd>", out);
        moe_html_text(t->notes[i].value, out);
        fputs("</dd></div>\n", out);
    }
    fputs("</dl></details>\n", out);
}

void report_put_table(const struct report *r, size_t index, FILE *out)
{
    const struct report_table *table = &r->tables[index];
    const struct moe_tsv *t = &table->tsv;
    size_t n_rows = t->n_rows < r->max_rows ? t->n_rows : r->max_rows;
    if (t->n_rows == 1)
        put_list(table, true, out);
    else
        put_grid(table, index, n_rows, out);
    put_constants(table, out);
    put_provenance(t, out);
}
