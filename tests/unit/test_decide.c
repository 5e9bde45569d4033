/* The decisions of an event, counted by hand; admission rules; the names of rules. */
#include "policies/decide.h"
#include "policies/prefetcher.h"
#include "policies/spec.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { L = 3, E = 6, K = 3, NONE = MOE_NO_EXPERT };

/* Layer 1 has no slots; the slots of layer 2 are 2, 3 and 4. */
static struct moe_geometry geometry;
static struct moe_cache *cache;
static struct moe_planner *planner;
static struct moe_admission admission;

static void admit(const char *text)
{
    struct moe_admission_spec spec;
    struct moe_admission_env env = {.n_layers = L, .n_experts = E};
    struct moe_err err;
    moe_admission_release(&admission);
    if (moe_admission_parse(text, &spec, &err) || moe_admission_init(&admission, &spec, &env, &err))
        ck_abort_msg("%s", err.text);
}

static void open_all(void)
{
    struct moe_policy_spec lru;
    struct moe_err err;
    if (moe_geometry_parse("per-layer:2,0,3", L, E, NULL, &geometry, &err) ||
        moe_policy_parse("lru", &lru, &err) || moe_cache_new(&cache, &geometry, K, &lru, 1, &err) ||
        moe_planner_new(&planner, E, K, &err))
        ck_abort_msg("%s", err.text);
    admit("always");
}

static void close_all(void)
{
    moe_admission_release(&admission);
    moe_planner_free(planner);
    moe_cache_free(cache);
    moe_geometry_release(&geometry);
}

/* Routes of n tokens, K experts each, one token right behind the other. */
static struct moe_layer_routes routes_of(uint32_t layer, uint32_t n, const moe_expert *expert)
{
    return (struct moe_layer_routes){.layer = layer,
                                     .n_tokens = n,
                                     .phase = MOE_DECODE,
                                     .top_k = K,
                                     .expert = expert,
                                     .stride = K};
}

static const struct moe_plan *event(uint32_t layer, moe_expert a, moe_expert b, moe_expert c)
{
    static moe_expert row[K];
    row[0] = a, row[1] = b, row[2] = c;
    struct moe_layer_routes routes = routes_of(layer, 1, row);
    return moe_plan_event(planner, cache, &admission, &routes);
}

static void land(const struct moe_plan *plan)
{
    for (uint32_t i = 0; i < plan->route.n; i++)
        if (plan->fill[i] != MOE_NO_SLOT)
            moe_cache_ready(cache, plan->fill[i]);
}

static void expect_fills(const struct moe_plan *plan, moe_slot a, moe_slot b, moe_slot c)
{
    const moe_slot want[K] = {a, b, c};
    for (uint32_t i = 0; i < plan->route.n; i++)
        ck_assert_int_eq(plan->fill[i], want[i]);
}

static void expect_untouched(const struct moe_plan *plan)
{
    for (uint32_t i = 0; i < plan->route.n; i++) {
        ck_assert_uint_eq(plan->route.access[i], MOE_MISS);
        ck_assert_int_eq(plan->route.slot[i], MOE_NO_SLOT);
        ck_assert_int_eq(plan->fill[i], MOE_NO_SLOT);
    }
}

static const struct moe_counts *decode(uint32_t layer)
{
    return moe_cache_counts(cache, layer, MOE_DECODE);
}

START_TEST(one_token_is_not_copied)
{
    const moe_expert row[K] = {5, 0, 3};
    const float weight[K] = {.5f, .3f, .2f}, score[E] = {0}, ahead[E] = {0};
    const uint32_t next_use[K] = {7, MOE_NEVER, 9};
    struct moe_layer_routes routes = routes_of(2, 1, row);
    routes.weight = weight;
    routes.next_use = next_use;
    routes.score = score;
    routes.lookahead = ahead;
    const struct moe_plan *plan = moe_plan_collect(planner, &routes);
    ck_assert_uint_eq(plan->route.layer, 2);
    ck_assert_uint_eq(plan->route.phase, MOE_DECODE);
    ck_assert_uint_eq(plan->route.n, 3);
    ck_assert_ptr_eq(plan->route.expert, row);
    ck_assert_ptr_eq(plan->route.weight, weight);
    ck_assert_ptr_eq(plan->route.next_use, next_use);
    ck_assert_ptr_eq(plan->route.score, score);
    ck_assert_ptr_eq(plan->route.lookahead, ahead);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(plan->tokens[i], 1);
    expect_untouched(plan);
}
END_TEST

START_TEST(absent_entries_end_the_route)
{
    const struct {
        moe_expert row[K];
        uint32_t n;
    } cases[] = {{{4, 2, NONE}, 2}, {{1, NONE, NONE}, 1}, {{NONE, NONE, NONE}, 0}};
    for (size_t i = 0; i < 3; i++) {
        struct moe_layer_routes routes = routes_of(0, 1, cases[i].row);
        ck_assert_uint_eq(moe_plan_collect(planner, &routes)->route.n, cases[i].n);
    }
    const moe_expert row[K] = {4, 2, 1};
    struct moe_layer_routes routes = routes_of(0, 1, row);
    routes.top_k = 2; /* the trace's: what stands behind is another layer's */
    ck_assert_uint_eq(moe_plan_collect(planner, &routes)->route.n, 2);
}
END_TEST

/* Rows of three tokens in a trace of two layers: every other row is the other layer's. */
static const moe_expert many_expert[] = {4, 1, NONE, 9, 9, 9, 1, 0, 4, 9, 9, 9, 1, NONE, NONE};
static const float many_weight[] = {.6f, .4f, 0, 9, 9, 9, .5f, .3f, .2f, 9, 9, 9, 1, 0, 0};
static const uint32_t many_next[] = {10, 11, 0, 99, 99, 99, 21, 22, 20, 99, 99, 99, 31, 0, 0};

static struct moe_layer_routes many_routes(void)
{
    struct moe_layer_routes routes = routes_of(0, 3, many_expert);
    routes.weight = many_weight;
    routes.next_use = many_next;
    routes.phase = MOE_PREFILL;
    routes.stride = 2 * K;
    return routes;
}

START_TEST(several_tokens_share_experts)
{
    const moe_expert expert[] = {4, 1, 0};
    const uint32_t tokens[] = {2, 3, 1}, next_use[] = {20, 31, 22};
    const float weight[] = {.6f, .4f, .3f};
    struct moe_layer_routes routes = many_routes();
    for (int again = 0; again < 2; again++) { /* nothing of an event is left for the next */
        const struct moe_plan *plan = moe_plan_collect(planner, &routes);
        ck_assert_uint_eq(plan->route.n, 3);
        ck_assert_uint_eq(plan->route.phase, MOE_PREFILL);
        ck_assert_mem_eq(plan->route.expert, expert, sizeof expert);
        ck_assert_mem_eq(plan->tokens, tokens, sizeof tokens);
        ck_assert_mem_eq(plan->route.next_use, next_use, sizeof next_use);
        ck_assert_mem_eq(plan->route.weight, weight, sizeof weight);
        ck_assert_ptr_null(plan->route.score);
        ck_assert_ptr_null(plan->route.lookahead);
        expect_untouched(plan);
    }
    routes.weight = NULL;
    routes.next_use = NULL;
    const struct moe_plan *plan = moe_plan_collect(planner, &routes);
    ck_assert_ptr_null(plan->route.weight);
    ck_assert_ptr_null(plan->route.next_use);
}
END_TEST

/* The experts of a prompt may be all of a layer, more than K. */
START_TEST(several_tokens_use_every_expert)
{
    const moe_expert expert[] = {5, 3, 1, 4, 3, 0, 2, 1, 0}, want[] = {5, 3, 1, 4, 0, 2};
    const uint32_t tokens[] = {1, 2, 2, 1, 2, 1};
    struct moe_layer_routes routes = routes_of(0, 3, expert);
    const struct moe_plan *plan = moe_plan_collect(planner, &routes);
    ck_assert_uint_eq(plan->route.n, E);
    ck_assert_mem_eq(plan->route.expert, want, sizeof want);
    ck_assert_mem_eq(plan->tokens, tokens, sizeof tokens);
}
END_TEST

START_TEST(several_tokens_are_one_event)
{
    struct moe_layer_routes routes = many_routes();
    const struct moe_plan *plan = moe_plan_event(planner, cache, &admission, &routes);
    expect_fills(plan, 0, 1, MOE_NO_SLOT);
    const struct moe_counts *counts = moe_cache_counts(cache, 0, MOE_PREFILL);
    ck_assert_uint_eq(counts->events, 1);
    ck_assert_uint_eq(counts->lookups, 3);
    ck_assert_uint_eq(decode(0)->lookups, 0);
}
END_TEST

START_TEST(uncovered_layers_are_left_alone)
{
    admit("quota:quota=1");
    expect_untouched(event(1, 0, 1, 2));
    ck_assert_uint_eq(decode(1)->events, 0);
    ck_assert_uint_eq(decode(1)->lookups, 0);
    expect_fills(event(0, 3, NONE, NONE), 0, 0, 0); /* the quota is still there */
}
END_TEST

/* Hits, and slots handed out, of the event before are not those of the next. */
START_TEST(collecting_finds_nothing)
{
    const moe_expert row[K] = {1, 2, 3};
    struct moe_layer_routes routes = routes_of(2, 1, row);
    for (int again = 0; again < 2; again++) {
        land(event(2, 1, 2, 3));
        expect_untouched(moe_plan_collect(planner, &routes));
    }
    ck_assert_uint_eq(decode(2)->events, 2);
    ck_assert_uint_eq(decode(2)->hits, 3);
}
END_TEST

START_TEST(empty_events_do_not_count)
{
    const moe_expert absent[2 * K] = {NONE, NONE, NONE, NONE, NONE, NONE};
    for (uint32_t n = 1; n <= 2; n++) {
        struct moe_layer_routes routes = routes_of(0, n, absent);
        ck_assert_uint_eq(moe_plan_event(planner, cache, &admission, &routes)->route.n, 0);
    }
    ck_assert_uint_eq(decode(0)->events, 0);
    ck_assert_uint_eq(decode(0)->all_hit_events, 0);
}
END_TEST

START_TEST(misses_get_slots_in_gate_order)
{
    const struct moe_plan *plan = event(2, 5, 0, 3);
    expect_fills(plan, 2, 3, 4);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(plan->route.access[i], MOE_MISS);
    plan = event(2, 3, 5, 1); /* still on their way, so no victims either */
    ck_assert_uint_eq(plan->route.access[0], MOE_HIT_IN_FLIGHT);
    ck_assert_uint_eq(plan->route.access[1], MOE_HIT_IN_FLIGHT);
    ck_assert_int_eq(plan->route.slot[0], 4);
    ck_assert_int_eq(plan->route.slot[1], 2);
    expect_fills(plan, MOE_NO_SLOT, MOE_NO_SLOT, MOE_NO_SLOT);
    plan = event(0, 1, 4, 2); /* two slots: the last of the gate goes without */
    expect_fills(plan, 0, 1, MOE_NO_SLOT);
    ck_assert_uint_eq(decode(0)->dropped_fills, 1);
}
END_TEST

START_TEST(hits_are_touched_in_gate_order_and_kept)
{
    land(event(0, 1, 2, NONE));
    const struct moe_plan *plan = event(0, 2, 1, NONE);
    ck_assert_uint_eq(plan->route.access[0], MOE_HIT);
    ck_assert_uint_eq(plan->route.access[1], MOE_HIT);
    ck_assert_int_eq(plan->route.slot[0], 1);
    ck_assert_int_eq(plan->route.slot[1], 0);
    plan = event(0, 3, NONE, NONE); /* 2 was touched before 1 */
    expect_fills(plan, 1, 0, 0);
    land(plan);
    plan = event(0, 4, 1, NONE); /* 1 is the oldest, but of this event: 3 goes */
    ck_assert_uint_eq(plan->route.access[0], MOE_MISS);
    ck_assert_uint_eq(plan->route.access[1], MOE_HIT);
    expect_fills(plan, 1, MOE_NO_SLOT, 0);
    land(plan);
    plan = event(0, 0, NONE, NONE); /* the pins of 1 and 4 ended with their event; 4 is older */
    expect_fills(plan, 1, 0, 0);
}
END_TEST

START_TEST(a_quota_ends_inside_an_event)
{
    admit("quota:quota=2");
    land(event(2, 5, 0, 3));
    ck_assert_uint_eq(decode(2)->fills, 2);
    const struct moe_plan *plan = event(2, 0, 3, 5);
    ck_assert_uint_eq(plan->route.access[0], MOE_HIT);
    ck_assert_uint_eq(plan->route.access[1], MOE_MISS);
    ck_assert_uint_eq(plan->route.access[2], MOE_HIT);
    expect_fills(plan, MOE_NO_SLOT, MOE_NO_SLOT, MOE_NO_SLOT);
    expect_fills(event(0, 1, NONE, NONE), MOE_NO_SLOT, 0, 0); /* another layer, the same pass */
    moe_admission_step(&admission);
    expect_fills(event(2, 0, 3, 5), MOE_NO_SLOT, 4, MOE_NO_SLOT); /* hits are free */
    expect_fills(event(0, 1, 2, NONE), 0, MOE_NO_SLOT, 0);
    ck_assert_uint_eq(decode(0)->dropped_fills, 0);
    ck_assert_uint_eq(decode(0)->bypasses, 0);
}
END_TEST

/* How many of 100 misses in a pass are admitted; none after the first that is not. */
static uint32_t admitted(void)
{
    const moe_expert expert = 0;
    struct moe_route route = {.n = 1, .expert = &expert};
    uint32_t n = 0;
    bool before = true;
    for (int i = 0; i < 100; i++) {
        bool now = moe_admission_admits(&admission, &route, 0, 0);
        ck_assert(before || !now);
        n += now;
        before = now;
    }
    return n;
}

START_TEST(admission_rules_let_through)
{
    /* facts of the reference code: it takes one off the quota, then asks whether it is above 0 */
    const struct {
        const char *rule;
        uint32_t n;
    } cases[] = {
        {"always", 100},
        {"never", 0},
        {"quota", 64},
        {"quota:quota=0", 0},
        {"quota:quota=1", 1},
        {"quota:quota=5,off_by_one=off", 5},
        {"quota:off_by_one=on", 63},
        {"quota:off_by_one=on,quota=0", 0},
        {"quota:off_by_one=on,quota=1", 0},
        {"quota:off_by_one=on,quota=2", 1},
        {"quota:off_by_one=on,quota=5", 4},
        {"quota:off-by-one=on,quota=101", 100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        admit(cases[i].rule);
        for (int pass = 0; pass < 3; pass++) {
            uint32_t n = admitted();
            ck_assert_msg(n == cases[i].n, "%s: %u let through in pass %d", cases[i].rule, n, pass);
            moe_admission_step(&admission);
        }
    }
}
END_TEST

enum rule { POLICY, ADMISSION, PREFETCHER };

/* Parses and, when refused, looks whether `out` was left alone. */
static enum moe_status parse(enum rule rule, const char *text, struct moe_err *err)
{
    union {
        struct moe_policy_spec policy;
        struct moe_admission_spec admission;
        struct moe_prefetcher_spec prefetcher;
    } out, before;
    memset(&out, 0xa5, sizeof out);
    memcpy(&before, &out, sizeof out);
    enum moe_status s = rule == POLICY      ? moe_policy_parse(text, &out.policy, err)
                        : rule == ADMISSION ? moe_admission_parse(text, &out.admission, err)
                                            : moe_prefetcher_parse(text, &out.prefetcher, err);
    if (s)
        ck_assert_mem_eq(&out, &before, sizeof out);
    return s;
}

#define N40        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define ADMISSIONS "always never quota queue-limit probabilistic second-miss pay-back q-star"
#define N63        N40 "nnnnnnnnnnnnnnnnnnnnnnn"

START_TEST(wrong_names_and_keys_are_refused)
{
    const struct {
        enum rule rule;
        const char *text, *message;
    } cases[] = {
        {POLICY, "", "empty policy name"},
        {ADMISSION, "", "empty admission name"},
        {ADMISSION, ":quota=1", "empty admission name"},
        {PREFETCHER, "", "empty prefetcher name"},
        {POLICY, N63 "n", "policy name '" N40 "...' exceeds 63 characters"},
        {PREFETCHER, N63 "n:a=1", "prefetcher name '" N40 "...' exceeds 63 characters"},
        {ADMISSION, N63, "unknown admission '" N63 "'; known: " ADMISSIONS},
        {ADMISSION, "alway",
         "unknown admission 'alway' (did you mean 'always'?); known: " ADMISSIONS},
        {ADMISSION, "xyzzyx", "unknown admission 'xyzzyx'; known: " ADMISSIONS},
        {PREFETCHER, "previous_token",
         "unknown prefetcher 'previous_token' (did you mean 'previous-token'?); known: none "
         "previous-token popularity markov gate-lookahead moe-infinity prompt-swap oracle"},
        {ADMISSION, "quota:quot=3",
         "admission 'quota': unknown parameter 'quot' (did you mean 'quota'?)"},
        {ADMISSION, "quota:quota=3,zzzzzz=1",
         "admission 'quota': unknown parameter 'zzzzzz' (known: quota, off_by_one)"},
        {ADMISSION, "quota:5", "admission 'quota': '5' is not of the form key=value"},
        {ADMISSION, "quota:quota=3,", "admission 'quota': '' is not of the form key=value"},
        {POLICY, "paper-lru:hazard=on",
         "policy 'paper-lru': unknown parameter 'hazard' (did you mean 'hazards'?)"},
        {POLICY, "lru:ways=2", "policy 'lru' has no parameters, but 'ways=2' was given"},
        {ADMISSION, "always:quota=1",
         "admission 'always' has no parameters, but 'quota=1' was given"},
        {PREFETCHER, "none:depth=1",
         "prefetcher 'none' has no parameters, but 'depth=1' was given"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_err err = {0};
        ck_assert_int_eq(parse(cases[i].rule, cases[i].text, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, cases[i].message);
    }
    const char *const values[] = {"quota:quota=-1", "quota:quota=1000000001",
                                  "quota:quota=", "quota:off_by_one=perhaps"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct moe_err err = {0};
        ck_assert_int_eq(parse(ADMISSION, values[i], &err), MOE_ERR_USAGE);
        ck_assert_ptr_eq(strstr(err.text, "admission 'quota': "), err.text);
    }
}
END_TEST

START_TEST(names_without_keys_are_taken)
{
    struct moe_err err;
    ck_assert_int_eq(parse(ADMISSION, "always:", &err), MOE_OK);
    ck_assert_int_eq(parse(ADMISSION, "quota:", &err), MOE_OK);
    ck_assert_int_eq(parse(PREFETCHER, "previous-token", &err), MOE_OK);
    for (const struct moe_policy_ops *const *ops = moe_policies; *ops; ops++)
        ck_assert_int_eq(parse(POLICY, (*ops)->name, &err), MOE_OK);
}
END_TEST

/* A list of names longer than the message is cut behind a whole one. */
START_TEST(a_long_list_of_names_is_cut)
{
    const char *names[100];
    struct moe_err err;
    for (size_t i = 0; i < 100; i++)
        names[i] = N40;
    ck_assert_int_eq(moe_spec_unknown("policy", "x", names, 100, &err), MOE_ERR_USAGE);
    ck_assert_ptr_eq(strstr(err.text, "unknown policy 'x'; known: " N40 " " N40), err.text);
    ck_assert_ptr_nonnull(strstr(err.text, " " N40 " and 94 more: moelab list"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decide");
    TCase *tc = tcase_create("decide"), *specs = tcase_create("specs");
    tcase_add_checked_fixture(tc, open_all, close_all);
    tcase_add_test(tc, one_token_is_not_copied);
    tcase_add_test(tc, absent_entries_end_the_route);
    tcase_add_test(tc, several_tokens_share_experts);
    tcase_add_test(tc, several_tokens_use_every_expert);
    tcase_add_test(tc, several_tokens_are_one_event);
    tcase_add_test(tc, uncovered_layers_are_left_alone);
    tcase_add_test(tc, collecting_finds_nothing);
    tcase_add_test(tc, empty_events_do_not_count);
    tcase_add_test(tc, misses_get_slots_in_gate_order);
    tcase_add_test(tc, hits_are_touched_in_gate_order_and_kept);
    tcase_add_test(tc, a_quota_ends_inside_an_event);
    tcase_add_test(tc, admission_rules_let_through);
    tcase_add_test(specs, wrong_names_and_keys_are_refused);
    tcase_add_test(specs, names_without_keys_are_taken);
    tcase_add_test(specs, a_long_list_of_names_is_cut);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, specs);
    return run_suite(suite);
}
