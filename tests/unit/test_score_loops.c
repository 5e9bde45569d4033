/* The loops over a layer's scores against simple ones. */
#include "policies/score_loops.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX = 200, ROOM = MAX + MOE_KEY_BLOCK };

START_TEST(exponentials_are_right_to_the_last_place)
{
    moe_floats x;
    float given[MOE_KEY_BLOCK];
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int n = 0; n < 3000; n++) {
        for (int i = 0; i < MOE_KEY_BLOCK; i++)
            given[i] = x[i] = (float)(-106 * moe_rng_unit(&rng) * moe_rng_unit(&rng));
        moe_exp_blocks(&x, 1);
        for (int i = 0; i < MOE_KEY_BLOCK; i++) {
            float right = (float)exp((double)given[i]);
            ck_assert(x[i] >= nextafterf(right, -1) && x[i] <= nextafterf(right, 2));
        }
    }
    moe_floats ends = {0, -0.0f, -INFINITY, -104, -1e30f, -0x1.9d1d9ep6f, NAN};
    moe_exp_blocks(&ends, 1);
    ck_assert(ends[0] == 1 && ends[1] == 1 && ends[2] == 0 && ends[3] == 0 && ends[4] == 0);
    ck_assert(ends[5] == 0x1p-149f && isnan(ends[6])); /* the least number */
}
END_TEST

/* The lanes' sums are added in one order, what fills the last block adds nothing. */
START_TEST(exponentials_are_summed_in_eight_lanes)
{
    float x[ROOM], given[ROOM];
    moe_floats block = {0};
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (uint32_t n = 1; n <= MAX; n++) {
        uint32_t n_room = moe_blocks_round(n);
        float most = -INFINITY, lane[8] = {0};
        for (uint32_t i = 0; i < n_room; i++) {
            given[i] = i < n ? (float)(30 * moe_rng_unit(&rng) - 20) : -INFINITY;
            most = given[i] > most ? given[i] : most;
        }
        ck_assert(moe_floats_highest(given, n_room, MOE_KEY_BLOCK) == most);
        float sum = moe_exp_all(given, x, n_room, MOE_KEY_BLOCK, most);
        for (uint32_t i = 0; i < n; i++) {
            block[0] = given[i] - most;
            moe_exp_blocks(&block, 1);
            lane[i % 8] += block[0];
            ck_assert(x[i] == block[0]);
        }
        ck_assert(sum == ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
                             ((lane[1] + lane[5]) + (lane[3] + lane[7])));
    }
}
END_TEST

/* Rows below 0, above it, on both sides; with zeros of both signs, infinities and NaN of both. */
START_TEST(highest_float_has_the_highest_key)
{
    const float odd[] = {0, -0.0f, INFINITY, -INFINITY, NAN, -NAN, -0x1p-149f};
    float x[ROOM];
    int32_t key[ROOM];
    struct moe_rng rng;
    moe_rng_init(&rng, 9);
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t n = moe_blocks_round(1 + (uint32_t)moe_rng_below(&rng, i % 2 ? MAX : 8));
        int32_t most = INT32_MIN;
        for (uint32_t k = 0; k < n; k++)
            x[k] = i % 4 > 1 && moe_rng_below(&rng, 4) == 0
                       ? odd[moe_rng_below(&rng, 7)]
                       : (float)(moe_rng_unit(&rng) - 0.5 * (i / 4 % 3));
        moe_keys_find(x, n, key);
        for (uint32_t k = 0; k < n; k++)
            most = key[k] > most ? key[k] : most;
        float highest = moe_floats_highest(x, n, MOE_KEY_BLOCK), expected = moe_key_float(most);
        ck_assert(memcmp(&highest, &expected, sizeof highest) == 0);
    }
}
END_TEST

/* Keys of which few are different, or any; how many of them are before that at k. */
static void draw_keys(struct moe_rng *rng, bool any, uint32_t n, int32_t *key)
{
    for (uint32_t k = 0; k < n; k++)
        key[k] = any ? (int32_t)(uint32_t)moe_rng_next(rng) : (int32_t)moe_rng_below(rng, 5) - 2;
}

static uint32_t count_before(const int32_t *key, uint32_t n, uint32_t k)
{
    uint32_t n_before = 0;
    for (uint32_t j = 0; j < n; j++)
        n_before += key[j] > key[k] || (key[j] == key[k] && j < k);
    return n_before;
}

/* Wherever the search begins, and whatever it has learnt. */
START_TEST(cut_leaves_the_p_highest_the_lower_of_equals)
{
    int32_t key[ROOM], given[ROOM];
    struct moe_rng rng;
    struct moe_start learnt = {0};
    moe_rng_init(&rng, 6);
    for (int i = 0; i < 4000; i++) {
        uint32_t n = moe_blocks_round(1 + (uint32_t)moe_rng_below(&rng, i % 2 ? 20 : MAX));
        uint32_t p = 1 + (uint32_t)moe_rng_below(&rng, n);
        draw_keys(&rng, i % 3, n, given);
        memcpy(key, given, sizeof key);
        const struct moe_start starts[] = {
            learnt, {-1e12f, 1e6f}, {1e12f, 0}, {(float)given[p - 1], 3}, {NAN, 1}};
        struct moe_start start = starts[moe_rng_below(&rng, 5)];
        int32_t threshold = moe_keys_cut(key, n, MOE_KEY_BLOCK, p, &start, 5e8f * (float)(i % 4));
        learnt = start;
        ck_assert(learnt.step > 1 && learnt.step < MOE_KEY_OCTAVE);
        for (uint32_t k = 0; k < n; k++)
            ck_assert((key[k] >= threshold) == (count_before(given, n, k) < p));
    }
}
END_TEST

START_TEST(cut_of_a_block_likewise)
{
    int32_t key[MOE_KEY_BLOCK];
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    for (int i = 0; i < 4000; i++) {
        uint32_t p = 1 + (uint32_t)moe_rng_below(&rng, MOE_KEY_BLOCK);
        moe_ints counts;
        draw_keys(&rng, i % 3, MOE_KEY_BLOCK, key);
        moe_keys_cut_block(key, p, &counts);
        for (uint32_t k = 0; k < MOE_KEY_BLOCK; k++)
            ck_assert_int_eq(counts[k], count_before(key, MOE_KEY_BLOCK, k) < p ? -1 : 0);
    }
}
END_TEST

START_TEST(first_turn_is_the_highest_and_alone_or_not)
{
    uint32_t turn[ROOM];
    struct moe_rng rng;
    moe_rng_init(&rng, 8);
    for (int i = 0; i < 2000; i++) {
        uint32_t n = moe_blocks_round(1 + (uint32_t)moe_rng_below(&rng, MAX)), most = 0, at = 0;
        uint32_t n_there = 0;
        for (uint32_t k = 0; k < n; k++) {
            turn[k] = (uint32_t)moe_rng_below(&rng, i % 3 ? 3 : 1u << 31) * (i % 2 ? 1 : 2);
            n_there = turn[k] > most ? 1 : n_there + (turn[k] == most);
            at = turn[k] > most ? k : at;
            most = turn[k] > most ? turn[k] : most;
        }
        struct moe_first first = moe_turns_first(turn, n, MOE_KEY_BLOCK);
        ck_assert_uint_eq(first.turn, most);
        ck_assert(first.alone == (n_there == 1));
        ck_assert(!first.alone || first.at == at);
    }
    for (uint32_t k = 0; k < ROOM; k++)
        turn[k] = 7; /* all are equal */
    ck_assert(!moe_turns_first(turn, moe_blocks_round(MAX), MOE_KEY_BLOCK).alone);
}
END_TEST

START_TEST(infinite_or_absent_scores_are_noticed)
{
    float x[3] = {-3e38f, 0, 3e38f};
    ck_assert(moe_floats_finite(x, 3));
    x[1] = -INFINITY;
    ck_assert(!moe_floats_finite(x, 3));
    x[1] = NAN;
    ck_assert(!moe_floats_finite(x, 3) && moe_floats_finite(x, 1));
}
END_TEST

START_TEST(turns_fall_as_floats_rise)
{
    const float rising[] = {-INFINITY, -1e30f, -1, -1e-40f, 0, 1e-45f, 0.5f, 1, 3, 1e30f, INFINITY};
    int32_t bits[sizeof rising / sizeof *rising];
    memcpy(bits, rising, sizeof bits);
    for (size_t i = 1; i < sizeof rising / sizeof *rising; i++)
        ck_assert(moe_turn(bits[i]) > 0 && moe_turn(bits[i]) < moe_turn(bits[i - 1]));
    ck_assert(moe_turn(bits[0]) < UINT32_MAX);
}
END_TEST

START_TEST(turns_of_a_block_are_those_of_each)
{
    const moe_floats block = {-INFINITY, -1, -0.0f, 0, 1e-45f, 1, INFINITY, 3};
    moe_uints turn = {1, 1, 1, 0, 1, 1, 1, 1};
    int32_t bits[MOE_KEY_BLOCK];
    memcpy(bits, &block, sizeof bits);
    moe_turns_find(&block, &turn);
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        ck_assert_uint_eq(turn[i], i == 3 ? 0 : moe_turn(bits[i])); /* what is 0 stays */
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("score_loops");
    tcase_add_test(tc, exponentials_are_right_to_the_last_place);
    tcase_add_test(tc, exponentials_are_summed_in_eight_lanes);
    tcase_add_test(tc, highest_float_has_the_highest_key);
    tcase_add_test(tc, cut_leaves_the_p_highest_the_lower_of_equals);
    tcase_add_test(tc, cut_of_a_block_likewise);
    tcase_add_test(tc, first_turn_is_the_highest_and_alone_or_not);
    tcase_add_test(tc, infinite_or_absent_scores_are_noticed);
    tcase_add_test(tc, turns_fall_as_floats_rise);
    tcase_add_test(tc, turns_of_a_block_are_those_of_each);
    Suite *suite = suite_create("score_loops");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
