/* Fig. 2: how often experts are used again. */
#include "base/numbers.h"
#include "cli/repro.h"

#include "traces/reuse.h"
#include "traces/source.h"
#include "traces/streaks.h"

#include <stdio.h>
#include <string.h>

struct picture {
    struct moe_table *table;
    const struct moe_trace *trace;
    struct moe_reuse reuse;
    char name[64];
};

/* "results/traces/x.h5" -> "x"; a synthetic trace by its model. */
static void name_trace(const char *path, const struct moe_trace *trace, char *buf, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (!moe_trace_name_is_file(path))
        snprintf(buf, size, "%.40s (SYNTHETIC)", trace->info.model);
    else
        snprintf(buf, size, "%.*s", (int)strcspn(slash ? slash + 1 : path, "."),
                 slash ? slash + 1 : path);
}

static void add_layer(struct picture *p, uint32_t layer, struct moe_streaks *sum)
{
    const struct moe_reuse_layer *r = &p->reuse.layer[layer];
    struct moe_streaks s = moe_streaks_of_layer(p->trace, layer);
    moe_table_row(p->table);
    moe_table_text(p->table, "trace", p->name);
    moe_table_u64(p->table, "layer", layer);
    moe_table_f64(p->table, "next_layer_any_percent", 100 * r->next_layer_any);
    moe_table_f64(p->table, "next_layer_expert_percent", 100 * r->next_layer_expert);
    moe_table_f64(p->table, "next_token_any_percent", 100 * r->repeat_any[0]);
    moe_table_f64(p->table, "next_token_expert_percent", 100 * r->repeat_expert[0]);
    moe_table_f64(p->table, "chance_any_percent", 100 * p->reuse.chance_any);
    moe_table_f64(p->table, "chance_expert_percent", 100 * p->reuse.chance_expert);
    moe_table_f64(p->table, "streak_two_percent", moe_percent_or_nan(s.count[2], s.n - s.count[0]));
    moe_table_f64(p->table, "streak_three_percent",
                  moe_percent_or_nan(s.count[3], s.n - s.count[0]));
    sum->n += s.n;
    for (int i = 0; i <= MOE_STREAK_MAX; i++)
        sum->count[i] += s.count[i];
}

static void add_mean(struct moe_table *table, const struct picture *p,
                     const struct moe_streaks *sum)
{
    const struct moe_reuse_layer *m = &p->reuse.mean;
    moe_table_row(table);
    moe_table_text(table, "trace", p->name);
    moe_table_u64(table, "experts", p->reuse.n_experts);
    moe_table_u64(table, "top_k", p->reuse.top_k);
    moe_table_u64(table, "decode_tokens", p->reuse.n_decode);
    moe_table_f64(table, "next_layer_any_percent", 100 * m->next_layer_any);
    moe_table_f64(table, "next_layer_expert_percent", 100 * m->next_layer_expert);
    moe_table_f64(table, "next_token_any_percent", 100 * m->repeat_any[0]);
    moe_table_f64(table, "next_token_expert_percent", 100 * m->repeat_expert[0]);
    moe_table_f64(table, "chance_any_percent", 100 * p->reuse.chance_any);
    moe_table_f64(table, "chance_expert_percent", 100 * p->reuse.chance_expert);
    moe_table_f64(table, "streak_two_percent",
                  moe_percent_or_nan(sum->count[2], sum->n - sum->count[0]));
    moe_table_f64(table, "streak_three_percent",
                  moe_percent_or_nan(sum->count[3], sum->n - sum->count[0]));
}

static enum moe_status obtain(struct repro *r, const struct picture *p,
                              const struct moe_streaks *sum, struct moe_err *err)
{
    const struct moe_reuse_layer *m = &p->reuse.mean;
    uint64_t again = sum->n - sum->count[0];
    enum moe_status s =
        repro_obtain(r, err, "synthetic", 100 * m->next_layer_any, "fig2.next_layer_any");
    if (!s)
        s = repro_obtain(r, err, "synthetic", 100 * m->repeat_any[0], "fig2.next_token_any");
    if (!s)
        s = repro_obtain(r, err, "synthetic", moe_percent_or_nan(sum->count[2], again),
                         "fig2.reuse_two");
    if (!s)
        s = repro_obtain(r, err, "synthetic", moe_percent_or_nan(sum->count[3], again),
                         "fig2.reuse_three");
    return s;
}

static enum moe_status add_trace(struct repro *r, const char *path, bool compared,
                                 struct moe_table *layers, struct moe_table *means,
                                 struct moe_err *err)
{
    struct moe_trace trace = {0};
    struct moe_streaks sum = {0};
    struct picture p = {.table = layers, .trace = &trace};
    enum moe_status s = moe_trace_from_name(path, 0, NULL, &trace, err);
    if (s)
        return s;
    name_trace(path, &trace, p.name, sizeof p.name);
    s = moe_reuse_compute(&trace, &p.reuse, err);
    for (uint32_t l = 0; !s && l < trace.info.n_layers; l++)
        add_layer(&p, l, &sum);
    if (!s)
        add_mean(means, &p, &sum);
    if (!s && compared)
        s = obtain(r, &p, &sum, err);
    moe_reuse_release(&p.reuse);
    moe_trace_release(&trace);
    return s;
}

enum moe_status repro_fig2(struct repro *r, struct moe_err *err)
{
    struct moe_experiment x;
    enum moe_status s = repro_experiment(r, "fig2", &x, err);
    if (s)
        return s;
    struct moe_table *layers = repro_table(r), *means = repro_table(r);
    for (size_t i = 0; !s && i < x.n_points; i++)
        s = add_trace(r, x.points[i].trace, i == 0, layers, means, err);
    s = repro_write(r, layers, s, "fig2", err);
    s = repro_write(r, means, s, "fig2-mean", err);
    if (!s)
        s = repro_compare(r, "fig2", "fig2.", err);
    if (!s)
        s = repro_plot(r, "fig2", "fig2", x.title, err);
    moe_experiment_release(&x);
    return s;
}
