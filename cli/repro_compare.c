#include "cli/repro.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void add_published(struct moe_table *table, const struct moe_expected_value *e)
{
    char low[40], high[40], range[90];
    moe_format_f64(e->low, low, sizeof low);
    moe_format_f64(e->high, high, sizeof high);
    snprintf(range, sizeof range, "%s..%s", low, high);
    moe_table_text(table, "published", e->low < e->high ? range : low);
    moe_table_text(table, "unit", e->unit);
}

static const char *verdict_of(const struct moe_expected_value *e, double obtained)
{
    return isnan(obtained) ? "not obtained" : moe_expected_within(e, obtained) ? "within" : "off";
}

static void add_row(struct moe_table *table, const struct moe_expected_value *e,
                    const char *variant, double obtained)
{
    char tolerance[60];
    double error = moe_expected_error(e, obtained);
    error = fabs(error) < 1e-9 ? 0 : error; /* such errors come from rounding */
    bool tell =
        !moe_expected_within(e, obtained) || (e->relative && fabs(error) > REPRO_TOLD_PERCENT);
    snprintf(tolerance, sizeof tolerance, "%g %s", e->tolerance, e->relative ? "%" : "points");
    moe_table_row(table);
    moe_table_text(table, "id", e->id);
    moe_table_text(table, "variant", variant);
    add_published(table, e);
    moe_table_f64(table, "obtained", obtained);
    moe_table_f64(table, "error", error);
    moe_table_text(table, "error_unit", e->relative ? "%" : "points");
    moe_table_text(table, "tolerance", tolerance);
    moe_table_text(table, "verdict", verdict_of(e, obtained));
    moe_table_text(table, "kind", e->kind);
    moe_table_text(table, "where", e->where);
    moe_table_text(table, "cause", !tell ? "-" : *e->note ? e->note : "not known");
}

/* Only the first variant is the prediction that counts. */
static void count(struct repro *r, const struct moe_expected_value *e, double obtained)
{
    double error = moe_expected_error(e, obtained);
    bool within = moe_expected_within(e, obtained);
    r->n_compared++;
    r->n_within += within;
    repro_check(r, within || !e->must || isnan(obtained),
                "%s is %g %s, published %g, tolerance %g %s", e->id, obtained, e->unit, e->low,
                e->tolerance, e->relative ? "%" : "points");
    if (within || isnan(error))
        return;
    if (!*r->worst || fabs(error) > fabs(r->worst_error)) {
        snprintf(r->worst, sizeof r->worst, "%s", e->id);
        r->worst_error = error;
        r->worst_relative = e->relative;
    }
}

enum moe_status repro_compare(struct repro *r, const char *figure, const char *prefix,
                              struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    char stem[80];
    moe_table_note(table, "variant", "the first of an id is the prediction that counts");
    for (size_t i = 0; i < r->expected.n; i++) {
        const struct moe_expected_value *e = &r->expected.values[i];
        bool first = true;
        if (strncmp(e->id, prefix, strlen(prefix)) != 0)
            continue;
        for (size_t v = 0; v < r->n_values; v++) {
            if (strcmp(r->values[v].id, e->id) != 0)
                continue;
            add_row(table, e, r->values[v].variant, r->values[v].value);
            if (first)
                count(r, e, r->values[v].value);
            first = false;
        }
        if (first) {
            add_row(table, e, "-", NAN);
            count(r, e, NAN);
        }
    }
    snprintf(stem, sizeof stem, "compare-%s", figure);
    return repro_write(r, table, MOE_OK, stem, err);
}

void repro_tally_add(struct repro_tally *tally, const struct moe_expected_value *e, double value)
{
    double error = moe_expected_error(e, value);
    tally->worst = fabs(error) > fabs(tally->worst) ? error : tally->worst;
    tally->sum += fabs(error);
    tally->within += moe_expected_within(e, value);
    tally->n++;
}

void repro_tally_cells(const struct repro_tally *tally, struct moe_table *table)
{
    moe_table_u64(table, "published_values", tally->n);
    moe_table_u64(table, "within_tolerance", tally->within);
    moe_table_f64(table, "mean_error_percent", tally->n ? tally->sum / (double)tally->n : NAN);
    moe_table_f64(table, "largest_error_percent", tally->worst);
}
