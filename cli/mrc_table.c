#include "cli/mrc_table.h"

#include "base/numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* SMALL_MODEL: up to so many experts every number of ways is shown; *_STEPS: sizes in a selection.
 */
enum { SMALL_MODEL = 16, GRID_STEPS = 4, SCREEN_STEPS = 24 };

/* The rows of one phase. */
struct rows {
    struct moe_table *table;
    const struct cli_mrc_view *view;
    enum moe_phases phases;
    const char *phase;
    uint64_t lookups; /* of all layers */
    /* error bars, or NULL */
    struct moe_mrc_band *at_ways[MOE_MRC_POLICIES], *at_slots[MOE_MRC_POLICIES];
};

/* One row. */
struct size {
    const char *geometry, *layer;
    uint64_t slots, bytes; /* 0 bytes: unknown */
    double chance;
    struct moe_mrc_point point[MOE_MRC_POLICIES];
    const struct moe_mrc_band *band[MOE_MRC_POLICIES]; /* or NULL */
};

static void add_cell(const struct rows *r, int policy, const char *what, double value)
{
    static const char *const names[] = {[MOE_MRC_LRU] = "lru", [MOE_MRC_OPT] = "opt"};
    char column[48];
    snprintf(column, sizeof column, "%s_%s", names[policy], what);
    moe_table_f64(r->table, column, value);
}

static void add_policy(const struct rows *r, const struct size *size, int policy)
{
    const struct moe_mrc_point *p = &size->point[policy];
    const struct moe_mrc_band *band = size->band[policy];
    add_cell(r, policy, "hit_percent", moe_percent_or_nan(p->hits, p->lookups));
    if (r->at_ways[policy]) {
        add_cell(r, policy, "low_percent", band ? 100 * band->low : NAN);
        add_cell(r, policy, "high_percent", band ? 100 * band->high : NAN);
    }
    if (r->view->grid)
        add_cell(r, policy, "hit_of_all_layers_percent", moe_percent_or_nan(p->hits, r->lookups));
    add_cell(r, policy, "any_hit_percent", moe_percent_or_nan(p->any_hit_events, p->events));
    add_cell(r, policy, "all_hit_percent", moe_percent_or_nan(p->all_hit_events, p->events));
}

static void add_row(const struct rows *r, const struct size *size)
{
    moe_table_row(r->table);
    moe_table_text(r->table, "phase", r->phase);
    moe_table_text(r->table, "geometry", size->geometry);
    if (r->view->layers)
        moe_table_text(r->table, "layer", size->layer);
    moe_table_u64(r->table, "slots", size->slots);
    if (r->view->expert_bytes)
        moe_table_f64(r->table, "gib", (double)size->bytes * 0x1p-30);
    moe_table_u64(r->table, "lookups", size->point[MOE_MRC_LRU].lookups);
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++)
        if (policy == MOE_MRC_LRU || r->view->mrc->has_opt)
            add_policy(r, size, policy);
    moe_table_f64(r->table, "chance_percent", 100 * size->chance);
}

static uint64_t layer_bytes(const struct rows *r, uint32_t first, uint32_t end)
{
    uint64_t sum = 0;
    for (uint32_t l = first; r->view->expert_bytes && l < end; l++)
        sum += r->view->expert_bytes[l];
    return sum;
}

/* Adds the row of layers [first, end) with `ways` slots each; layer: their name in the row. */
static void add_ways(const struct rows *r, const char *layer, uint32_t first, uint32_t end,
                     uint32_t ways)
{
    const struct moe_mrc *mrc = r->view->mrc;
    char geometry[32];
    snprintf(geometry, sizeof geometry, "%ux%u", first > 0 ? mrc->n_layers : end, ways);
    struct size size = {.geometry = geometry,
                        .layer = layer,
                        .slots = (uint64_t)(end - first) * ways,
                        .bytes = layer_bytes(r, first, end) * ways,
                        .chance = (double)ways / mrc->n_experts};
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
        if (policy == MOE_MRC_OPT && !mrc->has_opt)
            continue;
        size.point[policy] =
            moe_mrc_at_ways(mrc, (enum moe_mrc_policy)policy, r->phases, first, end, ways);
        if (r->at_ways[policy] && first == 0 && end == mrc->n_layers)
            size.band[policy] = &r->at_ways[policy][ways - 1];
    }
    add_row(r, &size);
}

/* The error band of one pool at this size, or NULL. */
static const struct moe_mrc_band *band_at_slots(const struct rows *r, int policy, uint32_t slots)
{
    const struct moe_mrc_sequences *q = r->view->sequences;
    for (uint32_t i = 0; r->at_slots[policy] && i < q->n_points; i++)
        if (q->slots[i] == slots)
            return &r->at_slots[policy][i];
    return NULL;
}

/* Bytes of a slot in a pool for all layers, which has to take any expert. 0: unknown. */
static uint64_t largest_bytes(const struct cli_mrc_view *view, uint32_t n_layers)
{
    uint64_t largest = 0;
    for (uint32_t l = 0; view->expert_bytes && l < n_layers; l++)
        largest = view->expert_bytes[l] > largest ? view->expert_bytes[l] : largest;
    return largest;
}

static void add_slots(const struct rows *r, uint32_t slots)
{
    const struct moe_mrc *mrc = r->view->mrc;
    uint64_t largest = largest_bytes(r->view, mrc->n_layers);
    char geometry[32];
    snprintf(geometry, sizeof geometry, "global:%u", slots);
    struct size size = {.geometry = geometry,
                        .layer = "all",
                        .slots = slots,
                        .bytes = slots * largest,
                        .chance = (double)slots / ((double)mrc->n_layers * mrc->n_experts)};
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
        if (policy == MOE_MRC_OPT && !mrc->has_opt)
            continue;
        size.point[policy] = moe_mrc_at_slots(mrc, (enum moe_mrc_policy)policy, r->phases, slots);
        size.band[policy] = band_at_slots(r, policy, slots);
    }
    add_row(r, &size);
}

/* Is this number of ways shown? */
static bool shows(const struct rows *r, uint32_t ways)
{
    uint32_t n_experts = r->view->mrc->n_experts;
    return r->view->every_size || n_experts <= SMALL_MODEL || (ways & (ways - 1)) == 0 ||
           ways == n_experts || ways == n_experts / 4 * 3;
}

static void add_grid(const struct rows *r)
{
    const struct moe_mrc *mrc = r->view->mrc;
    uint32_t step =
        r->view->every_size || mrc->n_layers < GRID_STEPS ? 1 : mrc->n_layers / GRID_STEPS;
    for (uint32_t n = step; n < mrc->n_layers; n += step)
        for (uint32_t ways = 1; ways <= mrc->n_experts; ways++)
            if (shows(r, ways))
                add_ways(r, "all", 0, n, ways);
}

static void add_layers(const struct rows *r)
{
    const struct moe_mrc *mrc = r->view->mrc;
    char layer[16];
    for (uint32_t l = 0; l < mrc->n_layers; l++)
        for (uint32_t ways = 1; ways <= mrc->n_experts; ways++) {
            snprintf(layer, sizeof layer, "%u", l);
            if (shows(r, ways))
                add_ways(r, layer, l, l + 1, ways);
        }
}

/* Adds the rows of one pool at every size, or at the total sizes of the layers' pools. */
static void add_global(const struct rows *r)
{
    const struct moe_mrc *mrc = r->view->mrc;
    for (uint32_t slots = 1; r->view->every_size && slots <= mrc->n_layers * mrc->n_experts;
         slots++)
        add_slots(r, slots);
    for (uint32_t ways = 1; !r->view->every_size && ways <= mrc->n_experts; ways++)
        if (shows(r, ways))
            add_slots(r, ways * mrc->n_layers);
}

static void add_rows(struct rows *r)
{
    const struct moe_mrc *mrc = r->view->mrc;
    struct moe_mrc_point all = moe_mrc_at_ways(mrc, MOE_MRC_LRU, r->phases, 0, mrc->n_layers, 0);
    r->lookups = all.lookups;
    for (uint32_t ways = 1; ways <= mrc->n_experts; ways++)
        if (shows(r, ways))
            add_ways(r, "all", 0, mrc->n_layers, ways);
    if (mrc->has_global)
        add_global(r);
    if (r->view->grid)
        add_grid(r);
    if (r->view->layers)
        add_layers(r);
}

static void release_bands(struct rows *r)
{
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
        free(r->at_ways[policy]);
        free(r->at_slots[policy]);
    }
}

static enum moe_status make_bands(struct rows *r, int policy, struct moe_err *err)
{
    const struct moe_mrc_sequences *q = r->view->sequences;
    r->at_ways[policy] = calloc(q->n_ways + 1u, sizeof *r->at_ways[policy]);
    r->at_slots[policy] = calloc(q->n_points + 1u, sizeof *r->at_slots[policy]);
    if (!r->at_ways[policy] || !r->at_slots[policy])
        return moe_fail_memory(err, "error bars");
    return moe_mrc_bands(q, (enum moe_mrc_policy)policy, r->phases, r->view->seed,
                         r->at_ways[policy], r->at_slots[policy], err);
}

static enum moe_status add_phase(struct moe_table *table, const struct cli_mrc_view *view,
                                 enum moe_phases phases, struct moe_err *err)
{
    static const char *const names[] = {[MOE_PHASES_BOTH] = "both",
                                        [MOE_PHASES_DECODE] = "decode",
                                        [MOE_PHASES_PREFILL] = "prefill"};
    struct rows r = {.table = table, .view = view, .phases = phases, .phase = names[phases]};
    enum moe_status s = MOE_OK;
    for (int policy = 0; !s && view->sequences && policy < MOE_MRC_POLICIES; policy++)
        if (policy == MOE_MRC_LRU || view->mrc->has_opt)
            s = make_bands(&r, policy, err);
    if (!s)
        add_rows(&r);
    release_bands(&r);
    return s;
}

enum moe_status cli_mrc_rows(struct moe_table *table, const struct cli_mrc_view *view,
                             struct moe_err *err)
{
    static const enum moe_phases phases[] = {MOE_PHASES_DECODE, MOE_PHASES_PREFILL};
    uint32_t n_layers = view->mrc->n_layers, n_shown = 0;
    enum moe_status s = MOE_OK;
    for (int i = 0; !s && i < 2; i++) {
        if (moe_mrc_at_ways(view->mrc, MOE_MRC_LRU, phases[i], 0, n_layers, 0).lookups == 0)
            continue;
        s = add_phase(table, view, phases[i], err);
        n_shown++;
    }
    if (!s && n_shown != 1)
        s = add_phase(table, view, MOE_PHASES_BOTH, err);
    return s;
}

void cli_shards_rows(struct moe_table *table, const struct cli_mrc_view *view,
                     const struct moe_shards_curve *curve, const char *phase, uint32_t n_layers)
{
    uint64_t largest = largest_bytes(view, n_layers);
    uint32_t step = view->every_size ? 1 : (curve->n_slots + SCREEN_STEPS - 1) / SCREEN_STEPS;
    for (uint32_t slots = step; step && slots <= curve->n_slots; slots += step) {
        char geometry[32];
        snprintf(geometry, sizeof geometry, "global:%u", slots);
        moe_table_row(table);
        moe_table_text(table, "phase", phase);
        moe_table_text(table, "geometry", geometry);
        moe_table_u64(table, "slots", slots);
        if (view->expert_bytes)
            moe_table_f64(table, "gib", (double)(slots * largest) * 0x1p-30);
        moe_table_f64(table, "lru_hit_percent", 100 * curve->hit[slots]);
        moe_table_f64(table, "lru_low_percent", 100 * curve->low[slots]);
        moe_table_f64(table, "lru_high_percent", 100 * curve->high[slots]);
    }
}
