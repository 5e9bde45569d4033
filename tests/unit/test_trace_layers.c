/* Traces cut to their first layers: every array against the uncut one. */
#include "traces/trace_layers.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 5, L = 4, E = 3, K = 2 };
static const unsigned all_parts = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD | MOE_HAS_LOG;

/* Every value tells its token, layer and place. */
static struct moe_trace numbered(unsigned parts)
{
    struct moe_trace trace = {.info = {.n_layers = L, .n_experts = E, .top_k = K}};
    struct moe_tokens *x = &trace.tokens;
    ck_assert_int_eq(moe_tokens_init(x, &trace.info, T, parts, NULL), MOE_OK);
    for (int i = 0; i < T * L * K; i++) {
        x->expert[i] = (moe_expert)i;
        if (parts & MOE_HAS_WEIGHT)
            x->weight[i] = (float)i + 0.5f;
        if (parts & MOE_HAS_LOG) {
            x->log_residency[i] = (uint8_t)(i + 1);
            x->log_bytes[i] = (uint64_t)i + 1000;
        }
    }
    for (int i = 0; i < T * L * E; i++) {
        if (parts & MOE_HAS_SCORE)
            x->score[i] = (float)i;
        if (parts & MOE_HAS_LOOKAHEAD)
            x->lookahead[i] = (float)-i;
    }
    for (int t = 0; t < T; t++)
        x->token_id[t] = 100 + t;
    trace.info.header = strdup("token,layer");
    return trace;
}

static void check_cut(const struct moe_trace *cut, const struct moe_trace *whole, uint32_t n)
{
    const struct moe_tokens *a = &cut->tokens, *b = &whole->tokens;
    ck_assert_uint_eq(moe_tokens_parts(a), moe_tokens_parts(b));
    for (uint32_t t = 0; t < T; t++) {
        ck_assert_int_eq(a->token_id[t], b->token_id[t]);
        for (uint32_t i = 0; i < n * K; i++) {
            uint32_t to = t * n * K + i, from = t * L * K + i;
            ck_assert_uint_eq(a->expert[to], b->expert[from]);
            ck_assert(!a->weight || a->weight[to] == b->weight[from]);
            ck_assert(!a->log_bytes || a->log_bytes[to] == b->log_bytes[from]);
            ck_assert(!a->log_residency || a->log_residency[to] == b->log_residency[from]);
        }
        for (uint32_t i = 0; i < n * E; i++) {
            uint32_t to = t * n * E + i, from = t * L * E + i;
            ck_assert(!a->score || a->score[to] == b->score[from]);
            if (a->lookahead && i / E == n - 1)
                ck_assert(isnan(a->lookahead[to]));
            else
                ck_assert(!a->lookahead || a->lookahead[to] == b->lookahead[from]);
        }
    }
}

START_TEST(every_number_of_layers)
{
    static const unsigned parts[] = {0, MOE_HAS_WEIGHT, MOE_HAS_LOOKAHEAD, all_parts};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        for (uint32_t n = 1; n < L; n++) {
            struct moe_trace cut = numbered(parts[p]), whole = numbered(parts[p]);
            ck_assert_int_eq(moe_trace_keep_layers(&cut, n, NULL), MOE_OK);
            ck_assert_uint_eq(cut.info.n_layers, n);
            ck_assert_ptr_null(cut.info.header);
            check_cut(&cut, &whole, n);
            moe_trace_release(&cut);
            moe_trace_release(&whole);
        }
    }
}
END_TEST

START_TEST(note)
{
    struct moe_trace trace = numbered(0);
    ck_assert_int_eq(moe_trace_keep_layers(&trace, 3, NULL), MOE_OK);
    ck_assert_str_eq(trace.info.note, "first 3 of 4 layers");
    ck_assert_int_eq(moe_trace_keep_layers(&trace, 1, NULL), MOE_OK);
    ck_assert_str_eq(trace.info.note, "first 1 of 3 layers; first 3 of 4 layers");
    moe_trace_release(&trace);
}
END_TEST

static void expect_unchanged(uint32_t n, enum moe_status status, const char *text)
{
    struct moe_trace trace = numbered(all_parts), whole = numbered(all_parts);
    struct moe_err err = {0};
    ck_assert_int_eq(moe_trace_keep_layers(&trace, n, &err), status);
    ck_assert_str_eq(err.text, text);
    ck_assert_uint_eq(trace.info.n_layers, L);
    ck_assert_str_eq(trace.info.header, "token,layer");
    ck_assert_mem_eq(trace.tokens.expert, whole.tokens.expert,
                     sizeof *whole.tokens.expert * T * L * K);
    ck_assert_mem_eq(trace.tokens.lookahead, whole.tokens.lookahead,
                     sizeof *whole.tokens.lookahead * T * L * E);
    moe_trace_release(&trace);
    moe_trace_release(&whole);
}

START_TEST(nothing_to_cut_and_refusals)
{
    expect_unchanged(L, MOE_OK, "");
    expect_unchanged(0, MOE_ERR_USAGE, "0 layers are outside 1..4, which the trace has");
    expect_unchanged(L + 1, MOE_ERR_USAGE, "5 layers are outside 1..4, which the trace has");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trace layers");
    TCase *tc = tcase_create("trace layers");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_number_of_layers);
    tcase_add_test(tc, note);
    tcase_add_test(tc, nothing_to_cut_and_refusals);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
