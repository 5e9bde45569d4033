/* Beside the paper: what its code does, and what is faster on its machine. */
#include "cli/repro.h"

#include <stdio.h>
#include <string.h>

/* Columns by which variants differ, with the value of the text's strategy; "-": not varied. */
static const struct {
    const char *column, *usual;
} varied[] = {{"strategy", "collab"},
              {"policy", "lru"},
              {"dispatch.in_flight", "wait"},
              {"dispatch.order", "hits-first"},
              {"dispatch.overlap", "true"},
              {"admission", "always"},
              {"fill.memory", "pinned"},
              {"fill.when", "after-compute"},
              {"prefill", "cpu"}};

/* "policy=paper-lru, dispatch.order=gate"; the baseline: "as the text has it". */
static const char *describe(const struct moe_tsv *tsv, size_t row, char *buf, size_t size)
{
    size_t n = 0;
    *buf = 0;
    for (size_t i = 0; i < sizeof varied / sizeof *varied && n < size; i++) {
        const char *value = repro_text(tsv, row, varied[i].column);
        if (!*value || strcmp(value, "-") == 0 || strcmp(value, varied[i].usual) == 0)
            continue;
        n += (size_t)snprintf(buf + n, size - n, "%s%s=%s", n ? ", " : "", varied[i].column, value);
    }
    if (!*buf)
        snprintf(buf, size, "as the text has it");
    return buf;
}

/* Do two rows have the same cell in the column? */
static bool same_cell(const struct moe_tsv *tsv, size_t a, size_t b, const char *column)
{
    return strcmp(repro_text(tsv, a, column), repro_text(tsv, b, column)) == 0;
}

static size_t baseline_of(const struct moe_tsv *tsv, size_t row)
{
    for (size_t b = 0; b < row; b++)
        if (same_cell(tsv, b, row, "threads") && same_cell(tsv, b, row, "geometry"))
            return b; /* the experiment's first grid */
    return row;
}

static const char *const speed_columns[] = {"tokens_per_s",  "hit_rate_percent",
                                            "inflight_hits", "dropped_fills",
                                            "hazards",       "copied_gb_per_token"};

static void add_variant(struct moe_table *table, const struct moe_tsv *tsv, size_t row)
{
    char what[400];
    double base = repro_number(tsv, baseline_of(tsv, row), "tokens_per_s");
    double tokens = repro_number(tsv, row, "decode_tokens");
    moe_table_row(table);
    moe_table_text(table, "difference", describe(tsv, row, what, sizeof what));
    moe_table_text(table, "geometry", repro_text(tsv, row, "geometry"));
    moe_table_text(table, "threads", repro_text(tsv, row, "threads"));
    moe_table_f64(table, "change_percent",
                  100 * (repro_number(tsv, row, "tokens_per_s") / base - 1));
    for (size_t i = 0; i < sizeof speed_columns / sizeof *speed_columns; i++) {
        bool count = i >= 2 && i <= 4;
        char name[64];
        snprintf(name, sizeof name, "%s%s", speed_columns[i], count ? "_per_token" : "");
        moe_table_f64(table, name, repro_number(tsv, row, speed_columns[i]) / (count ? tokens : 1));
    }
}

enum moe_status repro_variants(struct repro *r, struct moe_err *err)
{
    static const char *const stems[] = {"variants", "cold"};
    enum moe_status s = MOE_OK;
    for (int i = 0; !s && i < 2; i++) {
        struct moe_tsv tsv = {0};
        char stem[40];
        s = repro_sweep(r, stems[i], &tsv, err);
        struct moe_table *table = repro_table(r);
        for (size_t row = 0; !s && row < tsv.n_rows; row++)
            if (strcmp(repro_text(&tsv, row, "status"), "ok") == 0)
                add_variant(table, &tsv, row);
        moe_tsv_release(&tsv);
        snprintf(stem, sizeof stem, "%s-cost", stems[i]);
        s = repro_write(r, table, s, stem, err);
    }
    return s;
}

/* Adds some columns of a row of the sweep, as the best of its kind. */
static void add_best(struct moe_table *table, const char *model, const char *what,
                     const char *threads, const struct moe_tsv *tsv, size_t row, double paper)
{
    char text[400];
    moe_table_row(table);
    moe_table_text(table, "model", model);
    moe_table_text(table, "threads", threads);
    moe_table_text(table, "what", what);
    moe_table_text(table, "geometry", repro_text(tsv, row, "geometry"));
    moe_table_text(table, "differences", describe(tsv, row, text, sizeof text));
    moe_table_f64(table, "tokens_per_s", repro_number(tsv, row, "tokens_per_s"));
    moe_table_f64(table, "over_text_percent",
                  100 * (repro_number(tsv, row, "tokens_per_s") / paper - 1));
    moe_table_f64(table, "j_per_token", repro_number(tsv, row, "j_per_token"));
    moe_table_f64(table, "share_of_bound_percent",
                  repro_number(tsv, row, "share_of_bound_percent"));
}

/* The best row with a policy that does not need the future; online false: with one that does. */
static size_t best_online(const struct moe_tsv *tsv, const char *threads, bool online)
{
    const char *conditions[] = {"threads", threads, NULL};
    size_t best = tsv->n_rows;
    for (size_t row = repro_find(tsv, 0, conditions); row < tsv->n_rows;
         row = repro_find(tsv, row + 1, conditions)) {
        bool future = strncmp(repro_text(tsv, row, "policy"), "opt", 3) == 0;
        if (future == online)
            continue;
        if (best == tsv->n_rows ||
            repro_number(tsv, row, "tokens_per_s") > repro_number(tsv, best, "tokens_per_s"))
            best = row;
    }
    return best;
}

/* The best row of the text's strategy, whose rows differ from it in no column. */
static size_t best_text(const struct moe_tsv *tsv, const char *threads)
{
    const char *conditions[] = {"threads", threads, "strategy", "collab", "policy", "lru", NULL};
    size_t best = tsv->n_rows;
    char text[400];
    for (size_t row = repro_find(tsv, 0, conditions); row < tsv->n_rows;
         row = repro_find(tsv, row + 1, conditions))
        if (strcmp(describe(tsv, row, text, sizeof text), "as the text has it") == 0 &&
            !strstr(repro_text(tsv, row, "geometry"), "global") &&
            (best == tsv->n_rows ||
             repro_number(tsv, row, "tokens_per_s") > repro_number(tsv, best, "tokens_per_s")))
            best = row;
    return best;
}

static enum moe_status add_beyond(struct repro *r, struct moe_table *table, const char *stem,
                                  struct moe_err *err)
{
    static const char *const threads[] = {"1", "8", "24"};
    struct moe_tsv tsv = {0};
    enum moe_status s = repro_sweep(r, stem, &tsv, err);
    for (int i = 0; !s && i < 3; i++) {
        size_t text = best_text(&tsv, threads[i]);
        size_t online = best_online(&tsv, threads[i], true);
        size_t oracle = best_online(&tsv, threads[i], false);
        double paper = repro_number(&tsv, text, "tokens_per_s");
        const char *model = repro_text(&tsv, text, "model");
        add_best(table, model, "text of the paper, best geometry", threads[i], &tsv, text, paper);
        add_best(table, model, "best that was tried", threads[i], &tsv, online, paper);
        add_best(table, model, "with Belady's replacement", threads[i], &tsv, oracle, paper);
    }
    moe_tsv_release(&tsv);
    return s;
}

enum moe_status repro_beyond(struct repro *r, struct moe_err *err)
{
    struct moe_table *table = repro_table(r);
    enum moe_status s = add_beyond(r, table, "beyond", err);
    if (!s)
        s = add_beyond(r, table, "beyond-phi", err);
    return repro_write(r, table, s, "beyond-best", err);
}
