/* Machines whose GPU and CPU share one DRAM: files, costs, sharing and bound by hand, and
 * properties of every run. */
#include "policies/platform_file.h"
#include "sim/bound.h"
#include "sim/whatif.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

#include <math.h>

static struct moe_err err;

static struct moe_platform unified(double dram_gb_per_s)
{
    struct moe_platform p = tiny_platform();
    p.memory = MOE_MEMORY_UNIFIED;
    p.dram.read_gb_per_s = dram_gb_per_s;
    return p;
}

START_TEST(files_say_so)
{
    struct moe_platform p;
    ck_assert_int_eq(moe_platform_load("experiments/platforms/strix-halo.yaml", &p, &err), MOE_OK);
    ck_assert(moe_platform_shares_dram(&p));
    ck_assert_int_eq(moe_platform_set(&p, "memory", "separate", &err), MOE_OK);
    ck_assert(!moe_platform_shares_dram(&p));
    ck_assert_int_eq(moe_platform_set(&p, "memory", "both", &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "unified"));
    ck_assert_int_eq(moe_platform_set(&p, "memory", "unified", &err), MOE_OK);
    ck_assert_int_eq(moe_platform_set(&p, "gpu.memory_bytes", "0", &err), MOE_OK);
    ck_assert(!moe_platform_shares_dram(&p)); /* with whom? */
    ck_assert_int_eq(moe_platform_load("experiments/platforms/paper-4090.yaml", &p, &err), MOE_OK);
    ck_assert(!moe_platform_shares_dram(&p));
    static const char contradiction[] = "name: x\ndescription: y\nmemory: unified\ngpu: none\n";
    ck_assert_int_eq(moe_platform_parse("x", contradiction, sizeof contradiction - 1, &p, &err),
                     MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "'memory: unified' needs a GPU"));
}
END_TEST

/* The GPU reads no faster than the DRAM; a copy moves its bytes twice. */
START_TEST(costs_by_hand)
{
    const struct moe_model model = tiny_model(2, 4, 2);
    struct moe_platform p = unified(100);
    struct moe_costs c;
    moe_costs_init(&c, &model, &p, 4);
    ck_assert_uint_eq(c.cpu_expert_ns, 30000);
    ck_assert_uint_eq(c.gpu_expert_ns, 7000);
    ck_assert_uint_eq(c.copy_ns[0], 61000);
    ck_assert_uint_eq(moe_cost_state_down_ns(&c, 1), 3000);
    ck_assert_double_eq(moe_cost_attend_dram_bytes(&c, 1, 0), 41000);
    ck_assert_double_eq(moe_cost_head_dram_bytes(&c), 200000);
    ck_assert_double_eq(moe_cost_gpu_expert_dram_bytes(&c), 600000);
    ck_assert_double_eq(moe_cost_copy_dram_bytes(&c), 1200000);
    p = unified(15);
    moe_costs_init(&c, &model, &p, 4);
    ck_assert_uint_eq(c.gpu_expert_ns, 1000 + 40000);
    ck_assert_uint_eq(c.copy_ns[0], 1000 + 80000);
    ck_assert_uint_eq(c.copy_ns[1], 1000 + 120000);
    ck_assert_uint_eq(moe_cost_head_ns(&c, 1), 13333);
    p = tiny_platform();
    moe_costs_init(&c, &model, &p, 4);
    ck_assert_double_eq(moe_cost_gpu_expert_dram_bytes(&c), 0);
    ck_assert_double_eq(moe_cost_copy_dram_bytes(&c), 600000);
}
END_TEST

static struct moe_result simulated(const struct world *w, struct moe_timeline *timeline)
{
    struct moe_result r;
    const struct moe_sim_input in = {.trace = &w->trace,
                                     .model = &w->model,
                                     .platform = &w->platform,
                                     .strategy = &w->strategy,
                                     .timeline = timeline,
                                     .bound = true};
    if (moe_simulate(&in, &r, &err))
        ck_abort_msg("%s", err.text);
    return r;
}

/* Layer 0 has expert 0 in its slot, and 1 on the CPU; layer 1 has 2 and 3 on the CPU. The GPU's
 * expert wants 600000 bytes in 7000 ns, 85.714286 GB/s, the CPU's 20: together 105.714286 of the
 * DRAM's 100. The GPU has 4000 ns left when the CPU begins: ceil(4000 * 1.05714286) = 4229, in
 * which the CPU does 4000.4 of its 30000, the others unslowed: 30229 in whole ns. */
START_TEST(gpu_slows_the_cpu)
{
    static const moe_expert experts[] = {0, 1, 2, 3};
    struct world w = world_of("static-hot", "2x1", 1, experts);
    set_key(&w.strategy, "policy", "static:choose=first");
    const uint64_t others = 10410 + 3000 + 60000 + 4000 + 22000, alone = 10410 + 3000 + 4000;
    ck_assert_uint_eq(simulated(&w, NULL).decode_ns, alone + 30000 + others);
    w.platform = unified(100);
    const struct moe_result r = simulated(&w, NULL);
    ck_assert_uint_eq(r.decode_ns, alone + 30229 + others);
    ck_assert_uint_eq(r.gpu_experts, 1);
    /* four experts, two layers' dense part, the head */
    ck_assert_double_eq_tol(r.dram_gb_per_s * (double)r.decode_ns, 4 * 600000 + 2 * 41000 + 200000,
                            1);
    w.platform = unified(106); /* enough for both */
    ck_assert_uint_eq(simulated(&w, NULL).decode_ns, alone + 30000 + others);
    moe_trace_release(&w.trace);
}
END_TEST

/* Nothing but the dense part, two experts in turn on the GPU, whose copies nothing disturbs but
 * these: each copy moves 1200000 bytes in 81000 ns (14.8 of 15 GB/s), an expert 600000 in 41000
 * (14.6). The second copy and the first expert share: the bytes of both take no less than 15 GB/s
 * allow. */
START_TEST(copies_read_and_write)
{
    struct world w = world_of("on-demand", "none", 1, (const moe_expert[]){0, 1, 2, 3});
    w.platform = unified(15);
    const struct moe_result r = simulated(&w, NULL);
    const double least = 2 * (3 * 2 * 600000 + 41000) / 15.0 + 200000 / 15.0;
    ck_assert_double_ge((double)r.decode_ns, least);
    ck_assert_double_ge((double)r.decode_ns, r.schedule_bound_ms * 1e6);
    ck_assert_double_le(r.dram_gb_per_s, 15);
    ck_assert_double_eq_tol(r.schedule_bound_ms * 1e6, fmax(least, r.schedule_bound_ms * 1e6), 1);
    w.platform.memory = MOE_MEMORY_SEPARATE;
    ck_assert_uint_lt(simulated(&w, NULL).decode_ns, r.decode_ns);
    moe_trace_release(&w.trace);
}
END_TEST

/* In any world: the same with and without a timeline, no bound beaten, no more than the DRAM gives.
 */
START_TEST(random_worlds)
{
    struct moe_rng rng;
    int slower = 0;
    moe_rng_init(&rng, 21);
    for (int i = 0; i < 400; i++) {
        struct world w = random_world(&rng);
        struct moe_timeline *line;
        w.platform.memory = MOE_MEMORY_UNIFIED;
        const struct moe_result plain = simulated(&w, NULL);
        ck_assert_int_eq(moe_timeline_new(&line, 100000, &err), MOE_OK);
        const struct moe_result drawn = simulated(&w, line);
        moe_timeline_free(line);
        ck_assert_uint_eq(plain.decode_ns, drawn.decode_ns);
        ck_assert_uint_eq(plain.prefill_ns, drawn.prefill_ns);
        ck_assert_uint_eq(plain.h2d_bytes, drawn.h2d_bytes);
        ck_assert_int_eq(memcmp(&plain.cause, &drawn.cause, sizeof plain.cause), 0);
        ck_assert_double_le(plain.bound_share, 1 + 1e-9);
        ck_assert_double_le(plain.schedule_bound_share, 1 + 1e-9);
        ck_assert_uint_eq(sum_of_causes(&plain.cause), plain.decode_ns);
        w.platform.memory = MOE_MEMORY_SEPARATE;
        slower += simulated(&w, NULL).decode_ns < plain.decode_ns;
        moe_trace_release(&w.trace);
    }
    ck_assert_int_gt(slower, 100);
}
END_TEST

/* The linear program against every split of the uses. */
START_TEST(bound_is_the_optimum)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 4);
    for (int i = 0; i < 1000; i++) {
        const struct moe_model model = tiny_model(2, 4, 2);
        struct moe_platform p = unified(5 + 200 * moe_rng_unit(&rng));
        struct moe_costs c;
        p.cpu.point[0].ms = 0.001 + 0.1 * moe_rng_unit(&rng);
        p.link.h2d_pinned_gb_per_s = 6 + 100 * moe_rng_unit(&rng);
        p.gpu.read_gb_per_s = 10 + 200 * moe_rng_unit(&rng);
        moe_costs_init(&c, &model, &p, 4);
        const struct moe_bound_case given = {.costs = &c,
                                             .dense_ns = moe_rng_below(&rng, 1000000),
                                             .dense_bytes = (double)moe_rng_below(&rng, 10000000),
                                             .uses = moe_rng_below(&rng, 40),
                                             .max_hits = moe_rng_below(&rng, 40)};
        const double b = 600000 / p.dram.read_gb_per_s, dense = (double)given.dense_ns;
        double best = INFINITY;
        for (uint64_t x = 0; x <= given.uses; x++)
            for (uint64_t y = 0; y <= given.max_hits && x + y <= given.uses; y++) {
                const double z = (double)(given.uses - x - y);
                double t = dense + fmax((double)c.cpu_expert_ns * (double)x,
                                        (double)c.gpu_expert_ns * ((double)y + z));
                t = fmax(t, (double)c.copy_ns[0] * z);
                t = fmax(t,
                         b * ((double)(x + y) + 3 * z) + given.dense_bytes / p.dram.read_gb_per_s);
                best = fmin(best, t);
            }
        const double slack =
            (double)(c.cpu_expert_ns + c.gpu_expert_ns + c.copy_ns[0]) + 5 * b; /* one of each */
        const double bound = (double)moe_bound_ns(&given);
        ck_assert_double_le(bound, best + 1);
        ck_assert_double_ge(bound, best - slack);
    }
}
END_TEST

/* The least memory with which the strategy runs. */
static uint64_t least_memory(const char *strategy, const char *geometry, int memory)
{
    static const moe_expert routes[] = {0, 1, 2, 3, 0, 1, 2, 3};
    struct world w = world_of(strategy, geometry, 1, routes);
    uint64_t low = 1, high = (uint64_t)1 << 30;
    w.platform.memory = memory;
    while (low < high) {
        struct moe_result r;
        const struct moe_sim_input in = {
            .trace = &w.trace, .model = &w.model, .platform = &w.platform, .strategy = &w.strategy};
        w.platform.gpu.memory_bytes = low + (high - low) / 2;
        if (moe_simulate(&in, &r, &err) == MOE_OK)
            high = w.platform.gpu.memory_bytes;
        else
            low = w.platform.gpu.memory_bytes + 1;
    }
    moe_trace_release(&w.trace);
    return high;
}

/* Beside two memories: all eight experts of 600000 bytes; those without a slot, where the others
 * stay in theirs; none, where all do. */
START_TEST(slots_and_the_hosts_experts_fit_together)
{
    static const struct {
        const char *strategy, *geometry;
        uint64_t twice;
    } cases[] = {{"collab", "2x2", 8}, {"collab", "none", 8},   {"collab", "1x4", 4},
                 {"collab", "all", 0}, {"on-demand", "2x2", 8}, {"static-hot", "2x2", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *s = cases[i].strategy, *g = cases[i].geometry;
        ck_assert_uint_eq(least_memory(s, g, MOE_MEMORY_UNIFIED) -
                              least_memory(s, g, MOE_MEMORY_SEPARATE),
                          cases[i].twice * 600000);
    }
}
END_TEST

START_TEST(whatif_scales_the_one_memory)
{
    struct world w = world_of("collab", "2x1", 2, (const moe_expert[]){0, 1, 2, 3, 0, 1, 2, 3});
    const struct moe_strategy cpu = load_strategy("cpu-only"), copies = load_strategy("on-demand");
    w.platform = unified(100);
    const struct moe_whatif_spec spec = {.trace = &w.trace,
                                         .model = &w.model,
                                         .platform = &w.platform,
                                         .strategy = {&w.strategy, &cpu, &copies},
                                         .channels = 2};
    struct moe_whatif v;
    size_t found = 0;
    ck_assert_int_eq(moe_whatif_init(&v, &spec, &err), MOE_OK);
    ck_assert_str_eq(v.axis[MOE_WHATIF_PCIE].title, "");
    for (size_t i = 0; i < v.n; i++) {
        ck_assert_int_ne(v.value[i].axis, MOE_WHATIF_PCIE);
        if (v.value[i].axis != MOE_WHATIF_DRAM || strcmp(v.value[i].text, "4") != 0)
            continue;
        found++;
        ck_assert_double_eq(v.value[i].platform.dram.read_gb_per_s, 200);
        ck_assert_double_eq(v.value[i].platform.gpu.read_gb_per_s, 200);
        ck_assert_double_eq(v.value[i].platform.link.h2d_pinned_gb_per_s, 20);
        ck_assert_double_eq(v.value[i].platform.link.h2d_pageable_gb_per_s, 10);
    }
    ck_assert_uint_eq(found, 1);
    moe_whatif_release(&v);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("one memory");
    TCase *tc = tcase_create("one memory");
    tcase_add_test(tc, files_say_so);
    tcase_add_test(tc, costs_by_hand);
    tcase_add_test(tc, gpu_slows_the_cpu);
    tcase_add_test(tc, copies_read_and_write);
    tcase_add_test(tc, random_worlds);
    tcase_add_test(tc, bound_is_the_optimum);
    tcase_add_test(tc, slots_and_the_hosts_experts_fit_together);
    tcase_add_test(tc, whatif_scales_the_one_memory);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
