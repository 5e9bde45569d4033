/* Figs. 3 and 5: tokens per second. */
#include "cli/repro.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct repro_model repro_models[2] = {
    {"mixtral",
     "mixtral-8x7b",
     "fig5-mixtral",
     {{"text", "collab", ""}, {"code", "collab-reference", ""}}},
    {"phi",
     "phi-3.5-moe",
     "fig5-phi",
     {{"text, medium locality", "collab", "repeat=0.5"},
      {"text, low", "collab", "repeat=0.3"},
      {"text, high", "collab", "repeat=0.7"},
      {"code, medium locality", "collab-reference", "repeat=0.5"},
      {"code, low", "collab-reference", "repeat=0.3"},
      {"code, high", "collab-reference", "repeat=0.7"}}},
};

size_t repro_fig5_best(const struct moe_tsv *tsv, const char *const *variant, const char *threads)
{
    const char *conditions[] = {"strategy", variant[1], "threads", threads,
                                "trace",    variant[2], NULL};
    return repro_fastest(tsv, conditions);
}

static double cpu_only(const struct moe_tsv *tsv, const char *const *variant, const char *threads)
{
    const char *conditions[] = {"strategy", variant[1], "threads", threads, "trace",
                                variant[2], "geometry", "none",    NULL};
    return repro_number(tsv, repro_find(tsv, 0, conditions), "tokens_per_s");
}

static double strategy_speed(const struct moe_tsv *tsv, const char *strategy)
{
    const char *conditions[] = {"strategy", strategy, NULL};
    return repro_number(tsv, repro_fastest(tsv, conditions), "tokens_per_s");
}

/* Smallest number of threads with which CPU only is faster than the limit; NaN: never. */
static double passes(const struct moe_tsv *tsv, const char *const *variant, double limit)
{
    for (const char *const *t = repro_threads; *t; t++)
        if (cpu_only(tsv, variant, *t) > limit)
            return strtod(*t, NULL);
    return NAN;
}

static enum moe_status obtain_bests(struct repro *r, const struct repro_model *m,
                                    const struct moe_tsv *tsv, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (const char *const(*v)[3] = m->variants; !s && (*v)[0]; v++)
        for (const char *const *t = repro_threads; !s && *t; t++) {
            size_t row = repro_fig5_best(tsv, *v, *t);
            s = repro_obtain(r, err, (*v)[0], repro_number(tsv, row, "tokens_per_s"),
                             "fig5.%s.best.%s", m->id, *t);
        }
    return s;
}

/* Records the ratios that the paper's text states, computed from one variant's rows. */
static enum moe_status obtain_ratios(struct repro *r, const struct repro_model *m,
                                     const char *const *v, const struct moe_tsv *tsv,
                                     struct moe_err *err)
{
    double least = INFINITY, most = -INFINITY, best[REPRO_N_THREADS];
    double prefetch = strategy_speed(tsv, "pre-gated-ideal");
    for (int i = 0; i < REPRO_N_THREADS; i++) {
        size_t row = repro_fig5_best(tsv, v, repro_threads[i]);
        best[i] = repro_number(tsv, row, "tokens_per_s");
        double gain = 100 * (best[i] / cpu_only(tsv, v, repro_threads[i]) - 1);
        least = fmin(least, gain);
        most = fmax(most, gain);
    }
    const struct {
        const char *what;
        double value;
    } values[] = {
        {"prefetch", prefetch},
        {"gain_least", least},
        {"gain_most", most},
        {"over_fiddler", best[REPRO_MOST_THREADS] / strategy_speed(tsv, "fiddler")},
        {"cpu_only_passes_prefetch", passes(tsv, v, prefetch)},
        {"over_prefetch", best[REPRO_MOST_THREADS] / prefetch},
        {"one_core_over_prefetch", 100 * (best[0] / prefetch - 1)},
    };
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof values / sizeof *values; i++)
        s = repro_obtain(r, err, v[0], values[i].value, "fig5.%s.%s", m->id, values[i].what);
    return s;
}

static enum moe_status obtain_ceiling(struct repro *r, const struct moe_tsv *tsv,
                                      struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (const char *const(*v)[3] = repro_models[0].variants; !s && (*v)[0]; v++) {
        const char *conditions[] = {"strategy", (*v)[1], "geometry", "29x2", NULL};
        size_t row = repro_fastest(tsv, conditions);
        s = repro_obtain(r, err, (*v)[0], repro_number(tsv, row, "tokens_per_s"),
                         "fig5.mixtral.ceiling_29x2");
    }
    return s;
}

/* Is Fig. 5 consistent with Table III? A token takes a fixed time and, while no copy is waited for,
 * a time proportional to that of one expert on the CPU: so one published value gives what the same
 * cache does at another number of threads. Only published values and the fixed time enter. */
struct consistency {
    double fixed_ms; /* of the platform: what CPU only takes beside its experts */
    double expert_ms[REPRO_N_THREADS], best[REPRO_N_THREADS];
};

static double published(const struct repro *r, const char *format, const char *model,
                        const char *threads)
{
    char id[REPRO_ID_MAX];
    int n = snprintf(id, sizeof id, format, model);
    snprintf(id + n, sizeof id - (size_t)n, "%s", threads);
    const struct moe_expected_value *e = moe_expected_find(&r->expected, id);
    return e ? e->low : NAN;
}

static double scaled(const struct consistency *c, int from, int to)
{
    double rest = 1000 / c->best[from] - c->fixed_ms;
    return 1000 / (c->fixed_ms + rest * c->expert_ms[to] / c->expert_ms[from]);
}

static void read_consistency(const struct repro *r, const struct repro_model *m,
                             const struct moe_tsv *tsv, struct consistency *c)
{
    const char *none[] = {"strategy", "collab", "geometry", "none", NULL};
    size_t row = repro_find(tsv, 0, none);
    c->fixed_ms =
        repro_number(tsv, row, "host_ms_per_token") + repro_number(tsv, row, "gpu_ms_per_token");
    for (int i = 0; i < REPRO_N_THREADS; i++) {
        c->expert_ms[i] = published(r, "tab3.%s.cpu.", m->id, repro_threads[i]) +
                          published(r, "tab3.%s.state", m->id, "");
        c->best[i] = published(r, "fig5.%s.best.", m->id, repro_threads[i]);
    }
}

static void add_consistency(const struct repro *r, const struct repro_model *m,
                            const struct moe_tsv *tsv, struct moe_table *table)
{
    struct consistency c;
    read_consistency(r, m, tsv, &c);
    for (int i = 0; i < REPRO_N_THREADS; i++) {
        moe_table_row(table);
        moe_table_text(table, "model", m->model);
        moe_table_text(table, "threads", repro_threads[i]);
        moe_table_f64(table, "published_tokens_per_s", c.best[i]);
        moe_table_f64(table, "from_the_24_thread_value", scaled(&c, REPRO_MOST_THREADS, i));
        moe_table_f64(table, "same_cache_at_24_threads", scaled(&c, i, REPRO_MOST_THREADS));
        moe_table_f64(table, "published_at_24_threads", c.best[REPRO_MOST_THREADS]);
        moe_table_f64(table, "fixed_ms_per_token", c.fixed_ms);
    }
}

/* The hit rate that a published value would need in each geometry, compared with the simulated one:
 * B = 2 L c - 2 N h (c - g) with c, g an expert's time on CPU and GPU, B the token's time less the
 * fixed one, h the hit rate of the N layers with slots. */
static void add_needed(const struct repro *r, const struct repro_model *m,
                       const struct moe_tsv *tsv, const struct moe_tsv *hits_of,
                       struct moe_table *table)
{
    struct consistency c;
    read_consistency(r, m, tsv, &c);
    for (int i = 0; i < REPRO_N_THREADS; i++) {
        const char *rows[] = {"strategy", "collab",          "threads", repro_threads[i],
                              "trace",    m->variants[0][2], NULL};
        for (size_t row = repro_find(tsv, 0, rows); row < tsv->n_rows;
             row = repro_find(tsv, row + 1, rows)) {
            double uses = repro_number(tsv, row, "cpu_experts_per_token") +
                          repro_number(tsv, row, "gpu_experts_per_token");
            double covered =
                repro_number(tsv, row, "lookups") / repro_number(tsv, row, "decode_tokens");
            double cpu = c.expert_ms[i] * 0.5;
            double hits = (uses * cpu - (1000 / c.best[i] - c.fixed_ms)) / cpu;
            if (covered < 1)
                continue;
            moe_table_row(table);
            moe_table_text(table, "model", m->model);
            moe_table_text(table, "threads", repro_threads[i]);
            moe_table_text(table, "geometry", repro_text(tsv, row, "geometry"));
            moe_table_f64(table, "published_best_tokens_per_s", c.best[i]);
            moe_table_f64(table, "needed_hit_rate_percent", 100 * hits / covered);
            moe_table_f64(table, "simulated_hit_rate_percent",
                          repro_number(tsv, row, "hit_rate_percent"));
            const char *opt[] = {"geometry", repro_text(tsv, row, "geometry"), "policy", "opt",
                                 NULL};
            moe_table_f64(table, "hit_rate_percent_of_opt",
                          repro_number(hits_of, repro_find(hits_of, 0, opt), "hit_rate_percent"));
        }
    }
}

static enum moe_status write_consistency(const struct repro *r, const struct moe_tsv tsv[2],
                                         struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    for (int m = 0; m < 2; m++)
        add_consistency(r, &repro_models[m], &tsv[m], table);
    return repro_write(r, table, MOE_OK, "fig5-consistency", err);
}

/* Counts how many of a model's best values the variant predicts within the tolerance. */
static void tally_bests(const struct repro *r, const struct repro_model *m, const char *variant,
                        struct repro_tally *tally)
{
    char prefix[REPRO_ID_MAX];
    int length = snprintf(prefix, sizeof prefix, "fig5.%s.best.", m->id);
    for (size_t i = 0; i < r->n_values; i++) {
        const struct repro_value *v = &r->values[i];
        const struct moe_expected_value *e = moe_expected_find(&r->expected, v->id);
        if (e && strcmp(v->variant, variant) == 0 && strncmp(v->id, prefix, (size_t)length) == 0)
            repro_tally_add(tally, e, v->value);
    }
}

static void add_summary(const char *model, const char *variant, const struct repro_tally *tally,
                        struct moe_table *table)
{
    moe_table_row(table);
    moe_table_text(table, "model", model);
    moe_table_text(table, "variant", variant);
    repro_tally_cells(tally, table);
}

/* Adds a published best value, the values of text and code with the predicted routing, and the
 * range over all variants. */
static void add_best(const struct repro *r, const struct repro_model *m, const char *threads,
                     struct moe_table *table)
{
    char id[REPRO_ID_MAX];
    snprintf(id, sizeof id, "fig5.%s.best.%s", m->id, threads);
    const struct moe_expected_value *e = moe_expected_find(&r->expected, id);
    double text = NAN, code = NAN, least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < r->n_values; i++) {
        const struct repro_value *v = &r->values[i];
        if (strcmp(v->id, id) != 0)
            continue;
        text = isnan(text) ? v->value : text;
        if (isnan(code) && strncmp(v->variant, "code", 4) == 0)
            code = v->value;
        least = fmin(least, v->value);
        most = fmax(most, v->value);
    }
    if (!e)
        return;
    bool tell = fabs(moe_expected_error(e, text)) > REPRO_TOLD_PERCENT ||
                fabs(moe_expected_error(e, code)) > REPRO_TOLD_PERCENT;
    moe_table_row(table);
    moe_table_text(table, "model", m->model);
    moe_table_text(table, "threads", threads);
    moe_table_f64(table, "published", e->low);
    moe_table_f64(table, "text", text);
    moe_table_f64(table, "text_error_percent", moe_expected_error(e, text));
    moe_table_f64(table, "code", code);
    moe_table_f64(table, "code_error_percent", moe_expected_error(e, code));
    moe_table_f64(table, "lowest", least);
    moe_table_f64(table, "highest", most);
    moe_table_text(table, "cause", tell ? e->note : "-");
}

static enum moe_status write_bests(const struct repro *r, struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    for (int m = 0; m < 2; m++)
        for (const char *const *t = repro_threads; *t; t++)
            add_best(r, &repro_models[m], *t, table);
    return repro_write(r, table, MOE_OK, "fig5-best", err);
}

static enum moe_status write_summary(const struct repro *r, struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    struct repro_tally both = {0};
    for (int m = 0; m < 2; m++)
        tally_bests(r, &repro_models[m], repro_models[m].variants[0][0], &both);
    add_summary("both", "the prediction: text, Phi with medium locality", &both, table);
    for (int m = 0; m < 2; m++)
        for (const char *const(*v)[3] = repro_models[m].variants; (*v)[0]; v++) {
            struct repro_tally tally = {0};
            tally_bests(r, &repro_models[m], (*v)[0], &tally);
            add_summary(repro_models[m].model, (*v)[0], &tally, table);
        }
    return repro_write(r, table, MOE_OK, "fig5-summary", err);
}

static enum moe_status write_needed(struct repro *r, const struct moe_tsv tsv[2],
                                    struct moe_err *err)
{
    static const char *const stems[] = {"fig6-mixtral", "fig6-phi"};
    struct moe_table *table = repro_table(r);
    enum moe_status s = MOE_OK;
    for (int m = 0; !s && m < 2; m++) {
        struct moe_tsv hits = {0};
        s = repro_sweep(r, stems[m], &hits, err);
        if (!s)
            add_needed(r, &repro_models[m], &tsv[m], &hits, table);
        moe_tsv_release(&hits);
    }
    return repro_write(r, table, s, "fig5-needed-hits", err);
}

static enum moe_status draw(struct repro *r, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (int m = 0; !s && m < 2; m++) {
        struct moe_experiment x;
        s = repro_experiment(r, repro_models[m].stem, &x, err);
        if (s)
            return s;
        s = repro_plot(r, "fig5", repro_models[m].stem, x.title, err);
        moe_experiment_release(&x);
    }
    return s;
}

enum moe_status repro_fig5(struct repro *r, struct moe_err *err)
{
    struct moe_tsv tsv[2] = {{0}, {0}};
    enum moe_status s = MOE_OK;
    for (int m = 0; !s && m < 2; m++) {
        const struct repro_model *model = &repro_models[m];
        s = repro_sweep(r, model->stem, &tsv[m], err);
        if (!s)
            s = obtain_bests(r, model, &tsv[m], err);
        /* Variants with low and high locality are only used for the range of the best values. */
        for (const char *const(*v)[3] = model->variants; !s && (*v)[0]; v++)
            if (strcmp((*v)[2], model->variants[0][2]) == 0)
                s = obtain_ratios(r, model, *v, &tsv[m], err);
    }
    if (!s)
        s = obtain_ceiling(r, &tsv[0], err);
    if (!s)
        s = repro_compare(r, "fig5", "fig5.", err);
    if (!s)
        s = write_summary(r, err);
    if (!s)
        s = write_bests(r, err);
    if (!s)
        s = write_consistency(r, tsv, err);
    if (!s)
        s = write_needed(r, tsv, err);
    if (!s)
        s = repro_fixed_time(r, err);
    moe_tsv_release(&tsv[0]);
    moe_tsv_release(&tsv[1]);
    return s ? s : draw(r, err);
}

enum moe_status repro_fig3(struct repro *r, struct moe_err *err)
{
    static const char *const cpu[3] = {"", "cpu-only", ""};
    struct moe_tsv tsv = {0};
    enum moe_status s = repro_sweep(r, "fig3", &tsv, err);
    if (!s)
        s = repro_obtain(r, err, "simulated", passes(&tsv, cpu, strategy_speed(&tsv, "on-demand")),
                         "fig3.crossover_threads");
    moe_tsv_release(&tsv);
    if (!s)
        s = repro_compare(r, "fig3", "fig3.", err);
    return s ? s
             : repro_plot(r, "fig3", "fig3", "Mixtral-8x7B, experts on the CPU (predicted)", err);
}
