/* paper-lru against the reference code's rules: by hand, by an independent simulation of them on
 * random routes, and on the recorded routes of MiniCPM-MoE (skipped where the file is absent). */
#include "tests/unit/event_trace.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- ten tokens by hand ---------------------------------------------------------------------- */

/* 3 layers, 2x2: layers 0 and 1 own two ways, layer 2 has none. Each row: the token's experts in
 * gate order, which hit, and the experts in way 0 and way 1 afterwards. In the comment both ways as
 * expert:counter after the token; * marks a hazard, the victim had hit for the same token. */
struct hand_row {
    moe_expert expert[2];
    const char *hits;
    moe_expert way[2];
};

static const struct hand_row hand_layer0[10] = {
    {{0, 1}, "--", {0, 1}}, /* 0:1  1:2   empty ways fill from way 0 */
    {{0, 2}, "h-", {2, 1}}, /* 2:3  1:2   * 0 rises to 2, a tie of 2 and 2: way 0 goes */
    {{1, 2}, "hh", {2, 1}}, /* 2:4  1:3 */
    {{3, 1}, "-h", {3, 1}}, /* 3:5  1:4   1 is counted before 3 looks for a victim: tie of 4 */
    {{0, 3}, "-h", {3, 0}}, /* 3:6  0:7   1:4 is the smaller */
    {{0, 1}, "h-", {1, 0}}, /* 1:9  0:8   3:6 is the smaller */
    {{2, 0}, "-h", {2, 0}}, /* 2:10 0:9   tie of 9: way 0 */
    {{0, 3}, "h-", {3, 0}}, /* 3:11 0:10  tie of 10: way 0 */
    {{1, 2}, "--", {2, 1}}, /* 2:13 1:12  1 takes 0:10, then 2 takes 3:11 */
    {{2, 1}, "hh", {2, 1}}, /* 2:14 1:13 */
};

static const struct hand_row hand_layer1[10] = {
    {{2, 3}, "--", {2, 3}}, /* 2:1  3:2 */
    {{3, 2}, "hh", {2, 3}}, /* 2:2  3:3 */
    {{1, 2}, "-h", {1, 3}}, /* 1:4  3:3   * tie of 3 */
    {{2, 1}, "-h", {1, 2}}, /* 1:5  2:6   3:3 is the smaller */
    {{0, 1}, "-h", {0, 2}}, /* 0:7  2:6   * tie of 6 */
    {{1, 2}, "-h", {1, 2}}, /* 1:8  2:7   tie of 7: way 0 */
    {{3, 0}, "--", {0, 3}}, /* 0:10 3:9   3 takes 2:7, then 0 takes 1:8 */
    {{3, 0}, "hh", {0, 3}}, /* 0:11 3:10 */
    {{3, 1}, "h-", {1, 3}}, /* 1:12 3:11  tie of 11: way 0 */
    {{1, 0}, "h-", {1, 0}}, /* 1:13 0:14  3:11 is the smaller */
};

static void check_hand_row(struct moe_cache *cache, uint32_t layer, const struct hand_row *row)
{
    moe_slot slot[2];
    uint8_t access[2];
    struct moe_route route = {.layer = layer,
                              .n = 2,
                              .phase = MOE_DECODE,
                              .expert = row->expert,
                              .slot = slot,
                              .access = access};
    moe_cache_route(cache, &route);
    for (uint32_t i = 0; i < 2; i++) {
        ck_assert_int_eq(access[i], row->hits[i] == 'h' ? MOE_HIT : MOE_MISS);
        if (access[i] == MOE_MISS)
            moe_cache_ready(cache, moe_cache_reserve(cache, &route, i, NULL));
        else
            moe_cache_touch(cache, slot[i]);
    }
    moe_cache_end_event(cache);
    for (int w = 0; w < 2; w++)
        ck_assert_int_eq(moe_cache_find(cache, layer * 4 + row->way[w]), (int)layer * 2 + w);
}

static struct moe_cache *new_cache(const struct moe_geometry *g, const char *text)
{
    struct moe_policy_spec spec = policy(text);
    struct moe_cache *cache;
    struct moe_err err;
    ck_assert_int_eq(moe_cache_new(&cache, g, 2, &spec, 1, &err), MOE_OK);
    return cache;
}

START_TEST(ten_tokens_by_hand)
{
    const struct event_trace shape = {.n_layers = 3, .n_experts = 4, .top_k = 2};
    struct moe_geometry g = geometry("2x2", &shape, NULL);
    struct moe_cache *cache = new_cache(&g, "paper-lru:hazards=on");
    for (int t = 0; t < 10; t++) {
        check_hand_row(cache, 0, &hand_layer0[t]);
        check_hand_row(cache, 1, &hand_layer1[t]);
        ck_assert(!moe_cache_covers(cache, 2));
    }
    const struct moe_counts *a = moe_cache_counts(cache, 0, MOE_DECODE);
    const struct moe_counts *b = moe_cache_counts(cache, 1, MOE_DECODE);
    ck_assert_uint_eq(a->any_hit_events, 8);
    ck_assert_uint_eq(a->all_hit_events, 2);
    ck_assert_uint_eq(a->hazards, 1);
    ck_assert_uint_eq(b->any_hit_events, 8);
    ck_assert_uint_eq(b->all_hit_events, 2);
    ck_assert_uint_eq(b->hazards, 2);
    moe_cache_free(cache);
    moe_geometry_release(&g);
}
END_TEST

/* --- the rules again, in plain arrays --------------------------------------------------------- */

/* State of the reference code: per covered layer tag, valid and counter of each way. */
enum { MAX_INDEXES = 64, MAX_WAYS = 16 };

struct reference {
    int nblocks, nways;
    bool fifo; /* its ring: the way that was filled longest ago goes */
    int tag[MAX_INDEXES][MAX_WAYS];
    bool valid[MAX_INDEXES][MAX_WAYS];
    long counter[MAX_INDEXES][MAX_WAYS];
    long one_hit, both_hit, pairs; /* pairs of (token, covered layer) */
};

static int reference_lookup(struct reference *r, int i, int expert)
{
    for (int w = 0; w < r->nways; w++)
        if (r->valid[i][w] && r->tag[i][w] == expert) {
            r->counter[i][w] += r->fifo ? 0 : 1;
            return w;
        }
    return -1;
}

static void reference_fetch(struct reference *r, int i, int expert)
{
    int victim = 0;
    for (int w = 1; w < r->nways; w++)
        if (r->counter[i][w] < r->counter[i][victim])
            victim = w;
    long most = r->counter[i][0];
    for (int w = 1; w < r->nways; w++)
        most = r->counter[i][w] > most ? r->counter[i][w] : most;
    r->counter[i][victim] = most + 1;
    r->tag[i][victim] = expert;
    r->valid[i][victim] = true;
}

static void reference_token(struct reference *r, int i, int e0, int e1)
{
    int way0 = reference_lookup(r, i, e0), way1 = reference_lookup(r, i, e1);
    r->pairs += 1;
    r->one_hit += way0 >= 0 || way1 >= 0;
    r->both_hit += way0 >= 0 && way1 >= 0;
    if (way0 < 0)
        reference_fetch(r, i, e0);
    if (way1 < 0)
        reference_fetch(r, i, e1);
}

/* Both on routes[n_tokens][n_layers][2]; they must agree in every count. */
static struct moe_counts compare(const char *policy_text, const moe_expert *routes,
                                 uint32_t n_tokens, uint32_t n_layers, int indexes, int ways)
{
    static struct reference ref;
    const struct event_trace shape = {.n_layers = n_layers, .n_experts = 8, .top_k = 2};
    char text[32];
    snprintf(text, sizeof text, "%dx%d", indexes, ways);
    struct moe_geometry g = geometry(text, &shape, NULL);
    struct moe_cache *cache = new_cache(&g, policy_text);
    memset(&ref, 0, sizeof ref);
    ref.fifo = strstr(policy_text, "fifo") != NULL;
    ref.nblocks = indexes;
    ref.nways = ways;
    for (uint32_t t = 0; t < n_tokens; t++) {
        for (uint32_t l = 0; l < (uint32_t)indexes; l++) {
            const moe_expert *e = routes + ((size_t)t * n_layers + l) * 2;
            moe_slot slot[2];
            uint8_t access[2];
            struct moe_route route = {.layer = l,
                                      .n = 2,
                                      .phase = MOE_DECODE,
                                      .expert = e,
                                      .slot = slot,
                                      .access = access};
            moe_cache_route(cache, &route);
            for (uint32_t k = 0; k < 2; k++) {
                if (access[k] == MOE_MISS)
                    moe_cache_ready(cache, moe_cache_reserve(cache, &route, k, NULL));
                else
                    moe_cache_touch(cache, slot[k]);
            }
            moe_cache_end_event(cache);
            reference_token(&ref, (int)l, e[0], e[1]);
        }
    }
    struct moe_counts sum = total_counts(cache, n_layers);
    ck_assert_uint_eq(sum.events, (uint64_t)ref.pairs);
    ck_assert_uint_eq(sum.any_hit_events, (uint64_t)ref.one_hit);
    ck_assert_uint_eq(sum.all_hit_events, (uint64_t)ref.both_hit);
    for (int i = 0; i < indexes; i++)
        for (int w = 0; w < ways; w++)
            if (ref.valid[i][w])
                ck_assert_int_eq(moe_cache_find(cache, (moe_key)(i * 8 + ref.tag[i][w])),
                                 i * ways + w);
    moe_cache_free(cache);
    moe_geometry_release(&g);
    return sum;
}

START_TEST(random_routes)
{
    enum { TOKENS = 60, LAYERS = 3 };
    static moe_expert routes[TOKENS * LAYERS * 2];
    struct moe_rng rng;
    static const char *const texts[] = {"paper-lru", "paper-lru:reading=fifo"};
    uint64_t hazards = 0;
    moe_rng_init(&rng, 1);
    for (int i = 0; i < 2000; i++) {
        for (size_t k = 0; k < TOKENS * LAYERS; k++)
            random_ids(&rng, 8, 2, k >= LAYERS ? &routes[(k - LAYERS) * 2] : NULL, &routes[k * 2]);
        hazards +=
            compare(texts[i / 7 % 2], routes, TOKENS, LAYERS, 1 + i % LAYERS, 2 + i % 7).hazards;
    }
    ck_assert_uint_gt(hazards, 1000);
}
END_TEST

/* --- recorded routes ---------------------------------------------------------------------------
 */

#define RECORDED "../shared/data/traces/minicpm-moe-8x2b/expert_choices.csv"
enum { RECORDED_LAYERS = 40, RECORDED_TOKENS = 129 };

/* Rows "index,id,id,..." with two ids a layer; prefill rows hold the index alone. */
static uint32_t read_recorded(FILE *f, moe_expert *routes)
{
    char line[4096];
    uint32_t n = 0;
    ck_assert_ptr_nonnull(fgets(line, sizeof line, f)); /* the header */
    while (fgets(line, sizeof line, f)) {
        char *at = strchr(line, ',');
        if (!at)
            continue;
        ck_assert_uint_lt(n, RECORDED_TOKENS);
        for (uint32_t i = 0; i < RECORDED_LAYERS * 2; i++)
            routes[n * RECORDED_LAYERS * 2 + i] = (moe_expert)strtol(at + 1, &at, 10);
        n++;
    }
    return n;
}

/* Counts of the recorded routes of MiniCPM-MoE-8x2b (expert_choices.csv of the reference
 * repository at commit 50fc1d9b, MIT), each from an empty cache. The file's first row with ids is
 * the warm-up token, which the reference's cache sees first; the other 128 are the decode tokens.
 * Computed by a plain Python script from the rules alone, without moelab; `reference_token` above
 * gives the same. First ten rows with the warm-up token: at 14x4 at least one hit in 112 of 140
 * (0.800), both in 60 (0.429); at 29x2 198 of 290 (0.683) and 38 (0.131). */
static const struct {
    int indexes, ways;
    uint32_t first, tokens;
    uint64_t pairs, one, both;
} recorded[] = {
    {14, 4, 0, 10, 140, 112, 60},      {29, 2, 0, 10, 290, 198, 38},
    {14, 4, 1, 10, 140, 110, 60},      {29, 2, 1, 10, 290, 185, 28},
    {14, 4, 0, 129, 1806, 1753, 1332}, {29, 2, 0, 129, 3741, 2951, 1263},
};

START_TEST(recorded_routes)
{
    static moe_expert routes[RECORDED_TOKENS * RECORDED_LAYERS * 2];
    FILE *f = fopen(RECORDED, "r");
    if (!f) {
        printf("skipped recorded_routes: %s is not here\n", RECORDED);
        return;
    }
    uint32_t n = read_recorded(f, routes);
    fclose(f);
    ck_assert_uint_eq(n, RECORDED_TOKENS);
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++) {
        struct moe_counts c =
            compare("paper-lru", routes + (size_t)recorded[i].first * RECORDED_LAYERS * 2,
                    recorded[i].tokens, RECORDED_LAYERS, recorded[i].indexes, recorded[i].ways);
        ck_assert_uint_eq(c.events, recorded[i].pairs);
        ck_assert_uint_eq(c.any_hit_events, recorded[i].one);
        ck_assert_uint_eq(c.all_hit_events, recorded[i].both);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("paper_lru");
    tcase_add_test(tc, ten_tokens_by_hand);
    tcase_add_test(tc, random_routes);
    tcase_add_test(tc, recorded_routes);
    Suite *suite = suite_create("paper_lru");
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
