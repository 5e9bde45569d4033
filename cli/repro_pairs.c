/* Recorded routing: do requests of one kind use the same experts beyond saying the same? Items B5
 * to B7 of the reporting checklist, for the recordings that hold the ids of their tokens. */
#include "cli/repro.h"
#include "traces/pairs.h"
#include "traces/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bands of decode positions; the first is short, as beginnings that requests share are. */
static const struct {
    const char *name;
    uint64_t from, to;
} bands[] = {{"0-15", 0, 16}, {"16-47", 16, 48}, {"48-", 48, UINT64_MAX}};

struct recording {
    const char *name;
    struct moe_trace trace;
    struct moe_table *kinds, *bands;
};

/* Two uniform random routes have c experts in common with the hypergeometric probability. */
static double chance_jaccard(const struct moe_trace_info *info)
{
    const uint32_t e = info->n_experts, k = info->top_k;
    double ways = 0, jaccard = 0;
    for (uint32_t c = 2 * k > e ? 2 * k - e : 0; c <= k; c++) {
        double log_ways = -2 * lgamma(k - c + 1) - lgamma(c + 1) - lgamma(e - 2 * k + c + 1);
        ways += exp(log_ways); /* up to a factor that does not depend on c */
        jaccard += exp(log_ways) * c / (2 * k - c);
    }
    return jaccard / ways;
}

static enum moe_status add_kind(struct recording *rec, const char *category, struct moe_err *err)
{
    struct moe_pairs p;
    enum moe_status s = moe_pairs_compute(&rec->trace, category, 0, UINT64_MAX, &p, err);
    if (s)
        return s;
    moe_table_row(rec->kinds);
    moe_table_text(rec->kinds, "trace", rec->name);
    moe_table_text(rec->kinds, "prompts", category ? category : "all kinds");
    moe_table_u64(rec->kinds, "sequences", p.n_sequences);
    moe_table_u64(rec->kinds, "unique", p.n_unique);
    moe_table_f64(rec->kinds, "agreement_percent", 100 * p.within.agreement);
    moe_table_f64(rec->kinds, "jaccard_percent", 100 * p.within.jaccard);
    moe_table_u64(rec->kinds, "pairs", p.within.n);
    moe_table_u64(rec->kinds, "pairs_apart", p.apart.n);
    moe_table_f64(rec->kinds, "jaccard_apart_percent", 100 * p.apart.jaccard);
    moe_table_f64(rec->kinds, "jaccard_other_kinds_percent", 100 * p.across.jaccard);
    moe_table_f64(rec->kinds, "jaccard_by_chance_percent", 100 * chance_jaccard(&rec->trace.info));
    return MOE_OK;
}

static bool is_first(const struct moe_trace *trace, uint64_t s)
{
    for (uint64_t i = 0; i < s; i++)
        if (strcmp(trace->sequences[i].category, trace->sequences[s].category) == 0)
            return false;
    return true;
}

static enum moe_status add_recording(struct recording *rec, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint64_t i = 0; !s && i < rec->trace.n_sequences; i++)
        if (is_first(&rec->trace, i))
            s = add_kind(rec, rec->trace.sequences[i].category, err);
    if (!s)
        s = add_kind(rec, NULL, err);
    for (size_t b = 0; !s && b < sizeof bands / sizeof *bands; b++) {
        struct moe_pairs p;
        s = moe_pairs_compute(&rec->trace, NULL, bands[b].from, bands[b].to, &p, err);
        if (s)
            return s;
        moe_table_row(rec->bands);
        moe_table_text(rec->bands, "trace", rec->name);
        moe_table_text(rec->bands, "decode_positions", bands[b].name);
        moe_table_f64(rec->bands, "agreement_percent", 100 * p.within.agreement);
        moe_table_f64(rec->bands, "jaccard_percent", 100 * p.within.jaccard);
        moe_table_f64(rec->bands, "jaccard_other_kinds_percent", 100 * p.across.jaccard);
    }
    return s;
}

/* Can the trace be used? It needs token ids, and at least two sequences to form a pair. */
static bool is_of_use(const struct moe_trace *trace)
{
    for (uint64_t t = 0; t < trace->tokens.n_tokens; t++)
        if (!trace->tokens.token_id || trace->tokens.token_id[t] < 0)
            return false;
    return trace->n_sequences > 1;
}

static enum moe_status add_trace(struct recording *rec, const char *path, struct moe_err *err)
{
    char name[64];
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(slash ? slash + 1 : path, "."),
             slash ? slash + 1 : path);
    rec->name = name;
    enum moe_status s = moe_trace_from_name(path, 0, NULL, &rec->trace, err);
    if (!s && is_of_use(&rec->trace))
        s = add_recording(rec, err);
    moe_trace_release(&rec->trace);
    return s;
}

enum moe_status repro_pairs(struct repro *r, const struct moe_tsv *tsv, struct moe_err *err)
{
    struct recording rec = {.kinds = repro_recorded_table(r), .bands = repro_recorded_table(r)};
    enum moe_status s = MOE_OK;
    for (size_t row = 0; !s && row < tsv->n_rows; row++) {
        const char *path = repro_text(tsv, row, "trace");
        const char *before = row ? repro_text(tsv, row - 1, "trace") : "";
        if (moe_trace_name_is_file(path) && strcmp(path, before) != 0)
            s = add_trace(&rec, path, err);
    }
    s = repro_write(r, rec.kinds, s, "real-kinds", err);
    return repro_write(r, rec.bands, s, "real-bands", err);
}
