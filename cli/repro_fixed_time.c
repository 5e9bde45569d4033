/* How far the best values of Fig. 5 depend on the framework's fixed time, which the paper's tables
 * only bound. */
#include "cli/repro.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TIMES = 8 };

static const char column[] = "platform.gpu.layer_overhead_us";

/* The different values, in the file's order. */
static size_t list_times(const struct moe_tsv *tsv, const char *times[MAX_TIMES])
{
    size_t n = 0;
    for (size_t row = 0; row < tsv->n_rows && n < MAX_TIMES; row++) {
        const char *value = repro_text(tsv, row, column);
        size_t i = 0;
        while (i < n && strcmp(times[i], value) != 0)
            i++;
        if (i == n && *value)
            times[n++] = value;
    }
    return n;
}

/* Compares the best geometry for each number of threads with the published value; returns the
 * host's time of a token. */
static double tally_model(const struct repro *r, const struct moe_tsv *tsv,
                          const struct repro_model *m, const char *time, struct repro_tally *tally)
{
    double ms = NAN;
    for (const char *const *t = repro_threads; *t; t++) {
        const char *conditions[] = {"model", m->model, "threads", *t, column, time, NULL};
        size_t row = repro_fastest(tsv, conditions);
        char id[REPRO_ID_MAX];
        snprintf(id, sizeof id, "fig5.%s.best.%s", m->id, *t);
        const struct moe_expected_value *e = moe_expected_find(&r->expected, id);
        if (e && row < tsv->n_rows)
            repro_tally_add(tally, e, repro_number(tsv, row, "tokens_per_s"));
        ms = repro_number(tsv, row, "host_ms_per_token");
    }
    return ms;
}

enum moe_status repro_fixed_time(struct repro *r, struct moe_err *err)
{
    const char *times[MAX_TIMES];
    struct moe_tsv tsv = {0};
    enum moe_status s = repro_sweep(r, "fig5-fixed-time", &tsv, err);
    struct moe_table *table = repro_table(r);
    size_t n = s ? 0 : list_times(&tsv, times);
    for (size_t i = 0; i < n; i++) {
        struct repro_tally both = {0};
        double ms = tally_model(r, &tsv, &repro_models[0], times[i], &both);
        tally_model(r, &tsv, &repro_models[1], times[i], &both);
        moe_table_row(table);
        moe_table_text(table, "layer_overhead_us", times[i]);
        moe_table_f64(table, "host_ms_per_token", ms);
        repro_tally_cells(&both, table);
    }
    moe_tsv_release(&tsv);
    return repro_write(r, table, s, "fig5-fixed-time-best", err);
}
