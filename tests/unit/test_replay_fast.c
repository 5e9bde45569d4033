#include "sim/replay_fast.h"

#include "base/rng.h"
#include "sim/replay.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/run_suite.h"

#include <stdio.h>

enum { N_CASES = 4000 };

static void expect_counts(const struct moe_counts *a, const struct moe_counts *b, const char *what)
{
    /* only uint64_t members: no padding */
    if (memcmp(a, b, sizeof *a) == 0)
        return;
    ck_abort_msg("%s: hits %llu %llu, any %llu %llu, all %llu %llu, fills %llu %llu, evictions "
                 "%llu %llu, useless %llu %llu, dropped %llu %llu",
                 what, (unsigned long long)a->hits, (unsigned long long)b->hits,
                 (unsigned long long)a->any_hit_events, (unsigned long long)b->any_hit_events,
                 (unsigned long long)a->all_hit_events, (unsigned long long)b->all_hit_events,
                 (unsigned long long)a->fills, (unsigned long long)b->fills,
                 (unsigned long long)a->evictions, (unsigned long long)b->evictions,
                 (unsigned long long)a->useless_fills, (unsigned long long)b->useless_fills,
                 (unsigned long long)a->dropped_fills, (unsigned long long)b->dropped_fills);
}

/* Pools of all layers or of one each, small or of any size. */
static void random_geometry(struct moe_rng *rng, const struct random_shape *shape, char *text,
                            size_t size)
{
    uint32_t most = shape->n_experts < 8 || moe_rng_below(rng, 2) ? shape->n_experts : 8;
    uint32_t layers = 1 + (uint32_t)moe_rng_below(rng, shape->n_layers);
    uint32_t form = (uint32_t)moe_rng_below(rng, 3);
    if (form == 0) {
        snprintf(text, size, "%ux%u", layers, 1 + (uint32_t)moe_rng_below(rng, most));
        return;
    }
    if (form == 1) {
        snprintf(text, size, "global:%u",
                 1 + (uint32_t)moe_rng_below(rng, shape->n_layers * shape->n_experts));
        return;
    }
    int at = snprintf(text, size, "per-layer:");
    for (uint32_t i = 0; i < layers; i++)
        at += snprintf(text + at, size - (size_t)at, "%s%u", i ? "," : "",
                       1 + (uint32_t)moe_rng_below(rng, most));
}

/* Now and then long enough for places to be numbered anew, and with rows longer than those that are
 * taken without a branch. */
static struct random_shape draw_shape(struct moe_rng *rng)
{
    static const uint32_t experts[] = {2, 3, 8, 9, 16, 32, 64, 65, 128, 255, 256, 300};
    struct random_shape shape = {
        .n_layers = 1 + (uint32_t)moe_rng_below(rng, 4),
        .n_experts = experts[moe_rng_below(rng, sizeof experts / sizeof *experts)],
        .n_tokens = 1 + (uint32_t)moe_rng_below(rng, moe_rng_below(rng, 8) ? 150 : 1500),
        .absent = moe_rng_below(rng, 2),
        .many = moe_rng_below(rng, 2),
    };
    static const uint32_t rows[] = {1, 2, 2, 3, 4, 8, 10, 16, 18};
    uint32_t top_k = rows[moe_rng_below(rng, sizeof rows / sizeof *rows)];
    shape.top_k = top_k < shape.n_experts ? top_k : shape.n_experts;
    return shape;
}

static void compare_case(uint64_t seed)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    struct random_shape shape = draw_shape(&rng);
    struct moe_trace trace;
    random_trace(&rng, &shape, &trace);
    char text[256], what[400];
    random_geometry(&rng, &shape, text, sizeof text);
    struct moe_err err = {0};
    struct moe_geometry geometry;
    struct moe_policy_spec spec;
    uint64_t bytes[4] = {10, 20, 30, 40};
    ck_assert_int_eq(moe_geometry_parse(text, shape.n_layers, shape.n_experts,
                                        moe_rng_below(&rng, 2) ? bytes : NULL, &geometry, &err),
                     MOE_OK);
    static const char *const policies[] = {"lru", "fifo", "clock"};
    const char *policy = policies[seed % 3];
    ck_assert_int_eq(moe_policy_parse(policy, &spec, &err), MOE_OK);
    struct moe_replay_options options = {
        .contract = moe_rng_below(&rng, 2) ? MOE_CONTRACT_EVENT : MOE_CONTRACT_ACCESS,
        .order = moe_rng_below(&rng, 2) ? MOE_ORDER_STEP : MOE_ORDER_TOKEN,
        .phases = (enum moe_phases)moe_rng_below(&rng, 3),
        .cold = moe_rng_below(&rng, 2),
    };
    ck_assert(moe_fast_supports(&geometry, &spec, &options));
    struct moe_replay_result fast, generic;
    ck_assert_int_eq(moe_replay(&trace, &geometry, &spec, &options, &fast, &err), MOE_OK);
    options.generic = true;
    ck_assert(!moe_fast_supports(&geometry, &spec, &options));
    ck_assert_int_eq(moe_replay(&trace, &geometry, &spec, &options, &generic, &err), MOE_OK);
    ck_assert_uint_eq(fast.tokens, generic.tokens);
    for (int p = 0; p < 2; p++)
        for (uint32_t i = 0; i < shape.n_layers; i++) {
            snprintf(what, sizeof what, "seed %llu %s %s E %u K %u %s cold %d layer %u phase %d",
                     (unsigned long long)seed, policy, text, shape.n_experts, shape.top_k,
                     options.contract == MOE_CONTRACT_EVENT ? "event" : "access", options.cold, i,
                     p);
            expect_counts(&fast.layer[p][i], &generic.layer[p][i], what);
        }
    expect_counts(&fast.both, &generic.both, "both phases");
    moe_replay_release(&fast);
    moe_replay_release(&generic);
    moe_geometry_release(&geometry);
    moe_trace_release(&trace);
}

START_TEST(equals_the_generic_path)
{
    for (uint64_t seed = 1; seed <= N_CASES; seed++)
        compare_case(seed);
}
END_TEST

/* Geometries, policies and rules that the specialised path must leave alone. */
START_TEST(refuses_what_it_cannot_do)
{
    static const struct {
        const char *geometry, *policy, *admission;
        uint32_t n_experts;
        bool supported;
    } cases[] = {
        {"4x2", "lru", "always", 16, true},     {"4x8", "clock", NULL, 16, true},
        {"4x9", "lru", NULL, 16, true},         {"4x2", "lfu", NULL, 16, false},
        {"4x2", "lru", "never", 16, false},     {"4x2", "lru", NULL, 256, true},
        {"global:8", "fifo", NULL, 16, true},   {"none", "lru", NULL, 16, true},
        {"global:99B", "lru", NULL, 16, false}, {"2x2", "lru", NULL, 255, true},
    };
    struct moe_err err;
    uint64_t bytes[4] = {10, 10, 10, 10};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_geometry geometry;
        struct moe_policy_spec policy;
        struct moe_admission_spec admission;
        ck_assert_int_eq(
            moe_geometry_parse(cases[i].geometry, 4, cases[i].n_experts, bytes, &geometry, &err),
            MOE_OK);
        ck_assert_int_eq(moe_policy_parse(cases[i].policy, &policy, &err), MOE_OK);
        struct moe_replay_options options = {0};
        if (cases[i].admission) {
            ck_assert_int_eq(moe_admission_parse(cases[i].admission, &admission, &err), MOE_OK);
            options.admission = &admission;
        }
        ck_assert_msg(moe_fast_supports(&geometry, &policy, &options) == cases[i].supported,
                      "case %zu", i);
        moe_geometry_release(&geometry);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay_fast");
    TCase *tc = tcase_create("replay_fast");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equals_the_generic_path);
    tcase_add_test(tc, refuses_what_it_cannot_do);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
