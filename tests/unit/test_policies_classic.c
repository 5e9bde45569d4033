/* Policies of the caching literature on short streams, counted by hand, in both contracts. */
#include "tests/unit/hand_cases.h"
#include "tests/unit/run_suite.h"

#include <check.h>

/* 1 is used twice and then passed over by a scan. */
#define STREAM_SCAN "1 1 2 3 4 5 1"

START_TEST(access_contract)
{
    static const struct hand_case cases[] = {
        /* two slots of probation, one protected: "21|3"; 1 climbs and 3 falls: "32|1"; 4>s1(2)
         * "43|1"; 2>s2(3) "24|1"; 5>s1(4) "52|1"; "15|2"; "25|1"; 3>s1(5) */
        {"slru:segments=2", STREAM_A, "---h-h--hh-", "132"},
        {"slru:segments=2", STREAM_SCAN, "-h----h", "145"}, /* 4>s1(2) 5>s2(3), 1 is protected */
        {"slru", STREAM_SCAN, "-h-----", "451"},            /* four segments of none: LRU */
        /* one slot each: "|1|" "2|1|" "2|1|3" 4>s1(2) 5>s1(4), then 1 climbs and 3 falls */
        {"slru:segments=3", STREAM_SCAN, "-h----h", "153"},
        /* T1 T2 B1 B2, newest first: 321; 32 1; 4>s1: 43 1 2; 2 was in B1, target 1, 2>s2: 4 21 3;
         * T1 is no longer than the target, 5>s0: 54 2 3 1; 1 was in B2, target 0, 1>s1:
         * 5 12 43; 3 was in B1, target 1, 3>s2: 5 31 4 2 */
        {"arc", STREAM_A, "---h-h--h--", "513"},
        {"arc", STREAM_SCAN, "-h----h", "145"}, /* 4>s1(2) 5>s2(3): T1 loses while T2 has one */
        /* with T1 alone in the pool no ghost is kept: 3>s0(1) 1>s1(2) 1 in T2, 2>s0(3) */
        {"arc", STREAM_F, "-- -- h-", "21"},
        /* small 1, main 2, two ghosts: 1 has one hit and leaves: 4>s0(1); 1>s1(2) and 2>s2(3) were
         * ghosts and are main; 5>s0(4); 3>s0(5) was a ghost */
        {"s3-fifo", STREAM_A, "---h----hh-", "312"},
        /* 1 has two hits and moves on to main: 4>s1(2) 5>s2(3) 6>s1(4) */
        {"s3-fifo", "1 1 1 2 3 4 5 6 1", "-hh-----h", "165"},
        /* one hit is enough */
        {"s3-fifo:threshold=1", STREAM_SCAN, "-h----h", "145"},
        /* 4: 1 loses its mark, 4>s1(2), hand at 3; 2>s2(3); 5>s1(4), hand at 2; 3: 2 loses its
         * mark, 3>s1(5) */
        {"sieve", STREAM_A, "---h-h--hh-", "132"},
        {"sieve", STREAM_B, "---hhh--", "413"}, /* 4: all lose their marks, 4>s0(1); 1>s1(2) */
        /* 4>s1(2) 5>s2(3) 6>s1(4): the hand does not come back to 1, as clock's does */
        {"sieve", "1 2 3 1 4 5 6 1", "---h---h", "165"},
        {"clock", "1 2 3 1 4 5 6 1", "---h----", "615"},
        {"lecar:learn=off,lru_weight=1", STREAM_A, "---h-h--hh-", "132"},
        {"lecar:learn=off,lru_weight=0", STREAM_C, "-hh--hh-h", "143"},
        /* values 2 and 3; 3>s0(1), age 2, 3 has 3; 1>s1(2), older than 3 of equals; 3 hits */
        {"lfu-aged", STREAM_D, "-h-hh--h", "31"},
        /* 1 has 4 and 2 has 1: halved to 2 and 1; 2 has 2, 3>s0(1), 1>s0(3) */
        {"lfu-aged:ageing=halve,limit=2", "1 1 1 1 2 2 3 1", "-hhh-h--", "12"},
        {"lfu", "1 1 1 1 2 2 3 1", "-hhh-h-h", "13"}, /* 3>s1(2) */
        /* uses / age: 4: 2/1 1/3 1/2, 4>s1(2); 2: 3/1 1/4 1/2, 2>s2(3); 5: 3/2 1/3 2/1, 5>s1(4);
         * 3: 4/1 3/2 1/3 */
        {"lfru", STREAM_A, "---h-h--hh-", "132"},
        /* 4: 3/3 2/1, 4>s0(1); 1: 1/1 of 4, 2/2 of 2, the smaller goes: 1>s1(2) */
        {"lfru", "1 1 1 2 2 4 1", "-hh-h--", "41"},
        {"lfru:reading=ties", "1 1 1 2 2 4 1", "-hh-h-h", "14"}, /* 4>s1(2): three uses to two */
        /* counts start anew with each stay: 3: 2/4 3/1, 3>s0(1); 1: 1/1 of 3, 3/2 of 2, 1>s0(3);
         * 3: 1/1 3/3, the earlier fill goes: 3>s1(2) */
        {"lfru:reading=stay", STREAM_D, "-h-hh---", "13"},
        /* 3: 2/1 1/2, 3>s1(2); 2: 3/1 1/2, 2>s1(3); 3: 3/2 of 1, 1/1 of 2, which has two uses in
         * the run: 3>s1(2) */
        {"lfru:reading=stay", "1 2 1 3 1 2 3 1", "--h-h--h", "13"},
        {"lfru", "1 2 1 3 1 2 3 1", "--h-h---", "31"}, /* 3>s0(1) 1>s1(2) */
        /* counts outlive a stay, unlike lfu's: 3>s0(1) 1>s0(3), 3 uses each: 3>s1(2) */
        {"lfru:reading=ties", STREAM_D, "-h-hh---", "13"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, true);
}
END_TEST

START_TEST(event_contract)
{
    static const struct hand_case cases[] = {
        {"slru:segments=2", STREAM_F, "-- -h h-", "12"},
        {"arc", STREAM_F, "-- -h h-", "12"},
        {"s3-fifo", STREAM_F, "-- -h h-", "12"},
        {"sieve", STREAM_F, "-- -h h-", "12"},
        {"lecar", STREAM_F, "-- -h h-", "12"},
        {"lfu-aged", STREAM_F, "-- -h h-", "12"},
        {"lfru", STREAM_F, "-- -h h-", "12"},
        /* "2|1" "32|1"; 4>s1(2) "43|1"; 3 is oldest but of the event: 2>s1(4) "23|1", 3 climbs:
         * "12|3"; 5>s1(2) 6>s0(1) */
        {"slru:segments=2", STREAM_G, "-- h- -h -h --", "653"},
        /* 32 1; 4>s1: 43 1 2; 2 was in B1, 3 is of the event: 2>s1(4): 3 21 4; 3: T2 321; 5>s0(1):
         * 5 32 4 1; T1 is no longer than the target of 1: 6>s1(2) */
        {"arc", STREAM_G, "-- h- -h -h --", "563"},
        /* 4>s1(2); 1 has two hits and is main, 3 is of the event, 2>s1(4) was a ghost and is main;
         * 5>s2(3), one hit; 5 is reserved and alone in the small queue: 6>s0(1) */
        {"s3-fifo", STREAM_G, "-- h- -h -h --", "625"},
        /* 1 is of the event and keeps its mark, 4>s1(2); 3 is passed over, 2>s1(4), hand at the
         * end; 5: 1 and 3 lose their marks, 5>s1(2); 6>s0(1) */
        {"sieve", STREAM_G, "-- h- -h -h --", "653"},
        /* 3>s0(1) 4>s1(2), hand at 3; 5 finds all reserved and leaves it there: 6>s0(3) 7>s1(4) */
        {"sieve", "123 345 678", "--- --- ---", "67"},
        /* 4>s1(2), age 1, 4 has 2; 1 has 4; 2>s1(4), age 2, 2 has 3; 3 has 4; 5>s1(2); 6>s0(1) */
        {"lfu-aged", STREAM_G, "-- h- -h -h --", "653"},
        /* an event is counted before its victims: 4: 1/4 of 2, 1/2 of 3; 2: 3/2 of 1, 1/3 of 4;
         * 5: 3/4 2/3 2/2, 5>s1(2); 6>s0(1) */
        {"lfru", STREAM_G, "-- h- -h -h --", "653"},
    };
    check_cases(cases, sizeof cases / sizeof *cases, false);
}
END_TEST

/* Experts that are only prefetched: no event asks for them, so that they have no ghosts. */
enum { N_UNUSED = 8, N_ALL = HAND_EXPERTS + N_UNUSED };

/* Hits of a run, with per_event prefetches that are cancelled at once while the pool has a free
 * slot. With may_evict each third event of a full pool loses a slot to one more of that kind. */
struct cancelling {
    char hits[MAX_EVENTS + 1];
    uint32_t n, n_slots, n_cancelled, per_event;
    bool may_evict;
};

static void note_and_cancel(void *ctx, struct moe_cache *cache, const struct moe_route *route)
{
    struct cancelling *c = ctx;
    uint32_t n_present = 0;
    c->hits[c->n++] = route->access[0] == MOE_HIT ? 'h' : '-';
    for (moe_key k = 0; k < N_ALL; k++)
        n_present += moe_cache_find(cache, k) != MOE_NO_SLOT;
    if (c->may_evict && n_present == c->n_slots && c->n % 3 == 0) {
        moe_slot slot = moe_cache_reserve_key(cache, N_ALL - 1, NULL);
        ck_assert_int_ne(slot, MOE_NO_SLOT);
        moe_cache_cancel(cache, slot);
        n_present--;
    }
    for (uint32_t i = 0; i < c->per_event && n_present < c->n_slots; i++) {
        moe_slot slot =
            moe_cache_reserve_key(cache, HAND_EXPERTS + c->n_cancelled % N_UNUSED, NULL);
        c->n_cancelled++;
        if (slot != MOE_NO_SLOT)
            moe_cache_cancel(cache, slot);
    }
}

/* A copy that is taken back was never in the slot: it is no victim, leaves no ghost and ages no
 * other expert. So the run is that of a pool into which nothing was prefetched. */
START_TEST(copies_taken_back_leave_no_trace)
{
    static const char *const policies[] = {"lru",   "slru",  "arc",      "s3-fifo",
                                           "sieve", "lecar", "lfu-aged", "lfu-aged:ageing=halve"};
    struct moe_policy_spec spec = policy(policies[_i]);
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    for (int n = 0; n < 100; n++) {
        struct event_trace t = {
            .n_layers = 1, .n_experts = HAND_EXPERTS, .top_k = 1, .n_events = MAX_EVENTS};
        random_events(&rng, &t);
        for (uint32_t i = 0; i < t.n_events; i++)
            t.event[i].n_tokens = 1;
        t.n_experts = N_ALL;
        struct moe_geometry g = geometry("global:6", &t, NULL);
        /* lecar's clock counts every newcomer, prefetched ones too: regret fades with it */
        bool may_evict = strcmp(policies[_i], "lecar") != 0;
        struct cancelling without = {.n_slots = 6, .may_evict = may_evict}, with = without;
        with.per_event = 4;
        struct run run = {
            .trace = &t, .geometry = &g, .seed = 1, .watch = note_and_cancel, .ctx = &without};
        run_trace(&run, &spec);
        run.ctx = &with;
        run_trace(&run, &spec);
        ck_assert_uint_gt(with.n_cancelled, 0);
        ck_assert_msg(strcmp(with.hits, without.hits) == 0, "%s: %s, without prefetches %s",
                      policies[_i], with.hits, without.hits);
        moe_geometry_release(&g);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("policies_classic");
    tcase_add_test(tc, access_contract);
    tcase_add_test(tc, event_contract);
    tcase_add_loop_test(tc, copies_taken_back_leave_no_trace, 0, 8);
    Suite *suite = suite_create("policies_classic");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
