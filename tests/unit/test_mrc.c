#include "sim/mrc.h"

#include "sim/mrc_interval.h"
#include "sim/replay.h"
#include "tests/unit/random_trace.h"
#include "tests/unit/sanitizer.h"

#include <math.h>
#include <stdio.h>

enum { N_CASES = ADDRESS_SANITIZER ? 150 : 1500 };

static const char *const policies[] = {"lru", "opt"};
static const char *const contracts[] = {"event", "access"};

/* --- equal to replay at every size --------------------------------------------------------- */

struct subject {
    const char *name;
    const struct moe_trace *trace;
    struct moe_replay_options replay;
    struct moe_mrc mrc;
};

static void replay_text(const struct subject *x, const char *geometry, int policy,
                        struct moe_replay_result *out)
{
    const struct moe_trace_info *info = &x->trace->info;
    struct moe_geometry g;
    struct moe_policy_spec spec;
    struct moe_err err = {0};
    if (moe_geometry_parse(geometry, info->n_layers, info->n_experts, NULL, &g, &err) ||
        moe_policy_parse(policies[policy], &spec, &err) ||
        moe_replay(x->trace, &g, &spec, &x->replay, out, &err))
        ck_abort_msg("%s: %s", geometry, err.text);
    moe_geometry_release(&g);
}

static void expect_point(const struct subject *x, const char *geometry, int policy,
                         const char *what, struct moe_mrc_point got, const struct moe_counts *want)
{
    if (got.lookups == want->lookups && got.hits == want->hits && got.events == want->events &&
        got.any_hit_events == want->any_hit_events && got.all_hit_events == want->all_hit_events)
        return;
    ck_abort_msg("%s: %s %s %s phases %d cold %d, %s: lookups %llu %llu, hits %llu %llu, events "
                 "%llu %llu, any %llu %llu, all %llu %llu",
                 x->name, geometry, policies[policy], contracts[x->replay.contract],
                 (int)x->replay.phases, x->replay.cold, what, (unsigned long long)got.lookups,
                 (unsigned long long)want->lookups, (unsigned long long)got.hits,
                 (unsigned long long)want->hits, (unsigned long long)got.events,
                 (unsigned long long)want->events, (unsigned long long)got.any_hit_events,
                 (unsigned long long)want->any_hit_events, (unsigned long long)got.all_hit_events,
                 (unsigned long long)want->all_hit_events);
}

static const enum moe_phases one_phase[] = {
    [MOE_PREFILL] = MOE_PHASES_PREFILL, [MOE_DECODE] = MOE_PHASES_DECODE};

static void compare_ways(const struct subject *x, int policy, uint32_t ways)
{
    uint32_t n_layers = x->trace->info.n_layers;
    struct moe_replay_result want;
    char text[32], what[32];
    snprintf(text, sizeof text, "%ux%u", n_layers, ways);
    replay_text(x, text, policy, &want);
    for (int p = 0; p < 2; p++)
        for (uint32_t l = 0; l < n_layers; l++) {
            snprintf(what, sizeof what, "layer %u phase %d", l, p);
            expect_point(
                x, text, policy, what,
                moe_mrc_at_ways(&x->mrc, (enum moe_mrc_policy)policy, one_phase[p], l, l + 1, ways),
                &want.layer[p][l]);
        }
    expect_point(
        x, text, policy, "both phases",
        moe_mrc_at_ways(&x->mrc, (enum moe_mrc_policy)policy, MOE_PHASES_BOTH, 0, n_layers, ways),
        &want.both);
    moe_replay_release(&want);
}

static void compare_slots(const struct subject *x, int policy, uint32_t slots)
{
    struct moe_replay_result want;
    char text[32];
    snprintf(text, sizeof text, "global:%u", slots);
    replay_text(x, text, policy, &want);
    for (int p = 0; p < 2; p++)
        expect_point(x, text, policy, p == MOE_DECODE ? "decode" : "prefill",
                     moe_mrc_at_slots(&x->mrc, (enum moe_mrc_policy)policy, one_phase[p], slots),
                     &want.total[p]);
    expect_point(x, text, policy, "both phases",
                 moe_mrc_at_slots(&x->mrc, (enum moe_mrc_policy)policy, MOE_PHASES_BOTH, slots),
                 &want.both);
    moe_replay_release(&want);
}

static struct moe_mrc_options options_of(const struct moe_replay_options *replay)
{
    return (struct moe_mrc_options){.contract = replay->contract,
                                    .order = replay->order,
                                    .phases = replay->phases,
                                    .cold = replay->cold,
                                    .opt = true,
                                    .global = true};
}

/* step: of the sizes of one pool that are compared, the first, last and every step-th. */
static void compare_all(struct subject *x, uint32_t step)
{
    uint32_t n_experts = x->trace->info.n_experts, n_slots = x->trace->info.n_layers * n_experts;
    struct moe_mrc_options options = options_of(&x->replay);
    struct moe_err err = {0};
    if (moe_mrc_compute(x->trace, &options, &x->mrc, &err))
        ck_abort_msg("%s: %s", x->name, err.text);
    for (int policy = 0; policy < MOE_MRC_POLICIES; policy++) {
        for (uint32_t ways = 1; ways <= n_experts; ways++)
            compare_ways(x, policy, ways);
        for (uint32_t slots = 1; slots < n_slots; slots += step)
            compare_slots(x, policy, slots);
        compare_slots(x, policy, n_slots);
    }
    moe_mrc_release(&x->mrc);
}

static struct random_shape draw_shape(struct moe_rng *rng)
{
    static const uint32_t experts[] = {1, 2, 3, 5, 8, 16, 17};
    struct random_shape shape = {
        .n_layers = 1 + (uint32_t)moe_rng_below(rng, 4),
        .n_experts = experts[moe_rng_below(rng, 7)],
        .n_tokens = 1 + (uint32_t)moe_rng_below(rng, 120),
        .absent = moe_rng_below(rng, 2),
        .many = moe_rng_below(rng, 2),
    };
    uint32_t most = shape.n_experts < 6 ? shape.n_experts : 6;
    shape.top_k = 1 + (uint32_t)moe_rng_below(rng, most);
    return shape;
}

START_TEST(equals_replay_at_every_size)
{
    for (uint64_t seed = 1; seed <= N_CASES; seed++) {
        struct moe_rng rng;
        struct moe_trace trace;
        char name[48];
        moe_rng_init(&rng, seed);
        struct random_shape shape = draw_shape(&rng);
        random_trace(&rng, &shape, &trace);
        snprintf(name, sizeof name, "seed %llu", (unsigned long long)seed);
        struct subject x = {
            .name = name,
            .trace = &trace,
            .replay = {.contract =
                           moe_rng_below(&rng, 2) ? MOE_CONTRACT_EVENT : MOE_CONTRACT_ACCESS,
                       .order = moe_rng_below(&rng, 3) ? MOE_ORDER_STEP : MOE_ORDER_TOKEN,
                       .phases = (enum moe_phases)moe_rng_below(&rng, 3),
                       .cold = moe_rng_below(&rng, 2)},
        };
        compare_all(&x, 1);
        moe_trace_release(&trace);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mrc");
    TCase *tc = tcase_create("mrc");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, equals_replay_at_every_size);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
