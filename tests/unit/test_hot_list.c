/* Hot lists: right and wrong texts, and the ranking of a trace's experts by hand. */
#include "policies/hot_list.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sim_case.h"

enum { L = 3, E = 4 };

static enum moe_status parse(const char *text, moe_key *keys, uint32_t *n, struct moe_err *err)
{
    return moe_hot_list_parse("x", text, strlen(text), L, E, keys, n, err);
}

START_TEST(right)
{
    static const struct {
        const char *text;
        uint32_t n;
        moe_key keys[4];
    } cases[] = {
        {"layer\texpert\n", 0, {0}},
        {"layer\texpert\n0\t1\n2\t3\n", 2, {1, 11}},
        {"# a: b\n#\n# c\nlayer\texpert\tuses\n2\t0\t7\n0\t0\t18446744073709551615\n1\t3\t0\n",
         3,
         {8, 0, 7}},
        {"layer\texpert\r\n1\t1\r\n", 1, {5}},
        {"# trace_model: m, 3 layers, 4 experts, top-2\nlayer\texpert\n0\t1\n", 1, {1}},
        {"# trace_model: unknown\nlayer\texpert\n0\t1\n", 1, {1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moe_key keys[L * E];
        uint32_t n = 99;
        struct moe_err err;
        ck_assert_msg(parse(cases[i].text, keys, &n, &err) == MOE_OK, "%s", err.text);
        ck_assert_uint_eq(n, cases[i].n);
        ck_assert_mem_eq(keys, cases[i].keys, n * sizeof *keys);
    }
}
END_TEST

#define OTHER  "the list is for a model of "
#define MAKE   "; make one with `moelab trace stats TRACE --hot-list FILE`"
#define HEADER "expected the header 'layer', 'expert' and perhaps 'uses', separated by tabs, not "

START_TEST(wrong)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "'x' has no header line 'layer', 'expert'"},
        {"# only: notes\n", "'x' has no header line 'layer', 'expert'"},
        {"0\t1\n", "'x':1: " HEADER "'0?1'"},
        {"layer,expert\n", "'x':1: " HEADER "'layer,expert'"},
        {"expert\tlayer\n", "'x':1: " HEADER "'expert?layer'"},
        {"layer\texpert\trank\n", "'x':1: " HEADER "'layer?expert?rank'"},
        {"layer\texpert\tuses\tshare\n", "'x':1: " HEADER "'layer?expert?uses?share'"},
        {"layer\texpert\n3\t0\n", "'x':2: layer 3 is outside 0..2"},
        {"layer\texpert\n0\t4\n", "'x':2: expert 4 is outside 0..3"},
        {"layer\texpert\n-1\t0\n", "'x':2: layer -1 is outside 0..2"},
        {"layer\texpert\n0\t1.5\n", "'x':2: expert '1.5' is not a whole number"},
        {"layer\texpert\n0\t\n", "'x':2: expert is empty"},
        {"layer\texpert\tuses\n0\t1\tmany\n", "'x':2: uses 'many' is not a whole number"},
        {"layer\texpert\n0\t1\n\n", "'x':3: line has 1 field, the header has 2"},
        {"layer\texpert\n0\t1\t2\n", "'x':2: line has 3 fields, the header has 2"},
        {"# trace_model: m, 3 layers, 8 experts, top-2\nlayer\texpert\n0\t1\n",
         "'x':1: " OTHER "3 layers with 8 experts, this one has 3 with 4" MAKE},
        {"# trace_model: m, 2 layers, 4 experts, top-2\nlayer\texpert\n0\t1\n",
         "'x':1: " OTHER "2 layers with 4 experts, this one has 3 with 4" MAKE},
        {"layer\texpert\n0\t1\n# a: b\n", "'x':3: line has 1 field, the header has 2"},
        {"# a\nlayer\texpert\n2\t1\n0\t0\n2\t1\n", "'x':5: layer 2, expert 1 is already in line 3"},
        {"layer\texpert\n0\t1", "'x':2: last line does not end: the file is cut short (if it is "
                                "whole, add a line end)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moe_key keys[L * E];
        uint32_t n = 99;
        struct moe_err err;
        ck_assert_int_eq(parse(cases[i].text, keys, &n, &err), MOE_ERR_INPUT);
        ck_assert_str_eq(err.text, cases[i].message);
        ck_assert_uint_eq(n, 99);
    }
}
END_TEST

/* Two layers of three experts, top 2; sequence 0: tokens 0 and 1, a prompt; sequence 1: 2 and 3. */
START_TEST(ranks_by_hand)
{
    static const moe_expert experts[] = {0, 1, 2, 1, 0, 1, 2, 0,
                                         0, 2, 2, 1, 0, 2, 2, MOE_NO_EXPERT};
    static const uint8_t first[] = {1, 0}, second[] = {0, 1};
    static const struct {
        const uint8_t *chosen;
        enum moe_phases phases;
        uint64_t uses[6];
        moe_key keys[6];
    } cases[] = {
        {NULL, MOE_PHASES_BOTH, {4, 2, 2, 1, 2, 4}, {0, 5, 1, 2, 4, 3}},
        {first, MOE_PHASES_BOTH, {2, 2, 0, 1, 1, 2}, {0, 1, 5, 3, 4, 2}},
        {second, MOE_PHASES_BOTH, {2, 0, 2, 0, 1, 2}, {0, 2, 5, 4, 1, 3}},
        {NULL, MOE_PHASES_DECODE, {2, 0, 2, 0, 1, 2}, {0, 2, 5, 4, 1, 3}},
        {NULL, MOE_PHASES_PREFILL, {2, 2, 0, 1, 1, 2}, {0, 1, 5, 3, 4, 2}},
        {first, MOE_PHASES_DECODE, {0}, {0, 1, 2, 3, 4, 5}},
    };
    struct moe_trace trace = tiny_trace(2, 3, 2, 4, experts);
    trace.tokens.phase[0] = trace.tokens.phase[1] = MOE_PREFILL;
    trace.tokens.sequence[2] = trace.tokens.sequence[3] = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        moe_key keys[6];
        uint64_t uses[6];
        struct moe_err err;
        ck_assert_int_eq(
            moe_hot_list_fit(&trace, cases[i].chosen, cases[i].phases, keys, uses, &err), MOE_OK);
        ck_assert_mem_eq(uses, cases[i].uses, sizeof uses);
        ck_assert_mem_eq(keys, cases[i].keys, sizeof keys);
    }
    moe_trace_release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hot_list");
    TCase *tc = tcase_create("hot_list");
    tcase_add_test(tc, right);
    tcase_add_test(tc, wrong);
    tcase_add_test(tc, ranks_by_hand);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
