/* The text of the decision log: by hand, and against the counters of the same run. */
#include "policies/decision_log.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

/* copying: events planned with copies under way, and those before the first; NULL: not wanted. */
static char *log_and_count(const struct world *w, bool timeless, struct moe_result *r,
                           uint64_t copying[2])
{
    char *text = NULL;
    size_t size = 0;
    struct moe_err err = {0};
    struct moe_decision_log log = {.stream = open_memstream(&text, &size), .timeless = timeless};
    struct moe_sim_input in = {.trace = &w->trace,
                               .model = &w->model,
                               .platform = &w->platform,
                               .strategy = &w->strategy,
                               .decisions = &log};
    ck_assert_ptr_nonnull(log.stream);
    if (moe_simulate(&in, r, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_int_eq(fclose(log.stream), 0);
    if (copying) {
        copying[0] = log.n_copying;
        copying[1] = log.before_copying;
    }
    return text;
}

static char *log_of(const struct world *w, bool timeless, struct moe_result *r)
{
    return log_and_count(w, timeless, r, NULL);
}

static void expect_log(struct world *w, bool timeless, const char *expected)
{
    struct moe_result r;
    char *text = log_of(w, timeless, &r);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(a_lossy_event_names_what_the_router_chose)
{
    moe_expert experts[] = {5, 7}, router[] = {5, 2};
    moe_slot slots[] = {12, 13}, fills[] = {MOE_NO_SLOT, MOE_NO_SLOT};
    uint8_t access[] = {MOE_HIT, MOE_HIT}, place[] = {MOE_PLACE_GPU, MOE_PLACE_GPU};
    struct moe_plan plan = {.fill = fills,
                            .route = {.layer = 3,
                                      .n = 2,
                                      .phase = MOE_DECODE,
                                      .expert = experts,
                                      .slot = slots,
                                      .access = access}};
    struct moe_decision decision = {.plan = &plan, .place = place, .router = router};
    char text[128] = "";
    struct moe_decision_log log = {.stream = fmemopen(text, sizeof text, "w")};
    moe_decision_log_write(&log, &decision);
    decision.router = NULL;
    moe_decision_log_write(&log, &decision);
    ck_assert_int_eq(fclose(log.stream), 0);
    ck_assert_str_eq(text, "0 3 decode 5:hit:12:gpu:- 7:hit:13:gpu:- lossy:5,2\n"
                           "0 3 decode 5:hit:12:gpu:- 7:hit:13:gpu:-\n");
}
END_TEST

START_TEST(every_word_of_a_line)
{
    moe_expert experts[] = {5, 7, 2, 63, 4};
    moe_slot slots[] = {12, 13, MOE_NO_SLOT, MOE_NO_SLOT, 3};
    moe_slot fills[] = {MOE_NO_SLOT, MOE_NO_SLOT, 14, MOE_NO_SLOT, MOE_NO_SLOT};
    uint8_t access[] = {MOE_HIT, MOE_HIT_IN_FLIGHT, MOE_MISS, MOE_MISS, MOE_HIT_IN_FLIGHT};
    uint8_t place[] = {MOE_PLACE_GPU, MOE_PLACE_GPU, MOE_PLACE_STREAM, MOE_PLACE_CPU,
                       MOE_PLACE_CPU};
    struct moe_plan plan = {.fill = fills,
                            .route = {.layer = 3,
                                      .n = 5,
                                      .phase = MOE_DECODE,
                                      .expert = experts,
                                      .slot = slots,
                                      .access = access}};
    struct moe_decision decision = {.step = 5000000000, .plan = &plan, .place = place};
    char text[512] = "", blurred[512] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    struct moe_decision_log log = {.stream = out, .timeless_too = fmemopen(blurred, 512, "w")};
    moe_decision_log_write(&log, &decision);
    ck_assert_int_eq(fclose(log.timeless_too), 0);
    log.timeless_too = NULL;
    log.timeless = true;
    moe_decision_log_write(&log, &decision);
    plan.route.n = 0;
    plan.route.phase = MOE_PREFILL;
    decision.copying = true;
    moe_decision_log_write(&log, &decision);
    moe_decision_log_write(&log, &decision);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_uint_eq(log.n_events, 4);
    ck_assert_uint_eq(log.n_copying, 2);
    ck_assert_uint_eq(log.before_copying, 2);
    ck_assert_str_eq(blurred, "5000000000 3 decode 5:hit:12:-:- 7:hit:13:-:- "
                              "2:miss:-:streamed:14 63:miss:-:cpu:- 4:hit:3:-:-\n");
    ck_assert_str_eq(text, "5000000000 3 decode 5:hit:12:gpu:- 7:flight:13:gpu:- "
                           "2:miss:-:streamed:14 63:miss:-:cpu:- 4:flight:3:cpu:-\n"
                           "5000000000 3 decode 5:hit:12:-:- 7:hit:13:-:- "
                           "2:miss:-:streamed:14 63:miss:-:cpu:- 4:hit:3:-:-\n"
                           "5000000000 3 prefill\n5000000000 3 prefill\n");
}
END_TEST

/* Layer 0 owns two slots; the second copy has not landed when token 1 asks (test_sim.c works the
 * times out). */
static const moe_expert same[] = {0, 1, 2, 3, 0, 1, 0, 3};

START_TEST(a_run_by_hand)
{
    struct world w = world_of("collab", "1x2", 2, same);
    expect_log(&w, false,
               "0 0 decode 0:miss:-:cpu:0 1:miss:-:cpu:1\n"
               "0 1 decode 2:miss:-:cpu:- 3:miss:-:cpu:-\n"
               "1 0 decode 0:hit:0:gpu:- 1:flight:1:gpu:-\n"
               "1 1 decode 0:miss:-:cpu:- 3:miss:-:cpu:-\n");
    expect_log(&w, true,
               "0 0 decode 0:miss:-:cpu:0 1:miss:-:cpu:1\n"
               "0 1 decode 2:miss:-:cpu:- 3:miss:-:cpu:-\n"
               "1 0 decode 0:hit:0:-:- 1:hit:1:-:-\n"
               "1 1 decode 0:miss:-:cpu:- 3:miss:-:cpu:-\n");
    set_key(&w.strategy, "dispatch.in_flight", "cpu");
    expect_log(&w, false,
               "0 0 decode 0:miss:-:cpu:0 1:miss:-:cpu:1\n"
               "0 1 decode 2:miss:-:cpu:- 3:miss:-:cpu:-\n"
               "1 0 decode 0:hit:0:gpu:- 1:flight:1:cpu:-\n"
               "1 1 decode 0:miss:-:cpu:- 3:miss:-:cpu:-\n");
    /* Of the four events only token 1's in layer 0 meets a copy in its pool; layer 1 has none. */
    struct moe_result r;
    uint64_t copying[2];
    free(log_and_count(&w, false, &r, copying));
    ck_assert_uint_eq(copying[0], 1);
    ck_assert_uint_eq(copying[1], 2);
    moe_trace_release(&w.trace);
}
END_TEST

/* A prompt of two tokens: its different experts, streamed past the cache, and the cache's misses
 * waited for. */
START_TEST(a_streamed_prompt_by_hand)
{
    static const moe_expert experts[] = {0, 1, 2, 3, 1, 2, 0, 3, 0, 1, 2, 3};
    struct world w = world_of("on-demand", "1x2", 3, experts);
    set_key(&w.strategy, "prefill", "stream");
    set_key(&w.strategy, "admission", "always");
    for (int t = 0; t < 2; t++) {
        w.trace.tokens.phase[t] = MOE_PREFILL;
        w.trace.tokens.step[t] = 0;
    }
    w.trace.tokens.step[2] = 1;
    expect_log(&w, false,
               "0 0 prefill 0:miss:-:streamed:- 1:miss:-:streamed:- 2:miss:-:streamed:-\n"
               "0 1 prefill 2:miss:-:streamed:- 3:miss:-:streamed:- 0:miss:-:streamed:-\n"
               "1 0 decode 0:miss:-:streamed:0 1:miss:-:streamed:1\n"
               "1 1 decode 2:miss:-:streamed:- 3:miss:-:streamed:-\n");
    moe_trace_release(&w.trace);
}
END_TEST

/* How often a word stands in the lines of decode. */
static uint64_t count(const char *text, const char *word)
{
    uint64_t n = 0;
    for (const char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        const char *decode = strstr(line, " decode"), *at = line;
        if (!decode || decode > end)
            continue;
        for (; (at = strstr(at, word)) && at < end; at++)
            n++;
    }
    return n;
}

START_TEST(random_runs_log_what_they_count)
{
    struct moe_rng rng;
    uint64_t n_flights = 0, n_streamed = 0;
    moe_rng_init(&rng, 23);
    for (int i = 0; i < 200; i++) {
        struct world w = random_world(&rng);
        struct moe_result r;
        set_key(&w.strategy, "prefetcher", "none"); /* prefetches are fills of no event */
        w.platform.link.h2d_pinned_gb_per_s = w.platform.link.h2d_pageable_gb_per_s = .5;
        char *text = log_of(&w, false, &r);
        ck_assert_uint_eq(count(text, ":hit:"), r.decode.hits);
        ck_assert_uint_eq(count(text, ":flight:"), r.decode.inflight_hits);
        ck_assert_uint_eq(count(text, ":cpu:"), r.cpu_experts);
        ck_assert_uint_eq(count(text, ":gpu:") + count(text, ":streamed:"), r.gpu_experts);
        uint64_t experts = r.cpu_experts + r.gpu_experts;
        ck_assert_uint_eq(experts - count(text, ":- ") - count(text, ":-\n"), r.decode.fills);
        n_flights += r.decode.inflight_hits;
        n_streamed += count(text, ":streamed:");
        free(text);
        moe_trace_release(&w.trace);
    }
    ck_assert_uint_gt(n_flights, 100);
    ck_assert_uint_gt(n_streamed, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decision log");
    TCase *tc = tcase_create("decision log");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_word_of_a_line);
    tcase_add_test(tc, a_lossy_event_names_what_the_router_chose);
    tcase_add_test(tc, a_run_by_hand);
    tcase_add_test(tc, a_streamed_prompt_by_hand);
    tcase_add_test(tc, random_runs_log_what_they_count);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
