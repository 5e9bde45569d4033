#include "sim/mrc_shards.h"

#include "tests/unit/hdf5_traces.h"
#include "tests/unit/run_suite.h"
#include "traces/source.h"
#include "traces/synth.h"

#include <stdio.h>

static struct moe_trace synth(const char *spec)
{
    struct moe_trace trace;
    struct moe_err err;
    ck_assert_msg(!moe_synth_make(spec, &trace, &err), "%s: %s", spec, err.text);
    return trace;
}

static struct moe_shards_curve shards(const struct moe_trace *trace,
                                      const struct moe_shards_options *options)
{
    struct moe_shards_curve curve;
    struct moe_err err;
    ck_assert_msg(!moe_shards_compute(trace, options, &curve, &err), "%s", err.text);
    return curve;
}

/* Nine sizes in ten of the exact curve, and more, lie in the error bars; these are no wider than
 * `width` points of a hundred, on the average of sizes. */
static void expect_cover(const char *name, const struct moe_trace *trace, double rate, double width)
{
    for (int contract = 0; contract < 2; contract++) {
        struct moe_mrc_options exact = {.contract = (enum moe_contract)contract, .global = true};
        struct moe_shards_options options = {
            .rate = rate, .n_samples = 8, .seed = 1, .contract = (enum moe_contract)contract};
        struct moe_mrc mrc;
        struct moe_err err;
        ck_assert_int_eq(moe_mrc_compute(trace, &exact, &mrc, &err), MOE_OK);
        struct moe_shards_curve curve = shards(trace, &options);
        uint32_t n_inside = 0;
        double wide = 0;
        for (uint32_t slots = 1; slots <= curve.n_slots; slots++) {
            struct moe_mrc_point p = moe_mrc_at_slots(&mrc, MOE_MRC_LRU, MOE_PHASES_BOTH, slots);
            double rate_there = (double)p.hits / (double)p.lookups;
            n_inside += curve.low[slots] <= rate_there && rate_there <= curve.high[slots];
            wide += 100 * (curve.high[slots] - curve.low[slots]) / curve.n_slots;
        }
        ck_assert_msg(n_inside > curve.n_slots * 9 / 10, "%s: %u of %u sizes", name, n_inside,
                      curve.n_slots);
        ck_assert_msg(wide < width, "%s: bars are %g points wide", name, wide);
        moe_shards_release(&curve);
        moe_mrc_release(&mrc);
    }
}

static void cover_recorded(const char *name, double rate, double width)
{
    struct moe_trace trace;
    struct moe_err err = {0};
    if (moe_trace_from_name(name, 0, NULL, &trace, &err)) {
        printf("skipped: %s\n", err.text);
        return;
    }
    expect_cover(name, &trace, rate, width);
    moe_trace_release(&trace);
}

START_TEST(bars_cover)
{
    struct moe_trace trace =
        synth("sticky:layers=24,experts=64,top_k=4,tokens=2000,sequences=10,repeat=0.4");
    expect_cover("sticky", &trace, 0.1, 20);
    moe_trace_release(&trace);
    cover_recorded("route-csv:../shared/data/traces/qwen3-30b-a3b/qwen.route.csv", 0.1, 10);
    cover_recorded("npy:../shared/data/traces/gpt-oss-20b/ids.npy", 0.3, 20);
}
END_TEST

/* All experts but few: the curve of the others is the exact one, nearly. */
START_TEST(follows_what_it_samples)
{
    struct moe_trace trace = synth("uniform:layers=8,experts=64,top_k=2,tokens=3000,seed=5");
    struct moe_mrc_options exact = {.contract = MOE_CONTRACT_ACCESS, .global = true};
    struct moe_shards_options options = {
        .rate = 0.999, .n_samples = 2, .contract = MOE_CONTRACT_ACCESS};
    struct moe_mrc mrc;
    struct moe_err err;
    ck_assert_int_eq(moe_mrc_compute(&trace, &exact, &mrc, &err), MOE_OK);
    struct moe_shards_curve curve = shards(&trace, &options);
    ck_assert_uint_eq(curve.n_keys, 511);
    ck_assert_uint_eq(curve.tokens, 3000);
    for (uint32_t slots = 0; slots <= 512; slots++) {
        struct moe_mrc_point p = moe_mrc_at_slots(&mrc, MOE_MRC_LRU, MOE_PHASES_BOTH, slots);
        ck_assert_double_eq_tol(curve.hit[slots], (double)p.hits / (double)p.lookups, 0.004);
    }
    moe_shards_release(&curve);
    moe_mrc_release(&mrc);
    moe_trace_release(&trace);
}
END_TEST

/* From a file in blocks, and from memory: the same numbers. */
START_TEST(streams)
{
    char folder[256], path[300];
    struct moe_reader *reader;
    struct moe_shards_curve curve;
    struct moe_err err;
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/t.h5", folder);
    struct moe_trace trace =
        synth("zipf:layers=6,experts=32,top_k=3,tokens=9000,sequences=30,prompt=20");
    struct moe_shards_options options = {.rate = 0.2, .n_samples = 3, .cold = true};
    struct moe_shards_curve whole = shards(&trace, &options);
    ck_assert_int_eq(moe_trace_save(path, &trace, &err), MOE_OK);
    ck_assert_int_eq(moe_reader_open(&reader, path, &err), MOE_OK);
    ck_assert_int_eq(moe_shards_stream(reader, &options, &curve, &err), MOE_OK);
    size_t size = (curve.n_slots + 1u) * sizeof *curve.hit;
    ck_assert_mem_eq(curve.hit, whole.hit, size);
    ck_assert_mem_eq(curve.low, whole.low, size);
    ck_assert_mem_eq(curve.high, whole.high, size);
    moe_shards_release(&curve);
    options.phases = MOE_PHASES_PREFILL;
    curve = shards(&trace, &options);
    ck_assert_uint_eq(curve.tokens, 600);
    moe_shards_release(&curve);
    moe_shards_release(&whole);
    moe_reader_close(reader);
    moe_trace_release(&trace);
    remove_folder(folder);
}
END_TEST

START_TEST(refuses)
{
    struct moe_trace trace = synth("uniform:layers=4,experts=8,top_k=2,tokens=9");
    struct moe_shards_options few = {.rate = 0.1, .n_samples = 2},
                              file = {.rate = 0.6, .n_samples = 2, .order = MOE_ORDER_FILE};
    struct moe_shards_curve curve;
    struct moe_err err;
    ck_assert_int_eq(moe_shards_compute(&trace, &few, &curve, &err), MOE_ERR_USAGE);
    trace.info.rows_in_order = false;
    ck_assert_int_eq(moe_shards_compute(&trace, &file, &curve, &err), MOE_ERR_USAGE);
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mrc_shards");
    TCase *tc = tcase_create("mrc_shards");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, bars_cover);
    tcase_add_test(tc, follows_what_it_samples);
    tcase_add_test(tc, streams);
    tcase_add_test(tc, refuses);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
