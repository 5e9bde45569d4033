/* Rules of replay that tests on random traces brought to light, each counted by hand. */
#include "sim/replay.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <string.h>

static struct moe_err err;

enum { NONE = MOE_NO_EXPERT, MAX_LAYERS = 2 };

/* Decode tokens, one a step; experts [T, L, K]. */
static struct moe_trace decode_trace(uint32_t n_layers, uint64_t n_tokens, const moe_expert *expert)
{
    struct moe_trace trace = {.info = {.n_layers = n_layers, .n_experts = 4, .top_k = 2}};
    ck_assert_int_eq(moe_tokens_init(&trace.tokens, &trace.info, n_tokens, 0, &err), MOE_OK);
    memcpy(trace.tokens.expert, expert, n_tokens * n_layers * 2 * sizeof *expert);
    for (uint32_t t = 0; t < n_tokens; t++) {
        trace.tokens.step[t] = t;
        trace.tokens.phase[t] = MOE_DECODE;
    }
    return trace;
}

/* Replays under the event contract by the plain and, where there is one, the fast path; want [L].
 */
static void expect(const struct moe_trace *trace, const char *geometry_text,
                   const char *policy_text, const struct moe_counts *want)
{
    struct moe_geometry geometry;
    struct moe_policy_spec policy;
    const struct moe_trace_info *info = &trace->info;
    ck_assert_msg(!moe_geometry_parse(geometry_text, info->n_layers, info->n_experts,
                                      info->expert_bytes, &geometry, &err),
                  "%s", err.text);
    ck_assert_msg(!moe_policy_parse(policy_text, &policy, &err), "%s", err.text);
    for (int generic = 0; generic < 2; generic++) {
        struct moe_replay_options options = {.contract = MOE_CONTRACT_EVENT, .generic = generic};
        struct moe_replay_result got;
        ck_assert_msg(!moe_replay(trace, &geometry, &policy, &options, &got, &err), "%s", err.text);
        for (uint32_t l = 0; l < info->n_layers; l++)
            ck_assert_mem_eq(&got.layer[MOE_DECODE][l], &want[l], sizeof want[l]);
        moe_replay_release(&got);
    }
    moe_geometry_release(&geometry);
}

/* The reference code counts all hits of a token before it chooses a victim. Two ways, counters:
 *   (0 1)  0 -> way 0: 1, 1 -> way 1: 2
 *   (0)    way 0: 2
 *   (2 0)  hit on 0 first, way 0: 3; so way 1 goes (2, the smallest): 1 is useless, way 1: 4.
 *          Counted after the choice, both ways would stand at 2 and way 0 would go.
 *   (1 0)  hit on 0, way 0: 4, like way 1; the lower goes, though the event hit there: a hazard.
 *          Way 0: 5. With hazards=off way 1 goes (2 is useless) and way 0 keeps 0.
 *   (0)    a miss, and 2, never found, makes room; with hazards=off a hit. */
START_TEST(paper_lru_counts_before_it_chooses)
{
    static const moe_expert expert[] = {0, 1, 0, NONE, 2, 0, 1, 0, 0, NONE};
    static const struct moe_counts on = {.events = 5,
                                         .any_hit_events = 3,
                                         .all_hit_events = 1,
                                         .lookups = 8,
                                         .hits = 3,
                                         .misses = 5,
                                         .fills = 5,
                                         .evictions = 3,
                                         .useless_fills = 2,
                                         .hazards = 1};
    static const struct moe_counts off = {.events = 5,
                                          .any_hit_events = 4,
                                          .all_hit_events = 2,
                                          .lookups = 8,
                                          .hits = 4,
                                          .misses = 4,
                                          .fills = 4,
                                          .evictions = 2,
                                          .useless_fills = 2};
    struct moe_trace trace = decode_trace(1, 5, expert);
    expect(&trace, "1x2", "paper-lru", &on);
    expect(&trace, "1x2", "paper-lru:hazards=off", &off);
    moe_trace_release(&trace);
}
END_TEST

/* A fill gets the largest counter of all plus one, that of the way it takes among them. Two ways:
 *   (0 1)    1, 2
 *   (1) (1)  1, 4
 *   (0 2)    hit on 0: 2, 4; the event protects it, so 1 goes though it is the largest: 2, 5
 *   (0) (0)  4, 5
 *   (3)      0 goes: 6, 5. Had 2 got the largest of the rest plus one, 3, it would go instead.
 *   (0)      a miss; 2 goes, never found */
START_TEST(paper_lru_counts_the_way_given_up)
{
    static const moe_expert expert[] = {0, 1,    1, NONE, 1, NONE, 0, 2,
                                        0, NONE, 0, NONE, 3, NONE, 0, NONE};
    static const struct moe_counts want = {.events = 8,
                                           .any_hit_events = 5,
                                           .all_hit_events = 4,
                                           .lookups = 10,
                                           .hits = 5,
                                           .misses = 5,
                                           .fills = 5,
                                           .evictions = 3,
                                           .useless_fills = 1};
    struct moe_trace trace = decode_trace(1, 8, expert);
    expect(&trace, "1x2", "paper-lru:hazards=off", &want);
    moe_trace_release(&trace);
}
END_TEST

/* (0 1) (1 2) (0 1) (2 3) and a slot for each: 3 is never used again, so a bypassing OPT does not
 * take it, though a slot is free. Forced, it does. Hits: 1; 0 and 1; 2. */
START_TEST(opt_takes_nothing_useless)
{
    static const moe_expert expert[] = {0, 1, 1, 2, 0, 1, 2, 3};
    struct moe_counts want = {.events = 4,
                              .any_hit_events = 3,
                              .all_hit_events = 1,
                              .lookups = 8,
                              .hits = 4,
                              .misses = 4,
                              .fills = 3,
                              .bypasses = 1};
    struct moe_trace trace = decode_trace(1, 4, expert);
    expect(&trace, "1x4", "opt", &want);
    want.fills = 4;
    want.bypasses = 0;
    expect(&trace, "1x4", "opt:admit=forced", &want);
    moe_trace_release(&trace);
}
END_TEST

/* Experts of 3 and 7 bytes, LRU, 10 bytes for all. Layer 0 fills 0, 1, 2 (9 bytes). Then layer 1
 * asks for 0 and 1: the first makes 0 and 1 of layer 0 go (9 + 7 and 6 + 7 exceed 10, 3 + 7 fits);
 * for the second 2 goes as well, and still it does not fit beside the first, which the event
 * protects: dropped, but 2 stays out and misses afterwards. */
START_TEST(bytes_given_up_in_vain_stay_out)
{
    static const moe_expert expert[] = {0, 1, NONE, NONE, 2, NONE, 0, 1, 2, NONE, NONE, NONE};
    static const struct moe_counts want[MAX_LAYERS] = {
        {.events = 3,
         .lookups = 4,
         .misses = 4,
         .fills = 4,
         .fill_bytes = 12,
         .evictions = 3,
         .useless_fills = 3},
        {.events = 1, .lookups = 2, .misses = 2, .fills = 1, .fill_bytes = 7, .dropped_fills = 1},
    };
    uint64_t bytes[MAX_LAYERS] = {3, 7};
    struct moe_trace trace = decode_trace(2, 3, expert);
    trace.info.expert_bytes = bytes;
    expect(&trace, "global:10B", "lru", want);
    moe_tokens_release(&trace.tokens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay_rules");
    TCase *tests = tcase_create("replay_rules");
    tcase_add_test(tests, paper_lru_counts_before_it_chooses);
    tcase_add_test(tests, paper_lru_counts_the_way_given_up);
    tcase_add_test(tests, opt_takes_nothing_useless);
    tcase_add_test(tests, bytes_given_up_in_vain_stay_out);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
