/* Misses equal to those of other projects' programs, for a single pool under the access contract.
 * How those were run: tests/golden/libcachesim and tests/golden/peers. */
#include "tests/unit/event_trace.h"
#include "tests/unit/peer_streams.h"
#include "tests/unit/run_suite.h"

#include <stdio.h>

/* A stream with the next uses that a policy may ask for. */
struct stream {
    const char *name;
    uint16_t id[PEER_REQUESTS];
    uint32_t next_use[PEER_REQUESTS];
};

static struct stream streams[N_PEER_STREAMS];

static void make_streams(void)
{
    for (int s = 0; s < N_PEER_STREAMS; s++) {
        uint32_t next[PEER_KEYS];
        streams[s].name = peer_streams[s].name;
        peer_streams[s].make(streams[s].id);
        for (int k = 0; k < PEER_KEYS; k++)
            next[k] = MOE_NEVER;
        for (int i = PEER_REQUESTS; i-- > 0;) {
            streams[s].next_use[i] = next[streams[s].id[i]];
            next[streams[s].id[i]] = (uint32_t)i;
        }
    }
}

static const struct stream *find_stream(const char *name)
{
    for (int s = 0; s < N_PEER_STREAMS; s++)
        if (strcmp(streams[s].name, name) == 0)
            return &streams[s];
    ck_abort_msg("no stream '%s'", name);
    return NULL;
}

static uint64_t count_misses(const struct stream *stream, const char *policy_text, unsigned slots)
{
    const struct event_trace shape = {.n_layers = 1, .n_experts = PEER_KEYS, .top_k = 1};
    char text[32];
    struct moe_cache *cache;
    struct moe_err err;
    snprintf(text, sizeof text, "global:%u", slots);
    struct moe_geometry g = geometry(text, &shape, NULL);
    struct moe_policy_spec spec = policy(policy_text);
    ck_assert_int_eq(moe_cache_new(&cache, &g, 1, &spec, 1, &err), MOE_OK);
    moe_cache_begin_sequence(cache);
    for (int i = 0; i < PEER_REQUESTS; i++) {
        struct moe_route route = {
            .n = 1, .expert = stream->id + i, .next_use = stream->next_use + i};
        moe_cache_begin_step(cache);
        run_access(cache, &route);
    }
    uint64_t misses = total_counts(cache, 1).misses;
    moe_cache_free(cache);
    moe_geometry_release(&g);
    return misses;
}

/* Compares every row of a table; returns how many there are. */
static unsigned compare(const char *path)
{
    char line[256], stream[32], policy_text[96];
    unsigned slots, misses, n = 0;
    FILE *in = fopen(path, "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%31s %95s %u %u", stream, policy_text, &slots, &misses) != 4)
            continue;
        uint64_t got = count_misses(find_stream(stream), policy_text, slots);
        ck_assert_msg(got == misses, "%s %s %u: %llu misses, %s has %u", stream, policy_text, slots,
                      (unsigned long long)got, path, misses);
        n++;
    }
    fclose(in);
    return n;
}

START_TEST(equal_to_libcachesim)
{
    ck_assert_uint_eq(compare("tests/golden/libcachesim/misses.tsv"),
                      N_PEER_STREAMS * (12 * 4 + 2 * 3));
}
END_TEST

/* moe-cache-eval's simulation, and what evicts in MoE-Infinity's released dispatcher */
START_TEST(equal_to_those_of_experts)
{
    ck_assert_uint_eq(compare("tests/golden/peers/misses.tsv"), N_PEER_STREAMS * 6 * 4);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("peer");
    tcase_add_unchecked_fixture(tc, make_streams, NULL);
    tcase_add_test(tc, equal_to_libcachesim);
    tcase_add_test(tc, equal_to_those_of_experts);
    Suite *suite = suite_create("policies_peer");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
