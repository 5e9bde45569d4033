#include "sim/tune.h"

#include "base/units.h"
#include "base/version.h"
#include "policies/cost.h"
#include "sim/sources.h"
#include "sim/tune_judge.h"
#include "sim/tune_search.h"
#include "sim/tune_ways.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const moe_tune_family_names[MOE_TUNE_FAMILIES] = {
    [MOE_TUNE_SEARCHED] = "searched",         [MOE_TUNE_BEST_UNIFORM] = "collab NxM",
    [MOE_TUNE_BEST_STATIC] = "static",        [MOE_TUNE_WHOLE_LAYERS] = "ncmoe",
    [MOE_TUNE_CPU_ONLY] = "cpu-only",         [MOE_TUNE_ON_DEMAND] = "on-demand",
    [MOE_TUNE_BOTH_SIDES] = "no-cache-split",
};

struct tuner {
    const struct moe_tune_options *o;
    struct moe_tune_result *r;
    struct moe_strategy base;
    struct moe_tune_space space;
    struct moe_tune_search search;
    struct moe_tune_units units;
    uint64_t *worth, *static_worth; /* [L, E + 1] of ways: tune_ways.h */
    uint64_t identity;              /* of all inputs, for moe_team_map */
    /* [n_judged] finalists, the families they stand for, and their times on the held-out part */
    size_t n_judged;
    struct moe_tune_candidate *judged;
    unsigned *families;
    double **ms;
};

/* --- memory --------------------------------------------------------------------------------- */

/* What is left of `from` bytes; 0 where that is less. */
static uint64_t take(uint64_t from, uint64_t bytes)
{
    return from > bytes ? from - bytes : 0;
}

/* Dense weights, keys and values of the longest contexts. */
static uint64_t dense_bytes(const struct moe_tune_options *o)
{
    uint64_t context = moe_trace_extent(o->trace, 0).caches;
    return moe_cost_dense_bytes(o->model) + moe_model_kv_cache_bytes(o->model, context);
}

static uint64_t staging_bytes(const struct moe_tune_options *o)
{
    return 2 * moe_model_expert_bytes(o->model);
}

/* Where GPU and CPU share a memory that cannot hold every expert once, no design runs. */
static enum moe_status check_shared(const struct moe_tune_options *o, struct moe_err *err)
{
    const uint64_t experts =
        o->model->n_layers * o->model->n_experts * moe_model_expert_bytes(o->model);
    const uint64_t dense = dense_bytes(o), memory = o->platform->gpu.memory_bytes;
    char a[32], b[32], c[32];
    if (!moe_platform_shares_dram(o->platform) || experts <= take(memory, dense))
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "model '%s' does not fit: its experts take %s, dense weights and KV cache %s, "
                    "more than the %s that GPU and CPU of platform '%s' share",
                    o->model->name, moe_format_bytes(experts, a, sizeof a),
                    moe_format_bytes(dense, b, sizeof b), moe_format_bytes(memory, c, sizeof c),
                    o->platform->name);
}

static enum moe_status find_budget(struct tuner *t, struct moe_err *err)
{
    const struct moe_tune_options *o = t->o;
    struct moe_tune_result *r = t->r;
    const uint64_t dense = dense_bytes(o), memory = o->platform->gpu.memory_bytes;
    const uint64_t all = o->model->n_layers * o->model->n_experts;
    char a[32], b[32];
    if (!moe_platform_has_gpu(o->platform))
        return o->budget_bytes == 0
                   ? MOE_OK
                   : moe_fail(err, MOE_ERR_USAGE,
                              "budget %s is GPU memory, but platform '%s' has no GPU",
                              moe_format_bytes(o->budget_bytes, a, sizeof a), o->platform->name);
    if (dense > memory)
        return moe_fail(err, MOE_ERR_USAGE,
                        "dense weights and KV cache of model '%s' take %s, more than the %s of the "
                        "GPU of platform '%s': take a platform without a GPU",
                        o->model->name, moe_format_bytes(dense, a, sizeof a),
                        moe_format_bytes(memory, b, sizeof b), o->platform->name);
    r->free_bytes = take(memory - dense, staging_bytes(o));
    r->budget_bytes = o->budget_bytes ? o->budget_bytes : r->free_bytes;
    if (r->budget_bytes > r->free_bytes)
        return moe_fail(err, MOE_ERR_USAGE,
                        "budget %s exceeds the %s that the GPU of platform '%s' has left after "
                        "dense weights, KV cache and staging of model '%s'",
                        moe_format_bytes(r->budget_bytes, a, sizeof a),
                        moe_format_bytes(r->free_bytes, b, sizeof b), o->platform->name,
                        o->model->name);
    r->slots = r->budget_bytes / moe_model_expert_bytes(o->model);
    r->slots = r->slots < all ? r->slots : all;
    return MOE_OK;
}

/* --- what the training part tells ----------------------------------------------------------- */

static enum moe_status fit_list(struct tuner *t, struct moe_err *err)
{
    size_t n = (size_t)t->o->model->n_layers * t->o->model->n_experts;
    t->r->hot = calloc(n + 1, sizeof *t->r->hot);
    t->r->uses = calloc(n + 1, sizeof *t->r->uses);
    if (!t->r->hot || !t->r->uses)
        return moe_fail_memory(err, "a hot list");
    return moe_hot_list_fit(&t->r->split.train, NULL, MOE_PHASES_DECODE, t->r->hot, t->r->uses,
                            err);
}

enum { MOST_THREADS = 4 };

/* All cores, and the measured numbers of threads below, down to a quarter of them. */
static uint32_t find_threads(const struct moe_tune_options *o, uint64_t *threads)
{
    const struct moe_platform *p = o->platform;
    uint32_t n = 0;
    threads[n++] = o->threads ? o->threads : p->cpu.cores;
    for (uint32_t i = p->cpu.n_points; !o->threads && i-- > 0 && n < MOST_THREADS;) {
        uint64_t next = p->cpu.point[i].threads;
        if (next < threads[n - 1] && 4 * next >= p->cpu.cores)
            threads[n++] = next;
    }
    return n;
}

static enum moe_status make_space(struct tuner *t, struct moe_err *err)
{
    uint64_t threads[MOST_THREADS];
    const struct moe_tokens *tokens = &t->r->split.train.tokens;
    struct moe_tune_space_spec spec = {
        .base = &t->base,
        .threads = threads,
        .n_threads = find_threads(t->o, threads),
        .parts = moe_tokens_parts(tokens),
        .prompts = moe_tune_decode_tokens(&t->r->split.train) < tokens->n_tokens,
        .hot = t->r->hot,
        .n_hot = (uint32_t)(t->o->model->n_layers * t->o->model->n_experts),
    };
    enum moe_status s = moe_tune_space_init(&t->space, &spec, err);
    return s ? s : moe_tune_add_geometries(&t->space, t->o->model, t->r->slots, err);
}

static enum moe_status add_ways(struct tuner *t, const uint64_t *worth, struct moe_err *err)
{
    const struct moe_model *model = t->o->model;
    char text[sizeof t->base.geometry];
    uint32_t *ways = calloc(model->n_layers, sizeof *ways);
    if (!ways)
        return moe_fail_memory(err, "ways");
    enum moe_status s = moe_tune_ways(worth, (uint32_t)model->n_layers, (uint32_t)model->n_experts,
                                      t->r->slots, ways, NULL, err);
    bool fits = !s && moe_tune_ways_format(ways, (uint32_t)model->n_layers, text, sizeof text);
    free(ways);
    return fits ? moe_tune_add_geometry(&t->space, text, MOE_TUNE_POOLS, NULL, err) : s;
}

/* The best divisions by LRU's curves, OPT's and those of a fixed placement, in hits and in time. */
static enum moe_status divide_slots(struct tuner *t, struct moe_err *err)
{
    struct moe_mrc mrc;
    struct moe_mrc_options options = {.phases = MOE_PHASES_DECODE, .opt = true};
    enum moe_status s = moe_mrc_compute(&t->r->split.train, &options, &mrc, err);
    if (s)
        return s;
    struct moe_costs costs;
    moe_costs_init(&costs, t->o->model, t->o->platform,
                   t->o->threads ? t->o->threads : t->o->platform->cpu.cores);
    for (int p = 0; !s && p < MOE_MRC_POLICIES; p++) {
        moe_tune_worth_hits(&mrc, (enum moe_mrc_policy)p, t->worth);
        s = add_ways(t, t->worth, err);
    }
    for (int p = MOE_MRC_POLICIES; !s && p-- > 0;) { /* LRU last: its worth stays, for moves */
        moe_tune_worth_ns(&mrc, (enum moe_mrc_policy)p, &costs, t->worth);
        s = add_ways(t, t->worth, err);
    }
    moe_mrc_release(&mrc);
    if (!s)
        s = moe_tune_worth_static(t->r->uses, (uint32_t)t->o->model->n_layers,
                                  (uint32_t)t->o->model->n_experts, t->static_worth, err);
    return s ? s : add_ways(t, t->static_worth, err);
}

static uint64_t hash_array(uint64_t hash, const void *array, uint64_t n, size_t size)
{
    const uint64_t bytes = array ? n * size : 0;
    hash =
        moe_hash_bytes(hash, &bytes, sizeof bytes); /* an absent one differs from an empty one's */
    return bytes ? moe_hash_bytes(hash, array, (size_t)bytes) : hash;
}

/* All of the trace that policies, prefetchers and the step loop can read. */
static uint64_t hash_tokens(uint64_t hash, const struct moe_trace *trace)
{
    const struct moe_tokens *k = &trace->tokens;
    const uint64_t T = k->n_tokens, L = trace->info.n_layers;
    const uint64_t routes = T * L * trace->info.top_k, scores = T * L * trace->info.n_experts;
    hash = hash_array(hash, k->sequence, T, sizeof *k->sequence);
    hash = hash_array(hash, k->step, T, sizeof *k->step);
    hash = hash_array(hash, k->position, T, sizeof *k->position);
    hash = hash_array(hash, k->phase, T, sizeof *k->phase);
    hash = hash_array(hash, k->request, T, sizeof *k->request);
    hash = hash_array(hash, k->expert, routes, sizeof *k->expert);
    hash = hash_array(hash, k->weight, routes, sizeof *k->weight);
    hash = hash_array(hash, k->score, scores, sizeof *k->score);
    return hash_array(hash, k->lookahead, scores, sizeof *k->lookahead);
}

/* A hash that tells whether ranks were given the same: files may differ between machines. */
static uint64_t identify(const struct tuner *t)
{
    const struct moe_tune_options *o = t->o;
    struct moe_costs costs;
    moe_costs_init(&costs, o->model, o->platform, o->platform->cpu.cores);
    const uint64_t given[] = {o->seed,
                              o->max_points,
                              o->n_keep,
                              o->n_rungs,
                              o->max_tokens,
                              o->threads,
                              t->r->slots,
                              (uint64_t)costs.cpu_expert_ns,
                              (uint64_t)costs.gpu_expert_ns,
                              (uint64_t)costs.copy_ns[0],
                              t->r->split.held_out.tokens.n_tokens};
    uint64_t hash = moe_hash_bytes(MOE_HASH_SEED, MOELAB_VERSION, sizeof MOELAB_VERSION);
    hash = moe_hash_bytes(hash, moe_sources(), strlen(moe_sources()));
    hash = moe_hash_bytes(hash, given, sizeof given);
    return hash_tokens(hash_tokens(hash, &t->r->split.train), &t->r->split.held_out);
}

static enum moe_status prepare(struct tuner *t, struct moe_err *err)
{
    const struct moe_tune_options *o = t->o;
    size_t n = (size_t)(o->model->n_layers * (o->model->n_experts + 1));
    if (o->base)
        t->base = *o->base;
    else
        moe_strategy_default(&t->base);
    if (moe_strategy_is_lossy(&t->base))
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' is lossy: the speeds of strategies that compute different "
                        "things cannot be compared; the tuner takes reroute=none only",
                        t->base.reroute.ops->name);
    enum moe_status s = moe_model_check_trace(o->model, &o->trace->info, err);
    if (!s)
        s = check_shared(o, err);
    if (!s)
        s = find_budget(t, err);
    if (!s)
        s = moe_tune_split(o->trace, o->seed, &t->r->split, err);
    if (!s && o->team) /* alone there is nobody to agree with */
        t->identity = identify(t);
    if (!s)
        s = fit_list(t, err);
    if (!s)
        s = make_space(t, err);
    if (s)
        return s;
    if (t->r->slots == 0)
        return MOE_OK;
    t->worth = calloc(n, sizeof *t->worth);
    t->static_worth = calloc(n, sizeof *t->static_worth);
    if (!t->worth || !t->static_worth)
        return moe_fail_memory(err, "the worth of ways");
    return divide_slots(t, err);
}

/* Of equals the first is chosen. The first family needs no GPU, the first three need no slots. */
static const enum moe_tune_family simplest_first[] = {MOE_TUNE_CPU_ONLY,    MOE_TUNE_ON_DEMAND,
                                                      MOE_TUNE_BOTH_SIDES,  MOE_TUNE_WHOLE_LAYERS,
                                                      MOE_TUNE_BEST_STATIC, MOE_TUNE_BEST_UNIFORM};

/* --- search --------------------------------------------------------------------------------- */

static void start_search(const struct tuner *t, struct moe_tune_search *q,
                         struct moe_tune_space *space)
{
    const struct moe_tune_options *o = t->o;
    *q = (struct moe_tune_search){.train = &t->r->split.train,
                                  .model = o->model,
                                  .platform = o->platform,
                                  .space = space,
                                  .max_points = o->max_points,
                                  .n_keep = o->n_keep,
                                  .n_rungs = o->n_rungs,
                                  .max_tokens = o->max_tokens,
                                  .seed = o->seed,
                                  .jobs = o->jobs,
                                  .team = o->team,
                                  .identity = t->identity,
                                  .worth = t->worth,
                                  .static_worth = t->static_worth};
}

/* How many of `simplest_first` can run. */
static size_t n_families(const struct tuner *t)
{
    const struct moe_tune_options *o = t->o;
    if (t->r->slots > 0)
        return sizeof simplest_first / sizeof *simplest_first;
    const uint64_t need = dense_bytes(o) + staging_bytes(o);
    return moe_platform_has_gpu(o->platform) && need <= o->platform->gpu.memory_bytes ? 3 : 1;
}

static enum moe_status search(struct tuner *t, struct moe_err *err)
{
    struct moe_tune_search *q = &t->search;
    start_search(t, q, &t->space);
    t->r->space = moe_tune_space_size(&t->space);
    if (t->r->slots == 0) {
        t->r->space = t->space.axis[MOE_TUNE_THREADS].n * n_families(t);
        return MOE_OK;
    }
    enum moe_status s = moe_tune_draw(q, err);
    if (!s)
        s = moe_tune_halve(q, err);
    if (!s)
        s = moe_tune_polish(q, err);
    return s ? s : moe_tune_move(q, err);
}

/* Does a point with this kind of geometry, policy `static` (fixed) or the first one, this dispatch
 * and its kind of miss belong to a family? */
static bool belongs(enum moe_tune_family family, int geometry, bool fixed, uint32_t dispatch,
                    int miss)
{
    switch (family) {
    case MOE_TUNE_BEST_UNIFORM:
        return geometry == MOE_TUNE_UNIFORM && !fixed && dispatch == 0;
    case MOE_TUNE_BEST_STATIC:
        return (geometry == MOE_TUNE_UNIFORM || geometry == MOE_TUNE_POOLS) && fixed;
    case MOE_TUNE_WHOLE_LAYERS:
        return geometry == MOE_TUNE_WHOLE && fixed && miss == MOE_MISS_CPU;
    case MOE_TUNE_CPU_ONLY:
        return geometry == MOE_TUNE_NO_SLOTS && miss == MOE_MISS_CPU;
    case MOE_TUNE_ON_DEMAND:
        return geometry == MOE_TUNE_NO_SLOTS && miss == MOE_MISS_WAIT;
    case MOE_TUNE_BOTH_SIDES:
        return geometry == MOE_TUNE_NO_SLOTS && miss == MOE_MISS_FASTEST;
    case MOE_TUNE_SEARCHED:
    case MOE_TUNE_FAMILIES:
        break;
    }
    return false;
}

static enum moe_status add_members(struct tuner *t, struct moe_tune_search *q,
                                   enum moe_tune_family family, struct moe_err *err)
{
    const struct moe_tune_values *axis = t->space.axis;
    enum moe_status s = MOE_OK;
    for (uint32_t g = 0; !s && g < axis[MOE_TUNE_GEOMETRY].n; g++)
        for (uint32_t d = 0; !s && d < axis[MOE_TUNE_DISPATCH].n; d++)
            for (uint32_t x = 0; !s && x < 2 * axis[MOE_TUNE_THREADS].n; x++) {
                struct moe_tune_point p = {{0}};
                bool fixed = x & 1;
                p.at[MOE_TUNE_GEOMETRY] = (uint16_t)g;
                p.at[MOE_TUNE_DISPATCH] = (uint16_t)d;
                p.at[MOE_TUNE_THREADS] = (uint16_t)(x / 2);
                p.at[MOE_TUNE_POLICY] = (uint16_t)(fixed ? t->space.first_static : 0);
                if (belongs(family, axis[MOE_TUNE_GEOMETRY].value[g].kind, fixed, d,
                            axis[MOE_TUNE_DISPATCH].value[d].kind))
                    s = moe_tune_add(q, p, err);
            }
    return s;
}

/* The family's best on the training part; where it has many members they are halved like the
 * search. */
static enum moe_status add_best_of(struct tuner *t, enum moe_tune_family family,
                                   struct moe_err *err)
{
    struct moe_tune_search q;
    start_search(t, &q, &t->space);
    q.n_rungs = 0;
    enum moe_status s = add_members(t, &q, family, err);
    if (!s && q.n)
        s = moe_tune_halve(&q, err);
    if (!s && q.n && family == MOE_TUNE_BEST_UNIFORM)
        s = moe_tune_vary_uniform(&q, t->r->slots, err);
    if (!s && q.n && isfinite(q.candidate[0].ns)) {
        t->families[t->n_judged] = 1U << family;
        t->judged[t->n_judged++] = q.candidate[0];
    }
    t->search.simulations += q.simulations;
    t->search.tokens += q.tokens;
    moe_tune_search_release(&q);
    return s;
}

static void merge_equal(struct tuner *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_judged; i++) {
        size_t j = 0;
        while (j < n &&
               moe_tune_point_id(t->judged[j].point) != moe_tune_point_id(t->judged[i].point))
            j++;
        if (j < n) {
            t->families[j] |= t->families[i];
            continue;
        }
        t->families[n] = t->families[i];
        t->judged[n++] = t->judged[i];
    }
    t->n_judged = n;
}

static enum moe_status gather(struct tuner *t, struct moe_err *err)
{
    size_t room = t->search.n + MOE_TUNE_FAMILIES;
    t->judged = calloc(room, sizeof *t->judged);
    t->families = calloc(room, sizeof *t->families);
    t->ms = calloc(room, sizeof *t->ms);
    if (!t->judged || !t->families || !t->ms)
        return moe_fail_memory(err, "finalists");
    enum moe_status s = MOE_OK;
    for (size_t f = 0; !s && f < n_families(t); f++)
        s = add_best_of(t, simplest_first[f], err);
    for (size_t i = 0; !s && i < t->search.n; i++)
        if (isfinite(t->search.candidate[i].ns)) {
            t->families[t->n_judged] = i == 0 ? 1U << MOE_TUNE_SEARCHED : 0;
            t->judged[t->n_judged++] = t->search.candidate[i];
        }
    merge_equal(t);
    return s;
}

/* --- judgement ------------------------------------------------------------------------------ */

static enum moe_status judge_all(struct tuner *t, struct moe_err *err)
{
    const struct moe_tune_judging judging = {.team = t->o->team,
                                             .jobs = t->o->jobs,
                                             .identity = t->identity,
                                             .held_out = &t->r->split.held_out,
                                             .n_tokens = t->units.n_tokens,
                                             .model = t->o->model,
                                             .platform = t->o->platform,
                                             .space = &t->space,
                                             .n = t->n_judged,
                                             .candidate = t->judged,
                                             .row = t->r->row,
                                             .ms = t->ms};
    enum moe_status s = moe_tune_judge(&judging, err);
    for (size_t i = 0; !s && i < t->n_judged; i++) {
        struct moe_tune_row *row = &t->r->row[i];
        row->train_tokens_per_s = 1e9 / t->judged[i].ns;
        row->families = t->families[i];
    }
    return s;
}

/* The fastest first. They are few enough for an insertion sort, which keeps the order of equals. */
static void sort_rows(struct tuner *t)
{
    struct moe_tune_row *row = t->r->row;
    for (size_t i = 1; i < t->n_judged; i++)
        for (size_t j = i; j > 0 && row[j].held_out.decode_ns < row[j - 1].held_out.decode_ns;
             j--) {
            struct moe_tune_row other = row[j];
            double *ms = t->ms[j];
            row[j] = row[j - 1];
            t->ms[j] = t->ms[j - 1];
            row[j - 1] = other;
            t->ms[j - 1] = ms;
        }
}

static enum moe_status compare(const struct tuner *t, size_t a, size_t b,
                               struct moe_tune_gain *gain, struct moe_err *err)
{
    return moe_tune_compare(&t->units, t->ms[a], t->ms[b], t->o->seed, gain, err);
}

static enum moe_status choose(struct tuner *t, struct moe_err *err)
{
    struct moe_tune_result *r = t->r;
    size_t best = r->n_rows;
    for (int f = 0; f < MOE_TUNE_FAMILIES; f++) {
        size_t i = 0;
        while (i < r->n_rows && !(r->row[i].families & 1U << f))
            i++;
        r->best_of[f] = i;
        if (f >= MOE_TUNE_CPU_ONLY && i < best)
            best = i;
    }
    struct moe_tune_gain gain;
    enum moe_status s = MOE_OK;
    if (best < r->n_rows)
        s = compare(t, 0, best, &gain, err);
    r->do_not_cache = !s && t->units.n > 1 && best < r->n_rows && moe_tune_may_be_equal(gain);
    r->chosen = r->do_not_cache ? best : 0;
    for (size_t i = 0; !s && i < r->n_rows; i++) {
        s = compare(t, r->chosen, i, &r->row[i].gain, err);
        r->row[i].within_noise = moe_tune_may_be_equal(r->row[i].gain);
    }
    return s;
}

static void name_row(struct moe_tune_row *row)
{
    int f = MOE_TUNE_CPU_ONLY;
    while (f < MOE_TUNE_FAMILIES && !(row->families & 1U << f))
        f++;
    snprintf(row->strategy.name, sizeof row->strategy.name, "%s",
             f < MOE_TUNE_FAMILIES ? moe_tune_family_names[f] : "tuned");
}

/* Rows outlive the space: where their policy is the space's fitted list, it becomes `static`. */
static enum moe_status detach_lists(struct tuner *t, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < t->r->n_rows; i++) {
        struct moe_tune_row *row = &t->r->row[i];
        name_row(row);
        row->fitted = moe_tune_is_fitted(&t->space, &row->strategy);
        if (row->fitted)
            s = moe_strategy_set(&row->strategy, "policy", "static", err);
    }
    return s;
}

static enum moe_status judge(struct tuner *t, struct moe_err *err)
{
    struct moe_tune_result *r = t->r;
    enum moe_status s = moe_tune_units_init(&t->units, &r->split.held_out, err);
    if (s)
        return s;
    r->blocks = t->units.blocks;
    r->n_units = t->units.n;
    r->row = calloc(t->n_judged + 1, sizeof *r->row);
    if (!r->row)
        return moe_fail_memory(err, "finalists");
    s = judge_all(t, err);
    if (s)
        return s;
    r->n_rows = t->n_judged;
    sort_rows(t);
    s = choose(t, err);
    return s ? s : detach_lists(t, err);
}

static void release(struct tuner *t)
{
    for (size_t i = 0; t->ms && i < t->n_judged; i++)
        free(t->ms[i]);
    free(t->ms);
    free(t->judged);
    free(t->families);
    free(t->worth);
    free(t->static_worth);
    moe_tune_units_release(&t->units);
    moe_tune_search_release(&t->search);
    moe_tune_space_release(&t->space);
}

enum moe_status moe_tune(const struct moe_tune_options *options, struct moe_tune_result *out,
                         struct moe_err *err)
{
    struct moe_tune_result result = {0};
    struct tuner t = {.o = options, .r = &result};
    enum moe_status s = prepare(&t, err);
    if (!s)
        s = search(&t, err);
    if (!s)
        s = gather(&t, err);
    if (!s)
        s = judge(&t, err);
    result.simulations = t.search.simulations + t.n_judged;
    result.tokens = t.search.tokens + t.n_judged * t.units.n_tokens;
    release(&t);
    if (!s) {
        *out = result;
        return MOE_OK;
    }
    moe_tune_release(&result);
    return s == MOE_ERR_INTERRUPTED ? moe_fail(err, s, "interrupted: the search is not kept") : s;
}

void moe_tune_release(struct moe_tune_result *result)
{
    moe_tune_split_release(&result->split);
    free(result->hot);
    free(result->uses);
    free(result->row);
    *result = (struct moe_tune_result){0};
}
