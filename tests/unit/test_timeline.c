/* The timeline: operations of a lane do not overlap, and the JSON that Perfetto opens. */
#include "sim_world.h"

#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"

#include <unistd.h>

static void check_timeline(const struct moe_timeline *t, const struct moe_result *r)
{
    uint64_t last[MOE_N_TRACKS] = {0}, tokens = 0, experts = 0, end = 0;
    uint64_t begin = UINT64_MAX; /* of the first step: the initial content is loaded before */
    for (uint64_t i = 0; i < moe_timeline_count(t); i++) {
        const struct moe_operation *op = moe_timeline_at(t, i);
        ck_assert_uint_le(op->start_ns, op->end_ns);
        if (op->track != MOE_TRACK_STATE) /* two engines, down and up */
            ck_assert_uint_ge(op->start_ns, last[op->track]);
        last[op->track] = op->end_ns;
        tokens += op->track == MOE_TRACK_TOKEN;
        if (op->track == MOE_TRACK_TOKEN && op->start_ns < begin)
            begin = op->start_ns;
        experts += !strcmp(op->name, "expert");
        end = op->end_ns > end ? op->end_ns : end;
    }
    ck_assert_uint_eq(moe_timeline_dropped(t), 0);
    ck_assert_uint_gt(tokens, 0);
    ck_assert_uint_ge(experts, r->routed_experts);
    ck_assert_uint_eq(last[MOE_TRACK_TOKEN], begin + r->prefill_ns + r->decode_ns);
    ck_assert_uint_eq(end, last[MOE_TRACK_TOKEN]);
    ck_assert(r->preloads.experts > 0 || begin == 0);
}

START_TEST(timeline_is_consistent)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 9);
    for (int i = 0; i < 300; i++) {
        struct world w = random_world(&rng);
        struct moe_result with, without;
        ck_assert_int_eq(try(&w, &without, NULL), MOE_OK);
        ck_assert_int_eq(moe_timeline_new(&w.timeline, UINT64_MAX, NULL), MOE_OK);
        ck_assert_int_eq(try(&w, &with, NULL), MOE_OK);
        ck_assert_uint_eq(with.decode_ns, without.decode_ns); /* looking changes nothing */
        check_timeline(w.timeline, &with);
        moe_timeline_free(w.timeline);
        moe_trace_release(&w.trace);
    }
}
END_TEST

START_TEST(timeline_file)
{
    char folder[512], path[600], text[8192];
    temporary_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/t.json", folder);
    struct moe_timeline *t;
    ck_assert_int_eq(moe_timeline_new(&t, 1, NULL), MOE_OK);
    struct moe_operation op = {.track = MOE_TRACK_CPU,
                               .name = "expert",
                               .cause = "miss",
                               .layer = 3,
                               .expert = 7,
                               .slot = -1,
                               .start_ns = 1002,
                               .end_ns = 3005};
    moe_timeline_add(t, &op);
    moe_timeline_add(t, &op);
    ck_assert_uint_eq(moe_timeline_count(t), 1);
    ck_assert_uint_eq(moe_timeline_dropped(t), 1);
    ck_assert_int_eq(moe_timeline_write(t, "a \"b\"\\\n", path, NULL), MOE_OK);
    moe_timeline_free(t);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text,
                                 "{\"name\":\"expert\",\"cat\":\"miss\",\"ph\":\"X\",\"pid\":1,"
                                 "\"tid\":1,\"ts\":1.002,\"dur\":2.003,"
                                 "\"args\":{\"layer\":3,\"expert\":7}}"));
    ck_assert_ptr_nonnull(strstr(text, "\"a \\\"b\\\"\\\\\\u000a\""));
    remove_folder(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timeline");
    TCase *tests = tcase_create("timeline");
    tcase_add_test(tests, timeline_is_consistent);
    tcase_add_test(tests, timeline_file);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
