/* The CUDA device over the emulated runtime: the contract of every device in many legal orders of
 * operations, the bits of the CPU, every allocation, copy, kernel and call failing in turn, every
 * reason why there is no device. */
#include "exec/cuda/open.h"
#include "exec/cuda/probe.h"
#include "exec/cuda/scale.h"
#include "tests/cuda/emulation.h"
#include "tests/unit/device_kernels.h"
#include "tests/unit/run_suite.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

static struct moe_device *open_with(const struct cuda_emulation *settings,
                                    const struct moe_device_options *options)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    cuda_emulation_set(settings);
    enum moe_status s = moe_cuda_open(&device, 0, options, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return device;
}

static struct moe_device *open_seed(uint64_t seed)
{
    const struct cuda_emulation settings = cuda_emulation_default(seed);
    return open_with(&settings, &(struct moe_device_options){0});
}

static void close_all(struct moe_device *device)
{
    moe_device_close(device);
    ck_assert_uint_eq(cuda_emulation_live(), 0);
}

START_TEST(contract_holds_in_any_order)
{
    enum { SEEDS = 12 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const struct device_case c = {
            .device = open_seed(seed), .multiple = 1, .clock_slack_ns = 200000};
        contract_all(&c);
        close_all(c.device);
    }
}
END_TEST

START_TEST(deterministic_kernels_have_the_bits_of_the_cpu)
{
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_device_options options = {.kernels = moe_kernel_sets[i]->name,
                                                   .deterministic = true};
        struct device_case c = {.kernels = options.kernels, .multiple = 1};
        if (!moe_kernel_sets[i]->usable() || !moe_kernel_sets[i]->lanes)
            continue;
        for (uint64_t seed = 0; seed < 4; seed++) {
            const struct cuda_emulation settings = cuda_emulation_default(seed);
            c.device = open_with(&settings, &options);
            ck_assert(c.device->deterministic && !c.device->note[0]);
            contract_kernels(&c, 10 * i + seed, seed / 2 % 2);
            close_all(c.device);
        }
    }
}
END_TEST

START_TEST(fast_kernels_are_near_the_cpu)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        const struct device_case c = {
            .device = open_seed(seed), .kernels = "portable", .tolerance = 2e-5, .multiple = 1};
        ck_assert(!c.device->deterministic);
        ck_assert_msg(!strncmp(c.device->note, "no cuBLAS (emulated libcublas", 29), "%s",
                      c.device->note);
        contract_kernels(&c, seed, seed / 2 % 2);
        close_all(c.device);
    }
}
END_TEST

/* Some of everything, on a device that may fail at any point. */
struct work {
    struct moe_device *device;
    struct moe_event *event;
    void *memory, *pinned;
    struct moe_err err;
};

enum { D = 8, WORDS = 64 };

static enum moe_status make(struct work *w)
{
    const struct moe_device_ops *ops = w->device->ops;
    enum moe_status s = ops->alloc(w->device, MOE_MEMORY_DEVICE, 4 * WORDS, &w->memory, &w->err);
    if (!s)
        s = ops->alloc(w->device, MOE_MEMORY_PINNED, 4 * WORDS, &w->pinned, &w->err);
    return s ? s : ops->event_new(w->device, &w->event, &w->err);
}

/* x [D] += weight * y [D], all zero; then down again. */
static enum moe_status use(struct work *w)
{
    const struct moe_device_ops *ops = w->device->ops;
    float *f = w->memory, x[WORDS];
    const struct moe_llm_config config = {.d_model = D, .d_ffn = D, .top_k = 1, .n_experts = 1};
    const struct moe_activations a = {
        .n = 1, .x = f, .ffn_y = f + D, .weight = f + 2 * D, .row = (uint32_t *)(f + 3 * D)};
    memset(w->pinned, 0, 4 * WORDS);
    ops->copy(w->device, MOE_STREAM_UP, w->memory, w->pinned, 4 * WORDS, MOE_MEMORY_PINNED);
    ops->record(w->device, MOE_STREAM_UP, w->event);
    ops->wait(w->device, MOE_STREAM_COMPUTE, w->event);
    ops->combine(w->device, &(struct moe_combine_job){.config = &config, .a = &a});
    ops->record(w->device, MOE_STREAM_COMPUTE, w->event);
    ops->wait(w->device, MOE_STREAM_DOWN, w->event);
    ops->copy(w->device, MOE_STREAM_DOWN, w->pinned, w->memory, 4 * WORDS, MOE_MEMORY_PINNED);
    ops->copy(w->device, MOE_STREAM_DOWN, x, w->memory, sizeof x, MOE_MEMORY_PAGEABLE);
    ops->record(w->device, MOE_STREAM_DOWN, w->event);
    enum moe_status s = ops->sync(w->device, w->event, &w->err);
    if (!s)
        (void)ops->event_ns(w->device, w->event);
    (void)ops->free_bytes(w->device);
    return s ? s : ops->sync(w->device, w->event, &w->err);
}

/* Opens, works, closes; returns what came of it. Nothing is left in any case. */
static enum moe_status work_through(const struct cuda_emulation *settings, struct moe_err *err)
{
    struct work w = {0};
    cuda_emulation_set(settings);
    enum moe_status s = moe_cuda_open(&w.device, 0, &(struct moe_device_options){0}, &w.err);
    if (!s) {
        s = make(&w);
        if (!s)
            s = use(&w);
        w.device->ops->event_free(w.device, w.event);
        w.device->ops->release(w.device, MOE_MEMORY_DEVICE, w.memory);
        w.device->ops->release(w.device, MOE_MEMORY_PINNED, w.pinned);
        moe_device_close(w.device);
    } else {
        ck_assert_ptr_null(w.device);
    }
    ck_assert_uint_eq(cuda_emulation_live(), 0);
    *err = w.err;
    return s;
}

/* CUDA keeps the last error of a thread: a kernel must not be blamed for an allocation. */
START_TEST(a_refused_allocation_harms_nothing)
{
    struct work w = {.device = open_seed(1)};
    const struct moe_device_ops *ops = w.device->ops;
    ck_assert_int_eq(ops->alloc(w.device, MOE_MEMORY_DEVICE, UINT64_MAX / 4, &w.memory, &w.err),
                     MOE_ERR_MEMORY);
    ck_assert_ptr_null(w.memory);
    ck_assert_int_eq(make(&w), MOE_OK);
    ck_assert_msg(use(&w) == MOE_OK, "%s", w.err.text);
    ops->event_free(w.device, w.event);
    ops->release(w.device, MOE_MEMORY_DEVICE, w.memory);
    ops->release(w.device, MOE_MEMORY_PINNED, w.pinned);
    close_all(w.device);
}
END_TEST

/* Whatever a driver calls it: the caller may go on with less, on a device that works. */
START_TEST(a_refusal_to_pin_is_no_failure)
{
    static const int errors[] = {2, 208, 304, 801}; /* as cuda_runtime_api.h has them */
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct cuda_emulation settings = cuda_emulation_default(i);
        settings.pinning = errors[i];
        struct moe_device *device = open_with(&settings, &(struct moe_device_options){0});
        void *memory = NULL;
        struct moe_err err;
        ck_assert_int_eq(device->ops->alloc(device, MOE_MEMORY_PINNED, 64, &memory, &err),
                         MOE_ERR_MEMORY);
        ck_assert_msg(strstr(err.text, "64 B asked: the driver refused: "), "%s", err.text);
        ck_assert_ptr_null(memory);
        memory = device_alloc(device, MOE_MEMORY_DEVICE, 64);
        device->ops->release(device, MOE_MEMORY_DEVICE, memory);
        device_finish(device, MOE_STREAM_COMPUTE);
        close_all(device);
    }
}
END_TEST

static uint64_t count_of(enum cuda_emulation_fault kind, uint64_t seed)
{
    const struct cuda_emulation settings = cuda_emulation_default(seed);
    struct moe_err err;
    ck_assert_int_eq(work_through(&settings, &err), MOE_OK);
    return cuda_emulation_count(kind);
}

START_TEST(each_fault_is_told_and_leaves_nothing)
{
    for (int kind = CUDA_FAULT_CREATE; kind <= CUDA_FAULT_RUN; kind++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            const uint64_t n = count_of((enum cuda_emulation_fault)kind, seed);
            ck_assert_uint_gt(n, 0);
            for (uint64_t at = 1; at <= n; at++) {
                struct cuda_emulation settings = cuda_emulation_default(seed);
                struct moe_err err;
                settings.fault = (enum cuda_emulation_fault)kind;
                settings.fail_at = at;
                const enum moe_status s = work_through(&settings, &err);
                ck_assert_msg(s == MOE_ERR_IO || s == MOE_ERR_MEMORY, "%d at %d: %s", kind, (int)at,
                              err.text);
                ck_assert_msg(strncmp(err.text, "device 'cuda:0'", 15) == 0, "%s", err.text);
            }
        }
    }
}
END_TEST

/* Some calls may fail without harm, such as those that free; none may hang or be forgotten. */
START_TEST(any_call_may_fail)
{
    uint64_t told = 0;
    const uint64_t n = count_of(CUDA_FAULT_CALL, 2);
    ck_assert_uint_gt(n, 20);
    for (uint64_t at = 1; at <= n; at++) {
        struct cuda_emulation settings = cuda_emulation_default(2);
        struct moe_err err;
        settings.fault = CUDA_FAULT_CALL;
        settings.fail_at = at;
        told += work_through(&settings, &err) != MOE_OK;
    }
    ck_assert_uint_gt(told, n / 2);
}
END_TEST

/* Each call of a list of devices fails in turn: it is shorter, or lacks a bus address, and no
 * kernel that runs later is blamed for it. */
START_TEST(a_list_that_fails_harms_no_device)
{
    enum { BYTES = 64 };
    uint64_t at = 0;
    for (;;) {
        struct cuda_emulation settings = cuda_emulation_default(1);
        struct moe_device_info info;
        struct moe_device *device = NULL;
        struct moe_err err = {0};
        char reason[192];
        settings.fault = CUDA_FAULT_CALL;
        settings.fail_at = ++at;
        cuda_emulation_set(&settings);
        const size_t n = moe_cuda_probe(&info, 1, reason, sizeof reason);
        if (cuda_emulation_count(CUDA_FAULT_CALL) < at)
            break; /* none has failed */
        ck_assert(n == 1 ? !info.pci[0] : reason[0]);
        enum moe_status s = moe_cuda_open(&device, 0, &(struct moe_device_options){0}, &err);
        ck_assert_msg(s == MOE_OK, "call %" PRIu64 ": %s", at, err.text);
        void *memory = device_alloc(device, MOE_MEMORY_DEVICE, BYTES);
        void *pinned = device_alloc(device, MOE_MEMORY_PINNED, BYTES);
        memset(pinned, 0, BYTES);
        device->ops->copy(device, MOE_STREAM_UP, memory, pinned, BYTES, MOE_MEMORY_PINNED);
        device_finish(device, MOE_STREAM_UP); /* fails where the copy's kernel is blamed */
        device->ops->release(device, MOE_MEMORY_DEVICE, memory);
        device->ops->release(device, MOE_MEMORY_PINNED, pinned);
        close_all(device);
    }
    ck_assert_uint_gt(at, 3); /* count, properties, bus address, and then none */
}
END_TEST

START_TEST(errors_are_kept)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct cuda_emulation settings = cuda_emulation_default(seed);
        const bool late = seed / 3 % 2;
        settings.fault = late ? CUDA_FAULT_RUN : CUDA_FAULT_COPY;
        settings.fail_at = 1;
        const struct device_case c = {.device =
                                          open_with(&settings, &(struct moe_device_options){0})};
        contract_error_is_kept(&c, late ? "an illegal memory access was encountered"
                                        : "queuing a copy of 8 B on stream 'expert weights'");
        close_all(c.device);
    }
}
END_TEST

/* A device with one engine for copies both ways: activations do not queue behind an expert. */
START_TEST(small_copies_keep_out_of_a_lone_engine)
{
    enum { SMALL = 4096, LARGE = 2 << 20 };
    for (int engines = 1; engines <= 2; engines++) {
        struct cuda_emulation settings = cuda_emulation_default((uint64_t)engines);
        settings.engines = engines;
        struct moe_device *device = open_with(&settings, &(struct moe_device_options){0});
        unsigned char *memory = device_alloc(device, MOE_MEMORY_DEVICE, LARGE);
        unsigned char *pinned = device_alloc(device, MOE_MEMORY_PINNED, LARGE);
        static const uint64_t bytes[] = {SMALL, LARGE};
        for (size_t i = 0; i < 2; i++) {
            const uint64_t before = cuda_emulation_count(CUDA_FAULT_COPY);
            memset(pinned, 7, bytes[i]);
            device->ops->copy(device, MOE_STREAM_UP, memory, pinned, bytes[i], MOE_MEMORY_PINNED);
            device_finish(device, MOE_STREAM_UP);
            memset(pinned, 0, bytes[i]);
            device->ops->copy(device, MOE_STREAM_DOWN, pinned, memory, bytes[i], MOE_MEMORY_PINNED);
            device_finish(device, MOE_STREAM_DOWN);
            ck_assert(pinned[0] == 7 && memcmp(pinned, pinned + 1, bytes[i] - 1) == 0);
            ck_assert_uint_eq(cuda_emulation_count(CUDA_FAULT_COPY) - before,
                              bytes[i] == LARGE ? 2 : (uint64_t)engines - 1);
        }
        device->ops->release(device, MOE_MEMORY_DEVICE, memory);
        device->ops->release(device, MOE_MEMORY_PINNED, pinned);
        close_all(device);
    }
}
END_TEST

/* The host may know by a flag that work was done before the runtime says so of an event. */
START_TEST(a_time_is_waited_for)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct moe_device *device = open_seed(seed);
        struct moe_event *event = device_event(device);
        struct moe_err err = {0};
        const uint64_t began = moe_clock_ns();
        device->ops->record(device, MOE_STREAM_COMPUTE, event);
        ck_assert_uint_gt(device->ops->event_ns(device, event), began - 200000);
        ck_assert_msg(device->ops->sync(device, event, &err) == MOE_OK, "%s", err.text);
        device->ops->event_free(device, event);
        close_all(device);
    }
}
END_TEST

/* A kernel that cannot run ends the wait for its routes. */
START_TEST(no_routes_no_hang)
{
    struct cuda_emulation settings = cuda_emulation_default(1);
    struct moe_device *device = open_with(&settings, &(struct moe_device_options){0});
    uint64_t *flag = device_alloc(device, MOE_MEMORY_PINNED, sizeof *flag);
    const struct moe_route_box box = {.flag = flag, .ticket = 3};
    struct moe_err err;
    *flag = 2;
    ck_assert_int_eq(device->ops->routes_wait(device, &box, &err), MOE_ERR_IO);
    ck_assert_msg(strstr(err.text, "brought no routes"), "%s", err.text);
    device->ops->release(device, MOE_MEMORY_PINNED, flag);
    close_all(device);
}
END_TEST

static void refuses(const struct cuda_emulation *settings, uint32_t index, enum moe_status status,
                    const char *text)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    cuda_emulation_set(settings);
    ck_assert_int_eq(moe_cuda_open(&device, index, &(struct moe_device_options){0}, &err), status);
    ck_assert_msg(strstr(err.text, text), "'%s' in '%s'", text, err.text);
    ck_assert_ptr_null(device);
    ck_assert_uint_eq(cuda_emulation_live(), 0);
}

START_TEST(refusals_say_why)
{
    struct cuda_emulation s = cuda_emulation_default(0);
    refuses(&s, 1, MOE_ERR_UNSUPPORTED, "device 'cuda:1': no such device, there is 1");
    s.driver = 0;
    refuses(&s, 0, MOE_ERR_UNSUPPORTED, "device 'cuda': no CUDA driver; install");
    s.driver = 12020;
    refuses(&s, 0, MOE_ERR_UNSUPPORTED,
            "knows CUDA up to 12.2, this program was built with 13.0; update the driver");
    s = cuda_emulation_default(0);
    s.n_devices = 0;
    refuses(&s, 0, MOE_ERR_UNSUPPORTED, "no CUDA device; see what nvidia-smi lists");
    s = cuda_emulation_default(0);
    s.major = 7;
    s.minor = 5;
    refuses(&s, 0, MOE_ERR_UNSUPPORTED, "compute capability 7.5 is too old: 8.0");
    s = cuda_emulation_default(0);
    s.in_use = true;
    refuses(&s, 0, MOE_ERR_UNSUPPORTED, "another process uses it exclusively");
    s = cuda_emulation_default(0);
    s.taken_bytes = s.memory_bytes - 4096;
    refuses(&s, 0, MOE_ERR_MEMORY, "other processes held 1024 MiB when it was opened");
}
END_TEST

START_TEST(a_set_of_no_order_is_refused)
{
    const struct cuda_emulation settings = cuda_emulation_default(0);
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    cuda_emulation_set(&settings);
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        const struct moe_device_options options = {.kernels = moe_kernel_sets[i]->name,
                                                   .deterministic = true};
        if (!moe_kernel_sets[i]->usable() || moe_kernel_sets[i]->lanes)
            continue;
        ck_assert_int_eq(moe_cuda_open(&device, 0, &options, &err), MOE_ERR_UNSUPPORTED);
        ck_assert_msg(strstr(err.text, "has no order of sums"), "%s", err.text);
    }
    const struct moe_device_options unknown = {.kernels = "mmx", .deterministic = true};
    ck_assert_int_eq(moe_cuda_open(&device, 0, &unknown, &err), MOE_ERR_USAGE);
    ck_assert_ptr_null(device);
}
END_TEST

/* A thread that fetches while another sends and takes back: as the machine does. */
static void *fetch(void *context)
{
    struct moe_device *device = context;
    enum { BYTES = 1000, ROUNDS = 100 };
    char *pinned = device_alloc(device, MOE_MEMORY_PINNED, BYTES);
    char *memory = device_alloc(device, MOE_MEMORY_DEVICE, BYTES);
    struct moe_event *event = device_event(device);
    for (int i = 0; i < ROUNDS; i++) {
        memset(pinned, i, BYTES);
        device->ops->copy(device, MOE_STREAM_EXPERTS, memory, pinned, BYTES, MOE_MEMORY_PINNED);
        device->ops->record(device, MOE_STREAM_EXPERTS, event);
        device_sync(device, event);
    }
    device->ops->event_free(device, event);
    device->ops->release(device, MOE_MEMORY_DEVICE, memory);
    device->ops->release(device, MOE_MEMORY_PINNED, pinned);
    return NULL;
}

START_TEST(threads_share_a_device)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        const struct device_case c = {
            .device = open_seed(seed), .multiple = 1, .clock_slack_ns = UINT32_MAX};
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, fetch, c.device), 0);
        contract_waits_mean_the_place_of_their_call(&c);
        contract_events(&c);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        close_all(c.device);
    }
}
END_TEST

/* A device whose clock runs 50 millionths fast: times stay near the host's for an hour, and never
 * run backwards where a base is made anew. What the host sees is uncertain by 5 us. */
START_TEST(times_follow_the_host)
{
    enum { ROUNDS = 4 * 3600 };
    const double fast = 1.00005, age = MOE_CUDA_BASE_NS;
    struct moe_cuda_scale scale = {1e15, 0};
    struct moe_rng rng;
    moe_rng_init(&rng, 3);
    for (int i = 1; i <= ROUNDS; i++) {
        const double now = 1e15 + i * age, seen = now + 1e4 * (moe_rng_unit(&rng) - 0.5);
        const float ms = (float)(age * fast / 1e6);
        const double before = moe_cuda_scale_at(&scale, ms);
        scale = moe_cuda_scale_next(&scale, ms, (uint64_t)seen);
        ck_assert(moe_cuda_scale_at(&scale, 0) == before);
        ck_assert(moe_cuda_scale_at(&scale, 1e-3f) > before); /* a microsecond later */
        ck_assert_msg(fabs(before - now) < 30e3, "off by %g ns", before - now);
    }
    scale = moe_cuda_scale_next(&scale, 1e6f, 7); /* after a pause: as the host sees it */
    ck_assert(moe_cuda_scale_at(&scale, 0) == 7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda_device");
    TCase *tests = tcase_create("contract");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, contract_holds_in_any_order);
    tcase_add_test(tests, deterministic_kernels_have_the_bits_of_the_cpu);
    tcase_add_test(tests, fast_kernels_are_near_the_cpu);
    tcase_add_test(tests, small_copies_keep_out_of_a_lone_engine);
    tcase_add_test(tests, a_time_is_waited_for);
    tests = tcase_create("faults");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_refused_allocation_harms_nothing);
    tcase_add_test(tests, a_refusal_to_pin_is_no_failure);
    tcase_add_test(tests, each_fault_is_told_and_leaves_nothing);
    tcase_add_test(tests, any_call_may_fail);
    tcase_add_test(tests, a_list_that_fails_harms_no_device);
    tcase_add_test(tests, errors_are_kept);
    tcase_add_test(tests, no_routes_no_hang);
    tcase_add_test(tests, refusals_say_why);
    tcase_add_test(tests, a_set_of_no_order_is_refused);
    tcase_add_test(tests, threads_share_a_device);
    tcase_add_test(tests, times_follow_the_host);
    return run_suite(suite);
}
