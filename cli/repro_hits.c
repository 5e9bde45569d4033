/* Fig. 6: hit rates, with static random beside its closed form; and recorded routing. */
#include "cli/output.h"
#include "cli/repro.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Simulated static random may differ from the closed form by so many percentage points. */
static const double closed_form_points = 1;

struct rates {
    double any, all; /* percent */
    size_t n;        /* rows */
};

/* Mean over the rows of a geometry and policy (static random: all its drawings). */
static struct rates mean_rates(const struct moe_tsv *tsv, const char *geometry, const char *policy)
{
    const char *conditions[] = {"geometry", geometry, "policy", policy, NULL};
    struct rates m = {0};
    for (size_t row = repro_find(tsv, 0, conditions); row < tsv->n_rows;
         row = repro_find(tsv, row + 1, conditions)) {
        m.any += repro_number(tsv, row, "any_hit_percent");
        m.all += repro_number(tsv, row, "all_hit_percent");
        m.n++;
    }
    m.any = m.n ? m.any / (double)m.n : NAN;
    m.all = m.n ? m.all / (double)m.n : NAN;
    return m;
}

/* Hit rates of a token with two different experts of E, when a random M of them are in slots. */
static struct rates closed_form(double ways, double experts)
{
    double none = (experts - ways) / experts * (experts - ways - 1) / (experts - 1);
    double both = ways / experts * (ways - 1) / (experts - 1);
    return (struct rates){.any = 100 * (1 - fmax(none, 0)), .all = 100 * both};
}

struct sums {
    struct moe_table *forms; /* simulated static random beside its closed form */
    double over_random, over_fifo, worst;
    size_t n;
};

static void add_policy(struct moe_table *table, const char *model, const char *geometry,
                       const char *policy, struct rates rates)
{
    moe_table_row(table);
    moe_table_text(table, "model", model);
    moe_table_text(table, "geometry", geometry);
    moe_table_text(table, "policy", policy);
    moe_table_f64(table, "any_hit_percent", rates.any);
    moe_table_f64(table, "all_hit_percent", rates.all);
}

/* Adds one geometry: the figure's rows, the closed form, and the differences. A pool for all
 * experts says nothing about a policy and is left out of the means. */
static void add_geometry(struct repro *r, struct moe_table *table, const struct moe_tsv *tsv,
                         const char *model, double experts, const char *geometry, struct sums *sums)
{
    const char *const policies[] = {"lru", "fifo", "paper-lru", "opt", "static:choose=random"};
    struct rates rates[5];
    const char *x = strchr(geometry, 'x');
    double ways = x ? strtod(x + 1, NULL) : NAN;
    struct rates form = closed_form(ways, experts);
    for (int i = 0; i < 5; i++) {
        rates[i] = mean_rates(tsv, geometry, policies[i]);
        add_policy(table, model, geometry, i == 4 ? "static random" : policies[i], rates[i]);
    }
    add_policy(table, model, geometry, "static random, closed form", form);
    moe_table_row(sums->forms);
    moe_table_text(sums->forms, "model", model);
    moe_table_text(sums->forms, "geometry", geometry);
    moe_table_f64(sums->forms, "any_hit_percent", rates[4].any);
    moe_table_f64(sums->forms, "any_hit_closed_form_percent", form.any);
    moe_table_f64(sums->forms, "all_hit_percent", rates[4].all);
    moe_table_f64(sums->forms, "all_hit_closed_form_percent", form.all);
    double off = fmax(fabs(rates[4].any - form.any), fabs(rates[4].all - form.all));
    repro_check(r, off <= closed_form_points,
                "static random at %s of %s is %.2f points off its closed form, %g are allowed",
                geometry, model, off, closed_form_points);
    sums->worst = fmax(sums->worst, off);
    if (!(ways < experts))
        return;
    sums->over_random += (rates[0].any - rates[4].any + rates[0].all - rates[4].all) / 2;
    sums->over_fifo += (rates[0].any - rates[1].any + rates[0].all - rates[1].all) / 2;
    sums->n++;
}

static enum moe_status add_model(struct repro *r, struct moe_table *table, struct moe_table *forms,
                                 const char *id, const char *stem, struct moe_err *err)
{
    const char *conditions[] = {"policy", "lru", NULL};
    struct moe_tsv tsv = {0};
    struct moe_model model = {0};
    struct sums sums = {.forms = forms};
    enum moe_status s = repro_sweep(r, stem, &tsv, err);
    if (!s)
        s = cli_load_model(repro_text(&tsv, 0, "model"), &model, err);
    if (s) {
        moe_tsv_release(&tsv);
        return s;
    }
    for (size_t row = repro_find(&tsv, 0, conditions); row < tsv.n_rows;
         row = repro_find(&tsv, row + 1, conditions))
        add_geometry(r, table, &tsv, id, (double)model.n_experts, repro_text(&tsv, row, "geometry"),
                     &sums);
    moe_tsv_release(&tsv);
    moe_table_note(table, id, "static random at most %.2f points off its closed form", sums.worst);
    double n = sums.n ? (double)sums.n : NAN;
    s = repro_obtain(r, err, "mean over geometries", sums.over_random / n,
                     "fig6.%s.lru_over_random", id);
    return s ? s
             : repro_obtain(r, err, "mean over geometries", sums.over_fifo / n,
                            "fig6.%s.lru_over_fifo", id);
}

enum moe_status repro_fig6(struct repro *r, struct moe_err *err)
{
    struct moe_table *table = repro_table(r), *forms = repro_table(r);
    enum moe_status s = add_model(r, table, forms, "mixtral", "fig6-mixtral", err);
    if (!s)
        s = add_model(r, table, forms, "phi", "fig6-phi", err);
    s = repro_write(r, table, s, "fig6", err);
    s = repro_write(r, forms, s, "fig6-closed-form", err);
    if (!s)
        s = repro_compare(r, "fig6", "fig6.", err);
    return s ? s : repro_plot(r, "fig6", "fig6", "Events with hits by geometry and policy", err);
}

enum moe_status repro_real(struct repro *r, struct moe_err *err)
{
    struct moe_tsv tsv = {0};
    enum moe_status s = repro_sweep(r, "real-traces", &tsv, err);
    struct moe_table *table = repro_table(r);
    for (size_t row = 0; !s && row < tsv.n_rows; row++) {
        const char *trace = repro_text(&tsv, row, "trace"), *slash = strrchr(trace, '/');
        char name[80];
        bool synthetic = strncmp(trace, "synth:", 6) == 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(slash ? slash + 1 : trace, "."),
                 slash ? slash + 1 : trace);
        if (strcmp(repro_text(&tsv, row, "policy"), "lru") == 0)
            moe_table_row(table);
        moe_table_text(table, "trace", synthetic ? "Mixtral-8x7B (SYNTHETIC)" : name);
        moe_table_text(table, "geometry", repro_text(&tsv, row, "geometry"));
        snprintf(name, sizeof name, "%s_hit_percent",
                 strchr(repro_text(&tsv, row, "policy"), ':') ? "static_random"
                                                              : repro_text(&tsv, row, "policy"));
        moe_table_f64(table, name, repro_number(&tsv, row, "hit_rate_percent"));
    }
    s = repro_write(r, table, s, "real", err);
    if (!s)
        s = repro_pairs(r, &tsv, err);
    moe_tsv_release(&tsv);
    return s;
}
