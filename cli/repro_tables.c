/* Tables I to V. */
#include "cli/output.h"
#include "cli/repro.h"
#include "policies/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *model_id(const char *model)
{
    return strncmp(model, "phi", 3) == 0 ? "phi" : "mixtral";
}

struct point {
    struct moe_model model;
    struct moe_platform platform;
    const char *threads; /* "0": not set */
};

static enum moe_status load_point(const struct moe_point *from, struct point *p,
                                  struct moe_err *err)
{
    p->threads = "0";
    for (size_t i = 0; i < from->n_settings; i++)
        if (strcmp(from->settings[i].key, "threads") == 0)
            p->threads = from->settings[i].value;
    enum moe_status s = cli_load_model(from->model, &p->model, err);
    return s ? s : cli_load_platform(from->platform, &p->platform, err);
}

typedef enum moe_status point_function(struct repro *r, const struct point *p,
                                       struct moe_table *table, struct moe_err *err);

/* Makes a table with the rows that `add` gives for each point of an experiment, then compares. */
static enum moe_status table_of_points(struct repro *r, const char *figure, const char *prefix,
                                       point_function *add, struct moe_err *err)
{
    struct moe_experiment x;
    struct point p;
    enum moe_status s = repro_experiment(r, figure, &x, err);
    if (s)
        return s;
    struct moe_table *table = repro_table(r);
    for (size_t i = 0; !s && i < x.n_points; i++) {
        s = load_point(&x.points[i], &p, err);
        if (!s)
            s = add(r, &p, table, err);
    }
    moe_experiment_release(&x);
    s = repro_write(r, table, s, figure, err);
    return s ? s : repro_compare(r, figure, prefix, err);
}

/* Adds the times of a layer in milliseconds, with as many experts as a route has. */
static enum moe_status add_times(struct repro *r, const struct point *p, struct moe_table *table,
                                 struct moe_err *err)
{
    struct moe_costs c;
    const char *id = model_id(p->model.name);
    moe_costs_init(&c, &p->model, &p->platform, strtoull(p->threads, NULL, 10));
    double layer = (double)p->model.top_k * 1e-6;
    double state = (double)(moe_cost_state_down_ns(&c, 1) + moe_cost_state_up_ns(&c, 1)) * 1e-6;
    moe_table_row(table);
    moe_table_text(table, "model", p->model.name);
    moe_table_text(table, "threads", p->threads);
    moe_table_f64(table, "cpu_ms", (double)c.cpu_expert_ns * layer);
    moe_table_f64(table, "state_ms", state);
    moe_table_f64(table, "gpu_ms", (double)c.gpu_expert_ns * layer);
    moe_table_f64(table, "copy_ms", (double)c.copy_ns[0] * layer);
    enum moe_status s = repro_obtain(r, err, "cost model", (double)c.cpu_expert_ns * layer,
                                     "tab3.%s.cpu.%s", id, p->threads);
    if (s || strcmp(p->threads, "1") != 0)
        return s;
    s = repro_obtain(r, err, "cost model", (double)c.gpu_expert_ns * layer, "tab3.%s.gpu", id);
    if (!s)
        s = repro_obtain(r, err, "cost model", (double)c.copy_ns[0] * layer, "tab3.%s.copy", id);
    return s ? s : repro_obtain(r, err, "cost model", state, "tab3.%s.state", id);
}

enum moe_status repro_tab1(struct repro *r, struct moe_err *err)
{
    return table_of_points(r, "tab1", "tab3.", add_times, err);
}

static enum moe_status add_sizes(struct repro *r, const struct point *p, struct moe_table *table,
                                 struct moe_err *err)
{
    const struct moe_model *m = &p->model;
    double expert = (double)moe_model_expert_bytes(m);
    /* Twice the head, as the embedding has the same size (a token never reads all of it). */
    double dense = (double)(m->n_layers * moe_model_dense_layer_bytes(m)) +
                   2 * (double)moe_model_head_bytes(m);
    double bytes = (double)(m->n_layers * m->n_experts) * expert + dense;
    double weights = (bytes - dense) * 8 / m->expert_weight_bits + dense * 8 / m->dense_weight_bits;
    double left = (double)p->platform.gpu.memory_bytes - (double)moe_cost_dense_bytes(m);
    const struct {
        const char *id, *column;
        double value;
    } values[] = {{"parameters", "parameters_billions", weights * 1e-9},
                  {"size", "size_gib", ldexp(bytes, -30)},
                  {"layers", "layers", (double)m->n_layers},
                  {"experts", "experts", (double)m->n_experts},
                  {"expert_size", "expert_mib", ldexp(expert, -20)},
                  {"slots", "slots_that_fit", floor(left / expert)}};
    enum moe_status s = MOE_OK;
    moe_table_row(table);
    moe_table_text(table, "model", m->name);
    for (size_t i = 0; !s && i < sizeof values / sizeof *values; i++) {
        moe_table_f64(table, values[i].column, values[i].value);
        s = repro_obtain(r, err, "configuration", values[i].value, "tab2.%s.%s", model_id(m->name),
                         values[i].id);
    }
    return s;
}

enum moe_status repro_tab2(struct repro *r, struct moe_err *err)
{
    return table_of_points(r, "tab2", "tab2.", add_sizes, err);
}

/* Tables IV and V: rows of the sweeps of Fig. 5. */

static enum moe_status obtain_power(struct repro *r, const char *variant, const char *model,
                                    const char *at, const struct moe_tsv *tsv, size_t row,
                                    struct moe_err *err)
{
    enum moe_status s =
        repro_obtain(r, err, variant, repro_number(tsv, row, "cpu_w"), "tab4.%s.cpu.%s", model, at);
    return s ? s
             : repro_obtain(r, err, variant, repro_number(tsv, row, "gpu_w"), "tab4.%s.gpu.%s",
                            model, at);
}

static enum moe_status obtain_energy(struct repro *r, const char *variant, const char *model,
                                     const char *at, const struct moe_tsv *tsv, size_t row,
                                     struct moe_err *err)
{
    return repro_obtain(r, err, variant, repro_number(tsv, row, "j_per_token"), "tab5.%s.%s", model,
                        at);
}

typedef enum moe_status obtain_function(struct repro *r, const char *variant, const char *model,
                                        const char *at, const struct moe_tsv *tsv, size_t row,
                                        struct moe_err *err);

static void add_energy_row(struct moe_table *table, const struct repro_model *m,
                           const char *variant, const char *at, const struct moe_tsv *tsv,
                           size_t row)
{
    static const char *const columns[] = {"tokens_per_s", "cpu_w", "gpu_w", "j_per_token", NULL};
    moe_table_row(table);
    moe_table_text(table, "model", m->model);
    moe_table_text(table, "variant", variant);
    moe_table_text(table, "threads", at);
    moe_table_text(table, "geometry", repro_text(tsv, row, "geometry"));
    for (const char *const *c = columns; *c; c++)
        moe_table_f64(table, *c, repro_number(tsv, row, *c));
}

static enum moe_status energy_of_model(struct repro *r, const struct repro_model *m,
                                       obtain_function *obtain, struct moe_table *table,
                                       struct moe_err *err)
{
    static const char *const prefetch[] = {"strategy", "pre-gated-ideal", NULL};
    struct moe_tsv tsv = {0};
    enum moe_status s = repro_sweep(r, m->stem, &tsv, err);
    for (const char *const(*v)[3] = m->variants; !s && (*v)[0]; v++) {
        /* Low and high locality are shown in the table but not compared. */
        bool compared = strcmp((*v)[2], m->variants[0][2]) == 0;
        for (const char *const *t = repro_threads; !s && *t; t++) {
            size_t row = repro_fig5_best(&tsv, *v, *t);
            add_energy_row(table, m, (*v)[0], *t, &tsv, row);
            if (compared)
                s = obtain(r, (*v)[0], m->id, *t, &tsv, row, err);
        }
    }
    size_t row = repro_find(&tsv, 0, prefetch);
    if (!s && row < tsv.n_rows) {
        add_energy_row(table, m, "prefetch", "prefetch", &tsv, row);
        s = obtain(r, "perfect overlap", m->id, "prefetch", &tsv, row, err);
    }
    if (!s && obtain == obtain_energy && row < tsv.n_rows) {
        size_t best = repro_fig5_best(&tsv, m->variants[0], "24");
        double share =
            100 * repro_number(&tsv, best, "j_per_token") / repro_number(&tsv, row, "j_per_token");
        s = repro_obtain(r, err, m->variants[0][0], share, "tab5.%s.share_of_prefetch", m->id);
    }
    moe_tsv_release(&tsv);
    return s;
}

static enum moe_status energy_table(struct repro *r, const char *figure, const char *prefix,
                                    obtain_function *obtain, struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    enum moe_status s = energy_of_model(r, &repro_models[0], obtain, table, err);
    if (!s)
        s = energy_of_model(r, &repro_models[1], obtain, table, err);
    s = repro_write(r, table, s, figure, err);
    return s ? s : repro_compare(r, figure, prefix, err);
}

enum moe_status repro_tab4(struct repro *r, struct moe_err *err)
{
    return energy_table(r, "tab4", "tab4.", obtain_power, err);
}

enum moe_status repro_tab5(struct repro *r, struct moe_err *err)
{
    return energy_table(r, "tab5", "tab5.", obtain_energy, err);
}
