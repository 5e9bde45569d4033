#include "sim/mrc.h"

#include "sim/mrc_opt.h"
#include "sim/mrc_opt_ends.h"
#include "sim/mrc_opt_lanes.h"
#include "sim/mrc_unit.h"
#include "sim/threads.h"

#include <stdlib.h>

/* Below so many uses, starting threads takes longer than the work. */
enum { LAYER_GROUPS = 8, MAX_UNITS = 2 * (LAYER_GROUPS + 1), WORTH_THREADS = 1 << 15 };

/* A computation under way. */
struct mrc {
    struct moe_mrc_job job;
    uint32_t n_units;
    struct {
        struct moe_mrc_unit *work;
        enum moe_mrc_policy policy;
        bool global;
        uint32_t first, end;
        enum moe_status status;
        struct moe_err err;
    } unit[MAX_UNITS];
};

static enum moe_status add_unit(struct mrc *m, enum moe_mrc_policy policy, bool global,
                                uint32_t first, uint32_t end, struct moe_err *err)
{
    struct moe_mrc_unit *work;
    if (policy == MOE_MRC_OPT && !m->job.options->opt)
        return MOE_OK;
    enum moe_status s = moe_mrc_unit_new(&work, &m->job, policy, global, first, end, err);
    if (s)
        return s;
    m->unit[m->n_units].work = work;
    m->unit[m->n_units].policy = policy;
    m->unit[m->n_units].global = global;
    m->unit[m->n_units].first = first;
    m->unit[m->n_units++].end = end;
    return MOE_OK;
}

/* The first layer of group g; layers that are handled sixteen at once stay together. */
static uint32_t group_begin(const struct mrc *m, enum moe_mrc_policy policy, uint32_t g)
{
    uint32_t n_layers = m->job.info->n_layers;
    uint32_t together = moe_mrc_unit_has_lanes(&m->job, policy) ? MOE_OPT_LANES : 1;
    uint32_t begin = (n_layers + together - 1) / together * g / LAYER_GROUPS * together;
    return begin < n_layers ? begin : n_layers;
}

/* The long ones first, so that threads end together. */
static enum moe_status add_units(struct mrc *m, struct moe_err *err)
{
    uint32_t n_layers = m->job.info->n_layers;
    enum moe_status s = MOE_OK;
    for (int policy = MOE_MRC_POLICIES; !s && m->job.options->global && policy-- > 0;)
        s = add_unit(m, (enum moe_mrc_policy)policy, true, 0, n_layers, err);
    for (int policy = MOE_MRC_POLICIES; !s && policy-- > 0;)
        for (uint32_t g = 0; !s && g < LAYER_GROUPS; g++) {
            enum moe_mrc_policy which = (enum moe_mrc_policy)policy;
            uint32_t first = group_begin(m, which, g);
            uint32_t end = group_begin(m, which, g + 1);
            if (first < end)
                s = add_unit(m, which, false, first, end, err);
        }
    m->job.n_units = m->n_units;
    return s;
}

static void remove_units(struct mrc *m)
{
    for (uint32_t i = 0; i < m->n_units; i++)
        moe_mrc_unit_free(m->unit[i].work);
}

static enum moe_status begin(struct mrc *m, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    if (m->job.options->order == MOE_ORDER_FILE && !m->job.info->rows_in_order)
        return moe_fail(err, MOE_ERR_USAGE,
                        "order 'file' refused: the rows of the imported file did not stand in "
                        "execution order; use order 'step'");
    s = add_units(m, err);
    if (s)
        remove_units(m);
    return s;
}

static bool looks_ahead(const struct mrc *m)
{
    bool any = false;
    for (uint32_t i = 0; i < m->n_units; i++)
        any |= moe_mrc_unit_looks_ahead(m->unit[i].work);
    return any;
}

/* Every unit over the same tokens; the first failure in the order of units counts. */
static enum moe_status run_units(struct mrc *m, const struct moe_tokens *tokens,
                                 const uint32_t *next_use, struct moe_err *err)
{
    uint64_t n_uses = tokens->n_tokens * m->job.info->n_layers * m->job.info->top_k;
    /* NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): read by the OpenMP clause below */
    const int threads = n_uses < WORTH_THREADS ? 1 : moe_threads_for(m->n_units, 0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (uint32_t i = 0; i < m->n_units; i++)
        m->unit[i].status = moe_mrc_unit_run(m->unit[i].work, tokens, next_use, &m->unit[i].err);
    for (uint32_t i = 0; i < m->n_units; i++)
        if (m->unit[i].status)
            return moe_fail(err, m->unit[i].status, "%s", m->unit[i].err.text);
    return MOE_OK;
}

static void curve_release(struct moe_mrc_curve *curve)
{
    free(curve->hits);
    free(curve->any_hit_events);
    free(curve->all_hit_events);
}

static bool curve_init(struct moe_mrc_curve *curve, const struct moe_mrc_counts *counts)
{
    uint32_t n = counts->max_slots;
    *curve = (struct moe_mrc_curve){.max_slots = n};
    curve->hits = calloc((size_t)n + 1, sizeof *curve->hits);
    curve->any_hit_events = calloc((size_t)n + 1, sizeof *curve->any_hit_events);
    curve->all_hit_events = calloc((size_t)n + 1, sizeof *curve->all_hit_events);
    if (!curve->hits || !curve->any_hit_events || !curve->all_hit_events)
        return false;
    for (uint32_t i = 1; i <= n; i++) {
        curve->hits[i] = curve->hits[i - 1] + counts->uses[i];
        curve->any_hit_events[i] = curve->any_hit_events[i - 1] + counts->first[i];
        curve->all_hit_events[i] = curve->all_hit_events[i - 1] + counts->last[i];
    }
    curve->lookups = curve->hits[n] + counts->uses[n + 1];
    curve->events = curve->any_hit_events[n] + counts->first[n + 1];
    return true;
}

static bool take_unit(struct moe_mrc *out, const struct mrc *m, uint32_t i)
{
    enum moe_mrc_policy policy = m->unit[i].policy;
    bool ok = true;
    for (int p = 0; p < 2; p++) {
        enum moe_phase phase = (enum moe_phase)p;
        if (m->unit[i].global) {
            ok &=
                curve_init(&out->global[policy][p], moe_mrc_unit_counts(m->unit[i].work, 0, phase));
            continue;
        }
        for (uint32_t l = m->unit[i].first; l < m->unit[i].end; l++)
            ok &= curve_init(&out->layer[policy][p][l],
                             moe_mrc_unit_counts(m->unit[i].work, l, phase));
    }
    return ok;
}

static bool take_units(struct moe_mrc *out, const struct mrc *m)
{
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++)
        for (int p = 0; p < 2; p++) {
            out->layer[policy][p] = calloc(out->n_layers + 1u, sizeof *out->layer[policy][p]);
            if (!out->layer[policy][p])
                return false;
        }
    bool ok = true;
    for (uint32_t i = 0; i < m->n_units; i++)
        ok &= take_unit(out, m, i);
    return ok;
}

static enum moe_status finish(struct mrc *m, struct moe_mrc *out, struct moe_err *err)
{
    struct moe_mrc mrc = {.n_layers = m->job.info->n_layers,
                          .n_experts = m->job.info->n_experts,
                          .tokens = m->n_units ? moe_mrc_unit_tokens(m->unit[0].work) : 0,
                          .has_opt = m->job.options->opt,
                          .has_global = m->job.options->global};
    for (uint32_t i = 0; i < m->n_units; i++)
        moe_mrc_unit_end(m->unit[i].work);
    if (!take_units(&mrc, m)) {
        moe_mrc_release(&mrc);
        return moe_fail_memory(err, "the curves");
    }
    *out = mrc;
    return MOE_OK;
}

void moe_mrc_release(struct moe_mrc *mrc)
{
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++)
        for (int p = 0; p < 2; p++) {
            for (uint32_t l = 0; mrc->layer[policy][p] && l < mrc->n_layers; l++)
                curve_release(&mrc->layer[policy][p][l]);
            free(mrc->layer[policy][p]);
            curve_release(&mrc->global[policy][p]);
        }
    *mrc = (struct moe_mrc){0};
}

enum moe_status moe_mrc_compute(const struct moe_trace *trace,
                                const struct moe_mrc_options *options, struct moe_mrc *out,
                                struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    struct mrc m = {.job = {.info = info, .options = options}};
    uint32_t *next_use = NULL;
    enum moe_status s = begin(&m, err);
    if (s)
        return s;
    if (looks_ahead(&m))
        s = moe_future_build(&trace->tokens, info->n_layers, info->n_experts, info->top_k,
                             options->contract, options->order, options->phases, &next_use, err);
    if (!s)
        s = run_units(&m, &trace->tokens, next_use, err);
    if (!s)
        s = finish(&m, out, err);
    free(next_use);
    remove_units(&m);
    return s;
}

enum moe_status moe_mrc_streams_opt(const struct moe_trace_info *info, bool global,
                                    struct moe_err *err)
{
    const uint32_t n_slots = info->n_layers * info->n_experts;
    if (!moe_opt_has_avx512())
        return moe_fail(err, MOE_ERR_USAGE,
                        "OPT from blocks of a file needs a processor with AVX-512: leave out "
                        "--stream, add --no-opt, or take a part with --sample");
    if (!moe_opt_stack_can_look_back(global ? n_slots : info->n_experts))
        return moe_fail(err, MOE_ERR_USAGE,
                        "OPT from blocks of a file: one pool of %u slots exceeds %d: add "
                        "--no-global or --no-opt, or take a part with --sample",
                        n_slots, MOE_OPT_ENDS_MOST);
    return MOE_OK;
}

enum moe_status moe_mrc_stream(struct moe_reader *reader, const struct moe_mrc_options *options,
                               struct moe_mrc *out, struct moe_err *err)
{
    struct mrc m = {.job = {.info = moe_reader_info(reader), .options = options, .blocks = true}};
    enum moe_status s =
        options->opt ? moe_mrc_streams_opt(m.job.info, options->global, err) : MOE_OK;
    if (!s)
        s = begin(&m, err);
    if (s)
        return s;
    for (;;) {
        const struct moe_tokens *block;
        s = moe_reader_next(reader, 0, &block, err);
        if (s || !block)
            break;
        s = run_units(&m, block, NULL, err);
        if (s)
            break;
    }
    if (!s)
        s = finish(&m, out, err);
    remove_units(&m);
    return s;
}

static void add_curve(struct moe_mrc_point *sum, const struct moe_mrc_curve *curve, uint32_t slots)
{
    sum->lookups += curve->lookups;
    sum->events += curve->events;
    sum->hits += curve->hits[slots];
    sum->any_hit_events += curve->any_hit_events[slots];
    sum->all_hit_events += curve->all_hit_events[slots];
}

static bool in_phases(enum moe_phases phases, int phase)
{
    return phases == MOE_PHASES_BOTH || (phases == MOE_PHASES_DECODE) == (phase == MOE_DECODE);
}

struct moe_mrc_point moe_mrc_at_ways(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                                     enum moe_phases phases, uint32_t first, uint32_t end,
                                     uint32_t ways)
{
    struct moe_mrc_point sum = {0};
    for (int p = 0; p < 2; p++)
        for (uint32_t l = first; in_phases(phases, p) && l < end; l++)
            add_curve(&sum, &mrc->layer[policy][p][l], ways);
    return sum;
}

struct moe_mrc_point moe_mrc_at_slots(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                                      enum moe_phases phases, uint32_t slots)
{
    struct moe_mrc_point sum = {0};
    for (int p = 0; p < 2; p++)
        if (in_phases(phases, p))
            add_curve(&sum, &mrc->global[policy][p], slots);
    return sum;
}
