/* Lossy rules by hand, on events and in replays. */
#include "policies/rerouter.h"
#include "policies/strategy.h"
#include "sim/replay.h"
#include "tests/unit/run_suite.h"

#include <check.h>

#include <math.h>

enum { L = 2, E = 6, K = 2 };

/* Probabilities 1/2, 1/4, 1/8, 1/16, 1/32, 1/32 of the experts 0 to 5, as powers of 2 / 32. */
static const float odds[E] = {16, 8, 4, 2, 1, 1};
static float logit[E], half[E];

static struct moe_err err;
static struct moe_geometry geometry;
static struct moe_cache *cache;
static struct moe_rerouter rerouter;
static moe_expert chosen[K];
static float weights[K];
static struct moe_layer_routes routes;

static void parse(const char *text, struct moe_reroute_spec *spec)
{
    ck_assert_msg(!moe_reroute_parse(text, spec, &err), "%s", err.text);
}

static void open_rule(const char *text)
{
    struct moe_reroute_spec spec;
    moe_rerouter_release(&rerouter);
    parse(text, &spec);
    ck_assert_int_eq(moe_rerouter_init(&rerouter, &spec, L, E, K, &err), MOE_OK);
}

/* "04": experts 0 and 4 of every layer lie in slots, 4 is on its way only. */
static void open_cache(const char *residents)
{
    struct moe_policy_spec lru;
    moe_cache_free(cache);
    ck_assert_int_eq(moe_policy_parse("lru", &lru, &err), MOE_OK);
    ck_assert_int_eq(moe_cache_new(&cache, &geometry, K, &lru, 1, &err), MOE_OK);
    for (moe_key layer = 0; layer < L; layer++)
        for (const char *c = residents; *c; c++) {
            moe_key key = layer * E + (moe_key)(*c - '0');
            moe_slot slot = moe_cache_reserve_key(cache, key, NULL);
            ck_assert_int_ne(slot, MOE_NO_SLOT);
            if (c[1])
                moe_cache_ready(cache, slot);
        }
}

static void set_up(void)
{
    for (uint32_t e = 0; e < E; e++)
        logit[e] = logf(odds[e]);
    for (uint32_t e = 0; e < E; e++)
        half[e] = odds[e] / 32;
    ck_assert_int_eq(moe_geometry_parse("2x4", L, E, NULL, &geometry, &err), MOE_OK);
}

static void tear_down(void)
{
    moe_rerouter_release(&rerouter);
    moe_cache_free(cache);
    cache = NULL;
    moe_geometry_release(&geometry);
}

/* The router's route, "01" with the weights 2/3 and 1/3 in layer 0; asks. */
static bool ask_layer(uint32_t layer, const char *route, const float *score, const float *ahead)
{
    const double sum = odds[route[0] - '0'] + odds[route[1] - '0'];
    for (uint32_t k = 0; k < K; k++) {
        chosen[k] = (moe_expert)(route[k] - '0');
        weights[k] = (float)(odds[chosen[k]] / sum);
    }
    routes = (struct moe_layer_routes){.layer = layer,
                                       .n_tokens = 1,
                                       .phase = MOE_DECODE,
                                       .top_k = K,
                                       .expert = chosen,
                                       .weight = weights,
                                       .stride = K,
                                       .score = score,
                                       .lookahead = ahead};
    return moe_rerouter_event(&rerouter, cache, &routes);
}

static bool ask(const char *route)
{
    return ask_layer(0, route, logit, NULL);
}

static void expect(const char *route, double first, double second)
{
    ck_assert_uint_eq(routes.expert[0], (unsigned)(route[0] - '0'));
    ck_assert_uint_eq(routes.expert[1], (unsigned)(route[1] - '0'));
    ck_assert_double_eq_tol(routes.weight[0], first, 1e-6);
    ck_assert_double_eq_tol(routes.weight[1], second, 1e-6);
}

/* Expert 1, with 1/3 of the weight, is missing; 2, half as probable, is there: 4 : 1. */
START_TEST(substitute_by_hand)
{
    open_cache("024");
    open_rule("substitute:below=0.34,ratio=0.49");
    ck_assert(ask("01"));
    expect("02", 0.8, 0.2);
    ck_assert_uint_eq(rerouter.done.choices, 2);
    ck_assert_uint_eq(rerouter.done.replaced, 1);
    ck_assert_double_eq_tol(rerouter.done.weight, 1, 1e-6);
    ck_assert_double_eq_tol(rerouter.done.weight_moved, 1. / 3, 1e-6);
    ck_assert_double_eq_tol(rerouter.done.mass, 0.75, 1e-6);
    ck_assert_double_eq_tol(rerouter.done.mass_lost, 0.125, 1e-6);
    open_rule("substitute:below=0.34,ratio=0.51");
    ck_assert(!ask("01"));
    open_rule("substitute:below=0.32,ratio=0.49");
    ck_assert(!ask("01"));
    expect("01", 2. / 3, 1. / 3);
    ck_assert_uint_eq(rerouter.done.choices, 2);
    ck_assert_uint_eq(rerouter.done.replaced, 0);
    open_rule("substitute:below=1,ratio=0");
    ck_assert(!ask("02")); /* both are there */
}
END_TEST

/* The logits' range is ln 16, the difference of 1 and 2 is ln 2: a quarter of it. In a second event
 * all logits are equal but expert 1's, ln 2 above: the mean range is 2.5 ln 2, ln 2 are 0.4 of it.
 */
START_TEST(cache_prior_by_hand)
{
    const float flat[E] = {0, (float)log(2), 0, 0, 0, 0};
    open_cache("023");
    open_rule("cache-prior:lambda=0.24");
    ck_assert(!ask("01"));
    open_rule("cache-prior:lambda=0.26");
    ck_assert(ask("01"));
    expect("02", 0.8, 0.2);
    ck_assert(!ask_layer(0, "01", flat, NULL));
    open_rule("cache-prior:lambda=0.41");
    ck_assert(ask("01"));
    ck_assert(ask_layer(0, "01", flat, NULL));
    ck_assert(ask_layer(1, "01", logit, NULL)); /* another layer, its own mean */
    open_rule("cache-prior:lambda=0.39");
    ck_assert(ask("01"));
    ck_assert(!ask_layer(0, "01", flat, NULL));
}
END_TEST

START_TEST(max_rank_by_hand)
{
    open_cache("023");
    open_rule("max-rank:rank=2");
    ck_assert(!ask("01"));
    open_rule("max-rank:rank=3");
    ck_assert(ask("01"));
    expect("02", 0.8, 0.2);
    open_cache("23");
    ck_assert(ask("01")); /* the first choice stays though it is missing */
    expect("02", 0.8, 0.2);
    open_rule("max-rank:rank=3,keep=0"); /* 3 is the fourth */
    ck_assert(ask("01"));
    open_rule("max-rank:rank=4,keep=0");
    ck_assert(ask("01"));
    expect("32", 1. / 3, 2. / 3);
    ck_assert_uint_eq(rerouter.done.replaced, 2);
    open_cache("45"); /* equal logits: 4 is the fifth, 5 the sixth */
    open_rule("max-rank:rank=5");
    ck_assert(ask("01"));
    expect("04", 16. / 17, 1. / 17);
}
END_TEST

/* Before expert 2 there is 3/4 of the probability, before 3 there is 7/8. */
START_TEST(cumulative_by_hand)
{
    open_cache("023");
    open_rule("cumulative:mass=0.74");
    ck_assert(!ask("01"));
    open_rule("cumulative:mass=0.76");
    ck_assert(ask("01"));
    expect("02", 0.8, 0.2);
    open_cache("03");
    ck_assert(!ask("01"));
    open_rule("cumulative:mass=0.88");
    ck_assert(ask("01"));
    expect("03", 8. / 9, 1. / 9);
}
END_TEST

/* Layer 0's input makes 3 and 2 of layer 1's experts the likeliest, 4 : 2. */
START_TEST(daop_by_hand)
{
    const float ahead[E] = {0, 0, (float)log(2), (float)log(4), -1, -1};
    open_rule("daop:first=1");
    open_cache("24");
    ck_assert(!ask_layer(0, "01", logit, ahead)); /* the first layer keeps its own */
    ck_assert(ask_layer(1, "01", logit, ahead));
    expect("32", 2. / 3, 1. / 3); /* one of them is there */
    ck_assert_uint_eq(rerouter.done.replaced, 2);
    ck_assert_double_eq_tol(rerouter.done.mass_lost, 0.75 - 0.1875, 1e-6);
    open_cache("04");
    ck_assert(!ask_layer(0, "01", logit, ahead));
    ck_assert(ask_layer(1, "01", logit, ahead));
    expect("30", 0.8, 0.2); /* none was: the second gives way to the best resident */
    ck_assert(!ask_layer(0, "01", logit, NULL)); /* no prediction for the next layer */
    ck_assert(!ask_layer(1, "01", logit, NULL));
    open_rule("daop:first=2");
    ck_assert(!ask_layer(0, "01", logit, ahead));
    ck_assert(!ask_layer(1, "01", logit, ahead));
}
END_TEST

/* Weights that are no softmax: 0.9 and 0.6; the stand-in of half the probability gets 0.3, and all
 * 1.25 times that. */
START_TEST(weights_keep_their_sum)
{
    open_cache("023");
    open_rule("max-rank:rank=3");
    const moe_expert route[K] = {0, 1};
    const float given[K] = {0.9f, 0.6f};
    routes = (struct moe_layer_routes){.n_tokens = 1,
                                       .phase = MOE_DECODE,
                                       .top_k = K,
                                       .expert = route,
                                       .weight = given,
                                       .score = logit};
    ck_assert(moe_rerouter_event(&rerouter, cache, &routes));
    expect("02", 1.125, 0.375);
    routes.expert = route;
    routes.weight = NULL; /* from the scores */
    ck_assert(moe_rerouter_event(&rerouter, cache, &routes));
    expect("02", 0.8, 0.2);
}
END_TEST

START_TEST(probabilities_are_as_good_as_logits)
{
    open_cache("023");
    open_rule("cache-prior:lambda=0.26");
    ck_assert(ask_layer(0, "01", half, NULL));
    expect("02", 0.8, 0.2);
    float zero[E] = {0.5f, 0.5f, 0, 0, 0, 0};
    open_rule("max-rank:rank=3");
    ck_assert(ask_layer(0, "01", zero, NULL));
    ck_assert(isfinite(routes.weight[0]) && isfinite(routes.weight[1]));
    ck_assert_double_eq_tol(routes.weight[0], 1, 1e-6);
}
END_TEST

START_TEST(what_is_not_rerouted)
{
    float unknown[E];
    open_cache("023");
    open_rule("max-rank:rank=6,keep=0");
    for (uint32_t e = 0; e < E; e++)
        unknown[e] = NAN;
    ck_assert(!ask_layer(0, "01", unknown, NULL));
    ck_assert(!ask_layer(0, "01", NULL, NULL));
    ck_assert(ask("01"));
    struct moe_layer_routes event = routes;
    event.expert = chosen;
    event.phase = MOE_PREFILL;
    ck_assert(!moe_rerouter_event(&rerouter, cache, &event));
    event.phase = MOE_DECODE;
    event.n_tokens = 2;
    ck_assert(!moe_rerouter_event(&rerouter, cache, &event));
    ck_assert_uint_eq(rerouter.done.events, 1);
    open_rule("none");
    ck_assert(!ask("01"));
    ck_assert_ptr_eq(routes.expert, chosen);
}
END_TEST

/* One layer of two slots, top-2 of 4; cold. The router's order of the experts by token, and what
 * the rule makes of the first two of each:
 *     0123  ->  01  nothing is there
 *     0213  ->  01  2 is missing, 1 is third
 *     2301  ->  20  3 is missing, 0 is third; the first choice stays
 *     2031  ->  20
 * Event: 20 finds 0 and gives up 1. Access: 2 comes first and gives up 0, the least recent. */
static const moe_expert order[4][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {2, 3, 0, 1}, {2, 0, 3, 1}};

static struct moe_trace ordered_trace(void)
{
    struct moe_trace t = {.info = {.n_layers = 1, .n_experts = 4, .top_k = 2}};
    ck_assert_int_eq(moe_tokens_init(&t.tokens, &t.info, 4, MOE_HAS_SCORE, NULL), MOE_OK);
    for (uint32_t i = 0; i < 4; i++) {
        t.tokens.step[i] = i;
        t.tokens.phase[i] = MOE_DECODE;
        for (uint32_t k = 0; k < 4; k++) {
            t.tokens.score[4 * i + order[i][k]] = (float)-(int)k;
            if (k < 2)
                t.tokens.expert[2 * i + k] = order[i][k];
        }
    }
    return t;
}

static enum moe_status try_replay(const struct moe_trace *trace, const char *rule, bool lossy,
                                  enum moe_contract contract, const char *policy_text,
                                  struct moe_replay_result *out)
{
    struct moe_geometry g;
    struct moe_policy_spec policy;
    struct moe_reroute_spec reroute;
    parse(rule, &reroute);
    const struct moe_replay_options options = {
        .contract = contract, .reroute = &reroute, .lossy = lossy};
    ck_assert_int_eq(
        moe_geometry_parse("1x2", trace->info.n_layers, trace->info.n_experts, NULL, &g, &err),
        MOE_OK);
    ck_assert_int_eq(moe_policy_parse(policy_text, &policy, &err), MOE_OK);
    enum moe_status s = moe_replay(trace, &g, &policy, &options, out, &err);
    moe_geometry_release(&g);
    return s;
}

static void expect_hits(const char *rule, enum moe_contract contract, uint64_t hits,
                        uint64_t replaced)
{
    struct moe_trace trace = ordered_trace();
    struct moe_replay_result r;
    ck_assert_msg(!try_replay(&trace, rule, true, contract, "lru", &r), "%s", err.text);
    ck_assert_uint_eq(r.both.lookups, 8);
    ck_assert_uint_eq(r.both.hits, hits);
    ck_assert_uint_eq(r.rerouted.replaced, replaced);
    moe_replay_release(&r);
    moe_trace_release(&trace);
}

START_TEST(replays_by_hand)
{
    expect_hits("none", MOE_CONTRACT_EVENT, 3, 0);
    expect_hits("max-rank:rank=2", MOE_CONTRACT_EVENT, 3, 0);
    expect_hits("max-rank:rank=3", MOE_CONTRACT_EVENT, 5, 2);
    expect_hits("max-rank:rank=3", MOE_CONTRACT_ACCESS, 4, 2);
    expect_hits("substitute:below=0.5,ratio=0", MOE_CONTRACT_EVENT, 5, 2);
    expect_hits("substitute:below=0.5,ratio=0", MOE_CONTRACT_ACCESS, 4, 2);
    expect_hits("cache-prior:lambda=0.4", MOE_CONTRACT_EVENT, 5, 2); /* the range is 3 */
    expect_hits("cache-prior:lambda=0.4", MOE_CONTRACT_ACCESS, 4, 2);
    expect_hits("cache-prior:lambda=0.3", MOE_CONTRACT_EVENT, 3, 0);
    expect_hits("cumulative:mass=0.89", MOE_CONTRACT_EVENT, 5, 2); /* 1, e^-1, ... */
    expect_hits("cumulative:mass=0.89", MOE_CONTRACT_ACCESS, 4, 2);
    expect_hits("cumulative:mass=0.87", MOE_CONTRACT_EVENT, 3, 0);
}
END_TEST

START_TEST(replay_refuses)
{
    struct moe_replay_result hits;
    struct moe_trace trace = ordered_trace();
    ck_assert_int_eq(try_replay(&trace, "max-rank", false, MOE_CONTRACT_EVENT, "lru", &hits),
                     MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "is lossy") != NULL, "%s", err.text);
    ck_assert_int_eq(try_replay(&trace, "max-rank", true, MOE_CONTRACT_EVENT, "opt", &hits),
                     MOE_ERR_USAGE);
    ck_assert_int_eq(try_replay(&trace, "daop", true, MOE_CONTRACT_EVENT, "lru", &hits),
                     MOE_ERR_USAGE);
    moe_trace_release(&trace);
}
END_TEST

/* No key of a strategy allows it. */
START_TEST(no_file_allows_it)
{
    struct moe_strategy strategy;
    moe_strategy_default(&strategy);
    ck_assert(!strategy.lossy && !moe_strategy_is_lossy(&strategy));
    ck_assert_int_eq(moe_strategy_set(&strategy, "lossy", "yes", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_strategy_set(&strategy, "reroute", "cache-prior:lambda=2", &err), MOE_OK);
    ck_assert_int_eq(moe_strategy_set(&strategy, "reroute.keep", "0", &err), MOE_OK);
    ck_assert(!strategy.lossy && moe_strategy_is_lossy(&strategy));
    ck_assert_int_eq(moe_strategy_set(&strategy, "reroute", "cache-prio", &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, "did you mean 'cache-prior'?") != NULL, "%s", err.text);
}
END_TEST

START_TEST(every_rule_says_what_it_is)
{
    for (size_t i = 0; moe_reroutes[i]; i++) {
        const struct moe_reroute_ops *ops = moe_reroutes[i];
        struct moe_reroute_spec spec, again;
        char text[256];
        parse(ops->name, &spec);
        ck_assert(*ops->summary && *ops->source);
        ck_assert_uint_le(ops->params_size, MOE_POLICY_PARAMS_MAX);
        ck_assert(moe_reroute_is_lossy(&spec) == (i > 0));
        parse(moe_reroute_format(&spec, text, sizeof text), &again);
        ck_assert_ptr_eq(again.ops, ops);
        ck_assert_mem_eq(again.params, spec.params, sizeof spec.params);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reroute");
    TCase *tc = tcase_create("reroute");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, substitute_by_hand);
    tcase_add_test(tc, cache_prior_by_hand);
    tcase_add_test(tc, max_rank_by_hand);
    tcase_add_test(tc, cumulative_by_hand);
    tcase_add_test(tc, daop_by_hand);
    tcase_add_test(tc, weights_keep_their_sum);
    tcase_add_test(tc, probabilities_are_as_good_as_logits);
    tcase_add_test(tc, what_is_not_rerouted);
    tcase_add_test(tc, replays_by_hand);
    tcase_add_test(tc, replay_refuses);
    tcase_add_test(tc, no_file_allows_it);
    tcase_add_test(tc, every_rule_says_what_it_is);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
