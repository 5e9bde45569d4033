/* Streaks of experts, counted by hand. */
#include "traces/streaks.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

struct row {
    uint32_t sequence;
    int phase;
    int expert[4]; /* [L = 2, K = 2], -1 absent */
};

static struct moe_trace make_trace(const struct row *rows, size_t n)
{
    struct moe_trace trace = {.info = {.n_layers = 2, .n_experts = 4, .top_k = 2}};
    struct moe_err err;
    ck_assert_int_eq(moe_tokens_init(&trace.tokens, &trace.info, n, 0, &err), MOE_OK);
    for (size_t t = 0; t < n; t++) {
        trace.tokens.sequence[t] = rows[t].sequence;
        trace.tokens.phase[t] = (uint8_t)rows[t].phase;
        for (size_t i = 0; i < 4; i++)
            trace.tokens.expert[t * 4 + i] = (moe_expert)rows[t].expert[i];
    }
    return trace;
}

static void expect(const struct moe_trace *trace, uint32_t layer, uint64_t n, uint64_t none,
                   uint64_t one, uint64_t two, uint64_t three)
{
    struct moe_streaks s = moe_streaks_of_layer(trace, layer);
    const uint64_t wanted[] = {none, one, two, three};
    ck_assert_uint_eq(s.n, n);
    for (int i = 0; i <= MOE_STREAK_MAX; i++)
        ck_assert_uint_eq(s.count[i], wanted[i]);
}

/* Layer 0: expert 1 stays for five tokens (streaks 1, 2, 3, 3 or more); the next token shares none
 * with them; then a sequence of its own. Layer 1: 0 and 1 alternate with 2 and 3: never a streak.
 */
START_TEST(by_hand)
{
    const struct row rows[] = {
        {0, MOE_DECODE, {1, 0, 0, 1}}, {0, MOE_DECODE, {2, 1, 2, 3}}, {0, MOE_DECODE, {1, 3, 1, 0}},
        {0, MOE_DECODE, {0, 1, 3, 2}}, {0, MOE_DECODE, {1, 2, 0, 1}}, {0, MOE_DECODE, {0, 3, 2, 3}},
        {1, MOE_DECODE, {0, 3, 2, 3}}, {1, MOE_DECODE, {2, 3, 0, 1}},
    };
    struct moe_trace trace = make_trace(rows, 8);
    expect(&trace, 0, 6, 1, 2, 1, 2);
    expect(&trace, 1, 6, 6, 0, 0, 0);
    moe_trace_release(&trace);
}
END_TEST

/* The streak is one expert's: 0 then 1 shared in turn is a streak of one each time. */
START_TEST(one_and_the_same_expert)
{
    const struct row rows[] = {{0, MOE_DECODE, {0, 1, 0, 1}},
                               {0, MOE_DECODE, {1, 2, 0, 1}},
                               {0, MOE_DECODE, {2, 3, 0, 1}},
                               {0, MOE_DECODE, {3, 0, 0, 1}}};
    struct moe_trace trace = make_trace(rows, 4);
    expect(&trace, 0, 3, 0, 3, 0, 0);
    expect(&trace, 1, 3, 0, 1, 1, 1);
    moe_trace_release(&trace);
}
END_TEST

START_TEST(prompts_and_absent_routes_break)
{
    const struct row rows[] = {{0, MOE_PREFILL, {0, 1, 0, 1}},
                               {0, MOE_DECODE, {0, 1, 0, 1}},
                               {0, MOE_DECODE, {0, 1, -1, -1}},
                               {0, MOE_DECODE, {0, -1, 0, 1}}};
    struct moe_trace trace = make_trace(rows, 4);
    expect(&trace, 0, 2, 0, 1, 1, 0);
    expect(&trace, 1, 1, 1, 0, 0, 0);
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("streaks");
    tcase_add_test(tests, by_hand);
    tcase_add_test(tests, one_and_the_same_expert);
    tcase_add_test(tests, prompts_and_absent_routes_break);
    Suite *suite = suite_create("streaks");
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
