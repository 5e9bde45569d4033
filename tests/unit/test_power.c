/* Energy counters: RAPL as files in a folder, NVML as a library made for this test (fake_nvml.c).
 */
#include "exec/power.h"

#include "tests/unit/file_tree.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct moe_power power;

static void zone(const char *zone_name, const char *name, const char *energy, const char *range)
{
    char path[512];
    snprintf(path, sizeof path, "%s/name", zone_name);
    put(path, name);
    snprintf(path, sizeof path, "%s/energy_uj", zone_name);
    put(path, energy);
    snprintf(path, sizeof path, "%s/max_energy_range_uj", zone_name);
    put(path, range);
}

static void setup(void)
{
    temporary_folder(root, sizeof root);
}

static void teardown(void)
{
    remove_folder(root);
}

static void open_with(const char *nvml, const char *pci)
{
    const struct moe_power_source source = {.powercap = root, .nvml = nvml, .gpu_pci = pci};
    moe_power_open(&power, &source);
}

static void has(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in '%s'", part, text);
}

START_TEST(delta_over_the_range)
{
    ck_assert_uint_eq(moe_power_delta_uj(5, 9, 100), 4);
    ck_assert_uint_eq(moe_power_delta_uj(7, 7, 100), 0);
    ck_assert_uint_eq(moe_power_delta_uj(90, 15, 100), 25);
    ck_assert_uint_eq(moe_power_delta_uj(100, 0, 100), 0);
    ck_assert_uint_eq(moe_power_delta_uj(262143328849, 1, 262143328850), 2);
    ck_assert_uint_eq(moe_power_delta_uj(500, 3, 100), 3); /* a range that is a lie */
    ck_assert_uint_eq(moe_power_delta_uj(0, UINT64_MAX, UINT64_MAX), UINT64_MAX);
}
END_TEST

/* Two packages; the board, a part of a package and a package shown twice do not count. */
START_TEST(packages_add_up)
{
    zone("intel-rapl:0", "package-0\n", "1000000\n", "5000000\n");
    zone("intel-rapl:1", "package-1-die-0\n", "4000000\n", "5000000\n");
    zone("intel-rapl:2", "psys\n", "7\n", "5000000\n");
    zone("intel-rapl:0:0", "core\n", "7\n", "5000000\n");
    zone("intel-rapl-mmio:0", "package-0\n", "7\n", "5000000\n");
    open_with("", NULL);
    ck_assert_uint_eq(power.n_packages, 2);
    ck_assert_str_eq(power.cpu, "RAPL, 2 packages");
    ck_assert_str_eq(power.gpu, "no GPU");
    struct moe_joules j = moe_power_read(&power);
    ck_assert_double_eq(j.cpu, 0);
    ck_assert(isnan(j.gpu));
    put("intel-rapl:0/energy_uj", "1500000\n");
    put("intel-rapl:1/energy_uj", "250000\n"); /* past its range */
    put("intel-rapl:2/energy_uj", "4000000\n");
    ck_assert_double_eq(moe_power_read(&power).cpu, 0.5 + 1.25);
    put("intel-rapl:0/energy_uj", "1499999\n"); /* all but one of a turn */
    ck_assert_double_eq_tol(moe_power_read(&power).cpu, 1.75 + 4.999999, 1e-12);
    moe_power_close(&power);
}
END_TEST

START_TEST(absent_with_a_reason)
{
    open_with("", "");
    has(power.cpu, "no RAPL package in '");
    has(power.cpu, root);
    ck_assert(isnan(moe_power_read(&power).cpu));
    moe_power_close(&power);
    zone("intel-rapl:0", "package-0", "12 joules", "100");
    open_with("", NULL);
    has(power.cpu, "energy_uj': not a number");
    moe_power_close(&power);
    put("intel-rapl:0/energy_uj", "");
    open_with("", NULL);
    has(power.cpu, "cannot read");
    ck_assert_uint_eq(power.n_packages, 0);
    moe_power_close(&power);
}
END_TEST

/* A counter that goes away takes all packages with it: a part is no sum. */
START_TEST(lost_on_the_way)
{
    char path[512];
    zone("intel-rapl:0", "package-0\n", "10\n", "5000000\n");
    zone("intel-rapl:1", "package-1\n", "10\n", "5000000\n");
    open_with("", NULL);
    ck_assert_double_eq(moe_power_read(&power).cpu, 0);
    snprintf(path, sizeof path, "%s/intel-rapl:1/energy_uj", root);
    ck_assert_int_eq(remove(path), 0);
    ck_assert(isnan(moe_power_read(&power).cpu));
    has(power.cpu, "intel-rapl:1/energy_uj': No such file");
    moe_power_close(&power);
}
END_TEST

START_TEST(permission_denied)
{
    char path[512];
    zone("intel-rapl:0", "package-0\n", "10\n", "5000000\n");
    snprintf(path, sizeof path, "%s/intel-rapl:0/energy_uj", root);
    ck_assert_int_eq(chmod(path, 0), 0);
    FILE *f = fopen(path, "r");
    if (f) { /* the superuser reads everything */
        fclose(f);
        return;
    }
    open_with("", NULL);
    has(power.cpu, "permission denied");
    has(power.cpu, "chmod a+r");
    moe_power_close(&power);
}
END_TEST

START_TEST(gpu_that_counts)
{
    open_with(FAKE_NVML, "0000:01:00.0");
    has(power.gpu, "energy counter");
    ck_assert_double_eq(moe_power_read(&power).gpu, 1.5);
    ck_assert_double_eq(moe_power_read(&power).gpu, 3);
    moe_power_close(&power);
}
END_TEST

START_TEST(gpu_that_is_sampled)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    open_with(FAKE_NVML, "0000:02:00.0");
    has(power.gpu, "power every 20 ms");
    double joules = 0;
    while (!(joules > 0)) {
        ck_assert(!isnan(joules));
        joules = moe_power_read(&power).gpu;
        nanosleep(&pause, NULL);
    }
    ck_assert_double_ge(moe_power_read(&power).gpu, joules);
    moe_power_close(&power);
}
END_TEST

START_TEST(gpu_absent)
{
    open_with(FAKE_NVML, "0000:03:00.0");
    has(power.gpu, "GPU 0000:03:00.0: Not Supported");
    ck_assert(isnan(moe_power_read(&power).gpu));
    moe_power_close(&power);
    open_with(FAKE_NVML, "0000:09:00.0");
    has(power.gpu, "Not Found");
    moe_power_close(&power);
    open_with("libmoelab-none.so.1", "0000:01:00.0");
    has(power.gpu, "'libmoelab-none.so.1' cannot be loaded");
    moe_power_close(&power);
    open_with("libc.so.6", "0000:01:00.0");
    has(power.gpu, "driver too old");
    moe_power_close(&power);
    const struct moe_power_source usual = moe_power_source_of("0000:01:00.0");
    ck_assert_str_eq(usual.powercap, "/sys/class/powercap");
    ck_assert_str_eq(usual.nvml, "libnvidia-ml.so.1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("power");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, delta_over_the_range);
    tcase_add_test(tc, packages_add_up);
    tcase_add_test(tc, absent_with_a_reason);
    tcase_add_test(tc, lost_on_the_way);
    tcase_add_test(tc, permission_denied);
    tcase_add_test(tc, gpu_that_counts);
    tcase_add_test(tc, gpu_that_is_sampled);
    tcase_add_test(tc, gpu_absent);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
