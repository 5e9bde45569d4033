/* Devices by name: what opens, and the message for every other text. */
#include "exec/device_host.h"
#include "exec/device_list.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static enum moe_status open_as(const char *spec, struct moe_err *err)
{
    struct moe_device *device = NULL;
    const struct moe_device_options options = {.spec = spec};
    *err = (struct moe_err){0};
    enum moe_status s = moe_device_open(&device, &options, err);
    ck_assert_int_eq(s == MOE_OK, device != NULL);
    moe_device_close(device);
    return s;
}

static void refused(const char *spec, const char *text)
{
    struct moe_err err;
    ck_assert_msg(open_as(spec, &err) == MOE_ERR_USAGE, "%s", spec);
    ck_assert_str_eq(err.text, text);
}

START_TEST(host_opens_with_its_keys)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    struct moe_device_info host;
    const struct moe_device_options options = {
        .spec = "host:memory_bytes=5MiB,copy-us=3", .kernels = "portable", .deterministic = true};
    ck_assert_msg(!moe_device_open(&device, &options, &err), "%s", err.text);
    moe_device_host_info(&host);
    ck_assert_str_eq(device->ops->name, "host");
    ck_assert_str_eq(device->name, host.name);
    ck_assert_uint_eq(device->memory_bytes, 5 << 20);
    ck_assert_uint_eq(device->ops->free_bytes(device), 5 << 20);
    ck_assert_uint_eq(device->cores, host.cores);
    ck_assert_uint_eq(device->sm, 0);
    moe_device_close(device);
    moe_device_close(NULL);
}
END_TEST

START_TEST(defaults_are_those_of_the_header)
{
    struct moe_host_options o;
    ck_assert_int_eq(moe_host_options_parse("", &o, NULL), MOE_OK);
    ck_assert_uint_eq(o.memory_bytes, 1u << 30);
    ck_assert(o.link_gb_per_s == 0 && o.pageable_gb_per_s == 0 && o.compute_gb_per_s == 0);
    ck_assert(o.compute_gflops == 0 && o.copy_us == 0 && o.launch_us == 0 && o.delay_us == 0);
    ck_assert_uint_eq(o.seed, 1);
    ck_assert_uint_eq(o.fail_copy, 0);
}
END_TEST

START_TEST(other_texts_are_refused)
{
    refused("", "empty device name");
    refused("hots", "unknown device 'hots' (did you mean 'host'?); known: host cuda auto");
    refused("host:copyus=3", "device 'host': unknown parameter 'copyus' (did you mean 'copy_us'?)");
    refused("host:copy_us", "device 'host': 'copy_us' is not of the form key=value");
    refused("host:memory_bytes=0", "device 'host': memory_bytes 0, at least 1 is needed");
    refused("auto:seed=1", "device 'auto' has no parameters, but 'seed=1' was given");
    struct moe_err err;
    ck_assert_int_eq(open_as("host:delay_us=-1", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(open_as("host:link_gb_per_s=nan", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(open_as("cuda:x", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(open_as("cuda:99999999999", &err), MOE_ERR_USAGE);
    ck_assert_int_eq(open_as("host:memory_bytes=1000TiB", &err), MOE_ERR_MEMORY);
    ck_assert_msg(strstr(err.text, "memory_bytes"), "%s", err.text);
}
END_TEST

START_TEST(kernels_are_checked)
{
    struct moe_device *device = NULL;
    const struct moe_device_options options = {.spec = "host", .kernels = "abacus"};
    ck_assert_int_eq(moe_device_open(&device, &options, NULL), MOE_ERR_USAGE);
    ck_assert_ptr_null(device);
}
END_TEST

START_TEST(cuda_opens_or_says_why_not)
{
    struct moe_devices devices;
    struct moe_err err;
    char want[320];
    ck_assert_int_eq(moe_device_list(&devices, NULL), MOE_OK);
    ck_assert_int_eq(open_as("auto", &err), MOE_OK);
    if (devices.n > 1)
        return; /* the tests of the CUDA device open it */
    snprintf(want, sizeof want,
             "device 'cuda': %s; choose 'host', which computes the same on the CPU",
             devices.cuda_absent);
    ck_assert_int_eq(open_as("cuda", &err), MOE_ERR_UNSUPPORTED);
    ck_assert_str_eq(err.text, want);
    ck_assert_int_eq(open_as("cuda:1", &err), MOE_ERR_UNSUPPORTED);
    ck_assert_str_eq(err.text, want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device_open");
    TCase *tc = tcase_create("device_open");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, host_opens_with_its_keys);
    tcase_add_test(tc, defaults_are_those_of_the_header);
    tcase_add_test(tc, other_texts_are_refused);
    tcase_add_test(tc, kernels_are_checked);
    tcase_add_test(tc, cuda_opens_or_says_why_not);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
