/* The loops over a layer's scores against plain ones. */
#include "policies/score_loops.h"

#include "base/rng.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>

enum { MAX = 200, ROOM = MAX + MOE_KEY_BLOCK };

START_TEST(exponentials_are_right_to_the_last_place)
{
    float x[MOE_KEY_BLOCK], given[MOE_KEY_BLOCK];
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int n = 0; n < 3000; n++) {
        for (int i = 0; i < MOE_KEY_BLOCK; i++)
            given[i] = x[i] = (float)(-106 * moe_rng_unit(&rng) * moe_rng_unit(&rng));
        moe_exp_block(x);
        for (int i = 0; i < MOE_KEY_BLOCK; i++) {
            float right = (float)exp((double)given[i]);
            ck_assert(x[i] >= nextafterf(right, -1) && x[i] <= nextafterf(right, 2));
        }
    }
    float ends[MOE_KEY_BLOCK] = {0, -0.0f, -INFINITY, -104, -1e30f};
    moe_exp_block(ends);
    ck_assert(ends[0] == 1 && ends[1] == 1 && ends[2] == 0 && ends[3] == 0 && ends[4] == 0);
}
END_TEST

/* The lanes' sums are added in one order, what fills the last block adds nothing. */
START_TEST(exponentials_are_summed_in_eight_lanes)
{
    float x[ROOM], given[ROOM];
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (uint32_t n = 1; n <= MAX; n++) {
        uint32_t n_room = moe_blocks_round(n);
        float most = -INFINITY, lane[8] = {0}, block[MOE_KEY_BLOCK] = {0};
        for (uint32_t i = 0; i < n_room; i++) {
            x[i] = given[i] = i < n ? (float)(30 * moe_rng_unit(&rng) - 20) : -INFINITY;
            most = given[i] > most ? given[i] : most;
        }
        ck_assert(moe_floats_highest(x, n_room) == most);
        float sum = moe_exp_all(x, n_room, most);
        for (uint32_t i = 0; i < n; i++) {
            block[0] = given[i] - most;
            moe_exp_block(block);
            lane[i % 8] += block[0];
            ck_assert(x[i] == block[0]);
        }
        ck_assert(sum == ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
                             ((lane[1] + lane[5]) + (lane[3] + lane[7])));
    }
}
END_TEST

/* Few different keys, and any; wherever the search begins. */
START_TEST(cut_leaves_the_p_highest_the_lower_of_equals)
{
    int32_t key[ROOM], given[ROOM];
    struct moe_rng rng;
    moe_rng_init(&rng, 6);
    for (int i = 0; i < 4000; i++) {
        uint32_t n = moe_blocks_round(1 + (uint32_t)moe_rng_below(&rng, i % 2 ? 20 : MAX));
        uint32_t p = 1 + (uint32_t)moe_rng_below(&rng, n);
        for (uint32_t k = 0; k < n; k++)
            key[k] = given[k] =
                i % 3 ? (int32_t)(uint32_t)moe_rng_next(&rng) : (int32_t)moe_rng_below(&rng, 5) - 2;
        const int64_t guesses[] = {0, (int64_t)3 * INT32_MIN, (int64_t)3 * INT32_MAX, given[p - 1]};
        int32_t threshold = moe_keys_cut(key, n, p, guesses[moe_rng_below(&rng, 4)]);
        for (uint32_t k = 0; k < n; k++) {
            uint32_t n_before = 0;
            for (uint32_t j = 0; j < n; j++)
                n_before += given[j] > given[k] || (given[j] == given[k] && j < k);
            ck_assert((key[k] >= threshold) == (n_before < p));
        }
    }
}
END_TEST

START_TEST(turns_fall_as_floats_rise)
{
    const float rising[] = {-INFINITY, -1e30f, -1, -1e-40f, 0, 1e-45f, 0.5f, 1, 3, 1e30f, INFINITY};
    int32_t bits[sizeof rising / sizeof *rising];
    memcpy(bits, rising, sizeof bits);
    for (size_t i = 1; i < sizeof rising / sizeof *rising; i++)
        ck_assert(moe_turn(bits[i]) > 0 && moe_turn(bits[i]) < moe_turn(bits[i - 1]));
    ck_assert(moe_turn(-1) < UINT32_MAX); /* not a number */
}
END_TEST

START_TEST(turns_of_a_block_are_those_of_each)
{
    const float block[MOE_KEY_BLOCK] = {-INFINITY, -1, -0.0f, 0, 1e-45f, 1, INFINITY, 3};
    uint32_t turn[MOE_KEY_BLOCK] = {1, 1, 1, 0, 1, 1, 1, 1};
    int32_t bits[MOE_KEY_BLOCK];
    memcpy(bits, block, sizeof bits);
    moe_turns_find(block, turn);
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        ck_assert_uint_eq(turn[i], i == 3 ? 0 : moe_turn(bits[i])); /* what is 0 stays */
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("score_loops");
    tcase_add_test(tc, exponentials_are_right_to_the_last_place);
    tcase_add_test(tc, exponentials_are_summed_in_eight_lanes);
    tcase_add_test(tc, cut_leaves_the_p_highest_the_lower_of_equals);
    tcase_add_test(tc, turns_fall_as_floats_rise);
    tcase_add_test(tc, turns_of_a_block_are_those_of_each);
    Suite *suite = suite_create("score_loops");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
