#include "sim/mrc.h"

#include "sim/mrc_interval.h"
#include "sim/mrc_sample.h"
#include "sim/replay.h"
#include "tests/unit/hdf5_traces.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"
#include "traces/source.h"
#include "traces/synth.h"

#include <math.h>
#include <stdio.h>

enum { N_CASES = ADDRESS_SANITIZER ? 150 : 1500 };

static const char *const policies[] = {"lru", "opt"};
static const char *const contracts[] = {"event", "access"};

/* --- equal to replay at every size --------------------------------------------------------- */

struct subject {
    const char *name;
    const struct moe_trace *trace;
    struct moe_replay_options replay;
    struct moe_mrc mrc;
};

static void replay_text(const struct subject *x, const char *geometry, int policy,
                        struct moe_replay_result *out)
{
    const struct moe_trace_info *info = &x->trace->info;
    struct moe_geometry g;
    struct moe_policy_spec spec;
    struct moe_err err = {0};
    if (moe_geometry_parse(geometry, info->n_layers, info->n_experts, NULL, &g, &err) ||
        moe_policy_parse(policies[policy], &spec, &err) ||
        moe_replay(x->trace, &g, &spec, &x->replay, out, &err))
        ck_abort_msg("%s: %s", geometry, err.text);
    moe_geometry_release(&g);
}

static void expect_point(const struct subject *x, const char *geometry, int policy,
                         const char *what, struct moe_mrc_point got, const struct moe_counts *want)
{
    if (got.lookups == want->lookups && got.hits == want->hits && got.events == want->events &&
        got.any_hit_events == want->any_hit_events && got.all_hit_events == want->all_hit_events)
        return;
    ck_abort_msg("%s: %s %s %s phases %d cold %d, %s: lookups %llu %llu, hits %llu %llu, events "
                 "%llu %llu, any %llu %llu, all %llu %llu",
                 x->name, geometry, policies[policy], contracts[x->replay.contract],
                 (int)x->replay.phases, x->replay.cold, what, (unsigned long long)got.lookups,
                 (unsigned long long)want->lookups, (unsigned long long)got.hits,
                 (unsigned long long)want->hits, (unsigned long long)got.events,
                 (unsigned long long)want->events, (unsigned long long)got.any_hit_events,
                 (unsigned long long)want->any_hit_events, (unsigned long long)got.all_hit_events,
                 (unsigned long long)want->all_hit_events);
}

static const enum moe_phases one_phase[] = {
    [MOE_PREFILL] = MOE_PHASES_PREFILL, [MOE_DECODE] = MOE_PHASES_DECODE};

static void compare_ways(const struct subject *x, int policy, uint32_t ways)
{
    uint32_t n_layers = x->trace->info.n_layers;
    struct moe_replay_result want;
    char text[32], what[32];
    snprintf(text, sizeof text, "%ux%u", n_layers, ways);
    replay_text(x, text, policy, &want);
    for (int p = 0; p < 2; p++)
        for (uint32_t l = 0; l < n_layers; l++) {
            snprintf(what, sizeof what, "layer %u phase %d", l, p);
            expect_point(
                x, text, policy, what,
                moe_mrc_at_ways(&x->mrc, (enum moe_mrc_policy)policy, one_phase[p], l, l + 1, ways),
                &want.layer[p][l]);
        }
    expect_point(
        x, text, policy, "both phases",
        moe_mrc_at_ways(&x->mrc, (enum moe_mrc_policy)policy, MOE_PHASES_BOTH, 0, n_layers, ways),
        &want.both);
    moe_replay_release(&want);
}

static void compare_slots(const struct subject *x, int policy, uint32_t slots)
{
    struct moe_replay_result want;
    char text[32];
    snprintf(text, sizeof text, "global:%u", slots);
    replay_text(x, text, policy, &want);
    for (int p = 0; p < 2; p++)
        expect_point(x, text, policy, p == MOE_DECODE ? "decode" : "prefill",
                     moe_mrc_at_slots(&x->mrc, (enum moe_mrc_policy)policy, one_phase[p], slots),
                     &want.total[p]);
    expect_point(x, text, policy, "both phases",
                 moe_mrc_at_slots(&x->mrc, (enum moe_mrc_policy)policy, MOE_PHASES_BOTH, slots),
                 &want.both);
    moe_replay_release(&want);
}

static struct moe_mrc_options options_of(const struct moe_replay_options *replay)
{
    return (struct moe_mrc_options){.contract = replay->contract,
                                    .order = replay->order,
                                    .phases = replay->phases,
                                    .cold = replay->cold,
                                    .opt = true,
                                    .global = true};
}

/* Of the ways and the sizes of one pool, the first, the last and every step-th are compared. */
static void compare_all(struct subject *x, uint32_t ways_step, uint32_t step)
{
    uint32_t n_experts = x->trace->info.n_experts, n_slots = x->trace->info.n_layers * n_experts;
    struct moe_mrc_options options = options_of(&x->replay);
    struct moe_err err = {0};
    if (moe_mrc_compute(x->trace, &options, &x->mrc, &err))
        ck_abort_msg("%s: %s", x->name, err.text);
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
        for (uint32_t ways = 1; ways < n_experts; ways += ways_step)
            compare_ways(x, policy, ways);
        compare_ways(x, policy, n_experts);
        for (uint32_t slots = 1; slots < n_slots; slots += step)
            compare_slots(x, policy, slots);
        compare_slots(x, policy, n_slots);
    }
    moe_mrc_release(&x->mrc);
}

static struct random_shape draw_shape(struct moe_rng *rng)
{
    static const uint32_t experts[] = {1, 2, 3, 5, 8, 16, 17};
    struct random_shape shape = {
        .n_layers = 1 + (uint32_t)moe_rng_below(rng, 4),
        .n_experts = experts[moe_rng_below(rng, 7)],
        .n_tokens = 1 + (uint32_t)moe_rng_below(rng, 120),
        .absent = moe_rng_below(rng, 2),
        .many = moe_rng_below(rng, 2),
    };
    uint32_t most = shape.n_experts < 6 ? shape.n_experts : 6;
    shape.top_k = 1 + (uint32_t)moe_rng_below(rng, most);
    return shape;
}

START_TEST(equals_replay_at_every_size)
{
    for (uint64_t seed = 1; seed <= N_CASES; seed++) {
        struct moe_rng rng;
        struct moe_trace trace;
        char name[48];
        moe_rng_init(&rng, seed);
        struct random_shape shape = draw_shape(&rng);
        random_trace(&rng, &shape, &trace);
        snprintf(name, sizeof name, "seed %llu", (unsigned long long)seed);
        struct subject x = {
            .name = name,
            .trace = &trace,
            .replay = {.contract =
                           moe_rng_below(&rng, 2) ? MOE_CONTRACT_EVENT : MOE_CONTRACT_ACCESS,
                       .order = moe_rng_below(&rng, 3) ? MOE_ORDER_STEP : MOE_ORDER_TOKEN,
                       .phases = (enum moe_phases)moe_rng_below(&rng, 3),
                       .cold = moe_rng_below(&rng, 2)},
        };
        compare_all(&x, 1, 1);
        moe_trace_release(&trace);
    }
}
END_TEST

/* Passes larger than most pools, again and again: the order in which small pools keep experts. */
START_TEST(equals_replay_where_events_exceed_pools)
{
    for (uint64_t seed = 1; seed <= N_CASES / 50; seed++) {
        struct moe_rng rng;
        struct moe_trace trace;
        moe_rng_init(&rng, seed);
        struct random_shape shape = {
            .n_layers = 2, .n_experts = 24, .top_k = 6, .n_tokens = 400, .many = true};
        random_trace(&rng, &shape, &trace);
        struct subject x = {.name = "large events", .trace = &trace};
        compare_all(&x, 1, 1);
        moe_trace_release(&trace);
    }
}
END_TEST

/* More layers than a part of the work has lanes, and more experts than pass a stack at once. */
START_TEST(equals_replay_of_many_layers)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct moe_rng rng;
        struct moe_trace trace;
        moe_rng_init(&rng, seed);
        struct random_shape shape = {.n_layers = 150,
                                     .n_experts = 14,
                                     .top_k = seed % 2 ? 11 : 3,
                                     .n_tokens = 30,
                                     .absent = true,
                                     .many = seed > 2};
        random_trace(&rng, &shape, &trace);
        struct subject x = {.name = "many layers", .trace = &trace, .replay = {.cold = seed > 3}};
        compare_all(&x, 3, 699);
        moe_trace_release(&trace);
    }
}
END_TEST

static void compare_recorded(const char *name, uint32_t ways_step, uint32_t step)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    if (moe_trace_from_name(name, 0, NULL, &trace, &err)) {
        printf("skipped: %s\n", err.text);
        return;
    }
    for (int contract = 0; contract < 2; contract++) {
        struct subject x = {
            .name = name, .trace = &trace, .replay = {.contract = (enum moe_contract)contract}};
        compare_all(&x, ways_step, step);
    }
    moe_trace_release(&trace);
}

START_TEST(equals_replay_on_recorded_traces)
{
    compare_recorded("expert-choices:../shared/data/traces/minicpm-moe-8x2b/expert_choices.csv", 1,
                     1);
    compare_recorded("route-csv:../shared/data/traces/qwen3-30b-a3b/qwen.route.csv", 21, 3001);
}
END_TEST

/* --- by hand -------------------------------------------------------------------------------- */

/* One layer of 4 experts, top-2, three decode tokens: {0,1} {0,2} {1,0}. */
static void hand_trace(struct moe_trace *trace)
{
    static const moe_expert routes[] = {0, 1, 0, 2, 1, 0};
    struct moe_err err;
    memset(trace, 0, sizeof *trace);
    trace->info.n_layers = 1;
    trace->info.n_experts = 4;
    trace->info.top_k = 2;
    ck_assert_int_eq(moe_tokens_init(&trace->tokens, &trace->info, 3, 0, &err), MOE_OK);
    memcpy(trace->tokens.expert, routes, sizeof routes);
    for (uint32_t t = 0; t < 3; t++) {
        trace->tokens.step[t] = t;
        trace->tokens.phase[t] = MOE_DECODE;
    }
}

static void expect_hits(const struct moe_mrc_curve *curve, const uint64_t *hits,
                        const uint64_t *any, const uint64_t *all)
{
    ck_assert_uint_eq(curve->max_slots, 4);
    ck_assert_uint_eq(curve->lookups, 6);
    ck_assert_uint_eq(curve->events, 3);
    for (uint32_t slots = 0; slots <= 4; slots++) {
        ck_assert_uint_eq(curve->hits[slots], hits[slots]);
        ck_assert_uint_eq(curve->any_hit_events[slots], any[slots]);
        ck_assert_uint_eq(curve->all_hit_events[slots], all[slots]);
    }
}

START_TEST(counts_by_hand)
{
    struct moe_trace trace;
    struct moe_mrc mrc;
    struct moe_err err;
    hand_trace(&trace);
    struct moe_mrc_options options = {.contract = MOE_CONTRACT_EVENT, .opt = true};
    ck_assert_int_eq(moe_mrc_compute(&trace, &options, &mrc, &err), MOE_OK);
    ck_assert_uint_eq(mrc.tokens, 3);
    /* One slot keeps 0, the first in gate order; two give up 1 for 2 and 2 for 1. */
    expect_hits(&mrc.layer[MOE_MRC_LRU][MOE_DECODE][0], (uint64_t[]){0, 2, 2, 3, 3},
                (uint64_t[]){0, 2, 2, 2, 2}, (uint64_t[]){0, 0, 0, 1, 1});
    /* Two slots decline 2, which never comes again. */
    expect_hits(&mrc.layer[MOE_MRC_OPT][MOE_DECODE][0], (uint64_t[]){0, 2, 3, 3, 3},
                (uint64_t[]){0, 2, 2, 2, 2}, (uint64_t[]){0, 0, 1, 1, 1});
    ck_assert_uint_eq(mrc.layer[MOE_MRC_LRU][MOE_PREFILL][0].lookups, 0);
    moe_mrc_release(&mrc);
    options.contract = MOE_CONTRACT_ACCESS;
    ck_assert_int_eq(moe_mrc_compute(&trace, &options, &mrc, &err), MOE_OK);
    expect_hits(&mrc.layer[MOE_MRC_LRU][MOE_DECODE][0], (uint64_t[]){0, 0, 1, 3, 3},
                (uint64_t[]){0, 0, 1, 2, 2}, (uint64_t[]){0, 0, 0, 1, 1});
    expect_hits(&mrc.layer[MOE_MRC_OPT][MOE_DECODE][0], (uint64_t[]){0, 2, 3, 3, 3},
                (uint64_t[]){0, 2, 2, 2, 2}, (uint64_t[]){0, 0, 1, 1, 1});
    moe_mrc_release(&mrc);
    moe_trace_release(&trace);
}
END_TEST

/* --- properties ----------------------------------------------------------------------------- */

static struct moe_trace synth(const char *spec)
{
    struct moe_trace trace;
    struct moe_err err;
    ck_assert_msg(!moe_synth_make(spec, &trace, &err), "%s: %s", spec, err.text);
    return trace;
}

static struct moe_mrc compute(const struct moe_trace *trace, const struct moe_mrc_options *options)
{
    struct moe_mrc mrc;
    struct moe_err err;
    ck_assert_msg(!moe_mrc_compute(trace, options, &mrc, &err), "%s", err.text);
    return mrc;
}

/* More slots, more hits; OPT no less than LRU; all slots miss only what comes for the first time.
 */
START_TEST(curves_rise)
{
    struct moe_trace trace =
        synth("zipf:layers=3,experts=12,top_k=3,tokens=600,sequences=6,prompt=7,seed=3");
    for (int contract = 0; contract < 2; contract++) {
        struct moe_mrc_options options = {
            .contract = (enum moe_contract)contract, .opt = true, .global = true};
        struct moe_mrc mrc = compute(&trace, &options);
        uint64_t before[2] = {0};
        for (uint32_t slots = 1; slots <= 36; slots++) {
            struct moe_mrc_point lru, opt;
            lru = moe_mrc_at_slots(&mrc, MOE_MRC_LRU, MOE_PHASES_BOTH, slots);
            opt = moe_mrc_at_slots(&mrc, MOE_MRC_OPT, MOE_PHASES_BOTH, slots);
            ck_assert(lru.hits >= before[0] && opt.hits >= before[1] && opt.hits >= lru.hits);
            before[0] = lru.hits;
            before[1] = opt.hits;
            if (slots == 36)
                ck_assert_uint_eq(lru.lookups - lru.hits, 36);
        }
        ck_assert_uint_eq(before[0], before[1]);
        moe_mrc_release(&mrc);
    }
    moe_trace_release(&trace);
}
END_TEST

static void expect_same_curve(const struct moe_mrc_curve *a, const struct moe_mrc_curve *b)
{
    size_t size = (a->max_slots + 1u) * sizeof *a->hits;
    ck_assert_uint_eq(a->max_slots, b->max_slots);
    ck_assert_uint_eq(a->lookups, b->lookups);
    ck_assert_uint_eq(a->events, b->events);
    ck_assert_mem_eq(a->hits, b->hits, size);
    ck_assert_mem_eq(a->any_hit_events, b->any_hit_events, size);
    ck_assert_mem_eq(a->all_hit_events, b->all_hit_events, size);
}

static void expect_same(const struct moe_mrc *a, const struct moe_mrc *b,
                        enum moe_mrc_policy policy)
{
    for (int p = 0; p < 2; p++) {
        for (uint32_t l = 0; l < a->n_layers; l++)
            expect_same_curve(&a->layer[policy][p][l], &b->layer[policy][p][l]);
        expect_same_curve(&a->global[policy][p], &b->global[policy][p]);
    }
}

/* From a file in blocks, and from a sample of everything: the same curves. */
START_TEST(streams_and_samples_whole_traces)
{
    char folder[256], path[300];
    struct moe_err err;
    struct moe_reader *reader;
    struct moe_mrc streamed;
    struct moe_mrc_sample sample;
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/t.h5", folder);
    struct moe_trace trace =
        synth("sticky:layers=4,experts=16,top_k=2,tokens=30000,sequences=9,prompt=40");
    ck_assert_int_eq(moe_trace_save(path, &trace, &err), MOE_OK);
    struct moe_mrc_options options = {.global = true};
    struct moe_mrc whole = compute(&trace, &options);
    ck_assert_int_eq(moe_reader_open(&reader, path, &err), MOE_OK);
    ck_assert_int_eq(moe_mrc_stream(reader, &options, &streamed, &err), MOE_OK);
    ck_assert_uint_eq(streamed.tokens, whole.tokens);
    expect_same(&whole, &streamed, MOE_MRC_LRU);
    moe_mrc_release(&streamed);
    struct moe_mrc_sample_options all = {.rate = 1};
    ck_assert_int_eq(moe_mrc_sample_stream(reader, &all, &sample, &err), MOE_OK);
    ck_assert_uint_eq(sample.n_counted, 9);
    struct moe_mrc sampled = compute(&sample.trace, &options);
    expect_same(&whole, &sampled, MOE_MRC_LRU);
    moe_mrc_release(&sampled);
    moe_mrc_sample_release(&sample);
    moe_reader_close(reader);
    moe_mrc_release(&whole);
    moe_trace_release(&trace);
    remove_folder(folder);
}
END_TEST

START_TEST(refuses)
{
    struct moe_trace trace = synth("uniform:layers=2,experts=4,top_k=1,tokens=9,sequences=3");
    struct moe_mrc_sample_options none = {.rate = 1e-12};
    struct moe_mrc_options options = {.order = MOE_ORDER_FILE};
    struct moe_mrc_sample sample;
    struct moe_mrc mrc;
    struct moe_err err;
    trace.info.rows_in_order = false;
    ck_assert_int_eq(moe_mrc_compute(&trace, &options, &mrc, &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_mrc_sample_trace(&trace, &none, &sample, &err), MOE_ERR_USAGE);
    moe_trace_release(&trace);
}
END_TEST

/* --- sequences ------------------------------------------------------------------------------ */

static struct moe_mrc_sequences by_sequence(const struct moe_trace *trace,
                                            struct moe_mrc_options *options, uint64_t n,
                                            struct moe_mrc *mrc)
{
    struct moe_mrc_sequences q;
    struct moe_err err;
    ck_assert_int_eq(moe_mrc_sequences_init(&q, &trace->info, options, n, &err), MOE_OK);
    options->sequences = &q;
    *mrc = compute(trace, options);
    options->sequences = NULL;
    return q;
}

/* A sample's sequences hit what they hit in the whole trace: with cold caches, and with warm ones,
 * where the sequence before uses every expert and so decides what LRU holds. */
static void compare_sequences(bool cold, enum moe_contract contract)
{
    struct moe_trace trace =
        synth("sticky:layers=3,experts=6,top_k=2,tokens=4000,sequences=40,prompt=5");
    struct moe_mrc_options options = {
        .contract = contract, .cold = cold, .opt = cold, .global = true};
    struct moe_mrc_sample_options draw = {.rate = 0.3, .seed = 5, .cold = cold};
    struct moe_mrc_sample sample;
    struct moe_mrc whole, part;
    struct moe_err err;
    struct moe_mrc_sequences a = by_sequence(&trace, &options, 40, &whole);
    ck_assert_int_eq(moe_mrc_sample_trace(&trace, &draw, &sample, &err), MOE_OK);
    ck_assert(sample.n_counted > 4 && sample.n_counted < 25 && sample.n_of == 40);
    ck_assert(cold == (sample.n_counted == sample.n_sequences));
    options.counted = sample.counted;
    struct moe_mrc_sequences b = by_sequence(&sample.trace, &options, sample.n_sequences, &part);
    uint64_t hits = 0, n_compared = 0;
    for (uint64_t i = 0, t = 0; i < sample.n_sequences; i++) {
        while (sample.trace.tokens.sequence[t] != i)
            t++;
        if (!sample.counted[i])
            continue;
        /* Which one is it? The one with the same routes. */
        size_t row = 3 * 2 * sizeof(moe_expert) * 20;
        uint64_t from = 0;
        while (memcmp(trace.tokens.expert + from * 6, sample.trace.tokens.expert + t * 6, row) != 0)
            from++;
        uint64_t s = trace.tokens.sequence[from];
        for (int p = 0; p < 2; p++) {
            ck_assert_uint_eq(a.lookups[p][s], b.lookups[p][i]);
            for (int policy = 0; policy < (cold ? 2 : 1); policy++) {
                ck_assert_mem_eq(a.hits_at_ways[policy][p] + s * 6,
                                 b.hits_at_ways[policy][p] + i * 6, 6 * sizeof hits);
                ck_assert_mem_eq(a.hits_at_slots[policy][p] + s * 18,
                                 b.hits_at_slots[policy][p] + i * 18, 18 * sizeof hits);
            }
            hits += b.hits_at_slots[MOE_MRC_LRU][p][i * 18 + 8];
        }
        n_compared++;
    }
    ck_assert_uint_eq(n_compared, sample.n_counted);
    ck_assert_uint_eq(hits, moe_mrc_at_slots(&part, MOE_MRC_LRU, MOE_PHASES_BOTH, 9).hits);
    moe_mrc_release(&whole);
    moe_mrc_release(&part);
    moe_mrc_sequences_release(&a);
    moe_mrc_sequences_release(&b);
    moe_mrc_sample_release(&sample);
    moe_trace_release(&trace);
}

START_TEST(sampled_sequences_hit_as_in_the_whole)
{
    for (int contract = 0; contract < 2; contract++) {
        compare_sequences(true, (enum moe_contract)contract);
        compare_sequences(false, (enum moe_contract)contract);
    }
}
END_TEST

/* The rate of the whole trace lies in the sample's band about as often as the band says. */
START_TEST(bands_cover)
{
    enum { N = 40, WAYS = 4 };
    struct moe_trace trace =
        synth("sticky:layers=2,experts=16,top_k=2,tokens=40000,sequences=2000,seed=9");
    struct moe_mrc_options options = {.cold = true};
    struct moe_mrc whole = compute(&trace, &options), part;
    struct moe_mrc_point all = moe_mrc_at_ways(&whole, MOE_MRC_LRU, MOE_PHASES_BOTH, 0, 2, WAYS);
    double rate = (double)all.hits / (double)all.lookups, width = 0;
    uint32_t n_inside = 0;
    for (uint64_t seed = 1; seed <= N; seed++) {
        struct moe_mrc_sample_options draw = {.rate = 0.05, .seed = seed, .cold = true};
        struct moe_mrc_sample sample;
        struct moe_mrc_band band[16], again[16];
        struct moe_err err;
        ck_assert_int_eq(moe_mrc_sample_trace(&trace, &draw, &sample, &err), MOE_OK);
        options.counted = sample.counted;
        struct moe_mrc_sequences q =
            by_sequence(&sample.trace, &options, sample.n_sequences, &part);
        ck_assert_int_eq(moe_mrc_bands(&q, MOE_MRC_LRU, MOE_PHASES_BOTH, seed, band, NULL, &err),
                         MOE_OK);
        ck_assert_int_eq(moe_mrc_bands(&q, MOE_MRC_LRU, MOE_PHASES_BOTH, seed, again, NULL, &err),
                         MOE_OK);
        ck_assert_mem_eq(band, again, sizeof band);
        n_inside += band[WAYS - 1].low <= rate && rate <= band[WAYS - 1].high;
        width += (band[WAYS - 1].high - band[WAYS - 1].low) / N;
        ck_assert_int_eq(moe_mrc_bands(&q, MOE_MRC_LRU, MOE_PHASES_PREFILL, seed, band, NULL, &err),
                         MOE_OK);
        ck_assert(isnan(band[0].low) && isnan(band[0].high));
        moe_mrc_sequences_release(&q);
        moe_mrc_sample_release(&sample);
        moe_mrc_release(&part);
    }
    /* 95 % of 40 are 38 */
    ck_assert_msg(n_inside >= 33, "%u of %d bands hold the rate %g", n_inside, N, rate);
    ck_assert_msg(width > 0.001 && width < 0.1, "bands are %g wide", width);
    moe_mrc_release(&whole);
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mrc");
    TCase *tc = tcase_create("mrc");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equals_replay_at_every_size);
    tcase_add_test(tc, equals_replay_where_events_exceed_pools);
    tcase_add_test(tc, equals_replay_of_many_layers);
    tcase_add_test(tc, equals_replay_on_recorded_traces);
    tcase_add_test(tc, counts_by_hand);
    tcase_add_test(tc, curves_rise);
    tcase_add_test(tc, streams_and_samples_whole_traces);
    tcase_add_test(tc, refuses);
    tcase_add_test(tc, sampled_sequences_hit_as_in_the_whole);
    tcase_add_test(tc, bands_cover);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
