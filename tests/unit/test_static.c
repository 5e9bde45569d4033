/* Static placement: the initial content counted by hand; random sets against the closed form;
 * nothing is ever admitted or evicted. */
#include "sim/replay.h"
#include "sim_world.h"
#include "tests/unit/hand_cases.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/temp_folder.h"
#include "traces/synth.h"

#include <math.h>
#include <unistd.h>

static char folder[200], list[220];

/* The first experts by number, layers in turn; the hits are those of exactly these experts. */
START_TEST(first_experts_by_hand)
{
    static const struct hand_case cases[] = {
        {"static", "0 1 2 3 0 3 2", "hhh-h-h", "012"},
        {"static:choose=first", "0 1 2 3 0 3 2", "hhh-h-h", "012"},
        {"static", "03 12 30 45", "h- h- -h --", "01"},
        {"static", "0 a 1 b 2 c 0 a", "hhh---hh", "0a1"},
        {"static", "0 a A 1 b B", "hhhh--", "0aA1"},
        {"static", "9 | 9 | 0", "--h", "0"}, /* nothing is learnt */
    };
    check_cases(cases, sizeof cases / sizeof *cases, false);
    check_cases(cases, sizeof cases / sizeof *cases, true);
}
END_TEST

static void write_list(const char *text)
{
    FILE *out = fopen(list, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
}

static struct moe_policy_spec listed(void)
{
    char text[256];
    snprintf(text, sizeof text, "static:list=%s", list);
    return policy(text);
}

/* The best of the list that a pool has room for, in rank order, by pool. */
START_TEST(list_by_hand)
{
    static const struct {
        const char *geometry, *slots; /* of two layers with ten experts */
    } cases[] = {
        {"global:3", "c7b"},     {"global:5", "c7b21"}, {"global:9", "c7b21a..."},
        {"2x2", "72cb"},         {"1x2", "72"},         {"per-layer:1,3", "7cba"},
        {"per-layer:0,2", "cb"}, {"global:1", "c"},     {"2x4", "721.cba."},
    };
    write_list("# trace: test\nlayer\texpert\tuses\n1\t2\t9\n0\t7\t8\n1\t1\t8\n0\t2\t5\n0\t1\t1\n"
               "1\t0\t0\n");
    static const uint64_t bytes[] = {7, 3};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct event_trace t;
        parse_events("0 a", &t);
        struct moe_geometry g = geometry(cases[i].geometry, &t, NULL);
        struct outcome o = {.n_slots = g.n_slots, .n_keys = 2 * HAND_EXPERTS};
        struct moe_preloads preloads;
        struct run run = {
            .trace = &t, .geometry = &g, .watch = note_outcome, .ctx = &o, .preloads = &preloads};
        struct moe_policy_spec spec = listed();
        struct moe_counts c = run_trace(&run, &spec);
        ck_assert_msg(strcmp(o.slots, cases[i].slots) == 0, "%s: %s, by hand %s", cases[i].geometry,
                      o.slots, cases[i].slots);
        ck_assert_uint_eq(preloads.experts,
                          strcspn(cases[i].slots, ".") == strlen(cases[i].slots) ? g.n_slots : 6);
        ck_assert_uint_eq(c.fills + c.evictions + c.useless_fills, 0);
        moe_geometry_release(&g);
    }
    /* 13 bytes: c (3), 7 (7), b (3) fill the pool; 12: b does not fit, and nothing behind it */
    for (uint64_t size = 12; size <= 13; size++) {
        struct event_trace t;
        char text[32];
        parse_events("0 a", &t);
        snprintf(text, sizeof text, "global:%dB", (int)size);
        struct moe_geometry g = geometry(text, &t, bytes);
        struct moe_preloads preloads;
        struct run run = {.trace = &t, .geometry = &g, .preloads = &preloads};
        struct moe_policy_spec spec = listed();
        run_trace(&run, &spec);
        ck_assert_uint_eq(preloads.experts, size == 12 ? 2 : 3);
        ck_assert_uint_eq(preloads.bytes, size == 12 ? 10 : 13);
        moe_geometry_release(&g);
    }
    unlink(list);
}
END_TEST

START_TEST(lists_that_do_not_fit)
{
    struct event_trace t;
    struct moe_cache *cache = NULL;
    struct moe_err err;
    char want[280];
    parse_events("0 a", &t);
    struct moe_geometry g = geometry("2x2", &t, NULL);
    struct moe_policy_spec spec = listed();
    ck_assert_int_eq(moe_cache_new(&cache, &g, 1, &spec, 1, &err), MOE_ERR_IO);
    write_list("layer\texpert\n0\t1\n2\t0\n");
    ck_assert_int_eq(moe_cache_new(&cache, &g, 1, &spec, 1, &err), MOE_ERR_INPUT);
    snprintf(want, sizeof want, "'%s':3: layer 2 is outside 0..1", list);
    ck_assert_str_eq(err.text, want);
    ck_assert_ptr_null(cache);
    unlink(list);
    spec = policy("static:choose=random,list=x.tsv");
    ck_assert_int_eq(moe_cache_new(&cache, &g, 1, &spec, 1, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text,
                     "policy 'static': list 'x.tsv' is not read with choose=random; leave one out");
    moe_geometry_release(&g);
}
END_TEST

/* A policy that gives up what it began with: LRU over 0 1 2. 3>s0(0) 0>s1(1) 1>s2(2); what was
 * there at the start was no fill, so those that leave are no useless ones; 3 leaves unused:
 * 4>s0(3). */
START_TEST(initial_content_of_another_policy)
{
    struct event_trace t;
    struct moe_policy_spec spec = policy("static");
    struct moe_policy_ops ops = *policy("lru").ops;
    struct outcome o = {.n_slots = 3, .n_keys = HAND_EXPERTS};
    struct moe_preloads preloads;
    parse_events("3 0 1 4", &t);
    struct moe_geometry g = geometry("global:3", &t, NULL);
    struct run run = {
        .trace = &t, .geometry = &g, .watch = note_outcome, .ctx = &o, .preloads = &preloads};
    ops.initial = spec.ops->initial;
    spec.ops = &ops;
    struct moe_counts c = run_trace(&run, &spec);
    ck_assert_str_eq(o.hits, "----");
    ck_assert_str_eq(o.slots, "401");
    ck_assert_uint_eq(preloads.experts, 3);
    ck_assert_uint_eq(c.fills, 4);
    ck_assert_uint_eq(c.evictions, 4);
    ck_assert_uint_eq(c.useless_fills, 1);
    moe_geometry_release(&g);
}
END_TEST

/* --- replay -------------------------------------------------------------------------------- */

static struct moe_replay_result replay(const struct moe_trace *trace, const char *geometry_text,
                                       const char *policy_text,
                                       const struct moe_replay_options *options)
{
    struct moe_geometry g;
    struct moe_replay_result result;
    struct moe_err err;
    struct moe_policy_spec spec = policy(policy_text);
    if (moe_geometry_parse(geometry_text, trace->info.n_layers, trace->info.n_experts, NULL, &g,
                           &err) ||
        moe_replay(trace, &g, &spec, options, &result, &err))
        ck_abort_msg("%s", err.text);
    moe_geometry_release(&g);
    return result;
}

/* What a layer of n experts, top 2, hits with m of them resident, drawn uniformly (arXiv 2512.16473
 * Fig. 6): one at least, and both. */
static double any_hit(double n, double m)
{
    return 1 - (n - m) / n * (n - m - 1) / (n - 1);
}

static double both_hit(double n, double m)
{
    return m / n * (m - 1) / (n - 1);
}

START_TEST(random_sets_meet_the_closed_form)
{
    static const uint32_t sizes[] = {8, 16};
    struct moe_err err;
    for (size_t i = 0; i < 2; i++) {
        char spec[96], text[32];
        struct moe_trace trace;
        uint32_t n = sizes[i];
        snprintf(spec, sizeof spec, "uniform:layers=32,experts=%u,top_k=2,tokens=2000,seed=3", n);
        if (moe_synth_make(spec, &trace, &err))
            ck_abort_msg("%s", err.text);
        for (uint32_t m = 2; m <= n; m += n / 8) {
            for (int contract = 0; contract < 2; contract++) {
                struct moe_replay_options options = {.contract = (enum moe_contract)contract,
                                                     .seed = 5};
                snprintf(text, sizeof text, "32x%u", m);
                struct moe_replay_result r = replay(&trace, text, "static:choose=random", &options);
                const struct moe_counts *c = &r.both;
                double events = (double)c->events;
                ck_assert_double_le(fabs((double)c->any_hit_events / events - any_hit(n, m)), .01);
                ck_assert_double_le(fabs((double)c->all_hit_events / events - both_hit(n, m)), .01);
                ck_assert_double_le(fabs((double)c->hits / (2 * events) - (double)m / n), .01);
                ck_assert_uint_eq(r.preloads.experts, 32 * m);
                ck_assert_uint_eq(c->fills, 0);
                moe_replay_release(&r);
            }
        }
        moe_trace_release(&trace);
    }
}
END_TEST

/* Sets differ by seed and by layer: with routes that are always {0, 1}, hits tell the sets. */
START_TEST(random_sets_differ)
{
    enum { LAYERS = 64 };
    static moe_expert experts[LAYERS * 2];
    for (uint32_t l = 0; l < LAYERS; l++)
        experts[2 * l + 1] = 1;
    struct moe_trace trace = tiny_trace(LAYERS, 8, 2, 1, experts);
    uint64_t hits[2][3] = {{0}};
    for (int seed = 0; seed < 2; seed++) {
        struct moe_replay_options options = {.seed = (uint64_t)seed + 1};
        struct moe_replay_result r = replay(&trace, "64x4", "static:choose=random", &options);
        for (uint32_t l = 0; l < LAYERS; l++)
            hits[seed][r.layer[MOE_DECODE][l].hits]++;
        moe_replay_release(&r);
        for (int k = 0; k < 3; k++)
            ck_assert_uint_gt(hits[seed][k], 0);
    }
    moe_trace_release(&trace);
}
END_TEST

/* A sequence that starts cold starts with the content that the policy begins with. */
START_TEST(cold_starts_anew)
{
    static const moe_expert experts[] = {0, 1, 0, 2, 1, 0, 3, 0};
    struct moe_trace trace = tiny_trace(1, 4, 2, 4, experts);
    trace.tokens.sequence[2] = trace.tokens.sequence[3] = 1;
    for (int cold = 0; cold < 2; cold++) {
        struct moe_replay_options options = {.cold = cold};
        struct moe_replay_result r = replay(&trace, "1x2", "static", &options);
        ck_assert_uint_eq(r.both.hits, 6); /* all but 2 and 3 */
        ck_assert_uint_eq(r.both.bypasses, 2);
        ck_assert_uint_eq(r.preloads.experts, cold ? 4 : 2);
        moe_replay_release(&r);
    }
    moe_trace_release(&trace);
}
END_TEST

/* --- the step loop -------------------------------------------------------------------------- */

/* Both layers hold experts 0 and 1. Token 1 uses them: 10410 attention of each layer (one token of
 * keys), 2 * 7000 on the GPU, 22000 for the step. Token 2 uses 2 and 3 everywhere: 10412, then the
 * CPU, 3000 down, 2 * 30000, 4000 up. That the slots were filled before takes no time. */
START_TEST(times_begin_after_the_preload)
{
    static const moe_expert experts[] = {0, 1, 0, 1, 2, 3, 2, 3};
    struct world w = world_of("collab", "2x2", 2, experts);
    set_key(&w.strategy, "policy", "static");
    set_key(&w.strategy, "threads", "4");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 14000) + 22000 + 2 * (10412 + 67000) + 22000);
    ck_assert_uint_eq(r.prefill_ns, 0);
    ck_assert_uint_eq(r.decode.hits, 4);
    ck_assert_uint_eq(r.decode.misses, 4);
    ck_assert_uint_eq(r.decode.fills + r.decode.evictions + r.h2d_bytes, 0);
    ck_assert_uint_eq(r.preloads.experts, 4);
    ck_assert_uint_eq(r.preloads.bytes, 4 * 600000);
}
END_TEST

/* One token whose experts are all there: 70820 ns, which a bound over cold starts would call
 * impossible (four experts on the CPU or copied take at least 109000). */
START_TEST(bound_knows_of_the_preload)
{
    static const moe_expert experts[] = {0, 1, 0, 1};
    struct world w = world_of("collab", "all", 1, experts);
    struct moe_result r;
    struct moe_err err;
    set_key(&w.strategy, "policy", "static");
    struct moe_sim_input in = {.trace = &w.trace,
                               .model = &w.model,
                               .platform = &w.platform,
                               .strategy = &w.strategy,
                               .bound = true};
    if (moe_simulate(&in, &r, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 14000) + 22000);
    ck_assert_double_le(r.bound_share, 1);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("static");
    TCase *tc = tcase_create("static");
    temporary_folder(folder, sizeof folder);
    snprintf(list, sizeof list, "%s/list.tsv", folder);
    tcase_add_test(tc, first_experts_by_hand);
    tcase_add_test(tc, list_by_hand);
    tcase_add_test(tc, lists_that_do_not_fit);
    tcase_add_test(tc, initial_content_of_another_policy);
    tcase_add_test(tc, random_sets_meet_the_closed_form);
    tcase_add_test(tc, random_sets_differ);
    tcase_add_test(tc, cold_starts_anew);
    tcase_add_test(tc, times_begin_after_the_preload);
    tcase_add_test(tc, bound_knows_of_the_preload);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    return rmdir(folder) != 0 || failed;
}
