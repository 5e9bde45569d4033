#include "sim/mrc.h"
#include "sim/mrc_opt_ends.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/synth.h"

#include <stdio.h>
#include <string.h>

static void expect_same_curve(const struct moe_mrc_curve *a, const struct moe_mrc_curve *b)
{
    size_t size = (a->max_slots + 1u) * sizeof *a->hits;
    ck_assert_uint_eq(a->max_slots, b->max_slots);
    ck_assert_uint_eq(a->lookups, b->lookups);
    ck_assert_mem_eq(a->hits, b->hits, size);
    ck_assert_mem_eq(a->any_hit_events, b->any_hit_events, size);
    ck_assert_mem_eq(a->all_hit_events, b->all_hit_events, size);
}

static void stream_opt(const char *path, const struct moe_trace *trace,
                       const struct moe_mrc_options *options)
{
    struct moe_err err;
    struct moe_reader *reader;
    struct moe_mrc a, b;
    ck_assert_msg(!moe_mrc_compute(trace, options, &a, &err), "%s", err.text);
    ck_assert_msg(!moe_reader_open(&reader, path, &err), "%s", err.text);
    ck_assert_msg(!moe_mrc_stream(reader, options, &b, &err), "%s", err.text);
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++)
        for (int p = 0; p < 2; p++) {
            for (uint32_t l = 0; l < a.n_layers; l++)
                expect_same_curve(&a.layer[policy][p][l], &b.layer[policy][p][l]);
            expect_same_curve(&a.global[policy][p], &b.global[policy][p]);
        }
    moe_mrc_release(&a);
    moe_mrc_release(&b);
    moe_reader_close(reader);
}

/* OPT in blocks: the numbers of the whole trace, whatever finds them there. */
START_TEST(streams_opt)
{
    static const char *const specs[] = {
        "sticky:layers=5,experts=8,top_k=2,tokens=30000,sequences=9,prompt=40",
        "zipf:layers=3,experts=80,top_k=6,tokens=9000,sequences=7,prompt=20"};
    char folder[256], path[300];
    struct moe_err err;
    if (!moe_opt_has_avx512())
        return; /* see says_whether_opt_streams */
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/t.h5", folder);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct moe_trace trace;
        ck_assert_msg(!moe_synth_make(specs[i], &trace, &err), "%s", err.text);
        ck_assert_msg(!moe_trace_save(path, &trace, &err), "%s", err.text);
        for (int c = 0; c < 8; c++) {
            struct moe_mrc_options options = {.contract = (enum moe_contract)(c & 1),
                                              .cold = c & 2,
                                              .order = c & 4 ? MOE_ORDER_TOKEN : MOE_ORDER_STEP,
                                              .opt = true,
                                              .global = true};
            stream_opt(path, &trace, &options);
        }
        moe_trace_release(&trace);
    }
    remove_folder(folder);
}
END_TEST

START_TEST(says_whether_opt_streams)
{
    struct moe_trace_info small = {.n_layers = 4, .n_experts = 8};
    struct moe_trace_info large = {.n_layers = 64, .n_experts = 1024};
    struct moe_err err;
    const enum moe_status can = moe_opt_has_avx512() ? MOE_OK : MOE_ERR_USAGE;
    const char *why = can ? "AVX-512" : "one pool of 65536 slots exceeds 65534";
    ck_assert_int_eq(moe_mrc_streams_opt(&small, true, &err), can);
    ck_assert_int_eq(moe_mrc_streams_opt(&large, false, &err), can);
    ck_assert_int_eq(moe_mrc_streams_opt(&large, true, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, why));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mrc_stream");
    TCase *tc = tcase_create("mrc_stream");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, streams_opt);
    tcase_add_test(tc, says_whether_opt_streams);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
