/* Limits of memory: texts as Linux writes them and malformed ones, and whole trees of such files.
 */
#include "exec/memory_limits.h"

#include "tests/unit/file_tree.h"
#include "tests/unit/run_suite.h"

#define NONE UINT64_MAX
#define KIB  UINT64_C(1024)

START_TEST(meminfo)
{
    static const char whole[] = "MemTotal:       24684096 kB\nMemFree:        23394232 kB\n"
                                "MemAvailable:   24113584 kB\nBuffers:           23280 kB\n";
    static const char *const refused[] = {
        "",
        "MemTotal: 5 kB\n",
        "MemAvailable:\n",
        "MemAvailable: kB\n",
        "MemAvailable: 5 MB\n",
        "MemAvailable: 5 kBytes\n",
        "MemAvailable: -5 kB\n",
        "MemAvailable: 99999999999999999999 kB\n",
        "MemAvailable: 18446744073709551615 kB\n", /* bytes do not fit */
        "XMemAvailable: 5 kB\n",
    };
    uint64_t x = 0;
    ck_assert(moe_meminfo_available(whole, &x) && x == 24113584 * KIB);
    ck_assert(moe_meminfo_available("MemAvailable:\t0 kB", &x) && x == 0);
    x = 7;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ck_assert_msg(!moe_meminfo_available(refused[i], &x), "%s", refused[i]);
    ck_assert_uint_eq(x, 7);
}
END_TEST

START_TEST(cgroup_numbers)
{
    static const char *const refused[] = {
        "", "\n", "min", "maximum", "max max", "-1", "5 ", "5\n5", "18446744073709551616\n"};
    uint64_t x = 0;
    ck_assert(moe_cgroup_number("max\n", &x) && x == NONE);
    ck_assert(moe_cgroup_number("max", &x) && x == NONE);
    ck_assert(moe_cgroup_number("0\n", &x) && x == 0);
    ck_assert(moe_cgroup_number("9223372036854771712\n", &x) && x == 9223372036854771712U);
    ck_assert(moe_cgroup_number("18446744073709551615", &x) && x == NONE);
    x = 7;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ck_assert_msg(!moe_cgroup_number(refused[i], &x), "%s", refused[i]);
    ck_assert_uint_eq(x, 7);
}
END_TEST

START_TEST(cgroup_stats)
{
    static const char text[] = "anon 10\nfile 20\ninactive_anon 1\ntotal_inactive_file 77\n"
                               "inactive_file 30\nodd x\nlast 5";
    uint64_t x = 0;
    ck_assert(moe_cgroup_stat(text, "inactive_file", &x) && x == 30);
    ck_assert(moe_cgroup_stat(text, "total_inactive_file", &x) && x == 77);
    ck_assert(moe_cgroup_stat(text, "last", &x) && x == 5);
    ck_assert(!moe_cgroup_stat(text, "odd", &x));
    ck_assert(!moe_cgroup_stat(text, "inactive", &x));
    ck_assert(!moe_cgroup_stat("", "last", &x));
    ck_assert_uint_eq(x, 5);
}
END_TEST

START_TEST(cgroup_paths)
{
    static const char hybrid[] = "9:name=systemd:/init\n5:cpu,memory,pids:/user/a:b\n"
                                 "4:memoryx:/no\n0::/slice/unit.scope\n";
    char path[64] = "as it was";
    ck_assert(moe_cgroup_path(hybrid, true, path, sizeof path));
    ck_assert_str_eq(path, "/user/a:b");
    ck_assert(moe_cgroup_path(hybrid, false, path, sizeof path));
    ck_assert_str_eq(path, "/slice/unit.scope");
    ck_assert(moe_cgroup_path("4:memory:/", true, path, sizeof path));
    ck_assert_str_eq(path, "/");
    static const char *const refused[] = {
        "", "\n", "0::\n", "0:\n", "0::relative\n", "10::/x\n", "0:memory:/x\n", "0::/../above\n"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ck_assert_msg(!moe_cgroup_path(refused[i], false, path, sizeof path), "%s", refused[i]);
    ck_assert(!moe_cgroup_path("4:memo,mory:/x\n4::/y", true, path, sizeof path));
    ck_assert(!moe_cgroup_path("0::/four", false, path, 5));
    ck_assert_str_eq(path, "/");
    ck_assert(moe_cgroup_path("0::/four", false, path, 6));
}
END_TEST

static struct moe_memory_limits read_root(void)
{
    char proc[256], groups[256];
    struct moe_memory_limits limits;
    snprintf(proc, sizeof proc, "%s/proc", root);
    snprintf(groups, sizeof groups, "%s/groups", root);
    moe_memory_limits_read_of(proc, groups, &limits);
    return limits;
}

START_TEST(version_2)
{
    static const char *const files[] = {
        "proc/meminfo",          "proc/self/cgroup",
        "groups/a/b/memory.max", "groups/a/b/memory.current",
        "groups/a/memory.max",   "groups/a/memory.current",
        "groups/a/memory.stat",
    };
    temporary_folder(root, sizeof root);
    put(files[0], "MemAvailable: 1000 kB\n");
    put(files[1], "0::/a/b\n");
    put(files[2], "max\n");
    put(files[3], "1\n");
    struct moe_memory_limits x = read_root();
    ck_assert(x.available == 1000 * KIB && x.cgroup == NONE);
    put(files[4], "500\n"); /* the group above limits as well */
    put(files[5], "400\n");
    ck_assert_uint_eq(read_root().cgroup, 100);
    put(files[6], "inactive_file 50\ntotal_inactive_file 300\n");
    ck_assert_uint_eq(read_root().cgroup, 150);
    put(files[6], "inactive_file 5000\n"); /* more than is used: nothing is */
    ck_assert_uint_eq(read_root().cgroup, 500);
    put(files[6], "");
    put(files[2], "90\n");
    ck_assert_uint_eq(read_root().cgroup, 89);
    put(files[3], "95\n");
    ck_assert_uint_eq(read_root().cgroup, 0);
    remove_folder(root);
}
END_TEST

/* Version 1 with its own path: in a container, where the group's folder is the one mounted, the
 * path leads nowhere. */
START_TEST(version_1)
{
    static const char *const files[] = {"proc/self/cgroup", "groups/memory/memory.limit_in_bytes",
                                        "groups/memory/memory.usage_in_bytes",
                                        "groups/memory/memory.stat"};
    temporary_folder(root, sizeof root);
    put(files[0], "3:cpu:/x\n4:memory:/docker/0123\n0::/\n");
    put(files[1], "9223372036854771712\n");
    put(files[2], "400\n");
    struct moe_memory_limits x = read_root();
    ck_assert(x.available == NONE && x.cgroup == NONE); /* so it says that there is no limit */
    put(files[1], "9223372036854775807\n");             /* and so before Linux 3.19 */
    ck_assert_uint_eq(read_root().cgroup, NONE);
    put(files[1], "9223372036854710272\n"); /* and so with pages of 64 KiB */
    ck_assert_uint_eq(read_root().cgroup, NONE);
    put(files[1], "1099511627776\n");
    ck_assert_uint_eq(read_root().cgroup, 1099511627776 - 400);
    put(files[1], "1000\n");
    put(files[3], "inactive_file 1\ntotal_inactive_file 100\n");
    ck_assert_uint_eq(read_root().cgroup, 700);
    remove_folder(root);
}
END_TEST

START_TEST(nothing_told)
{
    struct moe_memory_limits x;
    moe_memory_limits_read_of("/nowhere", "/nowhere", &x);
    ck_assert(x.available == NONE && x.cgroup == NONE);
    const char *which;
    ck_assert_uint_eq(moe_memory_pinnable(&x, 0, &which), NONE);
    ck_assert_uint_eq(moe_memory_pinnable(&x, 5, &which), 5);
}
END_TEST

START_TEST(what_may_be_pinned)
{
    const struct moe_memory_limits x = {1000, 2000, 5}, y = {1000, 500, NONE};
    const char *which = NULL;
    ck_assert_uint_eq(moe_memory_pinnable(&x, 0, &which), 900);
    ck_assert_str_eq(which, "available memory");
    ck_assert_uint_eq(moe_memory_pinnable(&y, 0, &which), 450);
    ck_assert_str_eq(which, "cgroup");
    ck_assert_uint_eq(moe_memory_pinnable(&y, 499, &which), 499);
    ck_assert_str_eq(which, "the limit set");
    ck_assert_uint_eq(moe_memory_pinnable(&y, NONE, &which), 500);
    ck_assert_str_eq(which, "cgroup");
    char text[160];
    ck_assert_str_eq(moe_memory_limits_format(&y, text, sizeof text),
                     "available memory: 1000 B, cgroup: 500 B, ulimit -l: no limit");
}
END_TEST

START_TEST(this_machine)
{
    struct moe_memory_limits x;
    moe_memory_limits_read(&x);
    ck_assert(x.available > 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory limits");
    TCase *tc = tcase_create("memory limits");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, meminfo);
    tcase_add_test(tc, cgroup_numbers);
    tcase_add_test(tc, cgroup_stats);
    tcase_add_test(tc, cgroup_paths);
    tcase_add_test(tc, version_2);
    tcase_add_test(tc, version_1);
    tcase_add_test(tc, nothing_told);
    tcase_add_test(tc, what_may_be_pinned);
    tcase_add_test(tc, this_machine);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
