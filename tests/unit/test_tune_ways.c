#include "sim/tune_ways.h"

#include "base/rng.h"
#include "sim/mrc.h"
#include "sim/replay.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/run_suite.h"

static uint64_t brute_force(const uint64_t *worth, uint32_t n_layers, uint32_t n_experts,
                            uint64_t slots)
{
    uint64_t best = 0;
    if (n_layers == 0)
        return 0;
    for (uint32_t m = 0; m <= n_experts && m <= slots; m++) {
        uint64_t sum =
            worth[m] + brute_force(worth + n_experts + 1, n_layers - 1, n_experts, slots - m);
        best = sum > best ? sum : best;
    }
    return best;
}

START_TEST(ways_equal_brute_force)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int i = 0; i < 1000; i++) {
        uint32_t n_layers = 1 + (uint32_t)moe_rng_below(&rng, 5);
        uint32_t n_experts = 1 + (uint32_t)moe_rng_below(&rng, 5), ways[5], used = 0;
        uint64_t worth[5 * 6], slots = moe_rng_below(&rng, n_layers * n_experts + 3), best, sum = 0;
        bool rising = moe_rng_below(&rng, 2);
        for (uint32_t l = 0; l < n_layers; l++)
            for (uint32_t m = 0; m <= n_experts; m++) {
                uint64_t *w = worth + l * (n_experts + 1) + m;
                *w = moe_rng_below(&rng, 8) + (rising && m ? w[-1] : 0);
            }
        ck_assert_int_eq(moe_tune_ways(worth, n_layers, n_experts, slots, ways, &best, NULL),
                         MOE_OK);
        for (uint32_t l = 0; l < n_layers; l++) {
            ck_assert_uint_le(ways[l], n_experts);
            used += ways[l];
            sum += worth[l * (n_experts + 1) + ways[l]];
        }
        ck_assert_uint_le(used, slots);
        ck_assert_uint_eq(sum, best);
        ck_assert_uint_eq(best, brute_force(worth, n_layers, n_experts, slots));
    }
}
END_TEST

static uint64_t replayed_hits(const struct moe_trace *trace, const char *text)
{
    struct moe_geometry g;
    struct moe_policy_spec lru;
    struct moe_replay_options options = {.phases = MOE_PHASES_DECODE};
    struct moe_replay_result result;
    ck_assert_int_eq(
        moe_geometry_parse(text, trace->info.n_layers, trace->info.n_experts, NULL, &g, NULL),
        MOE_OK);
    ck_assert_int_eq(moe_policy_parse("lru", &lru, NULL), MOE_OK);
    ck_assert_int_eq(moe_replay(trace, &g, &lru, &options, &result, NULL), MOE_OK);
    uint64_t hits = result.both.hits;
    moe_replay_release(&result);
    moe_geometry_release(&g);
    return hits;
}

/* What the curves promise is what a replay of that geometry has, and no division has more. */
START_TEST(divisions_are_the_best_of_all_replays)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 9);
    for (int i = 0; i < 40; i++) {
        struct random_shape shape = {3, 4, 1 + (uint32_t)moe_rng_below(&rng, 2), 60, true, true};
        struct moe_trace trace;
        struct moe_mrc mrc;
        struct moe_mrc_options options = {.phases = MOE_PHASES_DECODE};
        uint64_t worth[3 * 5], best, slots = moe_rng_below(&rng, 13), most = 0;
        uint32_t ways[3];
        char text[64];
        random_trace(&rng, &shape, &trace);
        ck_assert_int_eq(moe_mrc_compute(&trace, &options, &mrc, NULL), MOE_OK);
        moe_tune_worth_hits(&mrc, MOE_MRC_LRU, worth);
        ck_assert_int_eq(moe_tune_ways(worth, 3, 4, slots, ways, &best, NULL), MOE_OK);
        ck_assert(moe_tune_ways_format(ways, 3, text, sizeof text));
        ck_assert_uint_eq(replayed_hits(&trace, text), best);
        for (uint32_t n = 0; n < 125; n++) {
            if (n % 5 + n / 5 % 5 + n / 25 > slots)
                continue;
            snprintf(text, sizeof text, "per-layer:%u,%u,%u", n % 5, n / 5 % 5, n / 25);
            if (n == 0)
                snprintf(text, sizeof text, "none");
            uint64_t hits = replayed_hits(&trace, text);
            most = hits > most ? hits : most;
        }
        ck_assert_uint_eq(best, most);
        moe_mrc_release(&mrc);
        moe_trace_release(&trace);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tune_ways");
    TCase *tc = tcase_create("tune_ways");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, ways_equal_brute_force);
    tcase_add_test(tc, divisions_are_the_best_of_all_replays);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
