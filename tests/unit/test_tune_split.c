/* Training and held-out parts of a trace: whole sequences or halves of one; neither part is nearly
 * empty. */
#include "sim/tune_split.h"
#include "tests/unit/tune_trace.h"

START_TEST(every_sequence_is_on_one_side)
{
    struct moe_trace trace = make_trace(UNIFORM, 9);
    for (uint64_t t = 0; t < TOKENS; t++) /* a prompt alone is on neither */
        trace.tokens.phase[3 * TOKENS + t] = MOE_PREFILL;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct moe_tune_split split;
        unsigned seen = 0;
        ck_assert_int_eq(moe_tune_split(&trace, seed, &split, NULL), MOE_OK);
        ck_assert(!split.in_time);
        ck_assert_uint_eq(split.train.n_sequences, 4);
        ck_assert_uint_eq(split.held_out.n_sequences, 4);
        for (uint64_t i = 0; i < 8; i++) {
            const struct moe_trace *part = i < 4 ? &split.train : &split.held_out;
            uint64_t number = part->sequences[i % 4].text_hash;
            ck_assert(!(seen & 1U << number));
            seen |= 1U << number;
            ck_assert_mem_eq(part->tokens.expert + i % 4 * TOKENS * LAYERS,
                             trace.tokens.expert + number * TOKENS * LAYERS,
                             TOKENS * LAYERS * sizeof(moe_expert));
        }
        ck_assert_int_eq(moe_tokens_check(&split.train.tokens, &split.train.info, NULL), MOE_OK);
        ck_assert_uint_eq(seen, 0x1ff & ~(1U << 3));
        /* whole sequences, unless they are far too long */
        ck_assert_uint_eq(moe_tune_prefix(&split.train, 30), TOKENS);
        ck_assert_uint_eq(moe_tune_prefix(&split.train, TOKENS + 1), 2 * TOKENS);
        ck_assert_uint_eq(moe_tune_prefix(&split.train, 5), 5);
        moe_tune_split_release(&split);
    }
    moe_trace_release(&trace);
}
END_TEST

START_TEST(one_sequence_is_cut_in_time)
{
    struct moe_trace trace = make_trace(UNIFORM, 1);
    struct moe_tune_split split;
    for (int i = 0; i < TOKENS; i++) {
        trace.tokens.position[i] = -1;
        trace.tokens.phase[i] = i < 4 ? MOE_PREFILL : MOE_DECODE;
        trace.tokens.step[i] = i < 4 ? 0 : (uint32_t)i - 3;
    }
    ck_assert_int_eq(moe_tune_split(&trace, 1, &split, NULL), MOE_OK);
    ck_assert(split.in_time);
    ck_assert_uint_eq(moe_tune_decode_tokens(&split.train), 18);
    ck_assert_uint_eq(moe_tune_decode_tokens(&split.held_out), 18);
    ck_assert_uint_eq(split.train.tokens.n_tokens, 22);
    ck_assert_uint_eq(split.held_out.tokens.step[0], 0);
    ck_assert_int_eq(split.held_out.tokens.position[0], 22); /* its context is not forgotten */
    ck_assert_mem_eq(split.held_out.tokens.expert, trace.tokens.expert + 22 * LAYERS,
                     18 * LAYERS * sizeof(moe_expert));
    moe_tune_split_release(&split);
    moe_trace_release(&trace);
}
END_TEST

/* Of sequence s so many decode steps, the rest of its tokens a prompt. */
static struct moe_trace with_steps(const int *steps, uint32_t n)
{
    struct moe_trace trace = make_trace(UNIFORM, n);
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t i = 0; i < TOKENS; i++) {
            const int decode = (int)i - (TOKENS - steps[s]);
            trace.tokens.phase[s * TOKENS + i] = decode < 0 ? MOE_PREFILL : MOE_DECODE;
            trace.tokens.step[s * TOKENS + i] = decode < 0 ? 0 : (uint32_t)decode + 1;
        }
    return trace;
}

/* A warm-up of a token beside a long sequence, and one long one among short ones: neither side is
 * left with next to nothing, whichever is drawn. */
START_TEST(no_side_has_next_to_nothing)
{
    static const int two[] = {1, TOKENS - 1}, many[] = {2, 3, TOKENS - 1, 2, TOKENS - 5, 3};
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct moe_trace a = with_steps(two, 2), b = with_steps(many, 6);
        struct moe_tune_split split;
        ck_assert_int_eq(moe_tune_split(&a, seed, &split, NULL), MOE_OK);
        ck_assert(split.in_time);
        ck_assert_uint_eq(moe_tune_decode_tokens(&split.train), 1 + (TOKENS - 1) / 2);
        ck_assert_uint_eq(moe_tune_decode_tokens(&split.held_out), TOKENS - 1 - (TOKENS - 1) / 2);
        moe_tune_split_release(&split);
        ck_assert_int_eq(moe_tune_split(&b, seed, &split, NULL), MOE_OK);
        const uint64_t train = moe_tune_decode_tokens(&split.train);
        const uint64_t all = train + moe_tune_decode_tokens(&split.held_out);
        ck_assert_uint_eq(all, 2 * TOKENS + 4);
        ck_assert_uint_ge(train, all / 4);
        ck_assert_uint_ge(all - train, all / 4);
        moe_tune_split_release(&split);
        moe_trace_release(&a);
        moe_trace_release(&b);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tune split");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, every_sequence_is_on_one_side);
    tcase_add_test(tc, one_sequence_is_cut_in_time);
    tcase_add_test(tc, no_side_has_next_to_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
