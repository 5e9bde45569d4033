/* What the tests on a real GPU share: opening it, or skipping where there is none. */
#ifndef MOELAB_TESTS_CUDA_SUITE_H
#define MOELAB_TESTS_CUDA_SUITE_H

#include "exec/device.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>

static inline struct moe_device *open_cuda(const char *kernels, bool deterministic)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    const struct moe_device_options options = {
        .spec = "cuda", .kernels = kernels, .deterministic = deterministic};
    const enum moe_status s = moe_device_open(&device, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return device;
}

/* Adds a test case without a time limit; CK_RUN_CASE=name runs it alone. */
static inline TCase *group(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 0);
    suite_add_tcase(suite, tests);
    return tests;
}

/* Runs and frees the suite; returns the exit code of main: 77 if there is no GPU. */
static inline int run_on_cuda(Suite *suite)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    if (moe_device_open(&device, &(struct moe_device_options){.spec = "cuda"}, &err)) {
        printf("skipped: %s\n", err.text);
        srunner_free(srunner_create(suite));
        return err.status == MOE_ERR_UNSUPPORTED ? 77 : 1;
    }
    printf("%s\n", device->name);
    moe_device_close(device);
    return run_suite(suite);
}

#endif
