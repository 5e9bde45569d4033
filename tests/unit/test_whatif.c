/* What-if: scaled machines by hand, fitted geometries by hand, and against single simulations. */
#include "sim/whatif.h"

#include "sim_world.h"
#include "tests/unit/run_suite.h"

#include <math.h>

static struct moe_whatif_spec spec_of(const struct world *w, const struct moe_strategy *cpu_only,
                                      const struct moe_strategy *on_demand)
{
    return (struct moe_whatif_spec){.trace = &w->trace,
                                    .model = &w->model,
                                    .platform = &w->platform,
                                    .strategy = {&w->strategy, cpu_only, on_demand}};
}

static struct moe_whatif values_of(const struct moe_whatif_spec *spec)
{
    struct moe_whatif whatif;
    struct moe_err err = {0};
    if (moe_whatif_init(&whatif, spec, &err))
        ck_abort_msg("%s", err.text);
    return whatif;
}

static struct moe_whatif run_of(const struct moe_whatif_spec *spec)
{
    struct moe_whatif whatif = values_of(spec);
    struct moe_err err = {0};
    if (moe_whatif_run(&whatif, spec, &err))
        ck_abort_msg("%s", err.text);
    return whatif;
}

/* "name:value value* ..." of an axis; the star marks what the platform has. */
static const char *texts(const struct moe_whatif *w, enum moe_whatif_axis axis)
{
    static char buf[512];
    size_t at = 0;
    buf[0] = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->value[i].axis == axis)
            at += (size_t)snprintf(buf + at, sizeof buf - at, "%s%s%s", at ? " " : "",
                                   w->value[i].text, w->value[i].own ? "*" : "");
    return buf;
}

START_TEST(pcie_rates)
{
    ck_assert_double_eq_tol(moe_whatif_pcie_gb_per_s(3, 16), 15.7538, 1e-4);
    ck_assert_double_eq_tol(moe_whatif_pcie_gb_per_s(5, 16), 63.0154, 1e-4);
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(6, 16), 121);
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(4, 8), moe_whatif_pcie_gb_per_s(3, 16));
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(2, 16), 0);
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(7, 16), 0);
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(4, 3), 0);
    ck_assert_double_eq(moe_whatif_pcie_gb_per_s(4, 0), 0);
}
END_TEST

/* Rates of 1, 2, 4 threads; `top` that of 4. */
static struct moe_platform with_rates(double top)
{
    struct moe_platform p = tiny_platform();
    p.cpu.n_points = 3;
    p.cpu.point[0] = (struct moe_ffn_point){1, 1000000, 0.1}; /* 10 GB/s */
    p.cpu.point[1] = (struct moe_ffn_point){2, 1000000, 0.05};
    p.cpu.point[2] = (struct moe_ffn_point){4, 1000000, 1 / top};
    return p;
}

static double cpu_rate(const struct moe_platform *p, double threads, double factor)
{
    return moe_whatif_cpu_gb_per_s(p, threads, factor, 1000000);
}

START_TEST(cpu_rates)
{
    struct moe_platform flat = with_rates(20), rising = with_rates(30);
    for (uint64_t t = 1; t <= 4; t++)
        ck_assert_double_eq(cpu_rate(&rising, (double)t, 1),
                            moe_platform_expert_gb_per_s(&rising, t, 1000000));
    /* twice the bandwidth carries twice the threads; one thread gains nothing */
    ck_assert_double_eq_tol(cpu_rate(&flat, 4, 2), 40, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&flat, 1, 2), 10, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&flat, 1, 0.5), 10, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&flat, 4, 0.5), 10, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&rising, 3, 1), 25, 1e-9);
    /* beyond four cores 5 GB/s each, up to the DRAM's 100 */
    ck_assert_double_eq_tol(cpu_rate(&rising, 6, 1), 40, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&rising, 100, 1), 100, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&flat, 100, 1), 20, 1e-9);
    /* rates that rise faster than the threads: more bandwidth slows nobody, less helps nobody */
    struct moe_platform odd = with_rates(60);
    ck_assert_double_eq_tol(cpu_rate(&odd, 4, 2), 60, 1e-9);
    ck_assert_double_eq_tol(cpu_rate(&odd, 2, 0.5), 20, 1e-9);
    /* a single measured number of threads: the slope is its share a thread */
    struct moe_platform one = tiny_platform();
    ck_assert_double_eq_tol(moe_whatif_cpu_gb_per_s(&one, 8, 1, 600000), 40, 1e-9);
}
END_TEST

START_TEST(values_by_hand)
{
    struct world w = world_of("collab", "2x2", 1, (const moe_expert[]){0, 1, 0, 1});
    struct moe_strategy cpu_only = load_strategy("cpu-only"),
                        on_demand = load_strategy("on-demand");
    struct moe_whatif_spec spec = spec_of(&w, &cpu_only, &on_demand);
    w.platform = with_rates(30);
    w.platform.gpu.memory_bytes = (uint64_t)24564 << 20;
    w.platform.link.h2d_pinned_gb_per_s = 25;
    spec.channels = 2;
    struct moe_whatif whatif = values_of(&spec);
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_PCIE), "3.0 4.0* 5.0 6.0");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_DRAM), "1 2* 4 8 12");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_VRAM), "8 12 16 24* 32 48 80");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_CORES), "1 2 4* 8");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_WEIGHTS), "32 16* 8.5 4.5");
    for (size_t i = 0; i < whatif.n; i++) {
        const struct moe_whatif_value *v = &whatif.value[i];
        if (v->own)
            ck_assert_mem_eq(&v->platform, &w.platform, sizeof w.platform);
        if (i > 0 && v->axis == whatif.value[i - 1].axis)
            ck_assert((v->x > whatif.value[i - 1].x) == (v->axis != MOE_WHATIF_WEIGHTS));
        if (v->axis == MOE_WHATIF_DRAM)
            ck_assert_double_eq_tol(v->platform.dram.read_gb_per_s, 50 * strtod(v->text, NULL),
                                    1e-9);
        if (v->axis == MOE_WHATIF_CORES)
            ck_assert_int_eq(v->beyond, v->x > 4);
    }
    /* 3.0: half of 4.0, and a pageable copy (5 GB/s) is not slower for it; 0.2 x 25 would be 5 */
    ck_assert_double_eq_tol(whatif.value[0].platform.link.h2d_pinned_gb_per_s, 12.5, 1e-9);
    ck_assert_double_eq(whatif.value[0].platform.link.h2d_pageable_gb_per_s, 5);
    size_t up = moe_whatif_step(&whatif, MOE_WHATIF_WEIGHTS, 1);
    ck_assert_str_eq(whatif.value[up].text, "8.5");
    ck_assert_str_eq(whatif.value[moe_whatif_step(&whatif, MOE_WHATIF_WEIGHTS, -1)].text, "32");
    moe_whatif_release(&whatif);

    /* nothing told, and nothing usual */
    spec.channels = 0;
    w.platform.link.h2d_pinned_gb_per_s = 450;
    w.platform.gpu.memory_bytes = 1 << 28;
    w.model.expert_weight_bits = 4.25;
    w.strategy.threads = 3;
    whatif = values_of(&spec);
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_PCIE), "×¼ ×½ ×1* ×2 ×4");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_DRAM), "×¼ ×½ ×1* ×2 ×4");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_VRAM), "0.0625 0.125 0.25* 0.5 1");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_CORES), "1 2 3* 4 6");
    ck_assert_str_eq(texts(&whatif, MOE_WHATIF_WEIGHTS), "32 16 8.5 4.5 4.25*");
    ck_assert_uint_eq(moe_whatif_step(&whatif, MOE_WHATIF_WEIGHTS, 1), SIZE_MAX);
    moe_whatif_release(&whatif);
    moe_trace_release(&w.trace);
}
END_TEST

/* Half of the channels, where two threads take all that there is: half the rate, in every size. */
START_TEST(dense_part_goes_along)
{
    struct world w = world_of("cpu-only", "none", 1, (const moe_expert[]){0, 1, 0, 1});
    struct moe_strategy cpu_only = w.strategy, on_demand = load_strategy("on-demand");
    struct moe_whatif_spec spec = spec_of(&w, &cpu_only, &on_demand);
    w.platform = with_rates(20);
    w.platform.gpu.memory_bytes = 0;
    w.platform.cpu.n_dense = 4;
    w.platform.cpu.dense[0] = (struct moe_ffn_point){2, 41000, 0.00205};  /* 20 GB/s */
    w.platform.cpu.dense[1] = (struct moe_ffn_point){2, 200000, 0.00625}; /* 32 */
    w.platform.cpu.dense[2] = (struct moe_ffn_point){4, 41000, 0.00205};
    w.platform.cpu.dense[3] = (struct moe_ffn_point){4, 200000, 0.00625};
    spec.channels = 2;
    struct moe_whatif whatif = values_of(&spec);
    int seen = 0;
    for (size_t i = 0; i < whatif.n; i++) {
        const struct moe_whatif_value *v = &whatif.value[i];
        if (v->axis != MOE_WHATIF_DRAM || strcmp(v->text, "1") != 0)
            continue;
        seen++;
        ck_assert_uint_eq(v->platform.cpu.n_dense, 2);
        ck_assert_uint_eq(v->platform.cpu.dense[1].threads, 4);
        ck_assert_double_eq_tol(moe_platform_dense_gb_per_s(&v->platform, 4, 41000), 10, 1e-9);
        ck_assert_double_eq_tol(moe_platform_dense_gb_per_s(&v->platform, 4, 200000), 16, 1e-9);
    }
    ck_assert_int_eq(seen, 1);
    moe_whatif_release(&whatif);
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(slots_refused)
{
    struct world w = world_of("collab", "2x2", 1, (const moe_expert[]){0, 1, 0, 1});
    struct moe_whatif_spec spec = spec_of(&w, &w.strategy, &w.strategy);
    const struct {
        uint64_t generation, lanes;
        const char *says;
    } cases[] = {
        {2, 16, "PCIe 2.0 x16 is not supported"},
        {4, 5, "PCIe 4.0 x5 is not supported"},
        {0, 8, "8 PCIe lanes without a generation"},
        {3, 8, "carries 10 GB/s, PCIe 3.0 x8 at most 7.877"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_whatif whatif;
        struct moe_err err = {0};
        spec.pcie_generation = cases[i].generation;
        spec.pcie_lanes = cases[i].lanes;
        ck_assert_int_eq(moe_whatif_init(&whatif, &spec, &err), MOE_ERR_USAGE);
        ck_assert_msg(strstr(err.text, cases[i].says), "%s", err.text);
    }
    moe_trace_release(&w.trace);
}
END_TEST

/* The geometries tried, with blanks between. */
static const char *tried(const char *given, uint64_t slots)
{
    static char buf[512];
    const struct moe_model model = tiny_model(4, 8, 2);
    struct moe_err err = {0};
    char **list;
    size_t n, at = 0;
    if (moe_whatif_geometries(given, &model, slots, &list, &n, &err))
        ck_abort_msg("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(buf + at, sizeof buf - at, "%s%s", i ? " " : "", list[i]);
        free(list[i]);
    }
    free(list);
    return buf;
}

START_TEST(geometries_by_hand)
{
    ck_assert_str_eq(tried("2x4", 12), "2x4 4x3 3x4 2x6 1x8");
    ck_assert_str_eq(tried("4x3", 12), "4x3 3x4 2x6 1x8");
    ck_assert_str_eq(tried("2x4", 3), "1x3 3x1 1x2");
    ck_assert_str_eq(tried("2x4", 21), "2x4 4x5 3x6 2x8");
    ck_assert_str_eq(tried("2x4", 32), "2x4 4x8");
    ck_assert_str_eq(tried("2x4", 0), "none");
    ck_assert_str_eq(tried("none", 12), "none");
    ck_assert_str_eq(tried("global:5", 12), "global:5 global:12");
    ck_assert_str_eq(tried("global:5", 4), "global:4");
    ck_assert_str_eq(tried("global:5", 32), "global:5 all");
    ck_assert_str_eq(tried("all", 12), "ncmoe:3");
    ck_assert_str_eq(tried("ncmoe:3", 20), "ncmoe:3 ncmoe:2");
    ck_assert_str_eq(tried("ncmoe:3", 7), "none");
    ck_assert_str_eq(tried("per-layer:2,1", 4), "per-layer:2,1 4x1 2x2 1x3 1x4");
    /* written for larger models */
    ck_assert_str_eq(tried("32x1", 12), "4x3 3x4 2x6 1x8");
    ck_assert_str_eq(tried("2x9", 32), "4x8");
    ck_assert_str_eq(tried("32x1", 0), "none");
    ck_assert_str_eq(tried("per-layer:1,1,1,1,1", 4), "4x1 2x2 1x3 1x4");
    ck_assert_str_eq(tried("global:56", 12), "global:12");
    ck_assert_str_eq(tried("global:56", 0), "none");
    ck_assert_str_eq(tried("ncmoe:25", 20), "ncmoe:4 ncmoe:2");
}
END_TEST

/* Not for any model. */
START_TEST(geometries_refused)
{
    static const char *const wrong[] = {"7y8", "x8", "ncmoe:", "ncmoe:1x", "global:x", "32x", ""};
    const struct moe_model model = tiny_model(4, 8, 2);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct moe_err err = {0};
        char **list;
        size_t n;
        ck_assert_int_eq(moe_whatif_geometries(wrong[i], &model, 32, &list, &n, &err),
                         MOE_ERR_USAGE);
        ck_assert_ptr_nonnull(strstr(err.text, "geometry"));
    }
}
END_TEST

static struct moe_result simulate(const struct world *w, const struct moe_strategy *strategy)
{
    struct moe_result r;
    struct moe_err err = {0};
    struct moe_sim_input in = {
        .trace = &w->trace, .model = &w->model, .platform = &w->platform, .strategy = strategy};
    if (moe_simulate(&in, &r, &err))
        ck_abort_msg("%s", err.text);
    return r;
}

/* What the platform has is what one simulation gives, and no geometry that was tried is faster. */
static void check_own(const struct world *w, const struct moe_whatif *whatif)
{
    size_t n_own = 0;
    for (size_t i = 0; i < whatif->n; i++) {
        if (!whatif->value[i].own)
            continue;
        n_own++;
        for (int line = 0; line < MOE_WHATIF_LINES; line++) {
            const struct moe_whatif_row *row = &whatif->row[i][line];
            ck_assert_int_eq(row->failed.status, MOE_OK);
            ck_assert_uint_eq(row->strategy.threads, w->strategy.threads);
            struct moe_result alone = simulate(w, &row->strategy);
            ck_assert_uint_eq(alone.decode_ns, row->result.decode_ns);
            ck_assert_double_eq(alone.tokens_per_s, row->result.tokens_per_s);
        }
        /* every expert fits */
        struct moe_strategy other = w->strategy;
        for (int g = 0; g < 2; g++) {
            ck_assert_uint_le(whatif->row[i][0].result.decode_ns, simulate(w, &other).decode_ns);
            snprintf(other.geometry, sizeof other.geometry, "%ux%u", w->trace.info.n_layers,
                     w->trace.info.n_experts);
        }
    }
    ck_assert_uint_eq(n_own, MOE_WHATIF_AXES);
}

/* Nothing beats the bound, and the bound is never worse on a better machine. */
static void check_bounds(const struct moe_whatif *whatif)
{
    for (size_t i = 0; i < whatif->n; i++) {
        const double bound = whatif->row[i][0].result.bound_ms;
        ck_assert(bound > 0);
        for (int line = 0; line < MOE_WHATIF_LINES; line++)
            ck_assert_double_le(bound, whatif->row[i][line].result.ms_mean * (1 + 1e-9));
        if (i > 0 && whatif->value[i].axis == whatif->value[i - 1].axis)
            ck_assert_double_le(bound, whatif->row[i - 1][0].result.bound_ms * (1 + 1e-9));
    }
}

static void check_links(const struct moe_whatif *whatif)
{
    for (size_t i = 1; i < whatif->n; i++)
        if (whatif->value[i].axis == MOE_WHATIF_PCIE)
            ck_assert_uint_le(whatif->row[i][MOE_WHATIF_ON_DEMAND].result.decode_ns,
                              whatif->row[i - 1][MOE_WHATIF_ON_DEMAND].result.decode_ns);
}

START_TEST(equals_simulations)
{
    struct moe_strategy cpu_only = load_strategy("cpu-only"),
                        on_demand = load_strategy("on-demand");
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct moe_rng rng;
        moe_rng_init(&rng, seed);
        struct world w = random_world(&rng);
        w.strategy = load_strategy("collab");
        set_key(&w.strategy, "geometry", "1x2");
        set_key(&w.strategy, "threads", seed % 2 ? "4" : "3");
        cpu_only.threads = on_demand.threads = w.strategy.threads;
        struct moe_whatif_spec spec = spec_of(&w, &cpu_only, &on_demand);
        spec.jobs = 1;
        struct moe_whatif one = run_of(&spec);
        spec.jobs = 3;
        struct moe_whatif three = run_of(&spec);
        check_own(&w, &one);
        check_bounds(&one);
        check_links(&one);
        for (size_t i = 0; i < one.n; i++)
            for (int line = 0; line < MOE_WHATIF_LINES; line++) {
                ck_assert_uint_eq(one.row[i][line].result.decode_ns,
                                  three.row[i][line].result.decode_ns);
                ck_assert_str_eq(one.row[i][line].strategy.geometry,
                                 three.row[i][line].strategy.geometry);
            }
        moe_whatif_release(&one);
        moe_whatif_release(&three);
        moe_trace_release(&w.trace);
    }
}
END_TEST

START_TEST(what_does_not_fit)
{
    struct world w = world_of("collab", "2x2", 2, (const moe_expert[]){0, 1, 0, 1, 2, 3, 2, 3});
    struct moe_strategy cpu_only = load_strategy("cpu-only"),
                        on_demand = load_strategy("on-demand");
    struct moe_whatif_spec spec = spec_of(&w, &cpu_only, &on_demand);
    /* dense weights 281600, two experts of staging 1200000 */
    w.platform.gpu.memory_bytes = 1000000;
    struct moe_whatif whatif = run_of(&spec);
    for (size_t i = 0; i < whatif.n; i++) {
        const struct moe_whatif_value *v = &whatif.value[i];
        if (v->axis != MOE_WHATIF_VRAM)
            continue;
        const uint64_t bytes = v->platform.gpu.memory_bytes;
        ck_assert_int_eq(whatif.row[i][0].failed.status != MOE_OK, bytes < 281600);
        ck_assert_int_eq(whatif.row[i][1].failed.status != MOE_OK, bytes < 281600);
        ck_assert_int_eq(whatif.row[i][2].failed.status != MOE_OK, bytes < 1481600);
        if (bytes == 1000000)
            ck_assert_str_eq(whatif.row[i][0].strategy.geometry, "1x1");
        if (bytes == 500000)
            ck_assert_str_eq(whatif.row[i][0].strategy.geometry, "none");
    }
    moe_whatif_release(&whatif);

    /* keys and values of two tokens in two layers, 800 bytes, are left room for */
    for (uint64_t kv = 799; kv <= 800; kv++) {
        w.platform.gpu.memory_bytes = 281600 + 600000 + kv;
        whatif = run_of(&spec);
        ck_assert_str_eq(whatif.row[0][0].strategy.geometry, kv == 800 ? "1x1" : "none");
        moe_whatif_release(&whatif);
    }

    /* a fault that every value has is one of the run */
    struct moe_err err = {0};
    w.model.n_layers = 3;
    whatif = values_of(&spec);
    ck_assert_int_eq(moe_whatif_run(&whatif, &spec, &err), MOE_ERR_USAGE);
    moe_whatif_release(&whatif);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("whatif");
    TCase *tcase = tcase_create("whatif");
    tcase_add_test(tcase, pcie_rates);
    tcase_add_test(tcase, cpu_rates);
    tcase_add_test(tcase, values_by_hand);
    tcase_add_test(tcase, dense_part_goes_along);
    tcase_add_test(tcase, slots_refused);
    tcase_add_test(tcase, geometries_by_hand);
    tcase_add_test(tcase, geometries_refused);
    tcase_add_test(tcase, equals_simulations);
    tcase_add_test(tcase, what_does_not_fit);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
