/* What prefetchers predict for routes made by hand. */
#include "policies/machine.h"
#include "policies/prefetcher.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { L = 3, E = 8, K = 2, UNTOUCHED = 4711 };

static struct moe_prefetcher_spec spec;
static void *state;
static moe_key key[4];
static const float *lookahead; /* of the next event */
static enum moe_phase phase;   /* the same */

static void open_prefetcher(const char *name)
{
    struct moe_prefetch_env env = {
        .n_layers = L, .n_experts = E, .top_k = K, .seed = 7, .params = spec.params};
    struct moe_err err;
    lookahead = NULL;
    phase = MOE_DECODE;
    if (moe_prefetcher_parse(name, &spec, &err))
        ck_abort_msg("%s", err.text);
    state = NULL;
    if (!spec.ops->state_size)
        return;
    state = calloc(1, spec.ops->state_size(&env));
    ck_assert_ptr_nonnull(state);
    spec.ops->init(state, &env);
}

/* Tells n experts of layer; predictions are in key[], the rest of it is untouched. */
static uint32_t predict(uint32_t layer, uint32_t n, const moe_expert *expert, uint32_t max)
{
    struct moe_route route = {
        .layer = layer, .n = n, .phase = phase, .expert = expert, .lookahead = lookahead};
    for (uint32_t i = 0; i < 4; i++)
        key[i] = UNTOUCHED;
    uint32_t n_keys = spec.ops->predict(state, &route, key, max);
    for (uint32_t i = n_keys; i < 4; i++)
        ck_assert_uint_eq(key[i], UNTOUCHED);
    return n_keys;
}

#define TELL(layer, max, ...)                                                                      \
    predict(layer, sizeof((const moe_expert[]){__VA_ARGS__}) / sizeof(moe_expert),                 \
            (const moe_expert[]){__VA_ARGS__}, max)

START_TEST(the_first_token_predicts_nothing)
{
    open_prefetcher("previous-token");
    for (uint32_t layer = 0; layer < L; layer++)
        ck_assert_uint_eq(TELL(layer, 4, 0, 1), 0);
    free(state);
}
END_TEST

START_TEST(the_next_layer_as_the_token_before)
{
    open_prefetcher("previous-token");
    TELL(0, 4, 1, 2);
    TELL(1, 4, 4, 3);
    TELL(2, 4, 5, 0);
    ck_assert_uint_eq(TELL(0, 4, 7, 6), 2); /* gate order is kept */
    ck_assert_uint_eq(key[0], 1 * E + 4);
    ck_assert_uint_eq(key[1], 1 * E + 3);
    ck_assert_uint_eq(TELL(1, 4, 2, 1), 2);
    ck_assert_uint_eq(key[0], 2 * E + 5);
    ck_assert_uint_eq(key[1], 2 * E + 0);
    ck_assert_uint_eq(TELL(2, 4, 3, 4), 0); /* no layer behind the last */
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 2); /* not the first token any more */
    ck_assert_uint_eq(key[0], 1 * E + 2);
    ck_assert_uint_eq(key[1], 1 * E + 1);
    free(state);
}
END_TEST

START_TEST(no_more_than_wanted)
{
    open_prefetcher("previous-token");
    TELL(1, 4, 4, 3);
    ck_assert_uint_eq(TELL(0, 1, 7, 6), 1);
    ck_assert_uint_eq(key[0], 1 * E + 4);
    ck_assert_uint_eq(TELL(0, 0, 7, 6), 0);
    free(state);
}
END_TEST

/* Fewer experts than K: nothing of the route before is left. More, of several requests that decode:
 * all of them, as far as wanted; of a prompt: the first K. */
START_TEST(short_and_long_routes)
{
    open_prefetcher("previous-token");
    TELL(1, 4, 4, 3);
    TELL(1, 4, 5);
    ck_assert_uint_eq(TELL(0, 4, 0), 1);
    ck_assert_uint_eq(key[0], 1 * E + 5);
    predict(1, 0, NULL, 4);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 0);
    TELL(1, 4, 7, 6, 5, 4);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 4);
    ck_assert_uint_eq(key[0], 1 * E + 7);
    ck_assert_uint_eq(key[3], 1 * E + 4);
    ck_assert_uint_eq(TELL(0, 3, 0, 1), 3);
    phase = MOE_PREFILL;
    TELL(1, 4, 7, 6, 5, 4);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 2);
    ck_assert_uint_eq(key[0], 1 * E + 7);
    ck_assert_uint_eq(key[1], 1 * E + 6);
    ck_assert_uint_eq(TELL(1, 4, 0, 1), 0); /* layer 2 was not written over */
    free(state);
}
END_TEST

START_TEST(none_predicts_nothing)
{
    open_prefetcher("none");
    ck_assert_ptr_null(state);
    for (int token = 0; token < 2; token++)
        for (uint32_t layer = 0; layer < L; layer++)
            ck_assert_uint_eq(TELL(layer, 4, 1, 2), 0);
}
END_TEST

/* Do the n keys lie in layer, and are their experts these, in this order? */
static void expect_keys(uint32_t at, uint32_t layer, uint32_t n, const moe_expert *expert)
{
    for (uint32_t i = 0; i < n; i++)
        ck_assert_uint_eq(key[at + i], layer * E + expert[i]);
}

#define EXPECT(at, layer, ...)                                                                     \
    expect_keys(at, layer, sizeof((const moe_expert[]){__VA_ARGS__}) / sizeof(moe_expert),         \
                (const moe_expert[]){__VA_ARGS__})

START_TEST(popularity_counts)
{
    open_prefetcher("popularity");
    ck_assert_uint_eq(TELL(0, 4, 7, 6), 2); /* nothing is known: by number */
    EXPECT(0, 1, 0, 1);
    TELL(1, 4, 4, 3);
    TELL(1, 4, 4, 5);
    ck_assert_uint_eq(TELL(0, 4, 7, 6), 2);
    EXPECT(0, 1, 4, 3); /* 4 twice, 3 and 5 once */
    TELL(1, 4, 5);
    TELL(1, 4, 5);
    ck_assert_uint_eq(TELL(0, 4, 7, 6), 2);
    EXPECT(0, 1, 5, 4);
    ck_assert_uint_eq(TELL(0, 1, 7, 6), 1);
    EXPECT(0, 1, 5);
    ck_assert_uint_eq(TELL(2, 4, 7, 6), 0); /* no layer behind the last */
    free(state);
    open_prefetcher("popularity:n=3");
    TELL(2, 4, 6, 1);
    ck_assert_uint_eq(TELL(1, 4, 7, 6), 3);
    EXPECT(0, 2, 1, 6, 0);
    free(state);
}
END_TEST

/* Once after 1 and 2 came 4 and 3, once after 1 and 6 came 4 and 5. */
START_TEST(markov_follows)
{
    open_prefetcher("markov");
    ck_assert_uint_eq(TELL(0, 4, 1, 2), 0); /* nothing is known: nothing is guessed */
    TELL(1, 4, 4, 3);
    ck_assert_uint_eq(TELL(0, 4, 1, 6), 2);
    EXPECT(0, 1, 3, 4); /* both followed 1 once; 6 is new */
    TELL(1, 4, 4, 5);
    ck_assert_uint_eq(TELL(0, 4, 1), 2);
    EXPECT(0, 1, 4, 3); /* shares 1, 1/2, 1/2 */
    TELL(2, 4, 0);      /* a layer left out: nothing is learnt from it */
    ck_assert_uint_eq(TELL(0, 4, 1), 2);
    EXPECT(0, 1, 4, 3);
    ck_assert_uint_eq(TELL(0, 4, 6), 2);
    EXPECT(0, 1, 4, 5);
    ck_assert_uint_eq(TELL(0, 4, 2, 6), 2);
    EXPECT(0, 1, 4, 3);     /* 4: 1 + 1; 3: 1 after 2; 5: 1 after 6 */
    TELL(1, 4, 0, 1, 2, 3); /* of several tokens: nobody knows which followed which */
    ck_assert_uint_eq(TELL(0, 4, 2), 2);
    EXPECT(0, 1, 3, 4);
    ck_assert_uint_eq(TELL(2, 4, 1, 2), 0);
    free(state);
}
END_TEST

START_TEST(gate_looks_ahead)
{
    static const float scores[E] = {-3, -1, NAN, -5, -1, -9, -2, -8};
    open_prefetcher("gate-lookahead");
    ck_assert_uint_eq(TELL(0, 4, 1, 2), 0); /* no scores: several tokens */
    lookahead = scores;
    ck_assert_uint_eq(TELL(0, 4, 1, 2), 2);
    EXPECT(0, 1, 1, 4);
    ck_assert_uint_eq(TELL(2, 4, 1, 2), 0);
    free(state);
    open_prefetcher("gate-lookahead:n=4");
    lookahead = scores;
    ck_assert_uint_eq(TELL(1, 4, 1, 2), 4);
    EXPECT(0, 2, 1, 4, 6, 0);
    ck_assert_uint_eq(TELL(1, 3, 1, 2), 3);
    free(state);
}
END_TEST

/* Sequence 0: tokens 0 and 1, sequence 1: token 2. */
static moe_expert routes[3 * L * K] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 1, 3, 5, 7, 4, 6, 3, 2};
static uint32_t sequences[] = {0, 0, 1}, steps[] = {0, 1, 0};
static const struct moe_tokens tokens = {
    .n_tokens = 3, .sequence = sequences, .step = steps, .expert = routes};
static const struct moe_step passes[] = {
    {.tokens = &tokens, .first = 0, .n_tokens = 1, .phase = MOE_DECODE},
    {.tokens = &tokens, .first = 1, .n_tokens = 1, .phase = MOE_DECODE},
    {.tokens = &tokens, .first = 2, .n_tokens = 1, .phase = MOE_DECODE}};

START_TEST(oracle_knows)
{
    open_prefetcher("oracle");
    spec.ops->on_step(state, &passes[0]);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 2);
    EXPECT(0, 1, 2, 3);
    ck_assert_uint_eq(TELL(1, 4, 2, 3), 2);
    EXPECT(0, 2, 4, 5);
    ck_assert_uint_eq(TELL(2, 4, 4, 5), 0); /* not across */
    free(state);
    open_prefetcher("oracle:horizon=9,across=on");
    spec.ops->on_step(state, &passes[0]);
    ck_assert_uint_eq(TELL(1, 4, 2, 3), 4);
    EXPECT(0, 2, 4, 5);
    EXPECT(2, 0, 6, 7);
    ck_assert_uint_eq(TELL(2, 3, 4, 5), 3);
    EXPECT(0, 0, 6, 7);
    EXPECT(2, 1, 0);
    spec.ops->on_step(state, &passes[1]);
    ck_assert_uint_eq(TELL(1, 4, 0, 2), 2); /* the next token is of another sequence */
    EXPECT(0, 2, 1, 3);
    free(state);
}
END_TEST

/* Two tokens in one pass: what they have in common comes once. */
START_TEST(oracle_of_a_prompt)
{
    static const struct moe_step both = {
        .tokens = &tokens, .first = 0, .n_tokens = 2, .phase = MOE_PREFILL};
    open_prefetcher("oracle");
    spec.ops->on_step(state, &both);
    ck_assert_uint_eq(TELL(0, 4, 0, 1, 6, 7), 3);
    EXPECT(0, 1, 2, 3, 0);
    free(state);
}
END_TEST

START_TEST(oracle_errs_as_told)
{
    moe_key near[2];
    open_prefetcher("oracle:accuracy=0,horizon=2");
    spec.ops->on_step(state, &passes[0]);
    ck_assert_uint_ge(TELL(0, 4, 0, 1), 2);
    for (uint32_t i = 0; i < 4 && key[i] != UNTOUCHED; i++) {
        const moe_expert *real = routes + (key[i] / E) * K;
        ck_assert(key[i] % E != real[0] && key[i] % E != real[1]);
    }
    uint32_t n = TELL(1, 4, 2, 3);
    memcpy(near, key, sizeof near);
    uint32_t m = TELL(0, 4, 0, 1); /* layer 2 again, from farther away */
    ck_assert_uint_gt(m, n);
    for (uint32_t i = 0; i < n; i++)
        ck_assert_uint_eq(key[m - n + i], near[i]);
    free(state);
}
END_TEST

START_TEST(oracle_is_as_accurate_as_told)
{
    enum { N = 4000 };
    struct moe_tokens many = {.n_tokens = N};
    uint32_t right = 0;
    many.expert = calloc((size_t)N * L * K, sizeof *many.expert);
    ck_assert_ptr_nonnull(many.expert);
    for (size_t i = 0; i < (size_t)N * L * K; i++)
        many.expert[i] = (moe_expert)(i % K);
    open_prefetcher("oracle:accuracy=0.75");
    for (uint32_t t = 0; t < N; t++) {
        struct moe_step step = {.tokens = &many, .first = t, .n_tokens = 1, .phase = MOE_DECODE};
        spec.ops->on_step(state, &step);
        uint32_t n = TELL(0, 4, 0, 1);
        for (uint32_t i = 0; i < n; i++)
            right += key[i] % E < K;
    }
    /* four standard deviations: sqrt(8000 * 0.75 * 0.25) = 39 */
    ck_assert_uint_ge(right, 6000 - 156);
    ck_assert_uint_le(right, 6000 + 156);
    free(state);
    free(many.expert);
}
END_TEST

START_TEST(moe_infinity_matches_requests)
{
    open_prefetcher("moe-infinity");
    for (uint32_t t = 0; t < 2; t++) { /* sequence 0 */
        spec.ops->on_step(state, &passes[t]);
        ck_assert_uint_eq(TELL(0, 4, 0, 1), 0); /* no request has ended */
        TELL(1, 4, 2, 3);
        TELL(2, 4, 4, 5);
    }
    spec.ops->on_sequence(state);
    spec.ops->on_step(state, &passes[0]);
    TELL(0, 4, 6, 7);
    TELL(1, 4, 6, 1);
    TELL(2, 4, 6, 7);
    spec.ops->on_sequence(state);
    spec.ops->on_step(state, &passes[0]);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 4); /* as sequence 0: the nearer layer first */
    EXPECT(0, 1, 2, 3);
    EXPECT(2, 2, 4, 5);
    ck_assert_uint_eq(TELL(1, 4, 2, 0), 2); /* layers behind only */
    EXPECT(0, 2, 4, 5);
    spec.ops->on_step(state, &passes[0]);
    ck_assert_uint_eq(TELL(0, 3, 7, 6), 3);
    EXPECT(0, 1, 1, 6);
    EXPECT(2, 2, 6);
    ck_assert_uint_eq(TELL(0, 0, 7, 6), 0);
    free(state);
    open_prefetcher("moe-infinity"); /* 4 has 2/3 of layer 2, but 2 and 3 are nearer */
    TELL(0, 4, 0, 1);
    TELL(1, 4, 2, 3);
    TELL(2, 4, 4);
    TELL(2, 4, 4, 5);
    spec.ops->on_sequence(state);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 4);
    EXPECT(0, 1, 2, 3);
    EXPECT(2, 2, 4, 5);
    free(state);
    open_prefetcher("moe-infinity:horizon=1");
    TELL(0, 4, 0, 1);
    TELL(1, 4, 2, 3);
    TELL(2, 4, 4, 5);
    spec.ops->on_sequence(state);
    ck_assert_uint_eq(TELL(0, 4, 0, 1), 2);
    EXPECT(0, 1, 2, 3);
    free(state);
}
END_TEST

/* The first request is half 0 and half 2, three times over, the second half 0 and half 3. */
START_TEST(moe_infinity_adds_up_what_is_equally_similar)
{
    open_prefetcher("moe-infinity");
    for (int t = 0; t < 4; t++) {
        if (t == 3)
            spec.ops->on_sequence(state);
        TELL(0, 4, 0);
        TELL(1, 4, t == 3 ? 3 : 2);
    }
    spec.ops->on_sequence(state);
    ck_assert_uint_eq(TELL(0, 4, 0), 2);
    EXPECT(0, 1, 2, 3);
    free(state);
}
END_TEST

START_TEST(what_routes_must_come_with)
{
    struct moe_err err = {0};
    open_prefetcher("oracle");
    ck_assert_int_eq(moe_prefetcher_check(&spec, MOE_HAS_LOOKAHEAD, true, &err), MOE_OK);
    ck_assert_int_eq(moe_prefetcher_check(&spec, MOE_HAS_LOOKAHEAD, false, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "prefetcher 'oracle' needs to know the future, which only a trace tells");
    free(state);
    open_prefetcher("gate-lookahead");
    ck_assert_int_eq(moe_prefetcher_check(&spec, MOE_HAS_LOOKAHEAD, false, &err), MOE_OK);
    ck_assert_int_eq(moe_prefetcher_check(&spec, MOE_HAS_SCORE, true, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(
        err.text,
        "prefetcher 'gate-lookahead' needs lookahead scores, which the trace does not have");
    free(state);
}
END_TEST

START_TEST(names_with_parameters)
{
    char text[200];
    open_prefetcher("oracle:horizon=2,accuracy=0.5");
    ck_assert_str_eq(moe_prefetcher_format(&spec, text, sizeof text),
                     "oracle:accuracy=0.5,horizon=2");
    free(state);
    open_prefetcher("previous-token");
    ck_assert_str_eq(moe_prefetcher_format(&spec, text, sizeof text), "previous-token");
    free(state);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefetcher");
    TCase *tc = tcase_create("prefetcher");
    tcase_add_test(tc, the_first_token_predicts_nothing);
    tcase_add_test(tc, the_next_layer_as_the_token_before);
    tcase_add_test(tc, no_more_than_wanted);
    tcase_add_test(tc, short_and_long_routes);
    tcase_add_test(tc, none_predicts_nothing);
    tcase_add_test(tc, popularity_counts);
    tcase_add_test(tc, markov_follows);
    tcase_add_test(tc, gate_looks_ahead);
    tcase_add_test(tc, oracle_knows);
    tcase_add_test(tc, oracle_of_a_prompt);
    tcase_add_test(tc, oracle_errs_as_told);
    tcase_add_test(tc, oracle_is_as_accurate_as_told);
    tcase_add_test(tc, moe_infinity_matches_requests);
    tcase_add_test(tc, moe_infinity_adds_up_what_is_equally_similar);
    tcase_add_test(tc, what_routes_must_come_with);
    tcase_add_test(tc, names_with_parameters);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
