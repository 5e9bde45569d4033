/* Policies made for experts on short streams, counted by hand, in both contracts. Streams of
 * several layers: digits, small letters and capitals are layers 0, 1 and 2 (hand_cases.h). */
#include "policies/decide.h"
#include "tests/unit/hand_cases.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>

#define DECAYED "decayed-count:half_life=1,stay=0,margin="

/* One expert an event: the contracts do not differ. */
START_TEST(either_contract)
{
    static const struct hand_case cases[] = {
        {"least-stale", STREAM_A, "---h-h--hh-", "132"}, /* as lru */
        /* before 3: 1 is overdue since 6, as far ahead as behind: 9; 5 is due at 11: 3>s0(5) */
        {"least-stale:reading=intervals", "5 1 1 1 1 5 3 1", "--hhhh-h", "31"},
        /* 1 and 2 are overdue and count as due at 14 and 13, 3 is due at 9.5: 4>s0(1) */
        {"least-stale:reading=intervals", "1 2 3 1 2 3 3 3 4 3", "---hhhhh-h", "423"},
        /* 3 was never seen: declined; then 3 and 5 are both due at 11, 1 at 10: 3>s0(5) */
        {"least-stale:reading=bypass", "5 1 1 1 1 5 3 1", "--hhhh-h", "51"},
        {"least-stale:reading=bypass", "5 1 1 1 1 5 3 1 3", "--hhhh-h-", "31"},
        /* layer 0 first: b>s0(0), 0>s2(1) */
        {"least-stale:reading=layer", "0 a 1 b 0 a", "-----h", "ba0"},
        /* a use is worth 2, 4, 8 ...: 1 has 6, 2 has 56, 3>s0(1) has 64; 1 has 134: 1>s1(2) */
        {DECAYED "1", STREAM_D, "-h-hh--h", "31"},
        {DECAYED "2.5", STREAM_D, "-h-hh--h", "32"}, /* 134 / 2.5 is less than 56 */
        /* 1 stayed for 5 passes when 3 came, 2 for 4 when 1 came back: declined */
        {"decayed-count:half_life=1,margin=1,stay=5", STREAM_D, "-h-hh--h", "32"},
        {"decayed-count:half_life=1e9,margin=1,stay=0", STREAM_D, "-h-hh-h-", "12"},
        /* visits outlive a stay: 3>s0(1) 1>s0(3), then 3 visits each, the lower expert: 3>s0(1) */
        {"moe-infinity-code", STREAM_D, "-h-hh---", "32"},
        {"moe-infinity-code", "0 a 1 b", "----", "1b"}, /* the lower expert, then the lower layer */
        {"distance-to-layer", "0 a 1 b 0 a", "----h-", "0a1"}, /* b>s1(a), a>s1(b) */
        /* A>s1(a) 1>s0(0); layer 1 has none, b>s0(1); B>s1(A); layer 0 has none, 0>s1(B) */
        {"distance-to-layer", "0 a A 1 b B 0 b", "-------h", "b0"},
        /* nothing known, layer 1 goes first: 1>s1(a), then the older: b>s0(0). Then shares of 2/3
         * and 1/3, halved in layer 1: 0>s0(b) a>s1(1) b>s1(a) */
        {"moe-infinity", "0 a 0 a 1 b | 0 a 0 b", "--hh-- --h-", "0b"},
        /* b>s2(1), of which the only past request knows nothing; then 1 is like the second request:
         * 1>s1(a); 0 is like the first: a>s2(b) */
        {"moe-infinity", "0 a | 1 b | 1 b 0 a", "-- -- -h h-", "01a"},
        /* 2 is like neither, both count: b and a have 1/4, 2>s2(b); c>s2(2) */
        {"moe-infinity", "0 a | 1 b | 0 a 2 c", "-- -- hh --", "0ac"},
        /* only the latest request is kept: 2>s1(a), c>s0(0) older than 2 */
        {"moe-infinity:capacity=1", "0 a | 1 b | 0 a 2 c", "-- -- hh --", "c2b"},
        /* the third request takes the place of its like, the first: 1 is still like the second */
        {"moe-infinity:capacity=2", "0 a | 1 b | 0 a | 1 b", "-- -- hh -h", "01b"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, false);
    check_cases(cases, sizeof cases / sizeof *cases, true);
}
END_TEST

START_TEST(access_contract)
{
    static const struct hand_case cases[] = {
        {"least-stale", STREAM_F, "-- -- h-", "21"},
        {DECAYED "1", STREAM_F, "-- -- h-", "21"}, /* 2 2; 3>s0(1) 4 2; 1>s1(2) 4 6; 2>s0(3) */
        {"moe-infinity-code", STREAM_F, "-- -- h-", "21"}, /* 3>s0(1) 1>s1(2) 2>s0(3) */
        {"moe-infinity", STREAM_F, "-- -- h-", "21"},
        {"distance-to-layer", STREAM_F, "-- -- h-", "21"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, true);
}
END_TEST

START_TEST(event_contract)
{
    static const struct hand_case cases[] = {
        {"least-stale", STREAM_F, "-- -h h-", "12"},
        {DECAYED "1", STREAM_F, "-- -h h-", "12"},
        {"moe-infinity-code", STREAM_F, "-- -h h-", "12"},
        {"moe-infinity", STREAM_F, "-- -h h-", "12"},
        {"distance-to-layer", STREAM_F, "-- -h h-", "12"},
        {"least-stale", STREAM_G, "-- h- -h -h --", "563"}, /* as lru */
        /* 4>s1(2), lower than 3; 2>s1(4); 2 and 3 have two visits: 5>s1(2), 6>s2(3) */
        {"moe-infinity-code", STREAM_G, "-- h- -h -h --", "156"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, false);
}
END_TEST

/* --- moe-infinity: tokens and phases -----------------------------------------------------------
 */

/* A prompt of three tokens uses 0, 0, 1; the next sequence asks for 2 in `phase`. Two slots; what
 * is in them then. */
static void check_tokens(enum moe_phase phase, const char *slots)
{
    struct event_trace t;
    struct hand_case h = {"moe-infinity", "prompt 0 0 1, then 2", "-- -", slots};
    parse_events("0 | 2", &t);
    t.event[0].n_tokens = 3;
    t.event[0].phase = MOE_PREFILL;
    t.event[0].expert[1] = 0;
    t.event[0].expert[2] = 1;
    t.event[1].phase = phase;
    check_case(&h, &t, false);
}

START_TEST(moe_infinity_counts_tokens_by_phase)
{
    check_tokens(MOE_PREFILL, "02"); /* shares 2/3 and 1/3 */
    check_tokens(MOE_DECODE, "21");  /* no past decode: the older of equals */
}
END_TEST

/* --- hybrimoe-mrs: scores ----------------------------------------------------------------------
 */

enum { N_SCORED = 3 };

/* Experts 1, 2, 3 are asked for in turn; two slots. Of the scores only those of 1, 2, 3 are given,
 * the others are small; of a row that was not recorded all are NaN. */
static void check_scores(const char *policy_text, const float (*score)[3], const char *slots)
{
    float all[N_SCORED][HAND_EXPERTS];
    bool logits = strstr(policy_text, "probabilities") == NULL;
    struct hand_case h = {policy_text, "1 2 3 with scores", "---", slots};
    struct event_trace t;
    parse_events("1 2 3", &t);
    for (int i = 0; i < N_SCORED; i++) {
        for (int e = 0; e < HAND_EXPERTS; e++)
            all[i][e] = isnan(score[i][0]) ? NAN : e >= 1 && e <= 3 ? score[i][e - 1] : 1e-6F;
        for (int e = 0; logits && e < HAND_EXPERTS; e++)
            all[i][e] = logf(all[i][e]) + 3;
        t.event[i].score = all[i];
    }
    check_case(&h, &t, false);
    check_case(&h, &t, true);
}

START_TEST(hybrimoe_means_of_scores)
{
    /* two count: S of 1, 2 is .3 .15; .25 .325; before the victim of 3 .125 .3625 */
    static const float falls[N_SCORED][3] = {{.6F, .3F, .1F}, {.2F, .5F, .1F}, {.1F, .4F, .5F}};
    /* the same, but .35 .1625 in the end; with one that counts .3 0; .15 .25; .075 .125 */
    static const float rises[N_SCORED][3] = {{.6F, .3F, .1F}, {.2F, .5F, .1F}, {.45F, .05F, .5F}};
    /* .23 .1625; with three that count .23 .2625 */
    static const float close[N_SCORED][3] = {{.6F, .3F, .1F}, {.2F, .5F, .1F}, {.21F, .2F, .59F}};
    check_scores("hybrimoe-mrs", close, "13");
    check_scores("hybrimoe-mrs:p=3", close, "32");
    check_scores("hybrimoe-mrs:scores=probabilities", falls, "32");
    check_scores("hybrimoe-mrs:scores=probabilities", rises, "13");
    check_scores("hybrimoe-mrs:scores=probabilities,p=1", rises, "32");
    check_scores("hybrimoe-mrs", falls, "32");
    check_scores("hybrimoe-mrs", rises, "13");
    check_scores("hybrimoe-mrs:p=1", rises, "32");
}
END_TEST

/* S of 1, 2 is .3 .15; before the victim of 3 .375 .075. */
START_TEST(hybrimoe_keeps_means_where_no_scores_were_recorded)
{
    static const float rises[N_SCORED][3] = {{.6F, .3F, .1F}, {NAN, NAN, NAN}, {.45F, .05F, .5F}};
    check_scores("hybrimoe-mrs", rises, "13");
    check_scores("hybrimoe-mrs:scores=probabilities", rises, "13");
}
END_TEST

/* All scores count 0 when none of them is among the p largest: the first in goes first. */
START_TEST(hybrimoe_ties_go_by_arrival)
{
    static const float nothing[N_SCORED][3] = {{0}, {0}, {0}};
    check_scores("hybrimoe-mrs:scores=probabilities", nothing, "32");
    struct event_trace t;
    static const struct hand_case no_scores = {"hybrimoe-mrs", "1 2 1 3 2", "--h-h", "32"};
    parse_events(no_scores.events, &t);
    check_case(&no_scores, &t, false);
    /* 3>s0(1), then 4>s1(2): 2 came in before 3, which is in the lower slot */
    static const struct hand_case later = {"hybrimoe-mrs", "1 2 3 4", "----", "34"};
    parse_events(later.events, &t);
    check_case(&later, &t, false);
    /* 3>s1(2), as 1 is pinned, which goes in the next event: 4>s0(1) 2>s1(3) */
    static const struct hand_case pinned = {"hybrimoe-mrs", "12 13 42", "-- h- --", "42"};
    parse_events(pinned.events, &t);
    check_case(&pinned, &t, false);
}
END_TEST

START_TEST(hybrimoe_asks_for_scores)
{
    struct moe_policy_spec spec = policy("hybrimoe-mrs");
    struct moe_err err;
    ck_assert_int_eq(moe_policy_check_parts(&spec, MOE_HAS_SCORE, &err), MOE_OK);
    ck_assert_int_eq(moe_policy_check_parts(&spec, MOE_HAS_WEIGHT, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "policy 'hybrimoe-mrs' needs router scores, which the trace does not have");
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("policies_moe");
    tcase_add_test(tc, either_contract);
    tcase_add_test(tc, access_contract);
    tcase_add_test(tc, event_contract);
    tcase_add_test(tc, moe_infinity_counts_tokens_by_phase);
    tcase_add_test(tc, hybrimoe_means_of_scores);
    tcase_add_test(tc, hybrimoe_keeps_means_where_no_scores_were_recorded);
    tcase_add_test(tc, hybrimoe_ties_go_by_arrival);
    tcase_add_test(tc, hybrimoe_asks_for_scores);
    Suite *suite = suite_create("policies_moe");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
