#include "sim/mrc_interval.h"

#include "base/numbers.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

static uint64_t *zeros(uint64_t n, uint32_t m)
{
    return calloc((size_t)n * m + 1, sizeof(uint64_t));
}

/* Sizes of one pool: every one of a small model, evenly spaced ones of a large one. */
static bool choose_slots(struct moe_mrc_sequences *q, uint32_t n_slots)
{
    uint32_t step = (n_slots + MOE_MRC_GLOBAL_POINTS - 1) / MOE_MRC_GLOBAL_POINTS;
    q->slots = calloc(MOE_MRC_GLOBAL_POINTS + 1, sizeof *q->slots);
    if (!q->slots)
        return false;
    for (uint32_t slots = step; step && slots < n_slots; slots += step)
        q->slots[q->n_points++] = slots;
    q->slots[q->n_points++] = n_slots;
    return true;
}

enum moe_status moe_mrc_sequences_init(struct moe_mrc_sequences *out,
                                       const struct moe_trace_info *info,
                                       const struct moe_mrc_options *options, uint64_t n,
                                       struct moe_err *err)
{
    struct moe_mrc_sequences q = {.n = n, .n_ways = info->n_experts};
    bool ok = !options->global || choose_slots(&q, info->n_layers * info->n_experts);
    for (int phase = 0; phase < 2; phase++) {
        ok &= (q.lookups[phase] = zeros(n, 1)) != NULL;
        for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
            if (policy == MOE_MRC_OPT && !options->opt)
                continue;
            ok &= (q.hits_at_ways[policy][phase] = zeros(n, q.n_ways)) != NULL;
            ok &= (q.hits_at_slots[policy][phase] = zeros(n, q.n_points)) != NULL;
        }
    }
    if (!ok) {
        moe_mrc_sequences_release(&q);
        return moe_fail_memory(err, "the hits of each sequence");
    }
    *out = q;
    return MOE_OK;
}

void moe_mrc_sequences_release(struct moe_mrc_sequences *q)
{
    free(q->slots);
    for (int phase = 0; phase < 2; phase++) {
        free(q->lookups[phase]);
        for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
            free(q->hits_at_ways[policy][phase]);
            free(q->hits_at_slots[policy][phase]);
        }
    }
    *q = (struct moe_mrc_sequences){0};
}

/* What the replicates are made from: the sequences with lookups, and how often each is drawn. */
struct draws {
    enum moe_phases phases;
    uint64_t n;         /* sequences that take part */
    uint64_t *at;       /* [n] which they are */
    uint16_t *times;    /* [MOE_MRC_REPLICATES, n] */
    double *lookups;    /* [MOE_MRC_REPLICATES] */
    double *hits, *own; /* scratch: [n] of one size; [MOE_MRC_REPLICATES] rates */
};

/* Sum over the wanted phases of column `at` of arrays [phase][n, width]. */
static uint64_t entry(uint64_t *const array[2], enum moe_phases phases, size_t at)
{
    return (phases == MOE_PHASES_DECODE ? 0 : array[MOE_PREFILL][at]) +
           (phases == MOE_PHASES_PREFILL ? 0 : array[MOE_DECODE][at]);
}

static void draws_release(struct draws *d)
{
    free(d->at);
    free(d->times);
    free(d->lookups);
    free(d->hits);
    free(d->own);
}

static void draw(struct draws *d, const struct moe_mrc_sequences *q, uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    for (uint32_t b = 0; b < MOE_MRC_REPLICATES; b++) {
        uint16_t *times = d->times + (size_t)b * d->n;
        for (uint64_t i = 0; i < d->n; i++) {
            uint64_t k = moe_rng_below(&rng, d->n);
            times[k] = (uint16_t)(times[k] + (times[k] < UINT16_MAX));
        }
        for (uint64_t i = 0; i < d->n; i++)
            d->lookups[b] += times[i] * (double)entry(q->lookups, d->phases, (size_t)d->at[i]);
    }
}

static enum moe_status draws_init(struct draws *d, const struct moe_mrc_sequences *q, uint64_t seed,
                                  struct moe_err *err)
{
    d->at = calloc((size_t)q->n + 1, sizeof *d->at);
    d->times = calloc((size_t)q->n * MOE_MRC_REPLICATES + 1, sizeof *d->times);
    d->lookups = calloc(MOE_MRC_REPLICATES, sizeof *d->lookups);
    d->hits = calloc((size_t)q->n + 1, sizeof *d->hits);
    d->own = calloc(MOE_MRC_REPLICATES, sizeof *d->own);
    if (!d->at || !d->times || !d->lookups || !d->hits || !d->own) {
        draws_release(d);
        return moe_fail_memory(err, "resampled sequences");
    }
    for (uint64_t i = 0; i < q->n; i++)
        if (entry(q->lookups, d->phases, (size_t)i) > 0)
            d->at[d->n++] = i;
    draw(d, q, seed);
    return MOE_OK;
}

/* The band of column `column` of arrays [phase][n, width]. Two sequences or more make a band. */
static struct moe_mrc_band band(struct draws *d, uint64_t *const hits[2], uint32_t width,
                                uint32_t column)
{
    if (d->n < 2)
        return (struct moe_mrc_band){NAN, NAN};
    for (uint64_t i = 0; i < d->n; i++)
        d->hits[i] = (double)entry(hits, d->phases, (size_t)d->at[i] * width + column);
    for (uint32_t b = 0; b < MOE_MRC_REPLICATES; b++) {
        const uint16_t *times = d->times + (size_t)b * d->n;
        double sum = 0;
        for (uint64_t i = 0; i < d->n; i++)
            sum += times[i] * d->hits[i];
        d->own[b] = sum / d->lookups[b];
    }
    moe_sort_f64(d->own, MOE_MRC_REPLICATES);
    return (struct moe_mrc_band){moe_quantile(d->own, MOE_MRC_REPLICATES, 0.025),
                                 moe_quantile(d->own, MOE_MRC_REPLICATES, 0.975)};
}

enum moe_status moe_mrc_bands(const struct moe_mrc_sequences *q, enum moe_mrc_policy policy,
                              enum moe_phases phases, uint64_t seed, struct moe_mrc_band *at_ways,
                              struct moe_mrc_band *at_slots, struct moe_err *err)
{
    struct draws d = {.phases = phases};
    enum moe_status s = draws_init(&d, q, seed, err);
    if (s)
        return s;
    for (uint32_t i = 0; at_ways && i < q->n_ways; i++)
        at_ways[i] = band(&d, q->hits_at_ways[policy], q->n_ways, i);
    for (uint32_t i = 0; at_slots && i < q->n_points; i++)
        at_slots[i] = band(&d, q->hits_at_slots[policy], q->n_points, i);
    draws_release(&d);
    return MOE_OK;
}
