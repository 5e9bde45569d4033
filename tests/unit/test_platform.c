/* Platform files: the committed ones, the interpolation of CPU times, every kind of bad input. */
#include "policies/platform.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t MIXTRAL = 352321536, PHI = 157286400;

static struct moe_platform load(const char *name)
{
    char path[128];
    struct moe_platform p;
    struct moe_err err = {0};
    snprintf(path, sizeof path, "experiments/platforms/%s.yaml", name);
    if (moe_platform_load(path, &p, &err))
        ck_abort_msg("%s", err.text);
    ck_assert_str_eq(p.name, name);
    return p;
}

START_TEST(committed_files_load)
{
    struct moe_platform p = load("paper-4090");
    ck_assert_uint_eq(p.cpu.cores, 24);
    ck_assert_uint_eq(p.cpu.n_points, 12);
    ck_assert_uint_eq(p.gpu.memory_bytes, (uint64_t)24564 << 20);
    ck_assert_double_eq(p.link.state_down_us + p.link.state_up_us, 110);
    load("laptop-4060");
    load("desktop-5090");
}
END_TEST

/* Table III of the paper is per layer: two experts. */
START_TEST(paper_cpu_times_come_back)
{
    static const uint64_t threads[] = {1, 2, 4, 8, 16, 24};
    static const double mixtral[] = {44.12, 25.53, 18.34, 15.76, 10.96, 7.34};
    static const double phi[] = {22.73, 12.80, 8.58, 6.39, 3.92, 3.36};
    struct moe_platform p = load("paper-4090");
    for (size_t i = 0; i < 6; i++) {
        double m = moe_platform_expert_gb_per_s(&p, threads[i], MIXTRAL);
        double f = moe_platform_expert_gb_per_s(&p, threads[i], PHI);
        ck_assert_double_eq_tol(2 * (double)MIXTRAL / m * 1e-6, mixtral[i], 1e-9);
        ck_assert_double_eq_tol(2 * (double)PHI / f * 1e-6, phi[i], 1e-9);
    }
}
END_TEST

/* Points: 2 threads 10 GB/s at 1e6 and 20 at 4e6 bytes; 6 threads 30 at 1e6 (and no other size). */
static struct moe_platform small(void)
{
    struct moe_platform p = {.cpu = {.cores = 8, .n_points = 3}};
    p.cpu.point[0] = (struct moe_ffn_point){2, 1000000, 0.1};
    p.cpu.point[1] = (struct moe_ffn_point){2, 4000000, 0.2};
    p.cpu.point[2] = (struct moe_ffn_point){6, 1000000, 1. / 30};
    return p;
}

START_TEST(interpolates_threads_and_sizes)
{
    static const struct {
        uint64_t threads, bytes;
        double gb_per_s;
    } cases[] = {
        {2, 1000000, 10}, {2, 4000000, 20}, {2, 2000000, 15}, /* half way in log size */
        {2, 1000, 10},    {2, 9000000, 20},                   /* clamped in size */
        {1, 1000000, 10}, {6, 1000000, 30}, {8, 1000000, 30}, {99, 1000000, 30},
        {4, 1000000, 20}, {3, 1000000, 15}, {4, 4000000, 25},
    };
    struct moe_platform p = small();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_double_eq_tol(moe_platform_expert_gb_per_s(&p, cases[i].threads, cases[i].bytes),
                                cases[i].gb_per_s, 1e-9);
    p.cpu.cores = 4; /* more threads than cores count as cores */
    ck_assert_double_eq_tol(moe_platform_expert_gb_per_s(&p, 6, 1000000), 20, 1e-9);
}
END_TEST

START_TEST(sets_one_constant)
{
    struct moe_platform p = load("paper-4090");
    struct moe_err err = {0};
    ck_assert_int_eq(moe_platform_set(&p, "link.h2d_pinned_gb_per_s", "50", &err), MOE_OK);
    ck_assert_double_eq(p.link.h2d_pinned_gb_per_s, 50);
    ck_assert_int_eq(moe_platform_set(&p, "gpu.memory_bytes", "8GiB", &err), MOE_OK);
    ck_assert_uint_eq(p.gpu.memory_bytes, (uint64_t)8 << 30);
    ck_assert_int_eq(moe_platform_set(&p, "cpu.cores", "3", &err), MOE_OK);
    ck_assert_uint_eq(p.cpu.cores, 3);
}
END_TEST

START_TEST(refuses_unknown_and_bad_constants)
{
    static const struct {
        const char *key, *text, *says;
    } cases[] = {
        {"link.h2d_pined_gb_per_s", "50", "h2d_pinned_gb_per_s"},
        {"lnk.h2d_pinned_gb_per_s", "50", "link.h2d_pinned_gb_per_s"},
        {"link", "50", "link"},
        {"", "50", "''"},
        {"linkx.copy_setup_us", "50", "link.copy_setup_us"},
        {"link.h2d_pinned_gb_per_s", "0", "h2d_pinned_gb_per_s"},
        {"link.h2d_pinned_gb_per_s", "-1", "h2d_pinned_gb_per_s"},
        {"link.h2d_pinned_gb_per_s", "nan", "nan"},
        {"cpu.cores", "0", "cores"},
        {"cpu.expert_ffn", "3", "expert_ffn"},
    };
    struct moe_platform p = load("paper-4090"), before = p;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct moe_err err = {0};
        ck_assert_int_eq(moe_platform_set(&p, cases[i].key, cases[i].text, &err), MOE_ERR_USAGE);
        ck_assert_msg(strstr(err.text, cases[i].says) != NULL, "%s", err.text);
        ck_assert_mem_eq(&p, &before, sizeof p);
    }
}
END_TEST

/* The laptop's file with one piece of text replaced. */
static char *edited(const char *from, const char *to)
{
    static char text[1 << 16], out[1 << 16];
    FILE *f = fopen("experiments/platforms/laptop-4060.yaml", "rb");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "'%s' is not in the file", from);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

START_TEST(refuses_bad_files)
{
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"link:", "lnk:", "link"},
        {"  copy_setup_us:", "  copy_setup:", "copy_setup_us"},
        {"unit: us", "unit: ms", "unit 'ms' where 'us' is expected"},
        {"value: 12.5,", "value: 0,", "h2d_pinned_gb_per_s"},
        {"value: 12.5,", "value: fast,", "fast"},
        {"value: 12.5,", "", "value"},
        {"origin: \"guess: half of pinned\"", "origin: \"somewhere\"", "somewhere"},
        {", origin: \"guess: half of pinned\"", "", "origin"},
        {"  cores: {", "  core: {", "cores"},
        {"  expert_ffn:", "  expert_ffm:", "expert_ffn"},
        {"{threads: 2,", "{threads: 1,", "two points for 1 thread and"},
        {"{threads: 2,", "{threads: 0,", "threads"},
        {"{threads: 2,", "{thread: 2,", "threads"},
        {"{threads: 2, expert_bytes: 352321536, ms: 13.049}", "13", "point"},
        {"ms: 13.049", "ms: 0", "ms"},
        {"name: laptop-4060", "nam: laptop-4060", "name"},
        {"power:", "powr:", "power"},
        {"memory_bytes: {value: 8188MiB", "memory_bytes: {value: 8188Mi", "memory_bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct moe_err err = {0};
        struct moe_platform p, before;
        memset(&p, 0x5a, sizeof p);
        before = p;
        char *text = edited(cases[i].from, cases[i].to);
        ck_assert_int_eq(moe_platform_parse("x.yaml", text, strlen(text), &p, &err), MOE_ERR_USAGE);
        ck_assert_msg(strstr(err.text, cases[i].says) != NULL, "case %zu: %s", i, err.text);
        ck_assert_msg(strncmp(err.text, "'x.yaml':", 9) == 0, "case %zu: %s", i, err.text);
        ck_assert_mem_eq(&p, &before, sizeof p);
    }
}
END_TEST

START_TEST(refuses_other_documents)
{
    static const char *const texts[] = {"", "[]", "5", "name: x", "name: [1]\nlink: 3\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct moe_platform p;
        struct moe_err err = {0};
        ck_assert_int_eq(moe_platform_parse("x", texts[i], strlen(texts[i]), &p, &err),
                         MOE_ERR_USAGE);
    }
    struct moe_platform p;
    struct moe_err err = {0};
    ck_assert_int_eq(moe_platform_load("experiments/platforms/none.yaml", &p, &err), MOE_ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("platform");
    TCase *tests = tcase_create("platform");
    tcase_add_test(tests, committed_files_load);
    tcase_add_test(tests, paper_cpu_times_come_back);
    tcase_add_test(tests, interpolates_threads_and_sizes);
    tcase_add_test(tests, sets_one_constant);
    tcase_add_test(tests, refuses_unknown_and_bad_constants);
    tcase_add_test(tests, refuses_bad_files);
    tcase_add_test(tests, refuses_other_documents);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
