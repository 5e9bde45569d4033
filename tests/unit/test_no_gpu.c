/* Computers without a GPU: their files, times worked out by hand, refusals; tuner and what-if find
 * cpu-only. */
#include "policies/platform_file.h"
#include "sim/bound.h"
#include "sim/gap.h"
#include "sim/tune.h"
#include "sim/whatif.h"
#include "sim_world.h"
#include "tests/unit/run_suite.h"

static struct moe_err err;

/* 20 GB/s by 4 threads for matrices of any size, DRAM 100 GB/s. */
static struct moe_platform without_gpu(void)
{
    struct moe_platform p = tiny_platform();
    memset(&p.link, 0, sizeof p.link);
    memset(&p.gpu, 0, sizeof p.gpu);
    p.power.gpu_idle_w = p.power.gpu_busy_w = p.power.gpu_copy_w = 0;
    return p;
}

static const char *some_origin(void *context, const char *key)
{
    (void)context;
    (void)key;
    return "guess: x";
}

static char *text_of(const struct moe_platform *p)
{
    const struct moe_platform_notes notes = {.origin = some_origin};
    char *text;
    size_t size;
    if (moe_platform_text(p, &notes, &text, &size, &err))
        ck_abort_msg("%s", err.text);
    return text;
}

static void expect_parse(const char *text, const char *message)
{
    struct moe_platform p;
    err = (struct moe_err){0};
    ck_assert_int_eq(moe_platform_parse("x", text, strlen(text), &p, &err), MOE_ERR_USAGE);
    ck_assert_msg(strstr(err.text, message) != NULL, "'%s' is not in '%s'", message, err.text);
}

START_TEST(files_say_so)
{
    struct moe_platform p;
    ck_assert_int_eq(moe_platform_load("experiments/platforms/laptop-no-gpu.yaml", &p, &err),
                     MOE_OK);
    ck_assert(!moe_platform_has_gpu(&p));
    ck_assert_uint_eq(p.cpu.cores, 8);
    char more[16384], *text = text_of(&p);
    ck_assert_ptr_nonnull(strstr(text, "\ngpu: none\n"));
    ck_assert_ptr_null(strstr(text, "link:"));
    ck_assert_ptr_null(strstr(text, "gpu_"));
    snprintf(more, sizeof more, "%s\nlink: {}\n", text);
    expect_parse(more, "section 'link' needs a GPU, but the file says 'gpu: none'");
    snprintf(more, sizeof more, "%s  gpu_idle_w: {value: 1, unit: W, origin: \"guess: x\"}\n",
             text);
    expect_parse(more, "gpu_idle_w");
    /* Another word is no section, and the file is of a machine with a GPU then. */
    expect_parse("name: x\ndescription: y\ngpu: nine\n", "missing section 'link'");
    free(text);
}
END_TEST

START_TEST(constants_of_the_gpu_cannot_be_set)
{
    struct moe_platform p = without_gpu();
    ck_assert_int_eq(moe_platform_set(&p, "gpu.memory_bytes", "8GiB", &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "'tiny' says 'gpu: none'"));
    ck_assert_int_eq(moe_platform_set(&p, "link.copy_setup_us", "1", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_platform_set(&p, "power.gpu_idle_w", "1", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(moe_platform_set(&p, "power.cpu_idle_w", "1", &err), MOE_OK);
    p = tiny_platform(); /* a file with a GPU, told that there is none, and told again */
    ck_assert_int_eq(moe_platform_set(&p, "gpu.memory_bytes", "0", &err), MOE_OK);
    ck_assert(!moe_platform_has_gpu(&p));
    ck_assert_int_eq(moe_platform_set(&p, "gpu.memory_bytes", "8GiB", &err), MOE_OK);
    ck_assert(moe_platform_has_gpu(&p));
}
END_TEST

START_TEST(costs_by_hand)
{
    const struct moe_model model = tiny_model(2, 4, 2);
    const struct moe_platform p = without_gpu();
    struct moe_costs c;
    moe_costs_init(&c, &model, &p, 4);
    ck_assert_uint_eq(c.cpu_expert_ns, 30000);
    ck_assert_uint_eq(c.gpu_expert_ns, MOE_MAX_WORK_NS);
    ck_assert_uint_eq(moe_cost_gpu_expert_ns(&c, 5), MOE_MAX_WORK_NS);
    ck_assert_uint_eq(c.copy_ns[0], MOE_MAX_WORK_NS);
    ck_assert_uint_eq(moe_cost_attend_ns(&c, 1, 0), 41000 / 20);
    ck_assert_uint_eq(moe_cost_attend_ns(&c, 100, 0), 102000); /* 40800 flops, 40 GFLOP/s */
    ck_assert_uint_eq(moe_cost_head_ns(&c, 1), 10000);
    ck_assert_uint_eq(moe_cost_state_down_ns(&c, 9), 0);
    ck_assert_uint_eq(moe_cost_state_up_ns(&c, 1), 0);
    ck_assert_double_eq(moe_cost_attend_dram_bytes(&c, 1, 0), 41000);
    ck_assert_double_eq(moe_cost_head_dram_bytes(&c), 200000);
    const struct moe_platform with = tiny_platform();
    moe_costs_init(&c, &model, &with, 4);
    ck_assert_double_eq(moe_cost_attend_dram_bytes(&c, 1, 0), 0);
    ck_assert_double_eq(moe_cost_head_dram_bytes(&c), 0);
}
END_TEST

/* 41000 bytes of a layer and 200000 of the head, as they were measured; other sizes and numbers of
 * threads between and beyond. */
START_TEST(dense_part_as_measured)
{
    const struct moe_model model = tiny_model(2, 4, 2);
    struct moe_platform p = without_gpu();
    struct moe_costs c;
    p.cpu.n_dense = 4;
    p.cpu.dense[0] = (struct moe_ffn_point){1, 41000, 0.0082}; /* 5 GB/s */
    p.cpu.dense[1] = (struct moe_ffn_point){1, 200000, 0.02};
    p.cpu.dense[2] = (struct moe_ffn_point){4, 41000, 0.002};
    p.cpu.dense[3] = (struct moe_ffn_point){4, 200000, 0.008};
    moe_costs_init(&c, &model, &p, 4);
    ck_assert_uint_eq(moe_cost_attend_ns(&c, 1, 0), 2000);
    ck_assert_uint_eq(moe_cost_head_ns(&c, 1), 8000);
    ck_assert_uint_eq(c.cpu_expert_ns, 30000);
    ck_assert_uint_eq(moe_cost_attend_ns(&c, 100, 0), 102000);
    moe_costs_init(&c, &model, &p, 1);
    ck_assert_uint_eq(moe_cost_head_ns(&c, 1), 20000);
    ck_assert_double_eq(moe_platform_dense_gb_per_s(&p, 9, 1), 20.5); /* 4 cores */
    ck_assert_double_eq_tol(moe_platform_dense_gb_per_s(&p, 2, 1), 5 + (20.5 - 5) / 3, 1e-9);
    const struct moe_platform with = tiny_platform();
    struct moe_platform told = with; /* a GPU has its own */
    memcpy(&told.cpu, &p.cpu, sizeof p.cpu);
    struct moe_costs d;
    moe_costs_init(&c, &model, &with, 4);
    moe_costs_init(&d, &model, &told, 4);
    ck_assert_uint_eq(moe_cost_attend_ns(&c, 1, 0), moe_cost_attend_ns(&d, 1, 0));
}
END_TEST

START_TEST(dense_lists_in_files)
{
    static const struct {
        const char *from, *to, *says;
    } bad[] = {
        {"threads: 1, bytes", "threads: 1, expert_bytes", "expert_bytes"},
        {"{threads: 1, bytes: 41000, ms: 0.01}", "7", "{threads, bytes, ms}"},
        {"threads: 1, bytes: 200000", "threads: 1, bytes: 41000", "two points for 1 thread and"},
        {"  dense:", "  dence:", "did you mean 'dense'"},
    };
    struct moe_platform p = without_gpu(), q;
    p.cpu.n_dense = 2;
    p.cpu.dense[0] = (struct moe_ffn_point){1, 41000, 0.01};
    p.cpu.dense[1] = (struct moe_ffn_point){1, 200000, 0.02};
    char edited[16384], *text = text_of(&p);
    ck_assert_int_eq(moe_platform_parse("x", text, strlen(text), &q, &err), MOE_OK);
    ck_assert_uint_eq(q.cpu.n_dense, 2);
    ck_assert_uint_eq(q.cpu.dense[1].expert_bytes, 200000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *at = strstr(text, bad[i].from);
        ck_assert_msg(at != NULL, "%s", bad[i].from);
        snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, bad[i].to,
                 at + strlen(bad[i].from));
        expect_parse(edited, bad[i].says);
    }
    free(text);
}
END_TEST

static const moe_expert same[] = {0, 1, 2, 3, 0, 1, 2, 3};

static struct moe_result simulated(const struct moe_platform *platform, struct moe_timeline *line)
{
    struct world w = world_of("cpu-only", "none", 1, same);
    struct moe_result r;
    const struct moe_sim_input in = {.trace = &w.trace,
                                     .model = &w.model,
                                     .platform = platform,
                                     .strategy = &w.strategy,
                                     .timeline = line,
                                     .bound = true};
    if (moe_simulate(&in, &r, &err))
        ck_abort_msg("%s", err.text);
    moe_trace_release(&w.trace);
    return r;
}

/* A layer: 2050 dense, 2 x 30000; 10000 at the end. All of it is the CPU's. */
START_TEST(cpu_only_by_hand)
{
    struct moe_platform p = without_gpu();
    const struct moe_result r = simulated(&p, NULL);
    ck_assert_uint_eq(r.decode_ns, 2 * (2050 + 60000) + 10000);
    ck_assert_uint_eq(r.cause.cpu_ns, r.decode_ns);
    ck_assert_uint_eq(sum_of_causes(&r.cause), r.decode_ns);
    ck_assert_double_eq(r.bound_share, 1);
    ck_assert_double_eq(r.schedule_bound_share, 1);
    ck_assert_double_eq(r.gpu_w, 0);
    ck_assert_double_eq(r.cpu_w, 50 + 4 * 10);
    p = tiny_platform(); /* what is said of its GPU counts for nothing */
    p.gpu.memory_bytes = 0;
    const struct moe_result told = simulated(&p, NULL);
    ck_assert_uint_eq(told.decode_ns, r.decode_ns);
    ck_assert_double_eq(told.energy_j, r.energy_j);
}
END_TEST

/* DRAM gives 15 of the 20 GB/s that the CPU wants: ceil(2050 / 0.75), 2 x 40000; ceil(10000 /
 * 0.75). The bound: (4 experts, 2 x 41000, 200000 bytes) / 15. */
START_TEST(slow_dram_by_hand)
{
    struct moe_platform p = without_gpu();
    p.dram.read_gb_per_s = 15;
    const struct moe_result r = simulated(&p, NULL);
    ck_assert_uint_eq(r.decode_ns, 2 * (2734 + 80000) + 13334);
    ck_assert_double_eq_tol(r.bound_ms * 1e6, (4 * 600000 + 2 * 41000 + 200000) / 15.0, 1e-6);
    ck_assert_double_eq_tol(r.schedule_bound_ms * 1e6, 178800, 1e-6);
}
END_TEST

/* A run so long that even what counts as never done (MOE_MAX_WORK_NS) would be done three times. */
START_TEST(no_run_is_long_enough_for_a_gpu)
{
    const struct moe_model model = tiny_model(2, 4, 2);
    const struct moe_platform p = without_gpu();
    struct moe_costs c;
    moe_costs_init(&c, &model, &p, 4);
    const struct moe_bound_case bound = {.costs = &c, .dense_ns = 7, .uses = 1000000000};
    ck_assert_uint_gt(bound.uses * c.cpu_expert_ns, 3 * MOE_MAX_WORK_NS);
    ck_assert_uint_eq(moe_bound_ns(&bound), 7 + bound.uses * c.cpu_expert_ns);
}
END_TEST

START_TEST(the_timeline_has_one_lane)
{
    struct moe_platform p = without_gpu();
    struct moe_timeline *line;
    ck_assert_int_eq(moe_timeline_new(&line, 100, &err), MOE_OK);
    ck_assert_uint_eq(simulated(&p, line).decode_ns, simulated(&p, NULL).decode_ns);
    /* two layers' attend and two experts, the head, the token */
    ck_assert_uint_eq(moe_timeline_count(line), 2 * 3 + 1 + 1);
    moe_timeline_free(line);
}
END_TEST

/* Whatever is simulated either needs no GPU, or says that it does. */
START_TEST(random_worlds_run_or_say_why)
{
    struct moe_rng rng;
    int ran = 0, refused = 0;
    moe_rng_init(&rng, 11);
    for (int i = 0; i < 300; i++) {
        struct world w = random_world(&rng);
        const struct moe_strategy *s = &w.strategy;
        const bool none = strcmp(s->geometry, "none") == 0;
        w.platform.gpu.memory_bytes = 0;
        struct moe_sim_input in = {.trace = &w.trace,
                                   .model = &w.model,
                                   .platform = &w.platform,
                                   .strategy = s,
                                   .bound = true};
        struct moe_result r;
        err = (struct moe_err){0};
        if (moe_simulate(&in, &r, &err) == MOE_OK) {
            ck_assert(none && !moe_strategy_streams(s));
            ck_assert_uint_eq(r.gpu_experts, 0);
            ck_assert_uint_eq(r.h2d_bytes, 0);
            ck_assert_double_le(r.bound_share, 1 + 1e-9);
            ck_assert_double_le(r.schedule_bound_share, 1 + 1e-9);
            ran++;
        } else if (!none || moe_strategy_streams(s)) {
            refused += strstr(err.text, "needs a GPU") != NULL;
        }
        moe_trace_release(&w.trace);
    }
    ck_assert_int_ge(ran, 3);
    ck_assert_int_ge(refused, 100);
}
END_TEST

static struct world many_tokens(moe_expert *experts, size_t n_tokens)
{
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    for (size_t i = 0; i < n_tokens * 4; i += 2) {
        experts[i] = (moe_expert)moe_rng_below(&rng, 4);
        experts[i + 1] = (moe_expert)((experts[i] + 1) % 4);
    }
    struct world w = world_of("cpu-only", "none", n_tokens, experts);
    w.platform = without_gpu();
    w.platform.cpu.n_points = 2;
    w.platform.cpu.point[0] = (struct moe_ffn_point){2, 600000, 0.02}; /* faster than four */
    w.platform.cpu.point[1] = (struct moe_ffn_point){4, 600000, 0.03};
    return w;
}

START_TEST(tune_finds_cpu_only)
{
    enum { N = 64 };
    moe_expert experts[N * 4];
    struct world w = many_tokens(experts, N);
    struct moe_tune_options o = {.trace = &w.trace,
                                 .model = &w.model,
                                 .platform = &w.platform,
                                 .max_points = 100,
                                 .n_keep = 4,
                                 .seed = 1,
                                 .jobs = 1};
    struct moe_tune_result r;
    if (moe_tune(&o, &r, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_uint_eq(r.n_rows, 1);
    ck_assert_uint_eq(r.slots, 0);
    ck_assert_uint_eq(r.best_of[MOE_TUNE_CPU_ONLY], 0);
    ck_assert_str_eq(r.row[r.chosen].strategy.geometry, "none");
    ck_assert_uint_eq(r.row[r.chosen].strategy.threads, 2);
    moe_tune_release(&r);
    o.budget_bytes = 600000;
    ck_assert_int_eq(moe_tune(&o, &r, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "has no GPU"));
    moe_trace_release(&w.trace);
}
END_TEST

START_TEST(whatif_has_what_there_is)
{
    moe_expert experts[8 * 4];
    struct world w = many_tokens(experts, 8);
    const struct moe_strategy on_demand = load_strategy("on-demand"), cpu = w.strategy;
    struct moe_whatif_spec spec = {.trace = &w.trace,
                                   .model = &w.model,
                                   .platform = &w.platform,
                                   .strategy = {&w.strategy, &cpu, &on_demand},
                                   .jobs = 1};
    struct moe_whatif v;
    ck_assert_int_eq(moe_whatif_init(&v, &spec, &err), MOE_OK);
    ck_assert_str_eq(v.axis[MOE_WHATIF_PCIE].title, "");
    ck_assert_str_eq(v.axis[MOE_WHATIF_VRAM].title, "");
    if (moe_whatif_run(&v, &spec, &err))
        ck_abort_msg("%s", err.text);
    for (size_t i = 0; i < v.n; i++) {
        ck_assert_int_ne(v.value[i].axis, MOE_WHATIF_PCIE);
        ck_assert_int_ne(v.value[i].axis, MOE_WHATIF_VRAM);
        ck_assert_int_eq(v.row[i][MOE_WHATIF_STRATEGY].failed.status, MOE_OK);
        ck_assert_int_eq(v.row[i][MOE_WHATIF_ON_DEMAND].failed.status, MOE_ERR_USAGE);
    }
    moe_whatif_release(&v);
    set_key(&w.strategy, "geometry", "2x1");
    ck_assert_int_eq(moe_whatif_init(&v, &spec, &err), MOE_OK);
    ck_assert_int_eq(moe_whatif_run(&v, &spec, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "needs a GPU"));
    moe_whatif_release(&v);
    moe_trace_release(&w.trace);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("no gpu");
    TCase *tc = tcase_create("no gpu");
    tcase_add_test(tc, files_say_so);
    tcase_add_test(tc, constants_of_the_gpu_cannot_be_set);
    tcase_add_test(tc, costs_by_hand);
    tcase_add_test(tc, dense_part_as_measured);
    tcase_add_test(tc, dense_lists_in_files);
    tcase_add_test(tc, cpu_only_by_hand);
    tcase_add_test(tc, slow_dram_by_hand);
    tcase_add_test(tc, no_run_is_long_enough_for_a_gpu);
    tcase_add_test(tc, the_timeline_has_one_lane);
    tcase_add_test(tc, random_worlds_run_or_say_why);
    tcase_add_test(tc, tune_finds_cpu_only);
    tcase_add_test(tc, whatif_has_what_there_is);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
