/* A real CUDA device: the contract of every device, kernels against the CPU, equal bits for every
 * kernel set in deterministic mode, an error that is kept. Skipped if there is no device. */
#include "cuda_suite.h"
#include "tests/unit/device_kernels.h"

#include <stdio.h>

/* Clocks of host and device are matched by what the host sees of an event. */
enum { CLOCK_SLACK_NS = 100000 };

/* One kernel path rounds activations to 16 bits of mantissa, as the golden logits allow. */
static const double fast_tolerance = 3e-4;

START_TEST(contract_holds)
{
    const struct device_case c = {
        .device = open_cuda(NULL, false), .multiple = 1, .clock_slack_ns = CLOCK_SLACK_NS};
    contract_all(&c);
    moe_device_close(c.device);
}
END_TEST

START_TEST(fast_kernels_are_near_the_cpu)
{
    enum { SEEDS = 24, PAGE = 2 << 20 };
    const struct device_case c = {.device = open_cuda(NULL, false),
                                  .kernels = "portable",
                                  .tolerance = fast_tolerance,
                                  .multiple = 1};
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        contract_kernels(&c, seed, seed / 2 % 2);
    /* Kernels take memory when they are first called, and keep it; of what is freed the driver may
     * keep a page, another one each time. */
    const uint64_t before = c.device->ops->free_bytes(c.device);
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        contract_kernels(&c, seed, seed / 2 % 2);
    ck_assert_uint_ge(c.device->ops->free_bytes(c.device) + PAGE, before);
    moe_device_close(c.device);
}
END_TEST

START_TEST(deterministic_kernels_have_the_bits_of_the_cpu)
{
    enum { SEEDS = 12 };
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        if (!set->usable() || set->lanes == 0)
            continue;
        const struct device_case c = {
            .device = open_cuda(set->name, true), .kernels = set->name, .multiple = 1};
        for (uint64_t seed = 0; seed < SEEDS; seed++)
            contract_kernels(&c, seed, seed / 2 % 2);
        moe_device_close(c.device);
    }
}
END_TEST

/* A copy that leaves its memory is refused when it is queued; all later waits tell so. */
START_TEST(errors_are_kept)
{
    struct moe_device *device = open_cuda(NULL, false);
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *event = device_event(device);
    char *to = device_alloc(device, MOE_MEMORY_DEVICE, 8);
    char *from = device_alloc(device, MOE_MEMORY_PINNED, 8);
    struct moe_err err = {0}, again = {0};
    ops->copy(device, MOE_STREAM_EXPERTS, to, from, (uint64_t)1 << 40, MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_EXPERTS, event);
    ck_assert_int_eq(ops->sync(device, event, &err), MOE_ERR_IO);
    ck_assert_msg(strstr(err.text, "copy of 1.0 TiB on stream 'expert weights'"), "%s", err.text);
    ck_assert_int_eq(ops->sync(device, event, &again), MOE_ERR_IO);
    ck_assert_str_eq(again.text, err.text);
    ops->event_free(device, event);
    ops->release(device, MOE_MEMORY_DEVICE, to);
    ops->release(device, MOE_MEMORY_PINNED, from);
    moe_device_close(device);
    moe_device_close(open_cuda(NULL, false)); /* the next one is whole */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device_cuda");
    tcase_add_test(group(suite, "contract"), contract_holds);
    tcase_add_test(group(suite, "fast"), fast_kernels_are_near_the_cpu);
    tcase_add_test(group(suite, "bits"), deterministic_kernels_have_the_bits_of_the_cpu);
    tcase_add_test(group(suite, "errors"), errors_are_kept);
    return run_on_cuda(suite);
}
