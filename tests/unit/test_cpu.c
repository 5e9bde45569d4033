/* Which processors are used and in which order, on machines made of files; pinning; reading
 * memory. */
#include "exec/cpu.h"

#include "tests/unit/file_tree.h"
#include "tests/unit/run_suite.h"

static void siblings(unsigned cpu, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "cpu/cpu%u/topology/thread_siblings_list", cpu);
    put(name, text);
}

/* Two nodes of two cores with two siblings each, numbered as Linux does: 0-3 cores, 4-7 siblings.
 */
static void two_nodes(void)
{
    static const char *const pair[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n"};
    temporary_folder(root, sizeof root);
    for (unsigned i = 0; i < 8; i++)
        siblings(i, pair[i % 4]);
    put("node/node0/cpulist", "0-1,4-5\n");
    put("node/node1/cpulist", "2-3,6-7\n");
}

START_TEST(cores_first_and_nodes_in_turn)
{
    static const uint16_t all[] = {0, 1, 2, 3, 4, 5, 6, 7}, want[] = {0, 2, 1, 3, 4, 6, 5, 7};
    static const uint16_t some[] = {1, 4, 5, 6}, want_some[] = {1, 6, 4, 5};
    uint16_t order[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    two_nodes();
    ck_assert_uint_eq(moe_cpu_order_of(root, all, 8, order, &cores, &nodes), 8);
    ck_assert_uint_eq(cores, 4);
    ck_assert_uint_eq(nodes, 2);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(order[i], want[i]);
    /* A mask that leaves out first siblings: core 0 is present by its second one alone. */
    ck_assert_uint_eq(moe_cpu_order_of(root, some, 4, order, &cores, &nodes), 4);
    ck_assert_uint_eq(cores, 3);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(order[i], want_some[i]);
    remove_folder(root);
}
END_TEST

START_TEST(nothing_known_is_normal)
{
    static const uint16_t cpus[] = {3, 5, 900};
    uint16_t order[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    ck_assert_uint_eq(moe_cpu_order_of("/nowhere", cpus, 3, order, &cores, &nodes), 3);
    ck_assert_uint_eq(cores, 3);
    ck_assert_uint_eq(nodes, 1);
    ck_assert(order[0] == 3 && order[1] == 5 && order[2] == 900);
}
END_TEST

START_TEST(odd_files_are_survived)
{
    static const uint16_t cpus[] = {3, 5};
    uint16_t order[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    temporary_folder(root, sizeof root);
    siblings(3, "");
    siblings(5, "99999999999999999999\n");
    put("node/node0/cpulist", "0-99999999999,5,\n");
    put("node/node1/cpulist", "4000-9000\n");
    ck_assert_uint_eq(moe_cpu_order_of(root, cpus, 2, order, &cores, &nodes), 2);
    ck_assert_uint_eq(cores, 2);
    ck_assert_uint_eq(nodes, 1);
    remove_folder(root);
}
END_TEST

/* A container sees all processors of its host, but may be given the time of some only. */
START_TEST(a_quota_of_time_counts)
{
    static const struct {
        const char *text;
        uint32_t want;
    } v2[] = {{"max 100000\n", UINT32_MAX}, {"1600000 100000\n", 16},  {"250000 100000\n", 2},
              {"50000 100000\n", 1},        {"100000\n", UINT32_MAX},  {"\n", UINT32_MAX},
              {"-5 100000\n", UINT32_MAX},  {"nan nan\n", UINT32_MAX}, {"1e300 1\n", UINT32_MAX}};
    ck_assert_uint_eq(moe_cpu_quota("/nowhere", "/nowhere"), UINT32_MAX);
    temporary_folder(root, sizeof root);
    put("cpu/cpu.cfs_quota_us", "-1\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(moe_cpu_quota("/nowhere", root), UINT32_MAX);
    put("cpu/cpu.cfs_quota_us", "400000\n");
    ck_assert_uint_eq(moe_cpu_quota("/nowhere", root), 4);
    for (size_t i = 0; i < sizeof v2 / sizeof *v2; i++) {
        put("cpu.max", v2[i].text);
        ck_assert_msg(moe_cpu_quota("/nowhere", root) == v2[i].want, "%s", v2[i].text);
    }
    remove_folder(root);
}
END_TEST

/* Outside of a container what binds is the process's own group, or one above it (systemd's
 * CPUQuota). */
START_TEST(a_group_s_quota_counts)
{
    char cgroups[sizeof root + 8];
    temporary_folder(root, sizeof root);
    snprintf(cgroups, sizeof cgroups, "%s/fs", root);
    put("self/cgroup", "4:cpu:/elsewhere\n0::/user.slice/mine\n");
    put("fs/elsewhere/cpu.max", "100000 100000\n");
    put("fs/user.slice/other/cpu.max", "100000 100000\n");
    put("fs/user.slice/mine/cpu.max", "max 100000\n");
    ck_assert_uint_eq(moe_cpu_quota(root, cgroups), UINT32_MAX);
    put("fs/user.slice/cpu.max", "700000 100000\n");
    ck_assert_uint_eq(moe_cpu_quota(root, cgroups), 7);
    put("fs/user.slice/mine/cpu.max", "300000 100000\n");
    ck_assert_uint_eq(moe_cpu_quota(root, cgroups), 3);
    put("fs/cpu.max", "200000 100000\n");
    ck_assert_uint_eq(moe_cpu_quota(root, cgroups), 2);
    put("self/cgroup", "0::/user.slice/../user.slice/other\n"); /* not followed */
    ck_assert_uint_eq(moe_cpu_quota(root, cgroups), 2);
    remove_folder(root);
}
END_TEST

START_TEST(this_machine)
{
    uint16_t order[MOE_CPUS_MAX], after[MOE_CPUS_MAX];
    uint32_t cores, nodes;
    const uint32_t n = moe_cpu_order(order, &cores, &nodes);
    ck_assert(n >= 1 && cores >= 1 && cores <= n && nodes >= 1);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            ck_assert_uint_ne(order[i], order[j]);
    ck_assert(moe_cpu_visit(order[n - 1]));
    ck_assert_uint_eq(moe_cpu_order(after, &cores, &nodes), n);
    ck_assert(!moe_cpu_pin(MOE_CPUS_MAX));
    moe_cpu_interleave_memory(); /* may be refused in a container; must not harm */
}
END_TEST

START_TEST(reads_every_byte)
{
    enum { N = 100003 };
    uint8_t *p = calloc(1, N);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(moe_cpu_read(p, N), 0);
    for (size_t i = 0; i < N; i += 997) {
        p[i] = 1;
        ck_assert_uint_ne(moe_cpu_read(p, N), 0);
        ck_assert_uint_eq(moe_cpu_read(p + i + 1, N - i - 1), 0);
        p[i] = 0;
    }
    free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu");
    TCase *tc = tcase_create("cpu");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, cores_first_and_nodes_in_turn);
    tcase_add_test(tc, nothing_known_is_normal);
    tcase_add_test(tc, odd_files_are_survived);
    tcase_add_test(tc, a_quota_of_time_counts);
    tcase_add_test(tc, a_group_s_quota_counts);
    tcase_add_test(tc, this_machine);
    tcase_add_test(tc, reads_every_byte);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
