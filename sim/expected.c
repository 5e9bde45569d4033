#include "sim/expected.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 20 };

enum column { ID, LOW, HIGH, UNIT, TOLERANCE, TOLERANCE_UNIT, CHECK, KIND, WHERE, NOTE, N_COLUMNS };
static const char *const column_names[N_COLUMNS] = {
    "id", "low", "high", "unit", "tolerance", "tolerance_unit", "check", "kind", "where", "note"};

struct reader {
    const char *name;
    struct moe_expected *out;
    size_t at[N_COLUMNS];
};

static const char *cell(const struct reader *r, size_t row, enum column c)
{
    return moe_tsv_cell(&r->out->file, row, r->at[c]);
}

static enum moe_status find_columns(struct reader *r, struct moe_err *err)
{
    for (int c = 0; c < N_COLUMNS; c++) {
        r->at[c] = moe_tsv_column(&r->out->file, column_names[c]);
        if (r->at[c] == r->out->file.n_columns)
            return moe_fail(err, MOE_ERR_INPUT, "'%s' has no column '%s'", r->name,
                            column_names[c]);
    }
    return MOE_OK;
}

/* Index of the cell's text in two words, or an error. */
static enum moe_status read_word(const struct reader *r, size_t row, enum column c,
                                 const char *first, const char *second, bool *is_first,
                                 struct moe_err *err)
{
    const char *text = cell(r, row, c);
    *is_first = strcmp(text, first) == 0;
    if (*is_first || strcmp(text, second) == 0)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s': %s '%s' is neither '%s' nor '%s'", r->name,
                    cell(r, row, ID), column_names[c], text, first, second);
}

static enum moe_status read_number(const struct reader *r, size_t row, enum column c, double *out,
                                   struct moe_err *err)
{
    if (moe_tsv_number(cell(r, row, c), out))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s': %s '%s' is not a number", r->name,
                    cell(r, row, ID), column_names[c], cell(r, row, c));
}

static enum moe_status check_value(const struct reader *r, const struct moe_expected_value *v,
                                   struct moe_err *err)
{
    if (v->low > v->high)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s': low %g is above high %g", r->name, v->id,
                        v->low, v->high);
    if (v->tolerance < 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s': tolerance %g is below 0", r->name, v->id,
                        v->tolerance);
    if (v->relative && (v->low <= 0))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s': a tolerance in percent of %g: use points",
                        r->name, v->id, v->low);
    if (strcmp(v->kind, "stated") != 0 && strcmp(v->kind, "derived") != 0 &&
        strcmp(v->kind, "input") != 0)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': '%s': kind '%s' is not one of stated, derived, input", r->name,
                        v->id, v->kind);
    if (moe_expected_find(r->out, v->id))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': '%s' is there twice", r->name, v->id);
    return MOE_OK;
}

static enum moe_status read_row(const struct reader *r, size_t row, struct moe_err *err)
{
    const char *note = cell(r, row, NOTE);
    struct moe_expected_value v = {.id = cell(r, row, ID),
                                   .unit = cell(r, row, UNIT),
                                   .kind = cell(r, row, KIND),
                                   .where = cell(r, row, WHERE),
                                   .note = strcmp(note, "-") == 0 ? "" : note};
    enum moe_status s = read_number(r, row, LOW, &v.low, err);
    if (!s)
        s = read_number(r, row, HIGH, &v.high, err);
    if (!s)
        s = read_number(r, row, TOLERANCE, &v.tolerance, err);
    if (!s)
        s = read_word(r, row, TOLERANCE_UNIT, "%", "points", &v.relative, err);
    if (!s)
        s = read_word(r, row, CHECK, "must", "report", &v.must, err);
    if (!s)
        s = check_value(r, &v, err);
    if (!s)
        r->out->values[r->out->n++] = v;
    return s;
}

/* Takes over expected->file, which is released with it. */
static enum moe_status read_file(const char *name, struct moe_expected *out, struct moe_err *err)
{
    struct reader r = {.name = name, .out = out};
    enum moe_status s = find_columns(&r, err);
    out->values = s ? NULL : calloc(out->file.n_rows + 1, sizeof *out->values);
    if (!s && !out->values)
        s = moe_fail_memory(err, "published values");
    for (size_t row = 0; !s && row < out->file.n_rows; row++)
        s = read_row(&r, row, err);
    if (s)
        moe_expected_release(out);
    return s;
}

enum moe_status moe_expected_parse(const char *name, const char *text, size_t size,
                                   struct moe_expected *out, struct moe_err *err)
{
    struct moe_expected read = {0};
    enum moe_status s = moe_tsv_parse(name, text, size, &read.file, err);
    if (!s)
        s = read_file(name, &read, err);
    if (!s)
        *out = read;
    return s;
}

enum moe_status moe_expected_load(const char *path, struct moe_expected *out, struct moe_err *err)
{
    struct moe_expected read = {0};
    enum moe_status s = moe_tsv_load(path, FILE_MAX_BYTES, &read.file, err);
    if (!s)
        s = read_file(path, &read, err);
    if (!s)
        *out = read;
    return s;
}

void moe_expected_release(struct moe_expected *expected)
{
    moe_tsv_release(&expected->file);
    free(expected->values);
    *expected = (struct moe_expected){0};
}

const struct moe_expected_value *moe_expected_find(const struct moe_expected *expected,
                                                   const char *id)
{
    for (size_t i = 0; i < expected->n; i++)
        if (strcmp(expected->values[i].id, id) == 0)
            return &expected->values[i];
    return NULL;
}

double moe_expected_error(const struct moe_expected_value *value, double obtained)
{
    double end = obtained < value->low ? value->low : obtained > value->high ? value->high : NAN;
    if (isnan(obtained))
        return NAN;
    if (isnan(end))
        return 0;
    return value->relative ? 100 * (obtained - end) / end : obtained - end;
}

bool moe_expected_within(const struct moe_expected_value *value, double obtained)
{
    /* Room for the rounding of a difference of two decimal numbers. */
    return fabs(moe_expected_error(value, obtained)) <= value->tolerance * (1 + 1e-12) + 1e-9;
}
