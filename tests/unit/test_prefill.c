/* Prompts placed by the platform's costs (prefill auto) and prompts that warm the cache: times
 * worked out by hand, and on real platforms never slower than one side alone. */
#include "policies/step.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"
#include "traces/synth.h"

#include <string.h>

/* A prompt of four tokens, and one decode token. In both layers expert 0 has 4 prompt tokens, 1 has
 * 3, 2 has 1; decode uses 0 and 1. On the CPU they take 60000, 45000 and 30000 ns (at 40 flops a
 * ns; the last one's bytes), on the GPU 7000 each after 61000 of copy; activations 3060 down, 4060
 * up; a layer's attention 10000 + 416. */
static struct world prompt_world(const char *geometry, const char *prefill)
{
    static const moe_expert experts[] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 2,
                                         0, 2, 0, 1, 0, 1, 0, 1, 0, 1};
    struct world w = world_of("collab", geometry, 5, experts);
    for (int i = 0; i < 4; i++) {
        w.trace.tokens.phase[i] = MOE_PREFILL;
        w.trace.tokens.step[i] = 0;
    }
    set_key(&w.strategy, "prefill", prefill);
    set_key(&w.strategy, "threads", "4");
    return w;
}

static uint64_t prefill_ns(uint64_t experts_ns)
{
    return 2 * (10416 + experts_ns) + 22000;
}

/* 0: CPU 3060 + 60000 + 4060, GPU 68000. 1: CPU 112120, GPU 68000. 2: CPU 97120, GPU 129000. */
START_TEST(auto_by_hand)
{
    struct world w = prompt_world("none", "auto");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefill_ns, prefill_ns(97120));
    w = prompt_world("none", "cpu");
    r = run(&w);
    ck_assert_uint_eq(r.prefill_ns, prefill_ns(3060 + 135000 + 4060));
    w = prompt_world("none", "stream");
    r = run(&w);
    ck_assert_uint_eq(r.prefill_ns, prefill_ns(3 * 61000 + 7000));
}
END_TEST

/* 0 and 1 lie in slots: 14000 on the GPU. 2 ends at 68000 there, at 37120 on the CPU. Nothing is
 * looked up or counted. */
START_TEST(residents_are_used)
{
    struct world w = prompt_world("2x2", "auto");
    set_key(&w.strategy, "policy", "static");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefill_ns, prefill_ns(37120));
    ck_assert_uint_eq(r.prefill.lookups + r.prefill.events, 0);
    ck_assert_uint_eq(r.decode.hits, 4);
}
END_TEST

/* 0 and 1 find a slot, 2 none that is free. 1 is copied and computed from its slot, 0 is computed
 * on the CPU and copied after: decode finds both in either layer. */
START_TEST(warm_prompts_fill_slots)
{
    static const struct {
        const char *prefill, *warm;
        uint64_t fills, hits, copies; /* copies: by decode */
    } cases[] = {
        {"auto", "on", 4, 4, 0},    {"auto", "off", 0, 0, 4},  {"stream", "on", 4, 4, 0},
        {"stream", "off", 0, 0, 4}, {"cache", "off", 4, 4, 0}, {"cpu", "off", 0, 0, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w = prompt_world("2x2", cases[i].prefill);
        set_key(&w.strategy, "prefill_warm", cases[i].warm);
        struct moe_result r = run(&w);
        ck_assert_uint_eq(r.prefill.fills, cases[i].fills);
        ck_assert_uint_eq(r.prefill.dropped_fills, cases[i].fills / 2);
        ck_assert_uint_eq(r.decode.hits + r.decode.inflight_hits, cases[i].hits);
        ck_assert_uint_eq(r.decode.fills, cases[i].copies);
    }
}
END_TEST

START_TEST(streamed_into_a_slot)
{
    /* Warm and streamed, the copies are those of the cold stream: 0 and 1 into slots, 2 staged. */
    struct world w = prompt_world("2x2", "stream");
    set_key(&w.strategy, "prefill_warm", "on");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefill_ns, prefill_ns(3 * 61000 + 7000));
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 14000) + 22000 + 2 * 8);
}
END_TEST

START_TEST(refusals)
{
    struct world w = prompt_world("2x2", "cpu");
    struct moe_result r;
    struct moe_loop loop;
    struct moe_err err;
    set_key(&w.strategy, "prefill_warm", "on");
    ck_assert_int_eq(try(&w, &r, &err), MOE_ERR_USAGE);
    ck_assert_str_eq(err.text, "prefill_warm keeps what prefill 'stream' or 'auto' copies, but "
                               "prefill is 'cpu'; use prefill=cache, or leave it out");
    set_key(&w.strategy, "prefill", "auto");
    ck_assert_int_eq(moe_loop_init(&loop, &w.strategy, NULL, NULL, NULL, NULL, 2, 4, 2, &err),
                     MOE_ERR_USAGE);
    ck_assert_str_eq(
        err.text, "prefill 'auto' needs a platform: its costs tell where an expert finishes first; "
                  "name one, or use prefill=cpu, cache or stream");
    moe_trace_release(&w.trace);
}
END_TEST

static uint64_t prefill_time(struct world *w, const char *prefill)
{
    struct moe_result r;
    struct moe_err err;
    set_key(&w->strategy, "prefill", prefill);
    if (try(w, &r, &err))
        ck_abort_msg("%s", err.text);
    return r.prefill_ns;
}

/* Prompts of a few and of many tokens, on machines where the CPU wins and where the link does. */
START_TEST(auto_is_the_fastest)
{
    static const char *const platforms[] = {"paper-4090", "laptop-4060", "desktop-5090"};
    static const int prompts[] = {1, 3, 10, 40, 200, 1000};
    struct moe_err err;
    for (size_t p = 0; p < 3 * 6; p++) {
        char path[96], spec[128];
        struct world w = {.strategy = load_strategy("collab")};
        snprintf(path, sizeof path, "experiments/platforms/%s.yaml", platforms[p / 6]);
        snprintf(spec, sizeof spec,
                 "zipf:layers=32,experts=8,top_k=2,tokens=4,prompt=%d,sequences=2,alpha=0.7",
                 prompts[p % 6]);
        if (moe_platform_load(path, &w.platform, &err) ||
            moe_model_load("experiments/models/mixtral-8x7b.yaml", &w.model, &err) ||
            moe_synth_make(spec, &w.trace, &err))
            ck_abort_msg("%s", err.text);
        set_key(&w.strategy, "geometry", "4x2");
        uint64_t cpu = prefill_time(&w, "cpu"), stream = prefill_time(&w, "stream");
        uint64_t placed = prefill_time(&w, "auto");
        ck_assert_msg(placed <= cpu + cpu / 10000 && placed <= stream + stream / 10000,
                      "%s, prompt of %d: auto %llu, cpu %llu, stream %llu ns", platforms[p / 6],
                      prompts[p % 6], (unsigned long long)placed, (unsigned long long)cpu,
                      (unsigned long long)stream);
        moe_trace_release(&w.trace);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefill");
    TCase *tc = tcase_create("prefill");
    tcase_add_test(tc, auto_by_hand);
    tcase_add_test(tc, residents_are_used);
    tcase_add_test(tc, warm_prompts_fill_slots);
    tcase_add_test(tc, streamed_into_a_slot);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, auto_is_the_fastest);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
