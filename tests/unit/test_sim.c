/* Simulated strategies against times worked out by hand, and properties of every result. */
#include "sim/machine.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

#include <math.h>
#include <unistd.h>

static const moe_expert same[] = {0, 1, 2, 3, 0, 1, 2, 3};

/* A layer: 10000 + 410 dense, 3000 down, 2 x 30000, 4000 up; 22000 at the end. */
START_TEST(cpu_only_by_hand)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 3000 + 60000 + 4000) + 22000);
    ck_assert_uint_eq(r.cause.gpu_ns, 2 * 410 + 2000);
    ck_assert_uint_eq(r.cause.cpu_ns, 120000);
    ck_assert_uint_eq(r.cause.both_ns, 0);
    ck_assert_uint_eq(r.cause.state_ns, 14000);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 0);
    ck_assert_uint_eq(r.cause.host_ns, 40000);
    ck_assert_uint_eq(r.cpu_experts, 4);
    ck_assert_uint_eq(r.gpu_experts, 0);
    ck_assert_uint_eq(r.h2d_bytes, 0);
    ck_assert_double_eq_tol(r.tokens_per_s, 1e9 / 176820, 1e-6);
}
END_TEST

/* Two layers without experts come first: 280000 bytes and 200 of keys and values each. */
START_TEST(leading_layers_by_hand)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    w.model.dense_layers = 2;
    w.model.dense_layers_ffn = 400;
    struct moe_result r = run(&w);
    const uint64_t leading = 2 * 2802;
    ck_assert_uint_eq(r.decode_ns, 2 * 10000 + leading + 2 * (10410 + 3000 + 60000 + 4000) + 22000);
    ck_assert_uint_eq(r.cause.gpu_ns, leading + 2 * 410 + 2000);
    ck_assert_uint_eq(r.cause.host_ns, 60000);
}
END_TEST

/* DRAM gives 15 of the 20 GB/s that the CPU wants: every expert takes 40000. */
START_TEST(cpu_only_on_slow_dram)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    w.platform.dram.read_gb_per_s = 15;
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 3000 + 80000 + 4000) + 22000);
    ck_assert_double_le(r.dram_gb_per_s, 15);
}
END_TEST

/* A layer: dense, copies of both one after the other (the first expert computes meanwhile), the
 * second expert. */
START_TEST(on_demand_by_hand)
{
    struct world w = world_of("on-demand", "none", 1, same);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 2 * (10410 + 2 * 61000 + 7000) + 22000);
    ck_assert_uint_eq(r.cause.gpu_ns, 2 * (410 + 2 * 7000) + 2000);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 2 * (2 * 61000 - 7000));
    ck_assert_uint_eq(r.cause.host_ns, 40000);
    ck_assert_uint_eq(r.h2d_bytes, 4 * 600000);
    ck_assert_uint_eq(r.gpu_experts, 4);
    ck_assert_double_eq(r.h2d_busy, 4 * 61000.0 / 300820);
}
END_TEST

/* Token 0 is cpu-only (176820); its copies are queued when layer 0's experts are computed, at
 * 73410, and land at 134410 and 195410. Token 1, layer 0: dense until 187232, expert 0 until
 * 194232, expert 1 waits for its copy and ends at 202410; layer 1 and the end take another 99412.
 */
START_TEST(collab_by_hand)
{
    struct world w = world_of("collab", "1x2", 2, same);
    struct moe_result r = run(&w);
    uint64_t layer1 = 10412 + 3000 + 60000 + 4000;
    ck_assert_uint_eq(r.decode_ns, 202410 + layer1 + 22000);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 195410 - 194232);
    ck_assert_uint_eq(r.cause.cpu_ns, 180000);
    ck_assert_uint_eq(r.cause.state_ns, 21000);
    ck_assert_uint_eq(r.cause.host_ns, 80000);
    ck_assert_uint_eq(r.cause.gpu_ns, 2 * 410 + 2 * 412 + 4000 + 14000);
    ck_assert_uint_eq(r.decode.hits, 1);
    ck_assert_uint_eq(r.decode.inflight_hits, 1);
    ck_assert_uint_eq(r.decode.misses, 2);
    ck_assert_double_eq_tol(r.ms_p50 * 2e6, (double)r.decode_ns, 1e-3);
}
END_TEST

/* As collab, but the host stands still while the CPU computes, and each copy is queued when its own
 * expert is computed, not when the layer's last one is: at 43410 and 73410, so the copies land at
 * 104410 and 165410, before token 1 asks at 187232; both of its experts are hits of 7000. */
START_TEST(reference_by_hand)
{
    struct world w = world_of("collab-reference", "1x2", 2, same);
    struct moe_result r = run(&w);
    uint64_t layer1 = 10412 + 3000 + 60000 + 4000;
    ck_assert_uint_eq(r.decode_ns, 187232 + 2 * 7000 + layer1 + 22000);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 0);
    ck_assert_uint_eq(r.decode.hits, 2);
    ck_assert_uint_eq(r.decode.inflight_hits, 0);
}
END_TEST

/* An expert asked for while in flight may go to the CPU instead. */
START_TEST(collab_in_flight_on_cpu)
{
    struct world w = world_of("collab", "1x2", 2, same);
    set_key(&w.strategy, "dispatch.in_flight", "cpu");
    struct moe_result r = run(&w);
    /* layer 0 of token 1: expert 0 on the GPU beside 3000 down, 30000, 4000 up */
    ck_assert_uint_eq(r.decode_ns, 187232 + 37000 + 10412 + 67000 + 22000);
    ck_assert_uint_eq(r.cpu_experts, 7);
    ck_assert_uint_eq(r.gpu_experts, 1);
    ck_assert_uint_eq(r.cause.both_ns, 4000);
}
END_TEST

/* Hit and miss of one layer at the same time: 3000 down beside the GPU, 4000 both, the rest CPU. */
START_TEST(collab_overlaps_hit_and_miss)
{
    static const moe_expert experts[] = {0, 1, 2, 3, 0, 2, 2, 3};
    struct world w = world_of("collab", "1x2", 2, experts);
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 187232 + 37000 + 10412 + 67000 + 22000);
    ck_assert_uint_eq(r.cause.both_ns, 4000);
    ck_assert_uint_eq(r.cause.cpu_ns, 60000 * 3 + 30000 - 4000);
    ck_assert_uint_eq(r.cause.gpu_ns, 2 * 410 + 2 * 412 + 4000 + 3000);
    /* The miss finds one slot pinned by the hit and the other in flight. */
    ck_assert_uint_eq(r.decode.dropped_fills, 1);
    ck_assert_uint_eq(sum_of_causes(&r.cause), r.decode_ns);
}
END_TEST

/* Pageable copies hold the host, which has queued the combination before: layer 0's part goes up
 * beside the first one. */
START_TEST(collab_pageable_blocks)
{
    struct world w = world_of("collab", "1x2", 1, same);
    set_key(&w.strategy, "fill.memory", "pageable");
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode_ns, 176820 - 4000 + 2 * 121000);
    ck_assert_uint_eq(r.cause.copy_wait_ns, 2 * 121000 - 4000);
}
END_TEST

/* Link and CPU together want 20 + 9.836 GB/s of 15: while both work, both are slowed. */
START_TEST(copies_slow_the_cpu)
{
    struct world w = world_of("collab", "1x2", 2, same);
    set_key(&w.strategy, "geometry", "1x2");
    w.platform.dram.read_gb_per_s = 25;
    struct moe_result slow = run(&w);
    /* Token 0: copies run from 73410; layer 1's experts from 90820 take longer by 29.836/25, and so
     * do copies: 17410 of the first copy done, 43590 left -> 52022. */
    ck_assert_uint_gt(slow.decode_ns, 202410 + 77412 + 22000);
    ck_assert_uint_eq(slow.cause.cpu_ns / 1000, 60 + 71 + 60); /* 60000 * 29.836 / 25 = 71607 */
    ck_assert_uint_eq(sum_of_causes(&slow.cause), slow.decode_ns);
}
END_TEST

/* Two staging buffers: the third copy of a layer waits until the first expert is computed. GPU at
 * 1 GB/s: dense 41000, expert 601000. */
START_TEST(staging_is_not_overwritten_early)
{
    static const moe_expert experts[] = {0, 1, 2};
    struct world w = {.model = tiny_model(1, 4, 3),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("on-demand"),
                      .trace = tiny_trace(1, 4, 3, 1, experts)};
    w.platform.gpu.read_gb_per_s = 1;
    ck_assert_int_eq(moe_timeline_new(&w.timeline, 100, NULL), MOE_OK);
    struct moe_result r = run(&w);
    uint64_t start[3], n = 0;
    for (uint64_t i = 0; i < moe_timeline_count(w.timeline); i++) {
        const struct moe_operation *op = moe_timeline_at(w.timeline, i);
        if (op->track == MOE_TRACK_H2D)
            start[n++] = op->start_ns;
    }
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(start[0], 51000);
    ck_assert_uint_eq(start[1], 112000);
    ck_assert_uint_eq(start[2], 112000 + 601000);
    ck_assert_uint_eq(r.decode_ns, 112000 + 3 * 601000 + 220000);
    moe_timeline_free(w.timeline);
}
END_TEST

/* The reference code's hazard: expert 1's copy is queued into the slot that expert 0's is still on
 * its way to. Copy 0 runs 38410..99410, copy 1 until 160410; token 2 asks for expert 1 at 121236,
 * and must wait although a copy has landed in the slot. Token 3 finds it there. */
START_TEST(overwritten_copy_leaves_the_slot_in_flight)
{
    static const moe_expert experts[] = {0, 1, 1, 1};
    struct world w = {.model = tiny_model(1, 4, 1),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab-reference"),
                      .trace = tiny_trace(1, 4, 1, 4, experts)};
    set_key(&w.strategy, "geometry", "1x1");
    w.platform.dram.read_gb_per_s = 1000;
    w.platform.cpu.point[0].ms = 0.005;
    w.platform.gpu.layer_overhead_us = 30;
    w.platform.gpu.token_overhead_us = 1;
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.decode.hazards, 1);
    ck_assert_uint_eq(r.decode.inflight_hits, 1);
    ck_assert_uint_eq(r.decode.hits, 1);
    ck_assert_uint_eq(r.decode_ns, 160410 + 7000 + 3000 + 30416 + 7000 + 3000);
}
END_TEST

/* The machine by itself: one kernel behind three copies. */
START_TEST(kernel_waits_for_all_copies_named)
{
    static const moe_expert experts[] = {0, 1, 2};
    struct world w = {.model = tiny_model(1, 4, 3),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("collab"),
                      .trace = tiny_trace(1, 4, 3, 1, experts)};
    struct moe_costs costs;
    struct moe_geometry geometry;
    struct moe_cache *cache;
    struct moe_sim_machine *m;
    struct moe_layer_routes routes;
    const struct moe_machine_ops *ops = &moe_sim_machine_ops;
    moe_costs_init(&costs, &w.model, &w.platform, 4);
    ck_assert_int_eq(moe_geometry_parse("1x3", 1, 4, NULL, &geometry, NULL), MOE_OK);
    ck_assert_int_eq(moe_cache_new(&cache, &geometry, 3, &w.strategy.policy, 1, NULL), MOE_OK);
    struct moe_sim_setup setup = {.costs = &costs, .cache = cache, .n_slots = 3};
    ck_assert_int_eq(moe_sim_machine_new(&m, &setup, NULL), MOE_OK);
    struct moe_step step = {.tokens = &w.trace.tokens, .n_tokens = 1, .phase = MOE_DECODE};
    ck_assert_int_eq(ops->begin_step(m, &step, NULL), MOE_OK);
    ck_assert_int_eq(ops->attend(m, 0, &routes, NULL), MOE_OK);
    ck_assert_uint_eq(ops->now(m), 10410);
    ck_assert_uint_eq(routes.expert[2], 2);
    for (moe_slot s = 0; s < 3; s++) {
        moe_slot slot = moe_cache_reserve_key(cache, (moe_key)s, NULL);
        /* The prefetch starts at once, then the demand copy passes the fill. */
        ops->fetch(m, &(struct moe_fetch){0, (moe_expert)s, slot, (enum moe_fetch_priority)(2 - s),
                                          false});
        ck_assert(moe_cache_in_flight(cache, slot));
    }
    ops->slot_wait(m, 2, false);
    ops->slot_wait(m, 1, false); /* the last to land, behind the demand copy */
    ops->slot_wait(m, 0, false);
    ck_assert_uint_eq(ops->now(m), 10410);
    ops->gpu_ffn(m, &(struct moe_ffn){0, 0, 0, 1});
    ops->combine(m, 0);
    ck_assert_int_eq(ops->end_step(m, NULL), MOE_OK);
    ck_assert_uint_eq(ops->now(m), 10410 + 3 * 61000 + 7000 + 22000);
    for (moe_slot s = 0; s < 3; s++)
        ck_assert(!moe_cache_in_flight(cache, s));
    ops->slot_wait(m, 0, true); /* landed long ago: no time passes */
    ck_assert_uint_eq(ops->now(m), 10410 + 3 * 61000 + 7000 + 22000);
    moe_sim_machine_free(m);
    moe_cache_free(cache);
    moe_geometry_release(&geometry);
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(energy_by_hand)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    struct moe_result r = run(&w);
    double cpu = 50 + 10 * 4 * (120000. / 176820), gpu = 20 + 100 * (2820. / 176820);
    ck_assert_double_eq_tol(r.cpu_w, cpu, 1e-9);
    ck_assert_double_eq_tol(r.gpu_w, gpu, 1e-9);
    ck_assert_double_eq_tol(r.j_per_token, (cpu + gpu) * 176820e-9, 1e-12);
}
END_TEST

static void expect_refusal(const struct world *w, const char *a, const char *b)
{
    struct moe_result r = {.decode_ns = 77};
    struct moe_err err = {0};
    ck_assert_int_eq(try(w, &r, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, a) && strstr(err.text, b), "%s", err.text);
    ck_assert_uint_eq(r.decode_ns, 77);
}

START_TEST(refusals_name_both_sides)
{
    struct world w = world_of("collab", "2x4", 1, same);
    w.platform.gpu.memory_bytes = 1000000;
    expect_refusal(&w, "2x4", "tiny");
    w.platform.gpu.memory_bytes = 281600 + 8 * 600000; /* dense part and eight experts: fits */
    struct moe_result r;
    ck_assert_int_eq(try(&w, &r, NULL), MOE_OK);
    w.platform.gpu.memory_bytes--;
    expect_refusal(&w, "2x4", "tiny");
    w.platform = tiny_platform();
    w.model.n_experts = 5;
    expect_refusal(&w, "4 experts", "5");
    w.model = tiny_model(3, 4, 2);
    expect_refusal(&w, "2 layers", "3");
    w.model = tiny_model(2, 4, 2);
    w.trace.tokens.phase[0] = MOE_PREFILL;
    expect_refusal(&w, "decode", "trace");
    w.trace.tokens.phase[0] = MOE_DECODE;
    set_key(&w.strategy, "geometry", "3x2");
    expect_refusal(&w, "3", "2");
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(stops_after_max_tokens)
{
    struct world w = world_of("cpu-only", "none", 2, same);
    struct moe_sim_input in = {.trace = &w.trace,
                               .model = &w.model,
                               .platform = &w.platform,
                               .strategy = &w.strategy,
                               .max_tokens = 1};
    struct moe_result r;
    ck_assert_int_eq(moe_simulate(&in, &r, NULL), MOE_OK);
    ck_assert_uint_eq(r.decode_tokens, 1);
    ck_assert_uint_eq(r.decode_ns, 176820);
    ck_assert(isnan(r.bound_ms));
    moe_trace_release(&w.trace);
}
END_TEST

/* A prompt of two tokens in one pass, then one token: the prompt's time is kept apart. Its layers:
 * dense 10000 + 412, state 3000 + 20 and 4000 + 20, experts on the CPU (two tokens: 30000). */
START_TEST(prompt_is_timed_apart)
{
    static const moe_expert experts[] = {0, 1, 2, 3, 0, 1, 3, 2, 0, 1, 2, 3};
    struct world w = world_of("cpu-only", "none", 3, experts);
    for (int t = 0; t < 2; t++) {
        w.trace.tokens.phase[t] = MOE_PREFILL;
        w.trace.tokens.step[t] = 0;
    }
    w.trace.tokens.step[2] = 1;
    w.trace.tokens.position[2] = 0; /* as in the case alone */
    struct moe_result r = run(&w);
    ck_assert_uint_eq(r.prefill_tokens, 2);
    ck_assert_uint_eq(r.decode_tokens, 1);
    ck_assert_uint_eq(r.decode_ns, 176820);
    ck_assert_uint_eq(r.prefill_ns, 2 * (10412 + 3020 + 60000 + 4020) + 22000);
}
END_TEST

static void check_result(const struct world *w, const struct moe_result *r)
{
    uint64_t tokens = 0;
    for (uint64_t t = 0; t < w->trace.tokens.n_tokens; t++)
        tokens += w->trace.tokens.phase[t] == MOE_DECODE;
    ck_assert_uint_eq(r->decode_tokens, tokens);
    ck_assert_uint_eq(sum_of_causes(&r->cause), r->decode_ns);
    ck_assert_uint_eq(r->routed_experts, r->cpu_experts + r->gpu_experts);
    ck_assert_uint_eq(r->decode.lookups,
                      r->decode.hits + r->decode.inflight_hits + r->decode.misses);
    ck_assert(r->gpu_busy >= 0 && r->gpu_busy <= 1 && r->cpu_busy <= 1 && r->h2d_busy <= 1);
    ck_assert(r->ms_p50 <= r->ms_p95 && r->ms_p95 <= r->ms_p99);
    ck_assert_double_eq_tol(r->j_per_token * (double)r->decode_tokens, r->energy_j, 1e-9);
    ck_assert_double_eq_tol((r->cpu_w + r->gpu_w) * (double)r->decode_ns * 1e-9, r->energy_j, 1e-9);
}

/* The bound of bound.h, whatever the strategy does: the test that matters. */
START_TEST(no_schedule_beats_the_bound)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 7);
    double nearest = 0;
    for (int i = 0; i < 4000; i++) {
        struct world w = random_world(&rng);
        struct moe_sim_input in = {.trace = &w.trace,
                                   .model = &w.model,
                                   .platform = &w.platform,
                                   .strategy = &w.strategy,
                                   .bound = true};
        struct moe_result a, b;
        struct moe_err err = {0};
        if (moe_simulate(&in, &a, &err))
            ck_abort_msg("case %d: %s", i, err.text);
        check_result(&w, &a);
        ck_assert_msg(a.bound_share > 0 && a.bound_share <= 1 + 1e-9,
                      "case %d: share of the bound is %.9f", i, a.bound_share);
        nearest = fmax(nearest, a.bound_share);
        memset(&b, 0, sizeof b);
        ck_assert_int_eq(moe_simulate(&in, &b, &err), MOE_OK);
        ck_assert_uint_eq(a.decode_ns, b.decode_ns); /* same input, same time */
        ck_assert_mem_eq(&a.cause, &b.cause, sizeof a.cause);
        moe_trace_release(&w.trace);
    }
    ck_assert_double_gt(nearest, 0.9); /* and it is not idle: some schedules come near */
}
END_TEST

/* Worlds where the link is all that counts, and one pooled OPT cache that uses it well: here a
 * bound that is a little too high is passed. */
START_TEST(bound_is_sharp_on_the_link)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 11);
    double mean = 0;
    for (int i = 0; i < 300; i++) {
        struct random_shape shape = {.n_layers = 1 + (uint32_t)moe_rng_below(&rng, 4),
                                     .n_experts = 4 + (uint32_t)moe_rng_below(&rng, 6),
                                     .top_k = 1 + (uint32_t)moe_rng_below(&rng, 3),
                                     .n_tokens = 100};
        struct world w = {.model = tiny_model(shape.n_layers, shape.n_experts, shape.top_k),
                          .platform = tiny_platform(),
                          .strategy = load_strategy("on-demand")};
        char geometry[32];
        snprintf(geometry, sizeof geometry, "global:%u", 1 + (unsigned)moe_rng_below(&rng, 6));
        if (shape.n_layers == 1)
            snprintf(geometry, sizeof geometry, "1x%u", 1 + (unsigned)moe_rng_below(&rng, 4));
        set_key(&w.strategy, "geometry", geometry);
        set_key(&w.strategy, "policy", "opt");
        set_key(&w.strategy, "admission", "always");
        if (moe_rng_below(&rng, 2))
            set_key(&w.strategy, "fill.memory", "pageable");
        w.platform.cpu.point[0].ms = 1e5;
        w.platform.gpu.read_gb_per_s = 1e4;
        w.platform.gpu.layer_overhead_us = w.platform.gpu.token_overhead_us = 0;
        w.platform.gpu.expert_launch_us = 0;
        w.platform.link.h2d_pageable_gb_per_s = 0.1;
        w.platform.link.h2d_pinned_gb_per_s = moe_rng_below(&rng, 2) ? 0.01 : 0.1;
        random_trace(&rng, &shape, &w.trace);
        struct moe_sim_input in = {.trace = &w.trace,
                                   .model = &w.model,
                                   .platform = &w.platform,
                                   .strategy = &w.strategy,
                                   .bound = true};
        struct moe_result r;
        ck_assert_int_eq(moe_simulate(&in, &r, NULL), MOE_OK);
        ck_assert_msg(r.bound_share <= 1 + 1e-9, "case %d: share %.9f", i, r.bound_share);
        mean += r.bound_share / 300;
        moe_trace_release(&w.trace);
    }
    ck_assert_double_gt(mean, 0.6); /* slow pinned copies reach a tenth */
}
END_TEST

/* Copies hidden under the dense parts: two pools' worth of slots, taken in turns by eight layers,
 * and a prefetcher that is always right. The link's constraint must not be beside the dense parts.
 */
START_TEST(bound_allows_hidden_copies)
{
    enum { L = 8, T = 50 };
    moe_expert experts[T * L];
    for (int i = 0; i < T * L; i++)
        experts[i] = (moe_expert)(i % L % 4);
    struct world w = {.model = tiny_model(L, 4, 1),
                      .platform = tiny_platform(),
                      .strategy = load_strategy("on-demand"),
                      .trace = tiny_trace(L, 4, 1, T, experts)};
    set_key(&w.strategy, "geometry", "global:2");
    set_key(&w.strategy, "admission", "always");
    set_key(&w.strategy, "policy", "lru");
    set_key(&w.strategy, "prefetcher", "previous-token");
    w.platform.gpu.layer_overhead_us = 100;
    w.platform.cpu.point[0].ms = 1e5;
    struct moe_sim_input in = {.trace = &w.trace,
                               .model = &w.model,
                               .platform = &w.platform,
                               .strategy = &w.strategy,
                               .bound = true};
    struct moe_result r;
    ck_assert_int_eq(moe_simulate(&in, &r, NULL), MOE_OK);
    ck_assert_uint_gt(r.h2d_bytes, 300 * 600000); /* nearly every use needs its copy */
    ck_assert_double_le(r.bound_share, 1 + 1e-9);
    ck_assert_double_gt(r.bound_share, 0.8);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim");
    TCase *tests = tcase_create("sim");
    tcase_add_test(tests, cpu_only_by_hand);
    tcase_add_test(tests, leading_layers_by_hand);
    tcase_add_test(tests, cpu_only_on_slow_dram);
    tcase_add_test(tests, on_demand_by_hand);
    tcase_add_test(tests, collab_by_hand);
    tcase_add_test(tests, reference_by_hand);
    tcase_add_test(tests, collab_in_flight_on_cpu);
    tcase_add_test(tests, collab_overlaps_hit_and_miss);
    tcase_add_test(tests, collab_pageable_blocks);
    tcase_add_test(tests, copies_slow_the_cpu);
    tcase_add_test(tests, staging_is_not_overwritten_early);
    tcase_add_test(tests, overwritten_copy_leaves_the_slot_in_flight);
    tcase_add_test(tests, kernel_waits_for_all_copies_named);
    tcase_add_test(tests, energy_by_hand);
    tcase_add_test(tests, refusals_name_both_sides);
    tcase_add_test(tests, stops_after_max_tokens);
    tcase_add_test(tests, prompt_is_timed_apart);
    tcase_add_test(tests, no_schedule_beats_the_bound);
    tcase_add_test(tests, bound_is_sharp_on_the_link);
    tcase_add_test(tests, bound_allows_hidden_copies);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
