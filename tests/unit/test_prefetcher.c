/* Prefetchers: what they predict for hand-made routes. */
#include "policies/prefetcher.h"

#include <check.h>
#include <stdlib.h>

enum { L = 3, E = 8, K = 2, UNTOUCHED = 4711 };

static struct moe_prefetcher_spec spec;
static void *state;
static moe_key key[4];

static void open_prefetcher(const char *name)
{
    const struct moe_prefetch_env env = {.n_layers = L, .n_experts = E, .top_k = K};
    struct moe_err err;
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
    struct moe_route route = {.layer = layer, .n = n, .phase = MOE_DECODE, .expert = expert};
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

/* Fewer experts than K: nothing of the route before is left. More, of several tokens: the first K.
 */
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

int main(void)
{
    Suite *suite = suite_create("prefetcher");
    TCase *tc = tcase_create("prefetcher");
    tcase_add_test(tc, the_first_token_predicts_nothing);
    tcase_add_test(tc, the_next_layer_as_the_token_before);
    tcase_add_test(tc, no_more_than_wanted);
    tcase_add_test(tc, short_and_long_routes);
    tcase_add_test(tc, none_predicts_nothing);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
