/* Pairs of sequences, counted by hand. */
#include "traces/pairs.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { ROWS = 13, ABSENT = -1 };

/* Four sequences of two categories; two layers, two of four experts. The prompt's tokens (phase
 * MOE_PREFILL) would agree everywhere. */
static const struct row {
    uint32_t sequence;
    int phase, id;
    int expert[4];
} rows[ROWS] = {
    {0, MOE_PREFILL, 9, {0, 1, 0, 1}},
    {0, MOE_DECODE, 5, {0, 1, 0, 1}},
    {0, MOE_DECODE, 6, {0, 1, 2, 3}},
    {0, MOE_DECODE, 7, {0, 1, 0, 1}},
    {1, MOE_PREFILL, 9, {0, 1, 0, 1}},
    {1, MOE_DECODE, 5, {1, 0, 1, 2}},           /* 1, 1/3 */
    {1, MOE_DECODE, 8, {2, 3, ABSENT, ABSENT}}, /* 0, none */
    {2, MOE_PREFILL, 9, {0, 1, 0, 1}},
    {2, MOE_DECODE, 1, {0, 2, 2, 3}}, /* 1/3, 0 */
    {2, MOE_DECODE, 2, {0, 1, 2, 3}}, /* 1, 1 */
    {3, MOE_PREFILL, 9, {0, 1, 0, 1}},
    {3, MOE_DECODE, 5, {0, 1, 0, 1}}, /* as the first one */
    {3, MOE_DECODE, 8, {0, 1, 2, 3}},
};

static char *const categories[] = {"a", "a", "a", "b"};

static struct moe_trace make_trace(void)
{
    struct moe_trace trace = {.info = {.n_layers = 2, .n_experts = 4, .top_k = 2}};
    struct moe_err err;
    ck_assert_int_eq(moe_tokens_init(&trace.tokens, &trace.info, ROWS, 0, &err), MOE_OK);
    if (!trace.tokens.token_id)
        trace.tokens.token_id = calloc(ROWS, sizeof *trace.tokens.token_id);
    for (size_t t = 0; t < ROWS; t++) {
        trace.tokens.sequence[t] = rows[t].sequence;
        trace.tokens.phase[t] = (uint8_t)rows[t].phase;
        trace.tokens.token_id[t] = rows[t].id;
        for (size_t i = 0; i < 4; i++)
            trace.tokens.expert[t * 4 + i] =
                rows[t].expert[i] == ABSENT ? MOE_NO_EXPERT : (moe_expert)rows[t].expert[i];
    }
    trace.n_sequences = 4;
    trace.sequences = calloc(4, sizeof *trace.sequences);
    ck_assert(trace.sequences != NULL);
    for (size_t s = 0; s < 4; s++)
        trace.sequences[s].category = categories[s];
    return trace;
}

static void release(struct moe_trace *trace)
{
    moe_tokens_release(&trace->tokens);
    free(trace->sequences);
}

static void expect(struct moe_pairs_mean got, uint64_t n, double agreement, double jaccard)
{
    ck_assert_uint_eq(got.n, n);
    if (n == 0) {
        ck_assert(got.agreement != got.agreement && got.jaccard != got.jaccard);
        return;
    }
    ck_assert_double_eq_tol(got.agreement, agreement, 1e-12);
    ck_assert_double_eq_tol(got.jaccard, jaccard, 1e-12);
}

START_TEST(by_hand)
{
    struct moe_trace trace = make_trace();
    struct moe_pairs p;
    /* 0 and 1: (1 + 1/3 + 0) / 3, 0 and 2: (1/3 + 0 + 1 + 1) / 4, 1 and 2: (1/3 + 1/3 + 0) / 3. */
    const double j01 = 4 / 9.0, j02 = 7 / 12.0, j12 = 2 / 9.0;
    ck_assert(!moe_pairs_compute(&trace, "a", 0, 100, &p, NULL));
    ck_assert(p.n_sequences == 3 && p.n_unique == 3);
    expect(p.within, 3, 0.5 / 3, (j01 + j02 + j12) / 3);
    expect(p.apart, 2, 0, (j02 + j12) / 2);
    /* 3 and 0: 1/2, 1; 3 and 1: 1, (1 + 1/3 + 0) / 3; 3 and 2: 0, (1/3 + 0 + 1 + 1) / 4. */
    expect(p.across, 3, 0.5, (1 + 4 / 9.0 + 7 / 12.0) / 3);
    ck_assert(!moe_pairs_compute(&trace, "b", 0, 100, &p, NULL));
    expect(p.within, 0, 0, 0);
    expect(p.across, 3, 0.5, (1 + 4 / 9.0 + 7 / 12.0) / 3);
    ck_assert(!moe_pairs_compute(&trace, NULL, 0, 100, &p, NULL));
    ck_assert(p.n_sequences == 4 && p.n_unique == 3); /* 1 and 3 say the same */
    expect(p.within, 3, 0.5 / 3, (j01 + j02 + j12) / 3);
    expect(p.across, 3, 0.5, (1 + 4 / 9.0 + 7 / 12.0) / 3);
    release(&trace);
}
END_TEST

START_TEST(bands)
{
    struct moe_trace trace = make_trace();
    struct moe_pairs p;
    ck_assert(!moe_pairs_compute(&trace, NULL, 0, 1, &p, NULL));
    ck_assert(p.n_sequences == 4 && p.n_unique == 2); /* three begin with the same token */
    expect(p.within, 3, 1 / 3.0, (4 / 6.0 + 1 / 6.0 + 1 / 3.0) / 3);
    ck_assert(!moe_pairs_compute(&trace, NULL, 1, 2, &p, NULL));
    expect(p.within, 3, 0, (0 + 1 + 0) / 3.0);
    ck_assert(!moe_pairs_compute(&trace, NULL, 2, 9, &p, NULL)); /* one sequence goes so far */
    ck_assert(p.n_sequences == 1);
    expect(p.within, 0, 0, 0);
    release(&trace);
}
END_TEST

/* A request of several turns: its second prompt is not compared. */
START_TEST(several_turns)
{
    struct moe_trace trace = make_trace();
    struct moe_pairs p;
    trace.tokens.phase[2] = MOE_PREFILL;
    /* 0 and 1: (1 + 1/3 + 0) / 3, 0 and 2: (1/3 + 0 + 1 + 0) / 4, 1 and 2: (1/3 + 1/3 + 0) / 3. */
    ck_assert(!moe_pairs_compute(&trace, "a", 0, 100, &p, NULL));
    ck_assert(p.n_sequences == 3 && p.n_unique == 3);
    expect(p.within, 3, 0.5 / 3, (4 / 9.0 + 1 / 3.0 + 2 / 9.0) / 3);
    trace.tokens.token_id[3] = 8; /* then its answers say what those of 1 and 3 do */
    ck_assert(!moe_pairs_compute(&trace, NULL, 0, 100, &p, NULL));
    ck_assert(p.n_sequences == 4 && p.n_unique == 2);
    release(&trace);
}
END_TEST

START_TEST(without_ids)
{
    struct moe_trace trace = make_trace();
    struct moe_pairs p = {.n_unique = 7};
    struct moe_err err;
    trace.tokens.token_id[0] = -1; /* of the prompt: does not matter */
    ck_assert(!moe_pairs_compute(&trace, NULL, 0, 9, &p, &err));
    trace.tokens.token_id[2] = -1;
    p.n_unique = 7;
    ck_assert_int_eq(moe_pairs_compute(&trace, NULL, 0, 9, &p, &err), MOE_ERR_UNSUPPORTED);
    ck_assert_uint_eq(p.n_unique, 7);
    release(&trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pairs");
    TCase *t = tcase_create("pairs");
    tcase_add_test(t, by_hand);
    tcase_add_test(t, bands);
    tcase_add_test(t, several_turns);
    tcase_add_test(t, without_ids);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
