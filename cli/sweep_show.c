#include "cli/sweep_show.h"

#include "base/table.h"
#include "base/tsv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULT_MAX_BYTES = 1 << 30 };

struct row {
    size_t group, index; /* group: first row of the same model and platform */
    double rank;         /* NaN: none */
};

struct shown {
    struct moe_tsv tsv;
    size_t n, column[MOE_MAX_SHOWN];
    size_t rank; /* a column, or n_columns */
    struct row *rows;
};

static enum moe_status find_column(const struct moe_tsv *tsv, const char *name, size_t *out,
                                   struct moe_err *err)
{
    *out = moe_tsv_column(tsv, name);
    if (*out < tsv->n_columns)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_INPUT, "the result has no column '%s'", name);
}

static enum moe_status find_columns(const struct moe_experiment *x, struct shown *shown,
                                    struct moe_err *err)
{
    char name[64];
    enum moe_status s = MOE_OK;
    shown->rank = shown->tsv.n_columns;
    if (*x->rank)
        s = find_column(&shown->tsv, x->rank, &shown->rank, err);
    for (const char *at = x->show + strspn(x->show, ", "); !s && *at;) {
        size_t length = strcspn(at, ", ");
        snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), at);
        s = find_column(&shown->tsv, name, &shown->column[shown->n++], err);
        at += length;
        at += strspn(at, ", ");
    }
    return s;
}

static int in_order(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (isnan(x->rank) != isnan(y->rank))
        return isnan(x->rank) ? 1 : -1;
    if (x->rank > y->rank || x->rank < y->rank)
        return x->rank > y->rank ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static const char *cell_or_none(const struct moe_tsv *tsv, size_t row, const char *column)
{
    size_t j = moe_tsv_column(tsv, column);
    return j < tsv->n_columns ? moe_tsv_cell(tsv, row, j) : "";
}

static size_t group_of(const struct moe_tsv *tsv, size_t row)
{
    for (size_t i = 0; i < row; i++)
        if (strcmp(cell_or_none(tsv, i, "model"), cell_or_none(tsv, row, "model")) == 0 &&
            strcmp(cell_or_none(tsv, i, "platform"), cell_or_none(tsv, row, "platform")) == 0)
            return i;
    return row;
}

static enum moe_status sort_rows(struct shown *shown, struct moe_err *err)
{
    const struct moe_tsv *tsv = &shown->tsv;
    shown->rows = calloc(tsv->n_rows + 1, sizeof *shown->rows);
    if (!shown->rows)
        return moe_fail_memory(err, "a table of a result");
    for (size_t i = 0; i < tsv->n_rows; i++) {
        struct row *row = &shown->rows[i];
        *row = (struct row){group_of(tsv, i), i, NAN};
        if (shown->rank < tsv->n_columns &&
            !moe_tsv_number(moe_tsv_cell(tsv, i, shown->rank), &row->rank))
            row->rank = NAN;
    }
    qsort(shown->rows, tsv->n_rows, sizeof *shown->rows, in_order);
    return MOE_OK;
}

static enum moe_status print(const struct shown *shown, struct moe_err *err)
{
    const struct moe_tsv *tsv = &shown->tsv;
    struct moe_table *table = moe_table_new();
    for (size_t i = 0; i < tsv->n_rows; i++) {
        moe_table_row(table);
        for (size_t j = 0; j < shown->n; j++) {
            const char *name = tsv->columns[shown->column[j]];
            const char *cell = moe_tsv_cell(tsv, shown->rows[i].index, shown->column[j]);
            double number;
            if (moe_tsv_number(cell, &number))
                moe_table_f64(table, name, number);
            else
                moe_table_text(table, name, cell);
        }
    }
    enum moe_status s = moe_table_write_text(table, stdout, err);
    moe_table_free(table);
    return s;
}

enum moe_status cli_sweep_show(const struct moe_experiment *x, const char *path,
                               struct moe_err *err)
{
    struct shown shown = {0};
    if (!*x->show)
        return MOE_OK;
    enum moe_status s = moe_tsv_load(path, RESULT_MAX_BYTES, &shown.tsv, err);
    if (s)
        return s;
    s = find_columns(x, &shown, err);
    if (!s)
        s = sort_rows(&shown, err);
    if (!s)
        s = print(&shown, err);
    free(shown.rows);
    moe_tsv_release(&shown.tsv);
    return s;
}
