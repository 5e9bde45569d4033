/* The cache directory step by step: every transition and every counter, counted by hand. */
#include "policies/cache.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

enum { L = 3, E = 4 };

static struct moe_geometry geometry;
static struct moe_cache *cache;
static moe_slot slot[E];
static uint8_t access[E];

static void open_cache(const char *shape, const char *policy, const uint64_t *expert_bytes)
{
    struct moe_policy_spec spec;
    struct moe_err err;
    if (moe_geometry_parse(shape, L, E, expert_bytes, &geometry, &err) ||
        moe_policy_parse(policy, &spec, &err) ||
        moe_cache_new(&cache, &geometry, 2, &spec, 1, &err))
        ck_abort_msg("%s", err.text);
}

static void close_cache(void)
{
    moe_cache_free(cache);
    moe_geometry_release(&geometry);
    cache = NULL;
}

/* Routes n experts of layer in decode; the result is in slot[] and access[]. */
static struct moe_route route_phase(uint32_t layer, const moe_expert *expert, uint32_t n,
                                    enum moe_phase phase)
{
    struct moe_route route = {
        .layer = layer, .n = n, .phase = phase, .expert = expert, .slot = slot, .access = access};
    moe_cache_route(cache, &route);
    return route;
}

static struct moe_route route(uint32_t layer, const moe_expert *expert, uint32_t n)
{
    return route_phase(layer, expert, n, MOE_DECODE);
}

/* One expert asked for, fetched on a miss, landed at once; returns its slot. */
static moe_slot use(uint32_t layer, moe_expert expert)
{
    struct moe_route r = route(layer, &expert, 1);
    moe_slot s = slot[0];
    if (access[0] != MOE_MISS)
        moe_cache_touch(cache, s);
    else if ((s = moe_cache_reserve(cache, &r, 0, NULL)) != MOE_NO_SLOT)
        moe_cache_ready(cache, s);
    moe_cache_end_event(cache);
    return s;
}

static const struct moe_counts *decode(uint32_t layer)
{
    return moe_cache_counts(cache, layer, MOE_DECODE);
}

START_TEST(slots_are_handed_out_lowest_first)
{
    open_cache("per-layer:2,0,3", "lru", NULL);
    ck_assert(moe_cache_covers(cache, 0));
    ck_assert(!moe_cache_covers(cache, 1));
    ck_assert_int_eq(use(2, 3), 2); /* layer 0 owns slots 0 and 1, layer 2 slots 2, 3 and 4 */
    ck_assert_int_eq(use(2, 0), 3);
    ck_assert_int_eq(use(0, 3), 0);
    ck_assert_int_eq(use(0, 3), 0);
    ck_assert_int_eq(use(0, 1), 1);
    ck_assert_int_eq(use(1, 1), MOE_NO_SLOT);
    ck_assert_int_eq(use(0, 2), 0); /* 3 was used last before 1 */
    ck_assert_int_eq(moe_cache_find(cache, 3), MOE_NO_SLOT);
    ck_assert_int_eq(moe_cache_find(cache, 2 * E + 3), 2);
    ck_assert_uint_eq(decode(0)->evictions, 1);
    ck_assert_uint_eq(decode(0)->useless_fills, 0); /* 3 had been found once */
    ck_assert_uint_eq(decode(1)->lookups, 1);
    ck_assert_uint_eq(decode(1)->misses, 1);
    ck_assert_uint_eq(decode(1)->fills, 0);
    ck_assert_uint_eq(decode(1)->dropped_fills, 0);
    close_cache();
}
END_TEST

START_TEST(an_event_is_classified_at_its_start)
{
    open_cache("1x2", "lru", NULL);
    moe_expert first[] = {0, 1}, second[] = {2, 0}, evicted_expert[] = {3, 2};
    moe_key evicted;
    struct moe_route r = route(0, first, 2);
    ck_assert_int_eq(access[0], MOE_MISS);
    ck_assert_int_eq(slot[0], MOE_NO_SLOT);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, &evicted), 0);
    ck_assert_uint_eq(evicted, MOE_NO_KEY);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 1, NULL), 1);
    moe_cache_ready(cache, 0);
    moe_cache_ready(cache, 1);
    moe_cache_end_event(cache);

    r = route(0, second, 2); /* 0 is the older one, but of this event: 1 has to go */
    ck_assert_int_eq(access[0], MOE_MISS);
    ck_assert_int_eq(access[1], MOE_HIT);
    ck_assert_int_eq(slot[1], 0);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, &evicted), 1);
    ck_assert_uint_eq(evicted, 1);
    moe_cache_touch(cache, 0);
    moe_cache_ready(cache, 1);
    moe_cache_end_event(cache);

    r = route(0, evicted_expert, 2); /* gate order made 0 the younger one, yet 2 is pinned */
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, &evicted), 0);
    ck_assert_uint_eq(evicted, 0);
    moe_cache_end_event(cache);
    const struct moe_counts want = {.events = 3,
                                    .any_hit_events = 2,
                                    .lookups = 6,
                                    .hits = 2,
                                    .misses = 4,
                                    .fills = 4,
                                    .evictions = 2,
                                    .useless_fills = 1};
    ck_assert_mem_eq(decode(0), &want, sizeof want); /* useless: 1 was never found */
    close_cache();
}
END_TEST

START_TEST(a_pool_smaller_than_the_event_drops_fills)
{
    open_cache("1x2", "lru", NULL);
    moe_expert all[] = {0, 1, 2};
    struct moe_route r = route(0, all, 3);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, NULL), 0);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, NULL), MOE_NO_SLOT); /* present already */
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 1, NULL), 1);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 2, NULL), MOE_NO_SLOT);
    moe_cache_ready(cache, 0);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 2, NULL), MOE_NO_SLOT); /* landed, same event */
    moe_cache_end_event(cache);
    r = route(0, all + 2, 1);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, NULL), 0); /* 1 is still in flight */
    moe_cache_end_event(cache);
    ck_assert_uint_eq(decode(0)->dropped_fills, 2);
    ck_assert_uint_eq(decode(0)->bypasses, 0);
    ck_assert_uint_eq(decode(0)->fills, 3);
    ck_assert_uint_eq(decode(0)->evictions, 1);
    ck_assert_uint_eq(decode(0)->useless_fills, 1);
    close_cache();
}
END_TEST

START_TEST(a_fill_asked_for_in_flight_is_late_once)
{
    open_cache("2x2", "lru", NULL);
    moe_expert both[] = {1, 0};
    struct moe_route r = route(1, both, 1);
    moe_slot s = moe_cache_reserve(cache, &r, 0, NULL);
    moe_cache_end_event(cache);
    ck_assert(moe_cache_in_flight(cache, s));
    for (int i = 0; i < 2; i++) {
        route(1, both, 2);
        ck_assert_int_eq(access[0], MOE_HIT_IN_FLIGHT);
        ck_assert_int_eq(access[1], MOE_MISS);
        moe_cache_end_event(cache);
    }
    moe_cache_ready(cache, s);
    ck_assert(!moe_cache_in_flight(cache, s));
    route(1, both, 1);
    ck_assert_int_eq(access[0], MOE_HIT);
    moe_cache_end_event(cache);
    const struct moe_counts want = {.events = 4,
                                    .any_hit_events = 3,
                                    .all_hit_events = 1,
                                    .lookups = 6,
                                    .hits = 1,
                                    .inflight_hits = 2,
                                    .misses = 3,
                                    .fills = 1,
                                    .late_fills = 1};
    ck_assert_mem_eq(decode(1), &want, sizeof want);
    close_cache();
}
END_TEST

START_TEST(layers_and_phases_count_apart)
{
    open_cache("global:1", "lru", NULL);
    moe_expert e = 2, other = 0;
    struct moe_route r = route_phase(0, &e, 1, MOE_PREFILL);
    moe_cache_ready(cache, moe_cache_reserve(cache, &r, 0, NULL));
    moe_cache_end_event(cache);
    r = route_phase(2, &other, 1, MOE_DECODE); /* evicts the expert of layer 0 */
    moe_cache_ready(cache, moe_cache_reserve(cache, &r, 0, NULL));
    moe_cache_end_event(cache);
    const struct moe_counts in = {.events = 1, .lookups = 1, .misses = 1, .fills = 1};
    const struct moe_counts out = {.evictions = 1, .useless_fills = 1};
    const struct moe_counts nothing = {0};
    ck_assert_mem_eq(moe_cache_counts(cache, 0, MOE_PREFILL), &in, sizeof in);
    ck_assert_mem_eq(moe_cache_counts(cache, 0, MOE_DECODE), &out, sizeof out);
    ck_assert_mem_eq(moe_cache_counts(cache, 2, MOE_DECODE), &in, sizeof in);
    ck_assert_mem_eq(moe_cache_counts(cache, 2, MOE_PREFILL), &nothing, sizeof nothing);
    close_cache();
}
END_TEST

START_TEST(accesses_count_no_event_until_told)
{
    open_cache("1x2", "lru", NULL);
    moe_expert e = 2;
    struct moe_route r = {
        .n = 1, .phase = MOE_DECODE, .expert = &e, .slot = slot, .access = access};
    moe_cache_route_access(cache, &r);
    ck_assert_uint_eq(decode(0)->lookups, 1);
    ck_assert_uint_eq(decode(0)->events, 0);
    moe_cache_count_event(cache, 0, MOE_DECODE, 0, 0); /* no expert, no event */
    ck_assert_uint_eq(decode(0)->events, 0);
    moe_cache_count_event(cache, 0, MOE_DECODE, 0, 2);
    moe_cache_count_event(cache, 0, MOE_DECODE, 1, 2);
    moe_cache_count_event(cache, 0, MOE_DECODE, 2, 2);
    ck_assert_uint_eq(decode(0)->events, 3);
    ck_assert_uint_eq(decode(0)->any_hit_events, 2);
    ck_assert_uint_eq(decode(0)->all_hit_events, 1);
    close_cache();
}
END_TEST

START_TEST(pins_nest)
{
    open_cache("1x1", "lru", NULL);
    moe_slot s = use(0, 0);
    moe_cache_pin(cache, s);
    moe_cache_pin(cache, s);
    ck_assert_int_eq(use(0, 1), MOE_NO_SLOT);
    moe_cache_unpin(cache, s);
    ck_assert_int_eq(use(0, 1), MOE_NO_SLOT);
    ck_assert_uint_eq(decode(0)->dropped_fills, 2);
    moe_cache_unpin(cache, s);
    ck_assert_int_eq(use(0, 1), s);
    close_cache();
}
END_TEST

START_TEST(prefetch_reserves_outside_events)
{
    open_cache("1x2", "lru", NULL);
    moe_key evicted;
    moe_slot a = moe_cache_reserve_key(cache, 3, &evicted);
    ck_assert_int_eq(a, 0);
    ck_assert_uint_eq(evicted, MOE_NO_KEY);
    ck_assert_int_eq(moe_cache_reserve_key(cache, 3, NULL), MOE_NO_SLOT); /* is present */
    ck_assert_int_eq(moe_cache_reserve_key(cache, E, NULL), MOE_NO_SLOT); /* layer 1 has no pool */
    moe_cache_ready(cache, a);
    ck_assert_int_eq(moe_cache_reserve_key(cache, 2, NULL), 1);
    ck_assert_int_eq(moe_cache_reserve_key(cache, 1, &evicted), 0); /* slot 1 is in flight */
    ck_assert_uint_eq(evicted, 3);
    ck_assert_int_eq(moe_cache_reserve_key(cache, 0, NULL), MOE_NO_SLOT);
    ck_assert_uint_eq(
        decode(0)->dropped_fills + moe_cache_counts(cache, 0, MOE_PREFILL)->dropped_fills, 1);
    close_cache();
}
END_TEST

static void expect_prefetches(struct moe_prefetches want)
{
    struct moe_prefetches got = moe_cache_prefetches(cache, MOE_DECODE);
    ck_assert_uint_eq(got.queued, want.queued);
    ck_assert_uint_eq(got.useful, want.useful);
    ck_assert_uint_eq(got.late, want.late);
    ck_assert_uint_eq(got.wasted, want.wasted);
    ck_assert_uint_eq(got.cancelled, want.cancelled);
    ck_assert_uint_eq(got.unused, want.unused);
}

START_TEST(prefetches_are_accounted_for)
{
    open_cache("1x2", "lru", NULL);
    use(0, 0); /* a decode event: what follows is counted there */
    moe_slot s = moe_cache_reserve_key(cache, 1, NULL);
    ck_assert_int_eq(s, 1);
    expect_prefetches((struct moe_prefetches){.queued = 1, .unused = 1});
    use(0, 1); /* in flight */
    expect_prefetches((struct moe_prefetches){.queued = 1, .late = 1});
    moe_cache_ready(cache, s);
    use(0, 1);
    expect_prefetches(
        (struct moe_prefetches){.queued = 1, .late = 1}); /* the first lookup counts */
    s = moe_cache_reserve_key(cache, 2, NULL);            /* in place of 0 */
    moe_cache_ready(cache, s);
    use(0, 2);
    expect_prefetches((struct moe_prefetches){.queued = 2, .late = 1, .useful = 1});
    s = moe_cache_reserve_key(cache, 3, NULL); /* in place of 1 */
    ck_assert(moe_cache_may_cancel(cache, s));
    uint64_t useless = decode(0)->useless_fills;
    moe_cache_cancel(cache, s);
    ck_assert_int_eq(moe_cache_find(cache, 3), MOE_NO_SLOT);
    ck_assert(!moe_cache_in_flight(cache, s));
    ck_assert_uint_eq(decode(0)->useless_fills, useless);
    ck_assert_uint_eq(decode(0)->fills - decode(0)->evictions, 1); /* 2 is there */
    expect_prefetches((struct moe_prefetches){.queued = 3, .late = 1, .useful = 1, .cancelled = 1});
    ck_assert_int_eq(moe_cache_reserve_key(cache, 3, NULL), s); /* the slot is free */
    moe_cache_ready(cache, s);
    use(0, 2);
    use(0, 0); /* in place of 3 */
    ck_assert(!moe_cache_may_cancel(cache, s));
    expect_prefetches(
        (struct moe_prefetches){.queued = 4, .late = 1, .useful = 1, .cancelled = 1, .wasted = 1});
    moe_cache_reserve_key(cache, 1, NULL);
    moe_cache_ready(cache, moe_cache_find(cache, 1));
    moe_cache_clear(cache);
    expect_prefetches(
        (struct moe_prefetches){.queued = 5, .late = 1, .useful = 1, .cancelled = 1, .wasted = 2});
    close_cache();
}
END_TEST

START_TEST(bytes_evict_until_the_newcomer_fits)
{
    const uint64_t bytes[L] = {3, 4, 10};
    open_cache("global:12B", "lru", bytes);
    ck_assert_uint_eq(geometry.n_slots, 4);
    use(0, 0);
    use(0, 1);
    use(1, 0);                      /* 10 of 12 bytes */
    ck_assert_int_eq(use(1, 1), 0); /* 4 more: expert (0, 0) must go, then 11 */
    ck_assert_uint_eq(decode(0)->evictions, 1);
    ck_assert_int_eq(use(2, 0), 0); /* 10: all three go, one after another */
    ck_assert_uint_eq(decode(0)->evictions, 2);
    ck_assert_uint_eq(decode(1)->evictions, 2);
    ck_assert_uint_eq(decode(2)->fill_bytes, 10);
    ck_assert_uint_eq(decode(1)->fill_bytes, 8);
    ck_assert_int_eq(use(0, 2), 0); /* slots 1 and up are empty, but the bytes are not there */
    ck_assert_int_eq(use(0, 3), 1);
    ck_assert_uint_eq(decode(2)->evictions, 1);
    moe_expert e = 3;
    moe_key evicted;
    moe_cache_pin(cache, 1);
    struct moe_route r = route(2, &e, 1);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, &evicted), MOE_NO_SLOT);
    ck_assert_uint_eq(evicted, 2); /* given up before slot 1 turned out to be held */
    moe_cache_end_event(cache);
    ck_assert_uint_eq(decode(2)->dropped_fills, 1);
    close_cache();
}
END_TEST

START_TEST(clear_forgets_contents_and_keeps_counts)
{
    open_cache("1x2", "lru", NULL);
    use(0, 0);
    use(0, 1);
    use(0, 0);
    moe_cache_clear(cache);
    ck_assert_int_eq(moe_cache_find(cache, 0), MOE_NO_SLOT);
    ck_assert_int_eq(use(0, 3), 0);
    ck_assert_int_eq(use(0, 2), 1);
    ck_assert_int_eq(use(0, 1), 0);
    ck_assert_uint_eq(decode(0)->lookups, 6);
    ck_assert_uint_eq(decode(0)->hits, 1);
    ck_assert_uint_eq(decode(0)->evictions, 1);
    close_cache();
}
END_TEST

START_TEST(overwriting_a_pinned_way_is_a_hazard)
{
    open_cache("1x2", "paper-lru:hazards=on", NULL);
    use(0, 0); /* way 0: counter 1 */
    use(0, 1); /* way 1: counter 2 */
    moe_expert both[] = {2, 0};
    moe_key evicted;
    struct moe_route r = route(0, both, 2); /* expert 0 hits: both counters are 2 */
    ck_assert_int_eq(access[1], MOE_HIT);
    ck_assert_int_eq(moe_cache_reserve(cache, &r, 0, &evicted), 0);
    ck_assert_uint_eq(evicted, 0); /* the expert that hit for this very token */
    moe_cache_touch(cache, 0);     /* its way is another's by now: nothing happens */
    moe_cache_end_event(cache);
    ck_assert_uint_eq(decode(0)->hazards, 1);
    ck_assert_int_eq(moe_cache_find(cache, 0), MOE_NO_SLOT);
    /* way 0 is in flight with counter 3, way 1 has 2; a hit lifts it to 3: way 0 goes again */
    use(0, 1);
    ck_assert_int_eq(use(0, 3), 0);
    ck_assert_uint_eq(decode(0)->hazards, 2);
    ck_assert(moe_cache_in_flight(cache, 0)); /* one of two copies has landed */
    moe_cache_ready(cache, 0);
    ck_assert(!moe_cache_in_flight(cache, 0));
    moe_cache_ready(cache, 0); /* a landing too many changes nothing */
    ck_assert(!moe_cache_in_flight(cache, 0));
    close_cache();
}
END_TEST

/* A policy that names what it must not: the directory does not let it. */
static moe_slot bad_answer;

static size_t no_state(const struct moe_policy_env *env)
{
    (void)env;
    return 0;
}

static void no_init(void *state, const struct moe_policy_env *env)
{
    (void)state;
    (void)env;
}

static void no_insert(void *state, moe_slot s, moe_key key)
{
    (void)state;
    (void)s;
    (void)key;
}

static moe_slot bad_victim(void *state, const struct moe_victim_req *req)
{
    (void)state;
    (void)req;
    return bad_answer;
}

START_TEST(a_pinned_slot_is_not_given_up)
{
    const struct moe_policy_ops ops = {.name = "bad",
                                       .state_size = no_state,
                                       .init = no_init,
                                       .on_insert = no_insert,
                                       .victim = bad_victim};
    struct moe_policy_spec spec = {.ops = &ops};
    struct moe_err err;
    ck_assert_int_eq(moe_geometry_parse("1x2", L, E, NULL, &geometry, &err), MOE_OK);
    ck_assert_int_eq(moe_cache_new(&cache, &geometry, 2, &spec, 1, &err), MOE_OK);
    use(0, 0);
    use(0, 1);
    moe_cache_pin(cache, 0);
    bad_answer = 0;
    ck_assert_int_eq(use(0, 2), MOE_NO_SLOT);
    ck_assert_uint_eq(decode(0)->bypasses, 1); /* slot 1 was free to go */
    bad_answer = 1;
    ck_assert_int_eq(use(0, 2), 1);
    close_cache();
}
END_TEST

START_TEST(no_pool_at_all)
{
    open_cache("none", "lru", NULL);
    ck_assert_int_eq(use(0, 0), MOE_NO_SLOT);
    ck_assert(!moe_cache_covers(cache, 0));
    moe_cache_begin_sequence(cache);
    moe_cache_clear(cache);
    ck_assert_uint_eq(decode(0)->misses, 1);
    close_cache();
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("cache");
    tcase_add_test(tc, slots_are_handed_out_lowest_first);
    tcase_add_test(tc, an_event_is_classified_at_its_start);
    tcase_add_test(tc, a_pool_smaller_than_the_event_drops_fills);
    tcase_add_test(tc, a_fill_asked_for_in_flight_is_late_once);
    tcase_add_test(tc, layers_and_phases_count_apart);
    tcase_add_test(tc, accesses_count_no_event_until_told);
    tcase_add_test(tc, pins_nest);
    tcase_add_test(tc, prefetch_reserves_outside_events);
    tcase_add_test(tc, prefetches_are_accounted_for);
    tcase_add_test(tc, bytes_evict_until_the_newcomer_fits);
    tcase_add_test(tc, clear_forgets_contents_and_keeps_counts);
    tcase_add_test(tc, overwriting_a_pinned_way_is_a_hazard);
    tcase_add_test(tc, a_pinned_slot_is_not_given_up);
    tcase_add_test(tc, no_pool_at_all);
    Suite *suite = suite_create("cache");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
