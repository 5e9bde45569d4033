/* Every policy with every admission rule and every prefetcher, on a machine of random delays that
 * cancels prefetches: the cache directory stays consistent, no slot is lost, no policy names a
 * slot that is pinned or in flight. */
#include "tests/unit/policy_spy.h"
#include "tests/unit/policy_variants.h"
#include "tests/unit/random_machine.h"

static const char *const rules[] = {
    "always",        "never",       "quota:quota=3",        "queue-limit:longest=2",
    "probabilistic", "second-miss", "pay-back:half_life=2", "q-star"};
enum { N_RULES = sizeof rules / sizeof *rules };

static bool admits_all; /* the policy under test: struct variant */

/* Every slot holds one expert of its own pool and is where that expert is looked for, or is free;
 * with all copies landed none waits for one, and everything that was counted adds up. */
static void check_whole(struct machine *m)
{
    const struct moe_cache *cache = m->run->setup.cache;
    const struct moe_geometry *g = &m->run->setup.geometry;
    bool taken[MAX_SLOTS] = {false};
    uint64_t present = 0;
    struct moe_counts sum = {0};
    while (m->n_queue > 0)
        land(m, m->n_queue - 1);
    REQUIRE(moe_cache_copies(cache) == 0);
    for (moe_key k = 0; k < g->n_layers * g->n_experts; k++) {
        moe_slot s = moe_cache_find(cache, k);
        if (s == MOE_NO_SLOT)
            continue;
        const struct moe_pool *pool = &g->pool[g->pool_of_layer[k / g->n_experts]];
        REQUIRE((uint32_t)s >= pool->first_slot && (uint32_t)s < pool->first_slot + pool->n_slots);
        REQUIRE(!taken[s] && !moe_cache_in_flight(cache, s));
        REQUIRE(m->may_drop || m->content[s] == k);
        taken[s] = true;
        present++;
    }
    for (int p = 0; p < 2; p++)
        for (uint32_t l = 0; l < g->n_layers; l++)
            moe_counts_add(&sum, moe_cache_counts(cache, l, (enum moe_phase)p));
    REQUIRE(sum.hits + sum.inflight_hits + sum.misses == sum.lookups);
    REQUIRE(sum.fills + moe_cache_preloads(cache).experts - sum.evictions == present);
    REQUIRE(sum.useless_fills <= sum.evictions);
    REQUIRE(sum.late_fills <= sum.inflight_hits);
}

static uint32_t count_present(const struct moe_cache *cache, const struct moe_geometry *g,
                              uint32_t pool)
{
    uint32_t n = 0;
    for (moe_key k = 0; k < g->n_layers * g->n_experts; k++)
        n += g->pool_of_layer[k / g->n_experts] == (int32_t)pool &&
             moe_cache_find(cache, k) != MOE_NO_SLOT;
    return n;
}

/* No slot was lost and no pin is left: the empty slots can all be filled, the next newcomer asks
 * for a victim, and no slot of the pool is pinned then. */
static void check_usable(struct machine *m)
{
    struct moe_cache *cache = m->run->setup.cache;
    const struct moe_geometry *g = &m->run->setup.geometry;
    check_whole(m);
    for (uint32_t p = 0; p < g->n_pools && admits_all; p++) {
        uint32_t n_empty = g->pool[p].n_slots - count_present(cache, g, p);
        bool full = false;
        for (moe_key k = 0; k < g->n_layers * g->n_experts && !full; k++) {
            moe_key evicted;
            if (g->pool_of_layer[k / g->n_experts] != (int32_t)p ||
                moe_cache_find(cache, k) != MOE_NO_SLOT)
                continue;
            moe_slot s = moe_cache_reserve_key(cache, k, &evicted);
            REQUIRE(s != MOE_NO_SLOT);
            moe_cache_ready(cache, s);
            full = n_empty == 0;
            REQUIRE((evicted != MOE_NO_KEY) == full);
            REQUIRE(!full || n_pinned == 0);
            n_empty -= !full;
        }
    }
}

static struct world new_world(struct moe_rng *rng, const struct variant *v, const char *rule,
                              const char *prefetcher, struct moe_policy_ops *ops)
{
    struct world w = random_world(rng);
    char geometry[32];
    add_lookahead(rng, &w.trace);
    snprintf(geometry, sizeof geometry, "%ux%u", w.trace.info.n_layers,
             1 + (unsigned)moe_rng_below(rng, w.trace.info.n_experts - 1));
    set_key(&w.strategy, "geometry", PICK(rng, geometry, geometry, "global:3", "global:4", "all"));
    set_key(&w.strategy, "admission", rule);
    set_key(&w.strategy, "prefetcher", prefetcher);
    w.strategy.policy = spy_on(&v->spec, ops);
    return w;
}

static void try_all(uint64_t seed, uint64_t *n_ahead, uint64_t *n_cancelled)
{
    struct moe_rng rng;
    struct machine m;
    moe_rng_init(&rng, seed);
    for (uint32_t v = 0; v < n_variants; v++)
        for (uint32_t a = 0; a < N_RULES; a++)
            for (size_t p = 0; moe_prefetchers[p]; p++) {
                struct moe_policy_ops ops;
                struct world w =
                    new_world(&rng, &variants[v], rules[a], moe_prefetchers[p]->name, &ops);
                admits_all = variants[v].admits_all;
                free(run_once(&w, v + a + p, &m, check_usable));
                *n_ahead += m.n_ahead;
                *n_cancelled += m.n_cancelled;
                moe_trace_release(&w.trace);
            }
}

/* Several seeds: a new rule moves all cases after it, and must not meet a claim that held by luck.
 */
START_TEST(every_combination_keeps_the_cache_whole)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t n_ahead = 0, n_cancelled = 0;
        try_all(seed, &n_ahead, &n_cancelled);
        ck_assert_uint_gt(n_ahead, 10000);
        ck_assert_uint_gt(n_cancelled, 1000);
    }
}
END_TEST

START_TEST(all_rules_are_there)
{
    for (size_t i = 0; moe_admissions[i]; i++) {
        size_t n = strlen(moe_admissions[i]->name);
        bool tested = false;
        for (uint32_t a = 0; a < N_RULES; a++)
            tested |=
                strcspn(rules[a], ":") == n && strncmp(rules[a], moe_admissions[i]->name, n) == 0;
        ck_assert_msg(tested, "%s", moe_admissions[i]->name);
    }
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, all_rules_are_there);
    tcase_add_test(tc, every_combination_keeps_the_cache_whole);
}

int main(void)
{
    return run_policy_tests("rules_together", add);
}
