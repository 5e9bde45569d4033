/* Whole models on the CUDA device over the emulated runtime, in which queued operations run in any
 * order that streams and events allow: a wait that the machine or the device lacks shows as wrong
 * logits. Deterministic: the bits of the CPU; fast: near them. Faults midway end cleanly. */
#include "exec/cuda/open.h"
#include "exec/stage.h"
#include "exec/synthetic.h"
#include "tests/cuda/emulation.h"
#include "tests/unit/hybrid_case.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"

/* Sums in another order, in float32. */
static const double fast_limit = 1e-4;

enum { SLOW = ADDRESS_SANITIZER || THREAD_SANITIZER, EVERY = SLOW ? 4 : 1 }; /* of the cases */

static struct moe_device *open_with(const struct cuda_emulation *settings, const char *kernels,
                                    bool deterministic)
{
    const struct moe_device_options options = {.kernels = kernels, .deterministic = deterministic};
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    cuda_emulation_set(settings);
    enum moe_status s = moe_cuda_open(&device, 0, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return device;
}

static struct moe_device *open_seed(uint64_t seed, const char *kernels, bool deterministic)
{
    const struct cuda_emulation settings = cuda_emulation_default(seed);
    return open_with(&settings, kernels, deterministic);
}

static void close_all(struct moe_device *device)
{
    moe_device_close(device);
    ck_assert_uint_eq(cuda_emulation_live(), 0);
}

static void run_case(const struct subject *x, struct moe_device *device,
                     const struct hybrid_case *what, struct outcome *got)
{
    const struct moe_strategy strategy = load(what->strategy, what->geometry);
    struct moe_err err = {0};
    enum moe_status s = run_hybrid(x, device, &strategy, got, &err);
    ck_assert_msg(s == MOE_OK, "%s: %s", what->strategy, err.text);
    ck_assert_uint_eq(got->n_done, N_TOKENS);
    close_all(device);
}

START_TEST(deterministic_runs_have_the_bits_of_the_cpu)
{
    for (size_t i = 0; i < (SLOW ? 1 : moe_n_kernel_sets); i++) {
        const struct moe_kernels *set = moe_kernel_sets[i];
        if (!set->usable() || set->lanes == 0)
            continue;
        struct subject x = open_subject(models[_i], set->name, 7);
        struct outcome got = new_outcome(x.config);
        for (size_t k = 0; k < N_HYBRID_CASES; k += i ? 2 * EVERY : EVERY) { /* later: fewer */
            run_case(&x, open_seed(N_HYBRID_CASES * i + k, set->name, true), &hybrid_cases[k],
                     &got);
            expect_same(&x, &got, hybrid_cases[k].strategy);
        }
        free_outcome(&got);
        close_subject(&x);
    }
}
END_TEST

START_TEST(fast_runs_are_near_the_cpu)
{
    struct subject x = open_subject(models[_i], "portable", 7);
    struct outcome got = new_outcome(x.config);
    double worst = 0;
    for (size_t k = 0; k < N_HYBRID_CASES; k += EVERY) {
        run_case(&x, open_seed(k, "portable", false), &hybrid_cases[k], &got);
        worst = fmax(worst, expect_near(&x, &got, fast_limit, hybrid_cases[k].strategy));
    }
    ck_assert_msg(worst > 0, "fast runs have the very bits: is the order of sums another?");
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Experts of Q8 and Q4, whose rows are read in wide loads and, those of w2 of Q8, one by one. */
START_TEST(quantized_experts_run_as_on_the_cpu)
{
    const struct moe_model shape = {.name = "quantized",
                                    .n_layers = 2,
                                    .n_experts = 4,
                                    .top_k = 2,
                                    .d_model = 128,
                                    .d_ffn = 64,
                                    .n_heads = 4,
                                    .n_kv_heads = 2,
                                    .head_dim = 16,
                                    .n_vocab = 101,
                                    .expert_weight_bits = _i ? 4.5 : 8.5,
                                    .dense_weight_bits = 16,
                                    .kv_bits = 16};
    const struct moe_synthetic_options options = {.seed = 3};
    struct moe_synthetic *synthetic = NULL;
    struct moe_device *host = NULL;
    ck_assert_int_eq(moe_device_open(&host, &(struct moe_device_options){.spec = "host"}, NULL),
                     MOE_OK);
    ck_assert_int_eq(moe_synthetic_new(&synthetic, &shape, host, &options, NULL), MOE_OK);
    struct subject x = subject_of(moe_synthetic_llm(synthetic), "portable", 7);
    struct outcome got = new_outcome(x.config);
    double worst = 0;
    for (size_t k = 0; k < N_HYBRID_CASES; k += 2 * EVERY) {
        run_case(&x, open_seed(k, "portable", true), &hybrid_cases[k], &got);
        expect_same(&x, &got, hybrid_cases[k].strategy);
        run_case(&x, open_seed(k, "portable", false), &hybrid_cases[k], &got);
        worst = fmax(worst, expect_near(&x, &got, fast_limit, hybrid_cases[k].strategy));
    }
    ck_assert(worst > 0);
    free_outcome(&got);
    close_subject(&x);
    moe_synthetic_free(synthetic);
    moe_device_close(host);
}
END_TEST

/* Small caches, with slots overwritten all the time, in another order for every seed. */
START_TEST(any_legal_order_has_the_bits_of_the_cpu)
{
    enum { SEEDS = SLOW ? 1 : 10, STEPS = 17 };
    struct subject x = open_subject(models[0], "portable", 5);
    for (size_t k = 0; k < N_BUSY_CASES; k++) {
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct moe_device *device = open_seed(100 * k + seed, "portable", true);
            expect_same_again(&x, device, k, STEPS);
            close_all(device);
        }
    }
    close_subject(&x);
}
END_TEST

/* A device that says that it is integrated: the experts of the mapped model count as well, to the
 * byte, and the run has the same bits. */
START_TEST(an_integrated_device_holds_the_hosts_experts_too)
{
    struct subject x = open_subject(models[0], "portable", 6);
    struct cuda_emulation settings = cuda_emulation_default(7);
    settings.integrated = true;
    struct moe_device *device = open_with(&settings, "portable", true);
    const struct moe_strategy strategy = load("collab", "2x2");
    struct moe_stage stage = {.device = device, .llm = x.llm, .context = 64, .chunk = CHUNK};
    struct moe_setup setup;
    struct moe_setup_spec spec;
    struct moe_err err = {0};
    ck_assert(!moe_stage_spec(&stage, &strategy, NULL, &spec, &err));
    ck_assert_uint_ge(spec.memory_bytes, device->ops->free_bytes(device));
    ck_assert_uint_eq(spec.host_expert_bytes, spec.expert_bytes);
    spec.memory_bytes = spec.dense_bytes +
                        (2 * 2 + stage.shape.n_layers * stage.shape.n_experts) * spec.expert_bytes;
    ck_assert(!moe_setup_init(&setup, &spec, &err));
    moe_setup_release(&setup);
    spec.memory_bytes--;
    ck_assert_int_eq(moe_setup_init(&setup, &spec, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "which the host shares"));
    struct outcome got = new_outcome(x.config);
    run_case(&x, device, &(struct hybrid_case){.strategy = "collab", .geometry = "2x2"}, &got);
    expect_same(&x, &got, "integrated");
    free_outcome(&got);
    stage.device = device = open_seed(7, "portable", true);
    ck_assert(!moe_stage_spec(&stage, &strategy, NULL, &spec, &err));
    ck_assert_uint_eq(spec.host_expert_bytes, 0);
    ck_assert_uint_eq(spec.memory_bytes, device->ops->free_bytes(device));
    close_all(device);
    close_subject(&x);
}
END_TEST

static const char *const lossy_rules[] = {"daop:first=1", "cache-prior:lambda=9,keep=0",
                                          "daop:first=1,pre_calculation=on", "pre-calculation"};
enum { N_LOSSY = sizeof lossy_rules / sizeof *lossy_rules };

/* Events that a lossy rule changes: the bits of `host`, which has those of a lossless run of what
 * they became, and of experts begun early (test_reroute_exec.c). What is resident stays, so that no
 * order changes a decision.
 */
START_TEST(rerouted_events_have_the_bits_of_host)
{
    enum { SEEDS = SLOW ? 2 : 15 };
    struct subject x = open_subject(models[_i % 2], "portable", 5);
    struct outcome want = new_outcome(x.config), got = new_outcome(x.config);
    struct moe_strategy strategy = load("static-random", "2x3");
    struct moe_device *host = NULL;
    struct moe_err err = {0};
    const struct moe_device_options options = {.spec = "host", .kernels = "portable"};
    ck_assert_int_eq(moe_device_open(&host, &options, &err), MOE_OK);
    strategy.lossy = true;
    set(&strategy, "reroute", lossy_rules[_i]);
    ck_assert_msg(!run_hybrid(&x, host, &strategy, &want, &err), "%s", err.text);
    moe_device_close(host);
    const size_t v = x.config->n_vocab, n = (size_t)(N_TOKENS - PROMPT + 1) * v * sizeof(float);
    ck_assert(memcmp(want.logits + (PROMPT - 1) * v, x.want.logits + (PROMPT - 1) * v, n) != 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct moe_device *device = open_seed(seed, "portable", true);
        ck_assert_msg(!run_hybrid(&x, device, &strategy, &got, &err), "%s", err.text);
        ck_assert(memcmp(want.logits + (PROMPT - 1) * v, got.logits + (PROMPT - 1) * v, n) == 0);
        close_all(device);
    }
    free_outcome(&want);
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* How many of the kind a run has. */
static uint64_t count_of(const struct subject *x, enum cuda_emulation_fault kind)
{
    struct moe_device *device = open_seed(3, "portable", true);
    struct outcome got = new_outcome(x->config);
    const struct moe_strategy strategy = load_busy(0);
    struct moe_err err = {0};
    ck_assert_int_eq(run_hybrid(x, device, &strategy, &got, &err), MOE_OK);
    free_outcome(&got);
    const uint64_t n = cuda_emulation_count(kind);
    close_all(device);
    return n;
}

/* Copies that cannot be queued, kernels that cannot be launched or fail while they run, at places
 * all over a run: one clear error, no wrong token before it, and nothing is left. */
START_TEST(faults_midway_end_cleanly)
{
    enum { PLACES = SLOW ? 4 : 20 };
    static const enum cuda_emulation_fault kinds[] = {CUDA_FAULT_CREATE, CUDA_FAULT_COPY,
                                                      CUDA_FAULT_LAUNCH, CUDA_FAULT_RUN};
    const enum cuda_emulation_fault kind = kinds[_i];
    const struct moe_strategy strategy = load_busy(0);
    struct subject x = open_subject(models[0], "portable", 5);
    struct outcome got = new_outcome(x.config);
    const uint64_t n = count_of(&x, kind);
    uint32_t n_failed = 0, n_midway = 0;
    ck_assert_uint_gt(n, PLACES);
    for (uint64_t i = 0; i < PLACES; i++) {
        struct cuda_emulation settings = cuda_emulation_default(i);
        struct moe_err err = {0};
        struct moe_device *device = open_with(&settings, "portable", true);
        moe_device_close(device);
        settings.fault = kind; /* beyond what opening makes */
        settings.fail_at = cuda_emulation_count(kind) + 1 + i * n / PLACES;
        device = open_with(&settings, "portable", true);
        if (run_hybrid(&x, device, &strategy, &got, &err)) {
            ck_assert_msg(strlen(err.text) > 10, "'%s'", err.text);
            n_failed++;
            n_midway += got.n_done >= PROMPT;
        }
        expect_same(&x, &got, "before the fault");
        close_all(device);
    }
    ck_assert_uint_gt(n_failed, PLACES / 2);
    ck_assert_uint_gt(kind == CUDA_FAULT_CREATE ? 1 : n_midway, 0);
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

static TCase *group(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 0);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("cuda_machine");
    TCase *bits = group(suite, "bits");
    tcase_add_loop_test(bits, deterministic_runs_have_the_bits_of_the_cpu, 0, N_MODELS);
    tcase_add_loop_test(group(suite, "fast"), fast_runs_are_near_the_cpu, 0, N_MODELS);
    tcase_add_loop_test(group(suite, "quantized"), quantized_experts_run_as_on_the_cpu, 0, 2);
    tcase_add_test(group(suite, "orders"), any_legal_order_has_the_bits_of_the_cpu);
    tcase_add_test(group(suite, "one memory"), an_integrated_device_holds_the_hosts_experts_too);
    tcase_add_loop_test(group(suite, "lossy"), rerouted_events_have_the_bits_of_host, 0, N_LOSSY);
    tcase_add_loop_test(group(suite, "faults"), faults_midway_end_cleanly, 0, 4);
    return run_suite(suite);
}
