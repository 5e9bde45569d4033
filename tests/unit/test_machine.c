/* The real machine on the `host` device: the same bits as the CPU alone for every strategy,
 * geometry and number of threads, whatever is delayed; and its state after faults. */
#include "exec/resident.h"
#include "exec/synthetic.h"
#include "tests/unit/hybrid_case.h"
#include "tests/unit/run_suite.h"
#include "tests/unit/sanitizer.h"
#include "tests/unit/shaken_device.h"

#include <time.h>

static struct moe_device *open_device(const char *spec)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    const struct moe_device_options options = {.spec = spec};
    enum moe_status s = moe_device_open(&device, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return device;
}

/* The tokens on a device of its own. */
static enum moe_status run_on(const struct subject *x, const char *spec,
                              const struct moe_strategy *strategy, struct outcome *out,
                              struct moe_err *err)
{
    struct moe_device *device = open_device(spec);
    enum moe_status s = run_hybrid(x, device, strategy, out, err);
    moe_device_close(device);
    return s;
}

static const char roomy[] = "host:memory_bytes=64MiB";

START_TEST(test_same_bits)
{
    struct subject x = open_subject(models[_i], NULL, 7);
    struct outcome got = new_outcome(x.config);
    for (size_t k = 0; k < N_HYBRID_CASES; k++) {
        const struct moe_strategy strategy =
            load(hybrid_cases[k].strategy, hybrid_cases[k].geometry);
        struct moe_err err = {0};
        enum moe_status s = run_on(&x, roomy, &strategy, &got, &err);
        ck_assert_msg(s == MOE_OK, "%s: %s", hybrid_cases[k].strategy, err.text);
        expect_same(&x, &got, hybrid_cases[k].strategy);
    }
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Experts of Q8 and Q4: any cache, strategy and store gives what the CPU alone gives. */
START_TEST(test_same_bits_quantized)
{
    const struct moe_model shape = {.name = "tiny",
                                    .n_layers = 2,
                                    .n_experts = 4,
                                    .top_k = 2,
                                    .d_model = 64,
                                    .d_ffn = 96,
                                    .n_heads = 4,
                                    .n_kv_heads = 2,
                                    .head_dim = 16,
                                    .n_vocab = 101,
                                    .expert_weight_bits = _i ? 4.5 : 8.5,
                                    .dense_weight_bits = 16,
                                    .kv_bits = 16};
    const struct moe_synthetic_options options = {.seed = 3};
    struct moe_device *device = open_device(roomy);
    struct moe_synthetic *synthetic = NULL;
    struct moe_err err = {0};
    enum moe_status s = moe_synthetic_new(&synthetic, &shape, device, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    struct subject x = subject_of(moe_synthetic_llm(synthetic), NULL, 7);
    struct outcome got = new_outcome(x.config);
    for (size_t k = 0; k < N_HYBRID_CASES; k++) {
        const struct hybrid_case *c = &hybrid_cases[k];
        const struct moe_strategy strategy = load(c->strategy, c->geometry);
        s = run_hybrid(&x, device, &strategy, &got, &err); /* experts where they lie */
        if (!s)
            expect_same(&x, &got, c->strategy);
        if (!s)
            s = run_on(&x, roomy, &strategy, &got, &err); /* packed for another device */
        ck_assert_msg(s == MOE_OK, "%s: %s", c->strategy, err.text);
        expect_same(&x, &got, c->strategy);
    }
    for (size_t k = 0; k < N_BUSY_CASES; k++)
        (void)expect_same_again(&x, device, k, 40);
    free_outcome(&got);
    close_subject(&x);
    moe_synthetic_free(synthetic);
    moe_device_close(device);
}
END_TEST

/* Every way to dispatch and to fill, with prompts through the cache and streamed. */
START_TEST(test_same_bits_dispatch)
{
    static const struct {
        const char *key, *value;
    } sets[] = {{"dispatch.miss", "wait"},
                {"dispatch.in_flight", "cpu"},
                {"dispatch.order", "gate"},
                {"dispatch.overlap", "false"},
                {"fill.when", "at-once"},
                {"fill.memory", "pageable"},
                {"prefill", "cache"},
                {"prefill", "stream"},
                {"prefetcher", "previous-token"},
                {"policy", "lfu"}};
    struct subject x = open_subject(models[0], NULL, 11);
    struct outcome got = new_outcome(x.config);
    for (unsigned mask = 0; mask < 1u << (sizeof sets / sizeof *sets); mask++) {
        struct moe_strategy strategy = load("collab", "2x3");
        struct moe_err err = {0};
        if (mask % 7) /* a seventh of the combinations, every key in both states */
            continue;
        for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
            if (mask >> i & 1)
                set(&strategy, sets[i].key, sets[i].value);
        enum moe_status s = run_on(&x, roomy, &strategy, &got, &err);
        ck_assert_msg(s == MOE_OK, "mask %x: %s", mask, err.text);
        expect_same(&x, &got, "dispatch");
    }
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Every prefetcher that needs no trace, slots of one layer and of all, with copies that are slow
 * enough to be asked for, and taken back, while they wait. */
START_TEST(test_same_bits_prefetchers)
{
    static const char *const prefetchers[] = {"previous-token", "popularity:n=3", "markov",
                                              "gate-lookahead", "moe-infinity"};
    static const char *const geometries[] = {"global:9", "4x3"};
    static const char *const misses[] = {"cpu", "wait", "admitted"};
    struct subject x = open_subject("experiments/models/tiny-mixtral", NULL, 13);
    struct outcome got = new_outcome(x.config);
    for (size_t p = 0; p < sizeof prefetchers / sizeof *prefetchers; p++) {
        for (unsigned k = 0; k < 6; k++) {
            struct moe_strategy strategy = load("collab", geometries[k % 2]);
            struct moe_err err = {0};
            set(&strategy, "prefetcher", prefetchers[p]);
            set(&strategy, "dispatch.miss", misses[k / 2]);
            set(&strategy, "prefill", k < 3 ? "cache" : "cpu");
            enum moe_status s =
                run_on(&x, "host:memory_bytes=64MiB,delay_us=100,seed=5", &strategy, &got, &err);
            ck_assert_msg(s == MOE_OK, "%s: %s", prefetchers[p], err.text);
            expect_same(&x, &got, prefetchers[p]);
        }
    }
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Schedules: every operation of every stream is delayed at random, anew at each step. A slot that
 * was overwritten under a kernel, or used before its copy landed, would change the logits. */
START_TEST(test_random_schedules)
{
    enum { SCHEDULES = ADDRESS_SANITIZER || THREAD_SANITIZER ? 500 : 10000 };
    static const char *const specs[N_BUSY_CASES] = {
        "host:memory_bytes=64MiB,delay_us=40,seed=1", "host:memory_bytes=64MiB,delay_us=20,seed=2",
        "host:memory_bytes=64MiB,delay_us=40,seed=3", "host:memory_bytes=64MiB,delay_us=40,seed=4"};
    struct subject x = open_subject(models[0], NULL, 5);
    for (size_t k = 0; k < N_BUSY_CASES; k++) {
        struct moe_device *device = open_device(specs[k]);
        expect_same_again(&x, device, k, SCHEDULES / N_BUSY_CASES);
        moe_device_close(device);
    }
    close_subject(&x);
}
END_TEST

/* One run after the other; each has the bits of x->want. */
static void expect_all_same(const struct subject *x, struct moe_device *device,
                            const struct moe_strategy *strategy, int n, const char *what)
{
    struct outcome got = new_outcome(x->config);
    struct hybrid_run run;
    struct moe_err err = {0};
    ck_assert_msg(!hybrid_open(&run, x, device, strategy, &err), "%s", err.text);
    for (int i = 0; i < n; i++) {
        ck_assert_msg(!feed(run.session, x->tokens, &got, &err), "%s", err.text);
        expect_same(x, &got, what);
    }
    hybrid_close(&run);
    free_outcome(&got);
}

static const struct moe_device_ops *prompt_ops;

/* The CPU begins now and then some layers late: those that follow ask it for nothing. */
static enum moe_status late_sync(struct moe_device *device, struct moe_event *event,
                                 struct moe_err *err)
{
    static _Atomic unsigned n;
    const struct timespec pause = {.tv_nsec = 2000000};
    enum moe_status s = prompt_ops->sync(device, event, err);
    if (n++ % 8 == 0)
        nanosleep(&pause, NULL);
    return s;
}

static void expect_same_when_late(const struct subject *x, const struct moe_strategy *strategy,
                                  int n, const char *what)
{
    struct moe_device *device = open_device(roomy);
    struct moe_device_ops ops = *device->ops;
    prompt_ops = device->ops;
    ops.sync = late_sync;
    device->ops = &ops;
    expect_all_same(x, device, strategy, n, what);
    device->ops = prompt_ops;
    moe_device_close(device);
}

/* A layer's input comes down, and experts are computed from it, while later layers and tokens are
 * under way: nothing overwrites it before. The strategy decides alike whenever copies land, so that
 * a run without delays tells what the others must compute. */
START_TEST(test_random_schedules_early)
{
    enum { RUNS = ADDRESS_SANITIZER || THREAD_SANITIZER ? 1 : 3 };
    static const char *const rules[] = {"pre-calculation", "daop:first=1,pre_calculation=on"};
    struct subject x = open_subject("experiments/models/tiny-mixtral", NULL, 5);
    for (size_t k = 0; k < 2; k++) {
        struct moe_strategy strategy = load("fiddler", k ? "7x3" : "8x6");
        struct outcome plain = x.want;
        struct moe_err err = {0};
        set(&strategy, "prefill", "cache");
        set(&strategy, "reroute", rules[k]);
        strategy.lossy = true;
        x.want = new_outcome(x.config);
        enum moe_status s = run_on(&x, roomy, &strategy, &x.want, &err);
        ck_assert_msg(s == MOE_OK, "%s", err.text);
        const size_t v = x.config->n_vocab, last = (N_TOKENS - 1) * v;
        ck_assert(memcmp(plain.logits + last, x.want.logits + last, v * sizeof(float)) != 0);
        struct moe_device *slow = open_device("host:memory_bytes=64MiB,delay_us=40,seed=6");
        expect_all_same(&x, slow, &strategy, RUNS, rules[k]);
        moe_device_close(slow);
        struct moe_device *shaken = shaken_open(open_device(roomy), 1 << 18, 40000, k);
        expect_all_same(&x, shaken, &strategy, RUNS, rules[k]);
        moe_device_close(shaken);
        expect_same_when_late(&x, &strategy, RUNS, rules[k]);
        free_outcome(&x.want);
        x.want = plain;
    }
    close_subject(&x);
}
END_TEST

/* As on a GPU, which delays nothing by itself (test_machine_cuda.c). */
START_TEST(test_shaken_schedules)
{
    struct subject x = open_subject(models[0], NULL, 5);
    for (size_t k = 0; k < N_BUSY_CASES; k++) {
        struct moe_device *device = shaken_open(open_device(roomy), 1 << 18, 40000, k);
        expect_same_again(&x, device, k, 100);
        moe_device_close(device);
    }
    close_subject(&x);
}
END_TEST

/* A copy that fails midway: one clear error, no wrong token before it, and everything is freed. */
START_TEST(test_failing_copy)
{
    struct subject x = open_subject(models[0], NULL, 5);
    struct outcome got = new_outcome(x.config);
    int n_failed = 0, more = 1;
    for (int copy = 1; more; copy += 3) {
        const struct moe_strategy strategy = load("collab", "2x2");
        char spec[96];
        struct moe_err err = {0};
        snprintf(spec, sizeof spec, "%s,fail_copy=%d", roomy, copy);
        enum moe_status s = run_on(&x, spec, &strategy, &got, &err);
        more = s != MOE_OK; /* until there are fewer copies than that */
        n_failed += more;
        ck_assert_msg(!more || strlen(err.text) > 10, "copy %d: '%s'", copy, err.text);
        expect_same(&x, &got, "before the failing copy");
    }
    ck_assert_int_gt(n_failed, 30);
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Events are made when a step first needs them, and may be refused then. */
static struct moe_device_ops scarce_ops;
static enum moe_status (*make_event)(struct moe_device *, struct moe_event **, struct moe_err *);
static int events_left;

static enum moe_status scarce_event_new(struct moe_device *device, struct moe_event **out,
                                        struct moe_err *err)
{
    if (events_left-- <= 0)
        return moe_fail(err, MOE_ERR_MEMORY, "no event left");
    return make_event(device, out, err);
}

START_TEST(test_scarce_events)
{
    struct subject x = open_subject(models[0], NULL, 5);
    const struct moe_strategy strategy = load("collab", "2x2");
    struct outcome got = new_outcome(x.config);
    int n_failed = 0, more = 1;
    for (int events = 0; more; events++) {
        struct moe_device *device = open_device(roomy);
        struct moe_err err = {0};
        make_event = device->ops->event_new;
        scarce_ops = *device->ops;
        scarce_ops.event_new = scarce_event_new;
        device->ops = &scarce_ops;
        events_left = events;
        more = run_hybrid(&x, device, &strategy, &got, &err) != MOE_OK;
        n_failed += more;
        ck_assert_msg(!more || strstr(err.text, "no event left"), "%d: '%s'", events, err.text);
        expect_same(&x, &got, "before events ran out");
        moe_device_close(device);
    }
    ck_assert_int_gt(n_failed, 20);
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

/* Slots are fitted into what the rest leaves: it has to be known to the byte. */
START_TEST(test_what_the_rest_takes)
{
    struct subject x = open_subject(models[_i], NULL, 5);
    struct moe_device *device = open_device(roomy);
    const uint64_t before = device->ops->free_bytes(device);
    struct moe_resident *resident;
    struct moe_expert_layout layout;
    ck_assert(!moe_expert_layout_of(x.llm, &layout, NULL));
    const struct moe_resident_options options = {
        .context = 63, .chunk = 7, .n_staging = 2, .expert_bytes = layout.bytes};
    ck_assert(!moe_resident_new(&resident, device, x.llm, &options, NULL));
    ck_assert_uint_eq(before - device->ops->free_bytes(device),
                      moe_resident_bytes(x.llm, &options));
    moe_resident_free(resident);
    ck_assert_uint_eq(device->ops->free_bytes(device), before);
    moe_device_close(device);
    close_subject(&x);
}
END_TEST

START_TEST(test_too_small_device)
{
    struct subject x = open_subject(models[0], NULL, 5);
    const struct moe_strategy strategy = load("collab", "all");
    struct outcome got = new_outcome(x.config);
    struct moe_err err = {0};
    ck_assert_int_eq(run_on(&x, "host:memory_bytes=96KiB", &strategy, &got, &err), MOE_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "geometry 'all'"));
    free_outcome(&got);
    close_subject(&x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine");
    TCase *t = tcase_create("machine");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, test_same_bits, 0, N_MODELS);
    tcase_add_loop_test(t, test_same_bits_quantized, 0, 2);
    tcase_add_test(t, test_same_bits_dispatch);
    tcase_add_test(t, test_same_bits_prefetchers);
    tcase_add_test(t, test_random_schedules);
    tcase_add_test(t, test_random_schedules_early);
    tcase_add_test(t, test_shaken_schedules);
    tcase_add_test(t, test_failing_copy);
    tcase_add_test(t, test_scarce_events);
    tcase_add_loop_test(t, test_what_the_rest_takes, 0, N_MODELS);
    tcase_add_test(t, test_too_small_device);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
