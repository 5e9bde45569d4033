/* Properties of every prefetcher, under any policy, geometry and dispatch, on a machine whose
 * copies land at random times: kernels find the weights that they need, no expert of an event is
 * evicted for a prefetch, nothing resident is fetched, and every prefetch is counted once. */
#include "random_machine.h"

#include "tests/unit/run_suite.h"

enum { N_WORLDS = 3000 };

/* Every prefetcher and its variants; the table of the library is compared with it. */
static const char *const prefetchers[] = {"none",
                                          "previous-token",
                                          "popularity",
                                          "popularity:n=5",
                                          "markov",
                                          "markov:n=1",
                                          "gate-lookahead",
                                          "gate-lookahead:n=3",
                                          "moe-infinity",
                                          "moe-infinity:capacity=1,horizon=2",
                                          "prompt-swap",
                                          "prompt-swap:n=1",
                                          "oracle",
                                          "oracle:accuracy=0.5,horizon=3",
                                          "oracle:accuracy=0,across=on",
                                          "oracle:horizon=60,across=on"};
enum { N_PREFETCHERS = sizeof prefetchers / sizeof *prefetchers };

static struct world new_world(struct moe_rng *rng, const char *prefetcher)
{
    struct world w = random_world(rng);
    add_lookahead(rng, &w.trace);
    set_key(&w.strategy, "prefetcher", prefetcher);
    set_key(&w.strategy, "dispatch.miss", PICK(rng, "cpu", "wait", "fastest", "admitted"));
    set_key(&w.strategy, "dispatch.in_flight", PICK(rng, "cpu", "wait", "fastest"));
    /* opt may give up an expert of the event, paper-lru any: then there is nothing to check */
    if (strcmp(w.strategy.policy.ops->name, "opt") == 0 ||
        strcmp(w.strategy.policy.ops->name, "paper-lru") == 0)
        set_key(&w.strategy, "policy", PICK(rng, "lru", "moe-infinity-code", "sieve"));
    return w;
}

START_TEST(every_prefetcher_keeps_the_rules)
{
    struct moe_rng rng;
    struct machine m;
    uint64_t n_ahead[N_PREFETCHERS] = {0}, n_cancelled = 0, n_promoted = 0;
    moe_rng_init(&rng, 61);
    for (int i = 0; i < N_WORLDS; i++) {
        struct world w = new_world(&rng, prefetchers[i % N_PREFETCHERS]);
        char *once = run_once(&w, (uint64_t)i, &m, NULL);
        n_ahead[i % N_PREFETCHERS] += m.n_ahead;
        n_cancelled += m.n_cancelled;
        n_promoted += m.n_promoted;
        char *twice = run_once(&w, (uint64_t)i, &m, NULL);
        ck_assert_str_eq(once, twice);
        free(once);
        free(twice);
        moe_trace_release(&w.trace);
    }
    /* far below what any seed gives, as each new row above moves all worlds */
    ck_assert_uint_eq(n_ahead[0], 0);
    for (uint32_t p = 1; p < N_PREFETCHERS; p++)
        ck_assert_msg(n_ahead[p] > 10, "%s: %u", prefetchers[p], (unsigned)n_ahead[p]);
    ck_assert_uint_gt(n_promoted, 300);
    ck_assert_uint_gt(n_cancelled, n_promoted + 1000);
}
END_TEST

START_TEST(all_are_tested)
{
    for (size_t i = 0; moe_prefetchers[i]; i++) {
        bool tested = false;
        for (uint32_t p = 0; p < N_PREFETCHERS; p++)
            tested = tested || strcmp(prefetchers[p], moe_prefetchers[i]->name) == 0;
        ck_assert_msg(tested, "%s", moe_prefetchers[i]->name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefetcher properties");
    TCase *tc = tcase_create("prefetcher properties");
    tcase_add_test(tc, all_are_tested);
    tcase_add_test(tc, every_prefetcher_keeps_the_rules);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
