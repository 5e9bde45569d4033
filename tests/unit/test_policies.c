/* Basic policies on short streams, counted by hand, in both replay contracts; and the names of
 * policies. */
#include "tests/unit/hand_cases.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(access_contract)
{
    static const struct hand_case cases[] = {
        /* 4>s1(2) 2>s2(3) 5>s1(4) 3>s1(5) */
        {"lru", STREAM_A, "---h-h--hh-", "132"},
        {"lru", STREAM_B, "---hhh-h", "124"},  /* 4>s2(3) */
        {"lru", STREAM_C, "-hh--hh--", "413"}, /* 4>s0(1) 1>s1(2) */
        /* 4>s0(1) 1>s1(2) 2>s2(3) 5>s0(4) 3>s1(1) */
        {"fifo", STREAM_A, "---h----hh-", "532"},
        {"fifo", STREAM_B, "---hhh--", "413"}, /* 4>s0(1) 1>s1(2) */
        {"fifo", STREAM_C, "-hh--hh--", "413"},
        /* 4: s0's bit is cleared, 4>s1(2), hand at 2; 2>s2(3); 5: s0 cleared again, 5>s1(4);
         * 3: s2 and s0 cleared, 3>s1(5) */
        {"clock", STREAM_A, "---h-h--hh-", "132"},
        {"clock", STREAM_B, "---hhh--", "413"}, /* 4: all cleared, 4>s0(1); 1>s1(2) */
        {"clock", STREAM_C, "-hh--hh--", "413"},
        /* 4>s1(2) 2>s2(3) 5>s1(4): one use each, the older goes; 3>s1(5): 2 has two, 1 has four */
        {"lfu", STREAM_A, "---h-h--hh-", "132"},
        {"lfu", STREAM_B, "---hhh-h", "124"},
        {"lfu", STREAM_C, "-hh--hh-h", "143"}, /* 1 has three uses; of 2 and 3 the older: 4>s1(2) */
        {"lfu", STREAM_D, "-h-hh---", "32"},   /* 3>s0(1) 1>s0(3); 1 counts from one: 3>s0(1) */
        /* 4 never comes back: declined; so is 5 */
        {"opt", STREAM_A, "---h-hh-hhh", "123"},
        /* 4>s2(3), 3's next use is the last; 5>s2(4); 3: none comes back, the lowest: 3>s0(1) */
        {"opt:admit=forced", STREAM_A, "---h-hh-hh-", "325"},
        {"opt", STREAM_C, "-hh--hh-h", "123"},
        {"opt:admit=forced", STREAM_C, "-hh--hh-h", "143"}, /* 4>s1(2), first of those never used */
        /* counters of s0 s1 s2: 1 2 3, 1 hits 2 2 3, 4>s0(1) 4 2 3, 1>s1(2) 4 5 3, 2>s2(3) 4 5 6,
         * 5>s0(4) 7 5 6, 2 and 1 hit 7 6 7, 3>s1(1) 7 8 7 */
        {"paper-lru", STREAM_A, "---h----hh-", "532"},
        /* 1 2 3, hits of 3 2 1: 2 3 4, 4>s0(1) 5 3 4, 1>s1(2) */
        {"paper-lru", STREAM_B, "---hhh--", "413"},
        /* 1, hits 2 3; 2: 3 4; 3: 3 4 5; hits 3 5 6; 4>s0(1) 7 5 6; 1>s1(2) */
        {"paper-lru:hazards=off", STREAM_C, "-hh--hh--", "413"},
        /* events of several experts go one after another */
        {"lru", "12 31 12", "-- -- h-", "21"}, /* 3>s0(1) 1>s1(2); 2>s0(3) */
        {"lru", "12 21 12", "-- h- h-", "2"},  /* 2>(1), 2 hits, 1>(2), 1 hits, 2>(1) */
        {"opt", "12 31 12", "-- -h hh", "12"}, /* 3 never comes back */
    };
    check_cases(cases, sizeof cases / sizeof *cases, true);
}
END_TEST

START_TEST(event_contract)
{
    static const struct hand_case cases[] = {
        {"lru", STREAM_F, "-- -h h-", "12"}, /* 1 is older than 2 but of the event: 3>s1(2) */
        {"fifo", STREAM_F, "-- -h h-", "12"},
        {"lfu", STREAM_F, "-- -h h-", "12"},
        {"clock", STREAM_F, "-- -h h-", "12"},
        {"random", STREAM_F, "-- -h h-", "12"}, /* one slot only is not pinned */
        {"opt", STREAM_F, "-- -h hh", "12"},
        {"opt:admit=forced", STREAM_F, "-- -h h-", "12"},
        /* counters 1 2; 1 hits 2 2, 3>s0(1) although 1 is of the event: 3 2; 2 hits 3 3, 1>s0(3) */
        {"paper-lru", STREAM_F, "-- -h -h", "12"},
        /* 2 2, s0 is pinned: 3>s1(2) 2 3; 1 hits 3 3, s0 is pinned: 2>s1(3) */
        {"paper-lru:hazards=off", STREAM_F, "-- -h h-", "12"},
        /* 4>s1(2), 2>s1(4), then the oldest of 1 2 3 by use: 5>s0(1) 6>s1(2) */
        {"lru", STREAM_G, "-- h- -h -h --", "563"},
        /* 4: 1 is oldest but pinned, 4>s1(2); 2>s0(1); 5>s2(3) 6>s1(4) */
        {"fifo", STREAM_G, "-- h- -h -h --", "265"},
        /* 4: s0 pinned, 4>s1(2), hand at 2; 2: s2 pinned, s0 cleared, 2>s1(4), hand at 2; then 3's
         * bit is set; 5: s2 cleared, 5>s0(1), 6>s1(2) */
        {"clock", STREAM_G, "-- h- -h -h --", "563"},
        /* 4>s1(2): one use, older than 3; 2>s1(4); 5>s1(2): uses are 3 1 2; 6: 5 pinned, 6>s2(3) */
        {"lfu", STREAM_G, "-- h- -h -h --", "156"},
        {"opt", STREAM_G, "-- h- -h hh --", "123"}, /* 4, 5 and 6 never come back */
        /* 4: 2 and 3 are needed next both, 4>s1(2); 2>s0(1): never again, as 4; 5>s0(2) 6>s1(4) */
        {"opt:admit=forced", STREAM_G, "-- h- -h -h --", "563"},
        /* the first miss gets the slot, the second finds it pinned; a hit keeps it */
        {"lru", STREAM_H, "-- -- -- --", "2"},
        {"lru", "12 21 12", "-- -h h-", "1"},
        /* keeps of each event and the slot what is used next: 2, then 3 for 2, then 1 for 3 */
        {"opt", STREAM_H, "-- h- h- -h", "1"},
        {"opt:admit=forced", STREAM_H, "-- -- -- --", "2"},
        /* in 21 the newcomer 2 takes the slot of the event's own hit: 1 is not used again */
        {"opt", "13 21 24", "-- -h h-", "2"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, false);
}
END_TEST

/* --- random ------------------------------------------------------------------------------------
 */

/* Four slots full of experts 0..3 in a pool; every newcomer is asked a victim with slot `pinned`
 * held. Counts of the victims: fair within 4 standard deviations (the seed is fixed). */
START_TEST(random_is_fair_and_spares_pinned)
{
    enum { N = 30000, SLOTS = 4 };
    const struct moe_policy_spec spec = policy("random");
    const struct moe_policy_env env = {.n_slots = SLOTS, .seed = 3, .params = spec.params};
    void *state = calloc(1, spec.ops->state_size(&env));
    for (uint32_t n_pinned = 0; n_pinned < SLOTS; n_pinned++) {
        uint8_t pinned[SLOTS] = {0};
        int seen[SLOTS] = {0}, fair = N / (int)(SLOTS - n_pinned);
        for (uint32_t s = 0; s < n_pinned; s++)
            pinned[(2 * s + 1) % 5 % SLOTS] = MOE_PIN_HELD;
        const struct moe_victim_req req = {.next_use = MOE_NEVER, .pinned = pinned};
        spec.ops->init(state, &env);
        for (int i = 0; i < N; i++)
            seen[spec.ops->victim(state, &req)]++;
        for (uint32_t s = 0; s < SLOTS; s++) {
            if (pinned[s])
                ck_assert_int_eq(seen[s], 0);
            else
                ck_assert_int_le(abs(seen[s] - fair), 350);
        }
    }
    const uint8_t all[SLOTS] = {1, 1, 1, 1};
    const struct moe_victim_req req = {.next_use = MOE_NEVER, .pinned = all};
    ck_assert_int_eq(spec.ops->victim(state, &req), MOE_NO_SLOT);
    free(state);
}
END_TEST

/* --- names -------------------------------------------------------------------------------------
 */

START_TEST(names_and_parameters)
{
    for (const struct moe_policy_ops *const *ops = moe_policies; *ops; ops++) {
        struct moe_policy_spec spec = policy((*ops)->name);
        ck_assert_ptr_eq(spec.ops, *ops);
        ck_assert_ptr_nonnull((*ops)->summary);
        ck_assert_ptr_nonnull((*ops)->source);
        ck_assert_uint_le((*ops)->params_size, MOE_POLICY_PARAMS_MAX);
        ck_assert_int_eq((*ops)->params != NULL, (*ops)->params_size > 0);
    }
    static const char *const texts[] = {"lru",
                                        "opt:admit=forced",
                                        "static:choose=random",
                                        "static:list=a/b.tsv",
                                        "decayed-count:half_life=2,stay=3",
                                        "least-stale:reading=bypass"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char buf[64], shorter[8];
        struct moe_policy_spec spec = policy(texts[i]);
        ck_assert_str_eq(moe_policy_format(&spec, buf, sizeof buf), texts[i]);
        moe_policy_format(&spec, shorter, sizeof shorter);
        ck_assert_int_eq(strncmp(shorter, texts[i], strlen(shorter)), 0);
    }
    static const struct {
        const char *text, *message;
    } faults[] = {
        {"", "empty policy name"},
        {":", "empty policy name"},
        {"lru:a=1", "policy 'lru' has no parameters, but 'a=1' was given"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct moe_policy_spec spec = {.ops = NULL};
        struct moe_err err;
        ck_assert_int_eq(moe_policy_parse(faults[i].text, &spec, &err), MOE_ERR_USAGE);
        ck_assert_str_eq(err.text, faults[i].message);
        ck_assert_ptr_null(spec.ops);
    }
    struct moe_policy_spec none = {.ops = NULL};
    struct moe_err unknown;
    ck_assert_int_eq(moe_policy_parse("lr", &none, &unknown), MOE_ERR_USAGE);
    ck_assert_msg(
        strstr(unknown.text, "unknown policy 'lr' (did you mean 'lru'?); known: lru fifo"), "%s",
        unknown.text);
    for (const struct moe_policy_ops *const *ops = moe_policies; *ops; ops++)
        ck_assert_ptr_nonnull(strstr(unknown.text, (*ops)->name));
    static const char *const wrong[] = {"opt:admit=never", "opt:amit=bypass", "opt:admit",
                                        "paper-lru:hazards=2", "paper-lru:hazards=on,x=1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct moe_policy_spec spec = {.ops = NULL};
        struct moe_err err;
        ck_assert_int_eq(moe_policy_parse(wrong[i], &spec, &err), MOE_ERR_USAGE);
        ck_assert_ptr_null(spec.ops);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("policies");
    tcase_add_test(tc, access_contract);
    tcase_add_test(tc, event_contract);
    tcase_add_test(tc, random_is_fair_and_spares_pinned);
    tcase_add_test(tc, names_and_parameters);
    Suite *suite = suite_create("policies");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
