/* Traces in memory: allocation that cannot overflow, and every message of the checks, in full. */
#include "traces/trace.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"
#include "traces/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct moe_trace_info small = {.n_layers = 2, .n_experts = 4, .top_k = 2};

/* Six tokens of two sequences: a prefill of two, a decode of one; the same with one decode more
 * missing its last layer's second choice. */
static struct moe_tokens valid(unsigned parts)
{
    static const uint32_t sequence[] = {0, 0, 0, 1, 1, 1}, step[] = {0, 0, 1, 0, 1, 2};
    static const uint8_t phase[] = {0, 0, 1, 0, 1, 1};
    struct moe_tokens x;
    ck_assert_int_eq(moe_tokens_init(&x, &small, 6, parts, NULL), MOE_OK);
    x.first_token = 100;
    memcpy(x.sequence, sequence, sizeof sequence);
    memcpy(x.step, step, sizeof step);
    memcpy(x.phase, phase, sizeof phase);
    for (int i = 0; i < 24; i++)
        x.expert[i] = (moe_expert)(i % 2 ? 3 : i / 2 % 3);
    x.expert[23] = MOE_NO_EXPERT;
    for (int i = 0; x.weight && i < 23; i++)
        x.weight[i] = 0.5f;
    return x;
}

static void expect(struct moe_tokens *x, const char *message)
{
    struct moe_err err = {0};
    enum moe_status status = moe_tokens_check(x, &small, &err);
    ck_assert_str_eq(err.text, message);
    ck_assert_int_eq(status, *message ? MOE_ERR_INPUT : MOE_OK);
    moe_tokens_release(x);
}

/* Decode of one expert after another, enough tokens to be checked in parts. */
static struct moe_tokens valid_many(uint32_t n)
{
    struct moe_tokens x;
    ck_assert_int_eq(moe_tokens_init(&x, &small, n, 0, NULL), MOE_OK);
    for (uint32_t t = 0; t < n; t++) {
        x.step[t] = t;
        x.phase[t] = MOE_DECODE;
        for (uint32_t i = 0; i < 4; i++)
            x.expert[4 * t + i] = (moe_expert)((t + i) % 4);
    }
    return x;
}

START_TEST(names_the_first_fault_of_many_tokens)
{
    enum { ENTRIES = 4, MANY = MOE_CHECK_THREADS_FROM / ENTRIES + 1, PART = MANY / 16 };
    static const uint32_t token[] = {0, 1, PART - 1, PART, 9 * PART, 15 * PART, MANY - 1};
    for (size_t i = 0; i < sizeof token / sizeof *token; i++) {
        struct moe_tokens x = valid_many(MANY);
        char message[96];
        ck_assert_int_eq(moe_tokens_check(&x, &small, NULL), MOE_OK);
        x.expert[4 * token[i] + 3] = 4;
        x.expert[4 * MANY - 1] = 4;
        ck_assert_int_eq(moe_tokens_check(&x, &small, NULL), MOE_ERR_INPUT);
        snprintf(message, sizeof message, "token %u layer 1: expert 4 is outside 0..3", token[i]);
        expect(&x, message);
    }
    struct moe_tokens x = valid_many(MANY);
    x.step[3 * PART - 1]++; /* between two parts */
    x.step[3 * PART]--;
    char message[96];
    snprintf(message, sizeof message, "token %u: step %u follows step %u", 3 * PART, 3 * PART - 1,
             3 * PART);
    expect(&x, message);
}
END_TEST

START_TEST(fresh_arrays_are_absent)
{
    struct moe_tokens x;
    struct moe_err err = {0};
    unsigned all = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG;
    ck_assert_int_eq(moe_tokens_init(&x, &small, 3, all, &err), MOE_OK);
    ck_assert_uint_eq(moe_tokens_parts(&x), all);
    ck_assert_uint_eq(x.n_tokens, 3);
    for (int i = 0; i < 12; i++) {
        ck_assert_uint_eq(x.expert[i], MOE_NO_EXPERT);
        ck_assert(isnan(x.weight[i]));
        ck_assert_uint_eq(x.log_bytes[i], 0);
    }
    for (int i = 0; i < 24; i++)
        ck_assert(isnan(x.score[i]) && isnan(x.lookahead[i]));
    for (int i = 0; i < 3; i++)
        ck_assert(x.position[i] == -1 && x.token_id[i] == -1 && x.step[i] == 0);
    ck_assert_int_eq(moe_tokens_check(&x, &small, &err), MOE_OK);
    moe_tokens_release(&x);
    ck_assert_ptr_null(x.expert);
    ck_assert_int_eq(moe_tokens_init(&x, &small, 0, 0, &err), MOE_OK);
    ck_assert_uint_eq(moe_tokens_parts(&x), 0);
    moe_tokens_release(&x);
}
END_TEST

START_TEST(sizes_that_cannot_be)
{
    struct moe_tokens x = {.n_tokens = 77};
    struct moe_err err = {0};
    struct moe_trace_info wide = {
        .n_layers = MOE_MAX_LAYERS, .n_experts = MOE_MAX_EXPERTS, .top_k = MOE_MAX_TOP_K};
    ck_assert_int_eq(moe_tokens_init(&x, &wide, UINT64_MAX / 4, MOE_HAS_SCORE, &err),
                     MOE_ERR_MEMORY);
    ck_assert_str_eq(err.text, "out of memory for 4611686018427387903 tokens");
    ck_assert_int_eq(moe_tokens_init(&x, &small, 1000000000000000, 0, &err), MOE_ERR_MEMORY);
    ck_assert_msg(strstr(err.text, "more than this machine has") != NULL, "%s", err.text);
    wide.n_layers = MOE_MAX_LAYERS + 1;
    ck_assert_int_eq(moe_tokens_init(&x, &wide, 1, 0, &err), MOE_ERR_INPUT);
    ck_assert_str_eq(err.text,
                     "shape of 1025 layers, 4096 experts, top-k 64 exceeds 1024, 4096, 64");
    ck_assert_uint_eq(x.n_tokens, 77); /* written only on success */
}
END_TEST

START_TEST(valid_tokens_pass)
{
    struct moe_tokens x = valid(MOE_HAS_WEIGHT);
    expect(&x, "");
    x = valid(0);
    memset(x.expert + 4, 0xff, 2 * sizeof *x.expert); /* a layer without a row */
    expect(&x, "");
}
END_TEST

START_TEST(bad_routes_are_named)
{
    struct moe_tokens x = valid(0);
    x.expert[7] = 4; /* token 1, layer 1, k 1 */
    expect(&x, "token 101 layer 1: expert 4 is outside 0..3");
    x = valid(0);
    x.expert[5] = 0xfffe;
    expect(&x, "token 101 layer 0: expert 65534 is outside 0..3");
    x = valid(0);
    x.expert[0] = 3;
    expect(&x, "token 100 layer 0: expert 3 appears twice in the route");
    x = valid(0);
    x.expert[2] = MOE_NO_EXPERT;
    expect(&x, "token 100 layer 1: expert 3 follows an absent entry");
    x = valid(MOE_HAS_WEIGHT);
    x.weight[9] = NAN;
    expect(&x, "token 102 layer 0: weight nan of expert 3 is not finite");
    x = valid(MOE_HAS_WEIGHT);
    x.weight[8] = -INFINITY;
    expect(&x, "token 102 layer 0: weight -inf of expert 1 is not finite");
}
END_TEST

START_TEST(bad_order_is_named)
{
    struct moe_tokens x = valid(0);
    x.step[4] = 5;
    expect(&x, "token 105: step 2 follows step 5");
    x = valid(0);
    x.phase[1] = 1;
    expect(&x, "token 101: phase 1 differs from phase 0 of its step 0");
    x = valid(0);
    x.phase[5] = 2;
    expect(&x, "token 105: phase 2 is neither 0 (prefill) nor 1 (decode)");
    x = valid(0);
    x.sequence[4] = 0;
    expect(&x, "token 104: sequence 0 follows sequence 1");
    x = valid(0);
    free(x.sequence); /* all of one sequence */
    x.sequence = NULL;
    expect(&x, "token 103: step 0 follows step 1");
}
END_TEST

START_TEST(requests_that_cannot_be)
{
    struct moe_tokens x = valid(MOE_HAS_REQUEST);
    expect(&x, "token 100: position -1 of request 0 is not known");
    for (int at = 0; at < 2; at++) {
        x = valid(MOE_HAS_REQUEST);
        for (int i = 0; i < 6; i++)
            x.position[i] = i;
        x.request[at] = 9; /* falls within the prompt's pass, or from one pass to the next */
        expect(&x, at == 0 ? "token 101: request 0 follows request 9 in step 0" : "");
    }
}
END_TEST

START_TEST(bad_scores_are_named)
{
    struct moe_tokens x = valid(MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD);
    for (int i = 0; i < 4; i++)
        x.score[8 + i] = (float)i;
    x.score[8 + 2] = NAN;
    expect(&x, "token 101 layer 0: router scores are neither all finite nor all absent");
    x = valid(MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD);
    x.lookahead[47] = INFINITY;
    expect(&x, "token 105 layer 1: lookahead scores are neither all finite nor all absent");
}
END_TEST

START_TEST(passes_end_where_step_or_sequence_changes)
{
    struct moe_tokens x = valid(0);
    const uint64_t ends[] = {2, 2, 3, 4, 5, 6};
    for (uint64_t t = 0; t < 6; t++)
        ck_assert_uint_eq(moe_step_end(&x, t), ends[t]);
    x.step[3] = 1; /* same number, other sequence */
    ck_assert_uint_eq(moe_step_end(&x, 2), 3);
    moe_tokens_release(&x);
}
END_TEST

/* The definition, word by word. */
static bool plain_ok(const moe_expert *e, uint32_t n_experts, uint32_t top_k)
{
    for (uint32_t k = 0; k < top_k; k++) {
        if (e[k] == MOE_NO_EXPERT)
            continue;
        if (e[k] >= n_experts || (k > 0 && e[k - 1] == MOE_NO_EXPERT))
            return false;
        for (uint32_t j = 0; j < k; j++)
            if (e[j] == e[k])
                return false;
    }
    return true;
}

/* Both fast ways (a register up to 64 experts, a bit map above) against the definition. */
START_TEST(fast_check_equals_definition)
{
    static const uint32_t experts[] = {1, 3, 8, 63, 64, 65, 128, 4096};
    struct moe_rng rng;
    int bad = 0, good = 0;
    moe_rng_init(&rng, 3);
    for (int i = 0; i < 40000; i++) {
        uint32_t E = experts[i % 8], K = 1 + (uint32_t)moe_rng_below(&rng, E < 6 ? E : 6);
        struct moe_trace_info info = {.n_layers = 1, .n_experts = E, .top_k = K};
        struct moe_tokens x;
        ck_assert_int_eq(moe_tokens_init(&x, &info, 1, 0, NULL), MOE_OK);
        uint32_t n = (uint32_t)moe_rng_below(&rng, K + 1);
        for (uint32_t k = 0; k < n; k++)
            x.expert[k] = (moe_expert)moe_rng_below(&rng, E + (moe_rng_below(&rng, 9) == 0));
        if (moe_rng_below(&rng, 9) == 0)
            x.expert[moe_rng_below(&rng, K)] = MOE_NO_EXPERT;
        bool ok = plain_ok(x.expert, E, K);
        ck_assert_int_eq(moe_tokens_check(&x, &info, NULL) == MOE_OK, ok);
        bad += !ok;
        good += ok;
        moe_tokens_release(&x);
    }
    ck_assert_int_gt(bad, 1000);
    ck_assert_int_gt(good, 1000);
}
END_TEST

START_TEST(info_is_copied_deeply)
{
    uint64_t bytes[] = {10, 20};
    char header[] = "one\ntwo\n";
    struct moe_trace_info from = small, to;
    snprintf(from.model, sizeof from.model, "m");
    from.expert_bytes = bytes;
    from.header = header;
    ck_assert_int_eq(moe_trace_info_copy(&to, &from, NULL), MOE_OK);
    bytes[1] = 0;
    header[0] = 'x';
    ck_assert_uint_eq(to.expert_bytes[1], 20);
    ck_assert_ptr_null(to.dense_bytes);
    ck_assert_str_eq(to.header, "one\ntwo\n");
    ck_assert_str_eq(to.model, "m");
    moe_trace_info_release(&to);
    ck_assert_ptr_null(to.header);
}
END_TEST

/* Sequence 0: a prompt of two and a decode pass; sequence 1: prompt of one, two decode passes. */
START_TEST(extent_by_hand)
{
    struct moe_trace trace = {.info = small, .tokens = valid(0)};
    struct moe_trace_extent all = moe_trace_extent(&trace, 0);
    ck_assert_uint_eq(all.chunk, 2);
    ck_assert_uint_eq(all.context, 3);
    ck_assert_uint_eq(moe_step_context(&trace.tokens, 2, 0).longest, 2);
    ck_assert_uint_eq(moe_step_context(&trace.tokens, 4, 3).longest, 1);
    trace.tokens.position[4] = 7; /* told by the trace, after the first decode token */
    ck_assert_uint_eq(moe_step_context(&trace.tokens, 4, 3).longest, 7);
    ck_assert_uint_eq(moe_trace_extent(&trace, 0).context, 8);
    ck_assert_uint_eq(moe_trace_extent(&trace, 2).context, 8);
    ck_assert_uint_eq(moe_trace_extent(&trace, 1).context, 3);
    trace.tokens.n_tokens = 0;
    ck_assert_uint_eq(moe_trace_extent(&trace, 0).context, 1);
    ck_assert_uint_eq(moe_trace_extent(&trace, 0).chunk, 1);
    moe_tokens_release(&trace.tokens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trace");
    TCase *tc = tcase_create("trace");
    tcase_add_test(tc, fresh_arrays_are_absent);
    tcase_add_test(tc, names_the_first_fault_of_many_tokens);
    tcase_add_test(tc, sizes_that_cannot_be);
    tcase_add_test(tc, valid_tokens_pass);
    tcase_add_test(tc, bad_routes_are_named);
    tcase_add_test(tc, bad_order_is_named);
    tcase_add_test(tc, requests_that_cannot_be);
    tcase_add_test(tc, bad_scores_are_named);
    tcase_add_test(tc, passes_end_where_step_or_sequence_changes);
    tcase_add_test(tc, fast_check_equals_definition);
    tcase_add_test(tc, info_is_copied_deeply);
    tcase_add_test(tc, extent_by_hand);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
