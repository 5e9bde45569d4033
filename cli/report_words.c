#include "base/html.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

enum { VALUES_SHOWN = 8, NAME_MAX_BYTES = 200 };

/* The cell of the best row, or NULL. */
static const char *best_cell(const struct report_table *table, const char *column)
{
    size_t j = moe_tsv_column(&table->tsv, column);
    double x;
    const char *cell = j < table->tsv.n_columns && table->best < table->tsv.n_rows
                           ? moe_tsv_cell(&table->tsv, table->best, j)
                           : NULL;
    return cell && moe_tsv_number(cell, &x) ? cell : NULL;
}

static void put_number(const char *cell, FILE *out)
{
    char buf[40];
    moe_html_text(report_cell(cell, buf, sizeof buf), out);
}

/* Does the column say what was run? Those are the ones before the results, except counts, marks and
 * columns with a unit. */
static bool is_label(const struct report_table *table, size_t column)
{
    static const char *const marks[] = {"point", "status", "routing", "prefill_tokens",
                                        "decode_tokens"};
    const struct moe_tsv *t = &table->tsv;
    bool timed = strcmp(t->columns[table->value], "tokens_per_s") == 0;
    char label[NAME_MAX_BYTES], unit[NAME_MAX_BYTES];
    report_split_name(t->columns[column], label, unit, sizeof label);
    if (strcmp(t->columns[column], "lossy") == 0 && !table->lossy)
        return false;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strcmp(t->columns[column], marks[i]) == 0)
            return false;
    return column < table->value && !*unit && (timed || !table->numeric[column]);
}

/* The different cells of a column and how often each is there. */
struct values {
    const char *cell[VALUES_SHOWN];
    size_t count[VALUES_SHOWN], n;
    bool more; /* there are more than are kept */
};

static struct values count_values(const struct moe_tsv *t, size_t column)
{
    struct values v = {.n = 0};
    for (size_t i = 0; i < t->n_rows && !v.more; i++) {
        const char *cell = moe_tsv_cell(t, i, column);
        size_t k = 0;
        while (k < v.n && strcmp(v.cell[k], cell) != 0)
            k++;
        v.more = k == VALUES_SHOWN;
        if (k == v.n && !v.more)
            v.cell[v.n++] = cell;
        if (!v.more)
            v.count[k]++;
    }
    return v;
}

/* Writes "threads (1, 2, 4)", or only the number of values if there are many. */
static void put_values(const struct moe_tsv *t, size_t column, FILE *out)
{
    struct values v = count_values(t, column);
    moe_html_text(t->columns[column], out);
    if (v.more) {
        fprintf(out, " (more than %d values)", VALUES_SHOWN);
        return;
    }
    for (size_t k = 0; k < v.n; k++) {
        fputs(k ? ", " : " (", out);
        moe_html_text(v.cell[k], out);
    }
    fputc(')', out);
}

/* For tables with verdicts: how many rows got which, "; verdict: within (17), off (8)". */
void report_put_verdicts(const struct moe_tsv *t, FILE *out)
{
    size_t column = moe_tsv_column(t, "verdict");
    if (column == t->n_columns && moe_tsv_column(t, "point") == t->n_columns)
        column = moe_tsv_column(t, "status");
    if (column == t->n_columns)
        return;
    struct values v = count_values(t, column);
    for (size_t k = 0; k < v.n && !v.more; k++) {
        fputs(k ? ", " : "; <b>", out);
        moe_html_text(v.cell[k], out);
        if (t->n_rows > 1)
            fprintf(out, " (%zu)", v.count[k]);
    }
    fputs(v.n && !v.more ? "</b>" : "", out);
}

static bool is_one_of(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

/* "49 runs of mixtral-8x7b on paper-4090: strategy collab, policy lru." */
static void put_what(const struct report_table *table, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    size_t model = moe_tsv_column(t, "model"), platform = moe_tsv_column(t, "platform");
    bool timed = strcmp(t->columns[table->value], "tokens_per_s") == 0;
    const char *comma = ": ";
    fprintf(out, "%zu %s%s", t->n_rows, timed ? "run" : "row", moe_plural(t->n_rows));
    for (size_t k = 0; k < 2; k++) {
        size_t j = k ? platform : model;
        if (j < t->n_columns && (table->constant[j] || t->n_rows == 1) &&
            strcmp(moe_tsv_cell(t, 0, j), "-") != 0) {
            fputs(k ? " on <b>" : " of <b>", out);
            moe_html_text(moe_tsv_cell(t, 0, j), out);
            fputs("</b>", out);
        }
    }
    for (size_t j = 0; j < t->n_columns && t->n_rows; j++) {
        if (!is_label(table, j) || is_one_of(t->columns[j], "model", "platform") ||
            !(table->constant[j] || t->n_rows == 1))
            continue;
        fputs(comma, out);
        moe_html_text(t->columns[j], out);
        fputc(' ', out);
        moe_html_text(moe_tsv_cell(t, 0, j), out);
        comma = ", ";
    }
    fputs(". ", out);
    comma = "What varies: ";
    for (size_t j = 0; j < t->n_columns && t->n_rows > 1; j++) {
        if (!is_label(table, j) || table->constant[j])
            continue;
        fputs(comma, out);
        put_values(t, j, out);
        comma = ", ";
    }
    fputs(strcmp(comma, ", ") == 0 && t->n_rows > 1 ? ". " : "", out);
}

/* The number of rows as good as the best one. */
static size_t count_ties(const struct report_table *table)
{
    const struct moe_tsv *t = &table->tsv;
    const char *best = moe_tsv_cell(t, table->best, table->value);
    size_t n = 0;
    for (size_t i = 0; i < t->n_rows; i++)
        n += i != table->best && report_row_ok(table, i) &&
             strcmp(moe_tsv_cell(t, i, table->value), best) == 0;
    return n;
}

/* " with geometry 7x8, threads 24": where the row differs from others. */
static void put_where(const struct report_table *table, size_t row, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    const char *comma = " with ";
    for (size_t j = 0; j < t->n_columns; j++) {
        if (!is_label(table, j) || table->constant[j] || t->n_rows < 2 ||
            strcmp(moe_tsv_cell(t, row, j), "-") == 0)
            continue;
        fputs(comma, out);
        moe_html_text(t->columns[j], out);
        fputc(' ', out);
        moe_html_text(moe_tsv_cell(t, row, j), out);
        comma = ", ";
    }
}

static void put_bound(const struct report_table *table, FILE *out)
{
    const char *share = best_cell(table, "share_of_bound_percent");
    const char *bound = best_cell(table, "bound_ms_per_token");
    double ms = 0;
    char speed[40], buf[40];
    if (!share)
        return;
    fputs(" That is <b>", out);
    put_number(share, out);
    fputs("&nbsp;%</b> of the bound", out);
    if (bound && moe_tsv_number(bound, &ms) && ms > 0) {
        snprintf(speed, sizeof speed, "%.17g", 1000 / ms);
        fputs(" of ", out);
        moe_html_text(report_cell(speed, buf, sizeof buf), out);
        fputs("&nbsp;tokens/s, which no schedule with these slots can pass on this machine", out);
    }
    fputc('.', out);
}

static void put_times(const struct report_table *table, FILE *out)
{
    const char *mean = best_cell(table, "ms_per_token");
    const char *half = best_cell(table, "ms_p50"), *most = best_cell(table, "ms_p95");
    const char *joule = best_cell(table, "j_per_token");
    if (mean) {
        fputs(" A token takes ", out);
        put_number(mean, out);
        fputs("&nbsp;ms on average", out);
    }
    if (mean && half && most) {
        fputs("; half of them take at most ", out);
        put_number(half, out);
        fputs("&nbsp;ms, 95 of 100 at most ", out);
        put_number(most, out);
        fputs("&nbsp;ms", out);
    }
    if (mean && joule) {
        fputs("; ", out);
        put_number(joule, out);
        fputs("&nbsp;J each", out);
    }
    fputs(mean ? "." : "", out);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Smallest, largest, median of the ranking column. */
static void put_spread(const struct report_table *table, const char *unit, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    char buf[3][40], shown[3][40];
    size_t n = 0;
    double *x = t->n_rows > 1 ? calloc(t->n_rows, sizeof *x) : NULL;
    if (!x) /* one row has no spread */
        return;
    for (size_t i = 0; i < t->n_rows; i++)
        n += report_row_ok(table, i) && moe_tsv_number(moe_tsv_cell(t, i, table->value), &x[n]);
    if (n > 1) {
        qsort(x, n, sizeof *x, by_value);
        const double value[] = {x[0], x[n - 1], (x[n / 2] + x[(n - 1) / 2]) / 2};
        for (size_t k = 0; k < 3; k++)
            snprintf(buf[k], sizeof buf[k], "%.17g", value[k]);
        fprintf(out, " All %zu: %s to %s %s, median %s.", n,
                report_cell(buf[0], shown[0], sizeof shown[0]),
                report_cell(buf[1], shown[1], sizeof shown[1]), unit,
                report_cell(buf[2], shown[2], sizeof shown[2]));
    }
    free(x);
}

/* A row of another kind, where there is one. */
static void put_other(const struct report_table *table, const char *what, size_t row, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    if (row == t->n_rows)
        return;
    fprintf(out, " %s: <b>", what);
    put_number(moe_tsv_cell(t, row, table->value), out);
    fputs("</b>", out);
    put_where(table, row, out);
    fputc('.', out);
}

/* The result first, then what was run. */
void report_put_words(const struct report_table *table, FILE *out)
{
    const struct moe_tsv *t = &table->tsv;
    bool timed = strcmp(t->columns[table->value], "tokens_per_s") == 0;
    fputs("<p class=\"result\">", out);
    fputs(t->n_rows > 1 ? (timed ? "Fastest: " : "Most hits: ") : "", out);
    fputs("<b>", out);
    put_number(moe_tsv_cell(t, table->best, table->value), out);
    fputs(timed ? "</b>&nbsp;tokens/s" : "</b>&nbsp;%", out);
    put_where(table, table->best, out);
    size_t ties = count_ties(table);
    if (ties)
        fprintf(out, "; %zu other row%s no less", ties, ties == 1 ? " is" : "s are");
    fputc('.', out);
    put_other(table, "LOSSY, with another text", table->faster, out);
    put_other(table, "Knowing the future", table->oracle, out);
    fputs("</p>\n<p>", out);
    put_bound(table, out);
    put_times(table, out);
    put_spread(table, timed ? "tokens/s" : "%", out);
    fputs("</p>\n<p>", out);
    put_what(table, out);
    if (table->n_failed)
        fprintf(out, "<b>%zu of them could not run</b> (column status).", table->n_failed);
    fputs("</p>\n", out);
}
