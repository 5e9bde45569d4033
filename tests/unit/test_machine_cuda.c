/* The real machine on a real CUDA device, like test_machine.c on `host` and test_cuda_machine.c on
 * an emulated one: the bits of the CPU in deterministic mode, near them otherwise, and the same
 * whatever is delayed. As a GPU cannot delay operations by itself, shaken_device.h inserts copies
 * of random length into every stream and lets threads spin. Skipped if there is no device. */
#include "cuda_suite.h"
#include "tests/unit/hybrid_case.h"
#include "tests/unit/shaken_device.h"

/* One kernel path rounds activations to 16 bits of mantissa, as the golden logits allow. */
static const double fast_limit = 3e-4;

/* Every strategy and geometry one after the other. */
static void run_cases(const struct subject *x, bool deterministic)
{
    struct outcome got = new_outcome(x->config);
    for (size_t k = 0; k < N_HYBRID_CASES; k++) {
        const struct hybrid_case *what = &hybrid_cases[k];
        const struct moe_strategy strategy = load(what->strategy, what->geometry);
        struct moe_device *device = open_cuda(x->kernels, deterministic);
        struct moe_err err = {0};
        enum moe_status s = run_hybrid(x, device, &strategy, &got, &err);
        ck_assert_msg(s == MOE_OK, "%s: %s", what->strategy, err.text);
        if (deterministic)
            expect_same(x, &got, what->strategy);
        else
            expect_near(x, &got, fast_limit, what->strategy);
        moe_device_close(device);
    }
    free_outcome(&got);
}

START_TEST(deterministic_runs_have_the_bits_of_the_cpu)
{
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        if (!set->usable() || set->lanes == 0)
            continue;
        struct subject x = open_subject(models[_i], set->name, 7);
        run_cases(&x, true);
        close_subject(&x);
    }
}
END_TEST

START_TEST(fast_runs_are_near_the_cpu)
{
    struct subject x = open_subject(models[_i], "portable", 7);
    run_cases(&x, false);
    close_subject(&x);
}
END_TEST

START_TEST(random_delays_change_nothing)
{
    enum { SCHEDULES = 1200, DELAY_BYTES = 8 << 20, LINGER_NS = 50000 };
    struct subject x = open_subject(models[0], "portable", 5);
    uint32_t n = 0;
    for (size_t k = 0; k < N_BUSY_CASES; k++) {
        struct moe_device *device =
            shaken_open(open_cuda("portable", true), DELAY_BYTES, LINGER_NS, k);
        n += expect_same_again(&x, device, k, SCHEDULES / N_BUSY_CASES);
        moe_device_close(device);
    }
    printf("%u steps\n", (unsigned)n);
    close_subject(&x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine_cuda");
    tcase_add_loop_test(group(suite, "bits"), deterministic_runs_have_the_bits_of_the_cpu, 0,
                        N_MODELS);
    tcase_add_loop_test(group(suite, "fast"), fast_runs_are_near_the_cpu, 0, N_MODELS);
    tcase_add_test(group(suite, "delays"), random_delays_change_nothing);
    return run_on_cuda(suite);
}
