#include "cli/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Units at the end of a column's name, longer ones first. */
static const struct {
    const char *suffix, *unit;
} units[] = {
    {"_ms_per_token", "ms per token"},
    {"_gb_per_token", "GB per token"},
    {"_tokens_per_s", "tokens/s"},
    {"_gb_per_s", "GB/s"},
    {"_per_token", "per token"},
    {"_per_s", "per s"},
    {"_percent", "%"},
    {"_bytes", "bytes"},
    {"_bits", "bits"},
    {"_gib", "GiB"},
    {"_mib", "MiB"},
    {"_gb", "GB"},
    {"_mb", "MB"},
    {"_ms", "ms"},
    {"_us", "us"},
    {"_ns", "ns"},
    {"_s", "s"},
    {"_w", "W"},
    {"_j", "J"},
};

/* Units of columns whose name is, or begins with, the word. */
static const struct {
    const char *name, *label, *unit;
} wholes[] = {
    {"tokens_per_s", "speed", "tokens/s"},
    {"ms_per_token", "time", "ms per token"},
    {"ms_p50", "time, p50", "ms"},
    {"ms_p95", "time, p95", "ms"},
    {"ms_p99", "time, p99", "ms"},
    {"j_per_token", "energy", "J per token"},
    {"gib", "size", "GiB"},
    {"gb", "size", "GB"},
};

void report_split_name(const char *column, char *label, char *unit, size_t size)
{
    size_t n = strlen(column);
    snprintf(label, size, "%s", column);
    snprintf(unit, size, "%s", "");
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        if (strcmp(column, wholes[i].name) == 0) {
            snprintf(label, size, "%s", wholes[i].label);
            snprintf(unit, size, "%s", wholes[i].unit);
            return;
        }
    }
    for (size_t i = 0; i < sizeof units / sizeof *units && !*unit; i++) {
        size_t k = strlen(units[i].suffix);
        if (n > k && strcmp(column + n - k, units[i].suffix) == 0) {
            snprintf(label, size, "%.*s", (int)(n - k), column);
            snprintf(unit, size, "%s", units[i].unit);
        }
    }
    for (char *c = label; *c; c++)
        if (*c == '_')
            *c = ' ';
}

const char *report_cell(const char *cell, char *buf, size_t size)
{
    double x;
    if (!*cell || strcmp(cell, "nan") == 0)
        return "\xe2\x80\x93";
    if (!moe_tsv_number(cell, &x) || !cell[strcspn(cell, ".eE")])
        return cell;
    snprintf(buf, size, fabs(x) >= 1000 && fabs(x) < 1e9 ? "%.0f" : "%.4g", x);
    return buf;
}

/* Only in sweeps does the column `status` say whether a point ran; in other tables it means
 * something else. */
bool report_row_ok(const struct report_table *table, size_t row)
{
    const struct moe_tsv *t = &table->tsv;
    size_t status = moe_tsv_column(t, "status");
    return status == t->n_columns || moe_tsv_column(t, "point") == t->n_columns ||
           strcmp(moe_tsv_cell(t, row, status), "ok") == 0;
}

const char *report_table_title(const struct report_table *table)
{
    const char *title = moe_tsv_note(&table->tsv, "title");
    return title && *title ? title : table->stem;
}

static bool is_numeric(const struct moe_tsv *t, size_t column)
{
    bool any = false;
    for (size_t i = 0; i < t->n_rows; i++) {
        double x;
        const char *cell = moe_tsv_cell(t, i, column);
        bool number = moe_tsv_number(cell, &x);
        if (!number && *cell && strcmp(cell, "nan") != 0)
            return false;
        any |= number;
    }
    return any;
}

static bool is_constant(const struct moe_tsv *t, size_t column)
{
    for (size_t i = 1; i < t->n_rows; i++)
        if (strcmp(moe_tsv_cell(t, i, column), moe_tsv_cell(t, 0, column)) != 0)
            return false;
    return t->n_rows > 1;
}

/* Where the numbers come from, by the second word of the command line, "moelab sim ...". */
static enum report_kind kind_of(const struct moe_tsv *t)
{
    static const struct {
        const char *command;
        enum report_kind kind;
    } commands[] = {
        {"sim", REPORT_SIMULATED},   {"sweep", REPORT_SIMULATED}, {"tune", REPORT_SIMULATED},
        {"run", REPORT_MEASURED},    {"bench", REPORT_MEASURED},  {"calibrate", REPORT_MEASURED},
        {"record", REPORT_MEASURED}, {"replay", REPORT_COUNTED},  {"mrc", REPORT_COUNTED},
        {"trace", REPORT_COUNTED},   {"repro", REPORT_SIMULATED}, {"whatif", REPORT_SIMULATED},
    };
    const char *command = moe_tsv_note(t, "command");
    bool timed = moe_tsv_column(t, "tokens_per_s") < t->n_columns;
    if (moe_tsv_note(t, "device"))
        return REPORT_MEASURED;
    if (!command && moe_tsv_note(t, "experiment"))
        return timed ? REPORT_SIMULATED : REPORT_COUNTED;
    if (!command)
        return REPORT_UNTOLD;
    const char *word = strchr(command, ' ');
    size_t n = word ? strcspn(++word, " ") : 0;
    for (size_t i = 0; n && i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].command) == n && strncmp(word, commands[i].command, n) == 0)
            return strcmp(commands[i].command, "repro") == 0 && !timed ? REPORT_UNTOLD
                                                                       : commands[i].kind;
    return REPORT_UNTOLD;
}

static bool is_synthetic(const struct moe_tsv *t)
{
    static const char *const names[] = {"routing", "synthetic"};
    for (size_t i = 0; i < t->n_notes; i++) {
        const struct moe_tsv_note *note = &t->notes[i];
        if (strstr(note->value, "SYNTHETIC") ||
            (strcmp(note->key, "synthetic") == 0 && strcmp(note->value, "yes") == 0))
            return true;
    }
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t column = moe_tsv_column(t, names[k]);
        for (size_t i = 0; column < t->n_columns && i < t->n_rows; i++) {
            const char *cell = moe_tsv_cell(t, i, column);
            if (strcmp(cell, "SYNTHETIC") == 0 || (k == 1 && strcmp(cell, "yes") == 0))
                return true;
        }
    }
    return false;
}

static bool is_lossy_row(const struct moe_tsv *t, size_t row)
{
    size_t column = moe_tsv_column(t, "lossy");
    return column < t->n_columns && strcmp(moe_tsv_cell(t, row, column), "no") != 0;
}

/* Is some row lossy? A sweep that merely allows lossy strategies is not. */
static bool is_lossy(const struct moe_tsv *t)
{
    for (size_t i = 0; i < t->n_rows; i++)
        if (is_lossy_row(t, i))
            return true;
    return false;
}

/* Does the row use a policy such as Belady's, which needs the future and cannot be built? */
static bool knows_the_future(const struct moe_tsv *t, size_t row)
{
    size_t policy = moe_tsv_column(t, "policy"), other = moe_tsv_column(t, "differences");
    return (policy < t->n_columns && strncmp(moe_tsv_cell(t, row, policy), "opt", 3) == 0) ||
           (other < t->n_columns && strstr(moe_tsv_cell(t, row, other), "policy=opt"));
}

/* Kinds of rows that do not compete with one another. */
enum league { LEAGUE_PLAIN, LEAGUE_LOSSY, LEAGUE_FUTURE };

static enum league league_of(const struct moe_tsv *t, size_t row)
{
    if (knows_the_future(t, row))
        return LEAGUE_FUTURE;
    return is_lossy_row(t, row) ? LEAGUE_LOSSY : LEAGUE_PLAIN;
}

/* The row with the largest value of one kind; n_rows: none. */
static size_t largest(const struct report_table *table, enum league league)
{
    const struct moe_tsv *t = &table->tsv;
    size_t best = t->n_rows;
    double x, most = 0;
    for (size_t i = 0; i < t->n_rows; i++) {
        if (!report_row_ok(table, i) || league_of(t, i) != league ||
            !moe_tsv_number(moe_tsv_cell(t, i, table->value), &x) ||
            (best < t->n_rows && x <= most))
            continue;
        most = x;
        best = i;
    }
    return best;
}

static double value_at(const struct report_table *table, size_t row)
{
    double x = -INFINITY;
    if (row < table->tsv.n_rows)
        moe_tsv_number(moe_tsv_cell(&table->tsv, row, table->value), &x);
    return x;
}

static void find_best(struct report_table *table)
{
    const struct moe_tsv *t = &table->tsv;
    table->value = moe_tsv_column(t, "tokens_per_s");
    if (table->value == t->n_columns)
        table->value = moe_tsv_column(t, "hit_rate_percent");
    table->best = table->faster = table->oracle = t->n_rows;
    for (size_t i = 0; i < t->n_rows; i++)
        table->n_failed += !report_row_ok(table, i);
    if (table->value == t->n_columns)
        return;
    table->best = largest(table, LEAGUE_PLAIN);
    table->faster = largest(table, LEAGUE_LOSSY);
    table->oracle = largest(table, LEAGUE_FUTURE);
    if (table->best == t->n_rows)
        table->best = table->faster;
    if (table->best == t->n_rows)
        table->best = table->oracle;
    if (value_at(table, table->faster) <= value_at(table, table->best))
        table->faster = t->n_rows;
    if (value_at(table, table->oracle) <= value_at(table, table->best))
        table->oracle = t->n_rows;
}

enum moe_status report_read_table(struct report_table *table, struct moe_err *err)
{
    const struct moe_tsv *t = &table->tsv;
    table->numeric = calloc(t->n_columns, sizeof *table->numeric);
    table->constant = calloc(t->n_columns, sizeof *table->constant);
    if (!table->numeric || !table->constant)
        return moe_fail_memory(err, "a report");
    for (size_t j = 0; j < t->n_columns; j++) {
        table->numeric[j] = is_numeric(t, j);
        table->constant[j] = is_constant(t, j);
    }
    table->kind = kind_of(t);
    table->synthetic = is_synthetic(t);
    table->lossy = is_lossy(t);
    find_best(table);
    return MOE_OK;
}
