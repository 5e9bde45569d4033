/* The list of devices: the host is always there and first; if there is no CUDA, a reason is given
 * and it is no error. */
#include "exec/device_list.h"

#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(host_is_first_and_matches_the_system)
{
    struct moe_devices list;
    struct moe_err err;
    ck_assert_int_eq(moe_device_list(&list, &err), MOE_OK);
    ck_assert_uint_ge(list.n, 1);
    ck_assert_uint_le(list.n, MOE_MAX_DEVICES);
    const struct moe_device_info *host = &list.device[0];
    ck_assert_int_eq(host->kind, MOE_DEVICE_HOST);
    ck_assert_int_eq((long)host->cores, sysconf(_SC_NPROCESSORS_ONLN));
    ck_assert_uint_eq(host->memory_bytes,
                      (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    ck_assert_str_ne(host->name, "");
    ck_assert_ptr_null(strchr(host->name, '\n'));
    ck_assert_uint_eq(host->sm, 0);
}
END_TEST

START_TEST(cuda_is_listed_or_its_absence_explained)
{
    struct moe_devices list;
    struct moe_err err;
    ck_assert_int_eq(moe_device_list(&list, &err), MOE_OK);
    ck_assert_int_eq(list.n == 1, list.cuda_absent[0] != '\0');
#ifndef MOELAB_HAVE_CUDA
    ck_assert_str_eq(list.cuda_absent, "built without CUDA");
#endif
    for (size_t i = 1; i < list.n; i++) {
        ck_assert_int_eq(list.device[i].kind, MOE_DEVICE_CUDA);
        ck_assert_uint_gt(list.device[i].memory_bytes, 0);
        ck_assert_uint_ge(list.device[i].sm, 50);
        ck_assert_str_ne(list.device[i].name, "");
    }
}
END_TEST

START_TEST(description_names_every_known_part_and_no_unknown_one)
{
    struct moe_device_info gpu = {.kind = MOE_DEVICE_CUDA,
                                  .index = 1,
                                  .name = "Board",
                                  .memory_bytes = 16ull << 30,
                                  .cores = 76,
                                  .sm = 89,
                                  .link_lanes = 16,
                                  .link_gt_per_s = 16};
    char text[160];
    ck_assert_str_eq(moe_device_describe(&gpu, text, sizeof text),
                     "cuda:1 Board, 16.0 GiB, 76 multiprocessors, sm 89, PCIe 16 GT/s x16");
    gpu.link_lanes = 0;
    gpu.memory_bytes = 0;
    ck_assert_str_eq(moe_device_describe(&gpu, text, sizeof text),
                     "cuda:1 Board, 76 multiprocessors, sm 89");
    const struct moe_device_info host = {.kind = MOE_DEVICE_HOST, .name = "Chip", .cores = 2};
    ck_assert_str_eq(moe_device_describe(&host, text, sizeof text),
                     "host Chip, 2 logical processors");
}
END_TEST

START_TEST(description_is_cut_at_the_end_of_the_buffer)
{
    const struct moe_device_info host = {.kind = MOE_DEVICE_HOST, .name = "Chip", .cores = 2};
    char guarded[8] = "######";
    moe_device_describe(&host, guarded, 6);
    ck_assert_str_eq(guarded, "host ");
    ck_assert_int_eq(guarded[6], '\0');
    moe_device_describe(&host, guarded, 0);
    ck_assert_str_eq(guarded, "host ");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tc = tcase_create("device");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, host_is_first_and_matches_the_system);
    tcase_add_test(tc, cuda_is_listed_or_its_absence_explained);
    tcase_add_test(tc, description_names_every_known_part_and_no_unknown_one);
    tcase_add_test(tc, description_is_cut_at_the_end_of_the_buffer);
    return run_suite(suite);
}
