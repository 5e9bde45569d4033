/* The `host` device: the contract of every device with bits equal to exec/dense.h, with and
 * without set speeds and random delays; its arena; detection of stray accesses; times by formula.
 * No test asserts that something is fast. */
#include "exec/device_host.h"
#include "exec/host_kernels.h"
#include "exec/host_stream.h"
#include "tests/unit/device_kernels.h"
#include "tests/unit/run_suite.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static struct moe_device *open_host(const char *spec)
{
    struct moe_device *device = NULL;
    struct moe_err err = {0};
    const struct moe_device_options options = {.spec = spec};
    enum moe_status s = moe_device_open(&device, &options, &err);
    ck_assert_msg(s == MOE_OK, "%s: %s", spec, err.text);
    return device;
}

static const char *const manners[] = {
    "host",
    "host:delay_us=20,seed=3",
    "host:link_gb_per_s=20,pageable_gb_per_s=5,compute_gb_per_s=50,compute_gflops=500,copy_us=3",
};
enum { N_MANNERS = sizeof manners / sizeof *manners };

START_TEST(contract_holds)
{
    const struct device_case c = {.device = open_host(manners[_i]), .multiple = 1};
    contract_all(&c);
    moe_device_close(c.device);
}
END_TEST

START_TEST(kernels_have_the_bits_of_the_cpu)
{
    enum { SEEDS = 12 };
    const struct device_case c = {.device = open_host(manners[_i]), .multiple = 1};
    const uint64_t before = c.device->ops->free_bytes(c.device);
    ck_assert(c.device->deterministic);
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        contract_kernels(&c, seed, seed / 2 % 2);
    ck_assert_uint_eq(c.device->ops->free_bytes(c.device), before);
    moe_device_close(c.device);
}
END_TEST

START_TEST(every_kernel_set_has_its_bits)
{
    for (size_t i = 0; i < moe_n_kernel_sets; i++) {
        struct device_case c = {.kernels = moe_kernel_sets[i]->name, .multiple = 1};
        const struct moe_device_options options = {.spec = "host", .kernels = c.kernels};
        if (!moe_kernel_sets[i]->usable())
            continue;
        ck_assert_int_eq(moe_device_open(&c.device, &options, NULL), MOE_OK);
        contract_kernels(&c, 100 + i, false);
        contract_kernels(&c, 101 + i, true);
        moe_device_close(c.device);
    }
}
END_TEST

START_TEST(errors_are_kept)
{
    const struct device_case c = {.device = open_host("host:fail_copy=1")};
    contract_error_is_kept(&c, "device 'host': copy 1 of 8 bytes failed, as fail_copy asks");
    moe_device_close(c.device);
}
END_TEST

/* The copies before the one that fails land, the later ones do not. */
START_TEST(the_copy_that_was_asked_for_fails)
{
    enum { N = 8 };
    struct moe_device *device = open_host("host:fail_copy=4");
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *event = device_event(device);
    struct moe_err err;
    char *from = device_alloc(device, MOE_MEMORY_PINNED, N), *to;
    to = device_alloc(device, MOE_MEMORY_DEVICE, N);
    memset(to, 0, N); /* an address like any other, here */
    memset(from, 1, N);
    for (int i = 0; i < N; i++)
        ops->copy(device, i % 2 ? MOE_STREAM_UP : MOE_STREAM_EXPERTS, to + i, from + i, 1,
                  MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_UP, event);
    ck_assert_int_eq(ops->sync(device, event, &err), MOE_ERR_IO);
    ck_assert_str_eq(err.text, "device 'host': copy 4 of 1 bytes failed, as fail_copy asks");
    ck_assert_int_eq(to[1], 1);
    ck_assert(to[3] == 0 && to[5] == 0 && to[7] == 0);
    ops->event_free(device, event);
    moe_device_close(device);
}
END_TEST

/* What the next waiting call says after `work`. */
static void says(void (*work)(struct moe_device *device, char *memory, char *pinned),
                 const char *text)
{
    struct moe_device *device = open_host("host");
    struct moe_event *event = device_event(device);
    struct moe_err err = {0};
    char *memory = device_alloc(device, MOE_MEMORY_DEVICE, 1000);
    char *pinned = device_alloc(device, MOE_MEMORY_PINNED, 1000);
    work(device, memory, pinned);
    for (uint32_t i = 0; i < MOE_N_STREAMS; i++) {
        device->ops->record(device, (enum moe_stream)i, event);
        (void)device->ops->sync(device, event, &err);
    }
    ck_assert_int_eq(err.status, MOE_ERR_CHECK);
    ck_assert_str_eq(err.text, text);
    device->ops->event_free(device, event);
    moe_device_close(device);
}

static void copy_too_far(struct moe_device *device, char *memory, char *pinned)
{
    device->ops->copy(device, MOE_STREAM_UP, memory + 500, pinned, 501, MOE_MEMORY_PINNED);
}

static void copy_from_too_far(struct moe_device *device, char *memory, char *pinned)
{
    device->ops->copy(device, MOE_STREAM_DOWN, pinned, memory + 1, 1000, MOE_MEMORY_PINNED);
}

static void copy_of_unpinned(struct moe_device *device, char *memory, char *pinned)
{
    (void)pinned;
    char here = 0;
    device->ops->copy(device, MOE_STREAM_UP, memory, &here, 1, MOE_MEMORY_PINNED);
}

static void copy_to_released(struct moe_device *device, char *memory, char *pinned)
{
    device->ops->release(device, MOE_MEMORY_DEVICE, memory);
    device->ops->copy(device, MOE_STREAM_UP, memory, pinned, 1, MOE_MEMORY_PINNED);
}

static void release_twice(struct moe_device *device, char *memory, char *pinned)
{
    (void)memory;
    device->ops->release(device, MOE_MEMORY_PINNED, pinned);
    device->ops->release(device, MOE_MEMORY_PINNED, pinned);
}

static void expert_of_the_host(struct moe_device *device, char *memory, char *pinned)
{
    const struct moe_matrix w = {pinned, MOE_Q8, 2, 32};
    const struct moe_expert_weights weights = {w, w, w};
    const struct moe_activations a = {
        .n = 1, .ffn_x = (float *)memory, .ffn_h = (float *)memory, .ffn_y = (float *)memory};
    device->ops->expert(device, &(struct moe_expert_job){&weights, 0, 1, &a});
}

static void combine_too_many(struct moe_device *device, char *memory, char *pinned)
{
    (void)pinned;
    const struct moe_llm_config config = {.d_model = 10, .top_k = 1};
    const struct moe_activations a = {.n = 26,
                                      .x = (float *)memory,
                                      .out = (float *)memory,
                                      .weight = (float *)memory,
                                      .row = (uint32_t *)memory,
                                      .ffn_y = (float *)memory};
    device->ops->combine(device, &(struct moe_combine_job){&config, &a});
}

static void attend_past_the_context(struct moe_device *device, char *memory, char *pinned)
{
    (void)memory;
    (void)pinned;
    const struct moe_llm_config config = {.d_model = 10, .top_k = 1};
    const struct moe_llm_layer layer = {.router.rows = 1};
    const struct moe_activations a = {.n = 2, .length = 3};
    device->ops->attend(device, &(struct moe_attend_job){
                                    .config = &config, .layer = &layer, .context = 4, .a = &a});
}

START_TEST(what_leaves_its_memory_is_found)
{
    says(copy_too_far, "copy of 501 bytes leaves what is allocated of device memory");
    says(copy_from_too_far, "copy of 1000 bytes leaves what is allocated of device memory");
    says(copy_of_unpinned, "copy of 1 bytes leaves what is allocated of pinned memory");
    says(copy_to_released, "copy of 1 bytes leaves what is allocated of device memory");
    says(release_twice, "device 'host': release of pinned memory that is not allocated");
    says(expert_of_the_host,
         "kernel 'expert': 'w1' of 68 bytes leaves what is allocated of device memory");
    says(combine_too_many,
         "kernel 'combine': 'x' of 1040 bytes leaves what is allocated of device memory");
    says(attend_past_the_context, "kernel 'attend': 3 tokens and 2 more exceed the context of 4");
}
END_TEST

START_TEST(times_follow_the_formula)
{
    const struct moe_host_options none = {.memory_bytes = 1},
                                  set = {.link_gb_per_s = 16,
                                         .pageable_gb_per_s = 4,
                                         .compute_gb_per_s = 100,
                                         .compute_gflops = 2000,
                                         .copy_us = 1.5,
                                         .launch_us = 5},
                                  link = {.link_gb_per_s = 16};
    ck_assert_uint_eq(moe_host_copy_ns(&none, 1u << 30, MOE_MEMORY_PINNED), 0);
    ck_assert_uint_eq(moe_host_copy_ns(&set, 0, MOE_MEMORY_PINNED), 1500);
    ck_assert_uint_eq(moe_host_copy_ns(&set, 32000000, MOE_MEMORY_PINNED), 2001500);
    ck_assert_uint_eq(moe_host_copy_ns(&set, 32000000, MOE_MEMORY_PAGEABLE), 8001500);
    ck_assert_uint_eq(moe_host_copy_ns(&link, 32000000, MOE_MEMORY_PAGEABLE), 2000000);
    ck_assert_uint_eq(moe_host_copy_ns(&link, 32000000, MOE_MEMORY_DEVICE), 0);
    ck_assert_uint_eq(moe_host_copy_ns(&(struct moe_host_options){.compute_gb_per_s = 64}, 32000000,
                                       MOE_MEMORY_DEVICE),
                      1000000);
    ck_assert_uint_eq(moe_host_copy_ns(&set, 24, MOE_MEMORY_PINNED), 1502); /* 1.5 ns and more */
    struct moe_host_load load = {.bytes = 1000000, .flops = 1e9, .n_tokens = 1};
    ck_assert_uint_eq(moe_host_kernel_ns(&none, &load), 0);
    ck_assert_uint_eq(moe_host_kernel_ns(&set, &load), 5000 + 10000);
    load.n_tokens = 2;
    ck_assert_uint_eq(moe_host_kernel_ns(&set, &load), 5000 + 500000);
    load.flops = 1e6;
    ck_assert_uint_eq(moe_host_kernel_ns(&set, &load), 5000 + 10000);
    const struct moe_host_options slow = {.link_gb_per_s = 1e-300, .copy_us = 1e6};
    ck_assert_uint_eq(moe_host_copy_ns(&slow, UINT64_MAX, MOE_MEMORY_PINNED), 8640000000000000);
}
END_TEST

START_TEST(loads_are_weights_and_cache)
{
    struct moe_llm_config c = {.n_heads = 4, .n_kv_heads = 2, .head_dim = 8};
    struct moe_llm_layer l = {.q = {NULL, MOE_BF16, 32, 16},
                              .k = {NULL, MOE_BF16, 16, 16},
                              .v = {NULL, MOE_BF16, 16, 16},
                              .o = {NULL, MOE_BF16, 16, 32},
                              .router = {NULL, MOE_F32, 3, 16}};
    const struct moe_activations a = {.n = 2, .length = 10};
    struct moe_attend_job job = {.config = &c, .layer = &l, .a = &a};
    struct moe_host_load load = moe_host_attend_load(&job);
    const double weights = 32 * 16 * 2 + 16 * 16 * 2 + 3 * 16;
    ck_assert_uint_eq(load.bytes,
                      2 * (32 * 16 * 2 + 16 * 16 * 2) + 4 * 3 * 16 + 2 * 4 * 2 * 8 * 12);
    ck_assert(load.flops == 2 * weights * 2 + 4 * 4 * 8 * (11 + 12));
    ck_assert_uint_eq(load.n_tokens, 2);
    c.sliding_window = 5;
    job.next_router = &l.router;
    load = moe_host_attend_load(&job);
    ck_assert_uint_eq(load.bytes,
                      2 * (32 * 16 * 2 + 16 * 16 * 2) + 2 * 4 * 3 * 16 + 2 * 4 * 2 * 8 * 5);
    const struct moe_matrix w = {NULL, MOE_F16, 7, 9};
    const struct moe_expert_weights e = {w, w, w};
    load = moe_host_expert_load(&(struct moe_expert_job){&e, 0, 5, &a});
    ck_assert_uint_eq(load.bytes, 3 * 7 * 9 * 2);
    ck_assert(load.flops == 2 * 3 * 7 * 9 * 5);
    load = moe_host_head_load(&(struct moe_head_job){.head = &w});
    ck_assert_uint_eq(load.bytes, 7 * 9 * 2);
    ck_assert_uint_eq(load.n_tokens, 1);
}
END_TEST

/* No copy ends before its time; and where the machine kept up, a row of them takes exactly the sum:
 * late wake-ups do not add up. */
START_TEST(set_times_hold)
{
    enum { N = 12, BYTES = 1000 };
    const uint64_t each = 2000000 + BYTES;
    struct moe_device *device = open_host("host:copy_us=2000,link_gb_per_s=1");
    const struct moe_device_ops *ops = device->ops;
    void *memory = device_alloc(device, MOE_MEMORY_DEVICE, BYTES);
    void *pinned = device_alloc(device, MOE_MEMORY_PINNED, BYTES);
    struct moe_event *event[N];
    int exact = 0;
    memset(pinned, 0, BYTES);
    const uint64_t began = moe_clock_ns();
    for (int i = 0; i < N; i++) {
        event[i] = device_event(device);
        ops->copy(device, MOE_STREAM_UP, memory, pinned, BYTES, MOE_MEMORY_PINNED);
        ops->record(device, MOE_STREAM_UP, event[i]);
    }
    device_sync(device, event[N - 1]);
    ck_assert_uint_ge(moe_clock_ns() - began, N * each);
    for (int i = 0; i < N; i++) {
        const uint64_t before = i ? ops->event_ns(device, event[i - 1]) : began;
        ck_assert_uint_ge(ops->event_ns(device, event[i]) - before, each);
        exact += ops->event_ns(device, event[i]) - before == each;
    }
    ck_assert_int_gt(exact, 0);
    for (int i = 0; i < N; i++)
        ops->event_free(device, event[i]);
    moe_device_close(device);
}
END_TEST

/* A kernel that waited for a copy starts at that copy's end; copies either way have a link each. */
START_TEST(set_times_follow_events)
{
    const uint64_t copy = 3000000, launch = 1000000;
    struct moe_device *device = open_host("host:copy_us=3000,launch_us=1000");
    const struct moe_device_ops *ops = device->ops;
    char *memory = device_alloc(device, MOE_MEMORY_DEVICE, 512);
    void *pinned = device_alloc(device, MOE_MEMORY_PINNED, 2);
    struct moe_event *up = device_event(device), *down = device_event(device),
                     *kernel = device_event(device);
    const struct moe_llm_config config = {.d_model = 1, .top_k = 1};
    const struct moe_activations a = {.n = 0};
    memset(pinned, 0, 2);
    const uint64_t began = moe_clock_ns();
    ops->copy(device, MOE_STREAM_UP, memory, pinned, 1, MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_UP, up);
    ops->wait(device, MOE_STREAM_COMPUTE, up);
    ops->combine(device, &(struct moe_combine_job){&config, &a});
    ops->record(device, MOE_STREAM_COMPUTE, kernel);
    ops->copy(device, MOE_STREAM_DOWN, (char *)pinned + 1, memory + 256, 1, MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_DOWN, down);
    device_sync(device, kernel);
    device_sync(device, down);
    ck_assert_uint_ge(ops->event_ns(device, up), began + copy);
    ck_assert_uint_ge(ops->event_ns(device, down), began + copy);
    ck_assert_uint_ge(ops->event_ns(device, kernel), ops->event_ns(device, up) + launch);
    const uint64_t pageable = moe_clock_ns();
    ops->copy(device, MOE_STREAM_UP, memory, &(char){1}, 1, MOE_MEMORY_PAGEABLE);
    ck_assert_uint_ge(moe_clock_ns(), pageable + copy); /* its caller waits */
    ck_assert_int_eq(memory[0], 1);
    ops->event_free(device, up);
    ops->event_free(device, down);
    ops->event_free(device, kernel);
    moe_device_close(device);
}
END_TEST

/* Delays are those of seed and stream, in the order of the operations. */
START_TEST(delays_hold)
{
    enum { N = 10 };
    struct moe_device *device = open_host("host:delay_us=300,seed=7");
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *event[N];
    struct moe_rng rng;
    moe_rng_init(&rng, moe_mix64(moe_mix64(7) + MOE_STREAM_DOWN));
    uint64_t before = moe_clock_ns();
    for (int i = 0; i < N; i++) {
        event[i] = device_event(device);
        ops->record(device, MOE_STREAM_DOWN, event[i]);
    }
    for (int i = 0; i < N; i++) {
        device_sync(device, event[i]);
        before += moe_rng_below(&rng, 300001);
        ck_assert_uint_ge(ops->event_ns(device, event[i]), before);
        before = ops->event_ns(device, event[i]);
        ops->event_free(device, event[i]);
    }
    moe_device_close(device);
}
END_TEST

/* More than a queue holds, of operations that take longer than to queue them; a wait for an event
 * of long ago. */
START_TEST(full_queues_make_their_callers_wait)
{
    enum { N = 3 * MOE_HOST_QUEUE };
    struct moe_device *device = open_host("host:copy_us=20");
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *early = device_event(device), *late = device_event(device);
    uint32_t *memory = device_alloc(device, MOE_MEMORY_DEVICE, N * sizeof *memory);
    uint32_t *pinned = device_alloc(device, MOE_MEMORY_PINNED, N * sizeof *pinned);
    ops->record(device, MOE_STREAM_UP, early);
    for (uint32_t i = 0; i < N; i++) {
        pinned[i] = i;
        ops->copy(device, MOE_STREAM_UP, memory + i, pinned + i, sizeof *memory, MOE_MEMORY_PINNED);
    }
    ops->record(device, MOE_STREAM_UP, late);
    ops->wait(device, MOE_STREAM_DOWN, late);
    ops->wait(device, MOE_STREAM_DOWN, early);
    ops->record(device, MOE_STREAM_DOWN, early);
    device_sync(device, early);
    for (uint32_t i = 0; i < N; i++)
        ck_assert_uint_eq(memory[i], i);
    ck_assert_uint_ge(ops->event_ns(device, early), ops->event_ns(device, late));
    ops->event_free(device, early);
    ops->event_free(device, late);
    moe_device_close(device);
}
END_TEST

/* Who waits for routes is woken by an error that comes later; and the first error stays. */
START_TEST(an_error_wakes_who_waits_for_routes)
{
    struct moe_device *device = open_host("host:copy_us=3000,fail_copy=2");
    const struct moe_device_ops *ops = device->ops;
    struct moe_err err;
    char *memory = device_alloc(device, MOE_MEMORY_DEVICE, 8);
    uint64_t *flag = device_alloc(device, MOE_MEMORY_PINNED, sizeof *flag);
    const struct moe_route_box box = {.flag = flag, .ticket = 1};
    *flag = 0;
    ops->copy(device, MOE_STREAM_UP, memory, flag, 8, MOE_MEMORY_PINNED);
    ops->copy(device, MOE_STREAM_UP, memory, flag, 8, MOE_MEMORY_PINNED);
    ck_assert_int_eq(ops->routes_wait(device, &box, &err), MOE_ERR_IO);
    ops->release(device, MOE_MEMORY_DEVICE, memory + 1);
    ck_assert_int_eq(ops->routes_wait(device, &box, &err), MOE_ERR_IO);
    moe_device_close(device);
}
END_TEST

struct feeder {
    struct moe_device *device;
    enum moe_stream stream;
    char *memory;
    enum moe_memory kind;
};

static void *feed(void *context)
{
    const struct feeder *f = context;
    static const char bytes[64] = {1, 2, 3};
    char *from = device_alloc(f->device, MOE_MEMORY_PINNED, sizeof bytes);
    memcpy(from, bytes, sizeof bytes);
    for (int i = 0; i < 500; i++)
        f->device->ops->copy(f->device, f->stream, f->memory, from, sizeof bytes, f->kind);
    device_finish(f->device, f->stream);
    ck_assert(memcmp(f->memory, bytes, sizeof bytes) == 0);
    f->device->ops->release(f->device, MOE_MEMORY_PINNED, from);
    return NULL;
}

/* A thread a stream, as the contract allows. */
START_TEST(threads_may_feed_a_stream_each)
{
    struct moe_device *device = open_host("host");
    struct feeder feeder[2] = {{device, MOE_STREAM_EXPERTS, NULL, MOE_MEMORY_PINNED},
                               {device, MOE_STREAM_UP, NULL, MOE_MEMORY_PAGEABLE}};
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) {
        feeder[i].memory = device_alloc(device, MOE_MEMORY_DEVICE, 64);
        ck_assert_int_eq(pthread_create(&thread[i], NULL, feed, &feeder[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    moe_device_close(device);
}
END_TEST

static enum moe_status count_up(void *context, const void *payload, struct moe_err *err)
{
    (void)err;
    *(int *)context += *(const int *)payload;
    return MOE_OK;
}

START_TEST(closing_waits_for_what_is_queued)
{
    struct moe_host_streams *streams = NULL;
    struct moe_event *event = NULL;
    int sum = 0;
    ck_assert_int_eq(moe_host_streams_new(&streams, &sum, 20000, 1, NULL), MOE_OK);
    ck_assert_int_eq(moe_host_event_new(&event, NULL), MOE_OK);
    for (int i = 1; i <= 100; i++) {
        const struct moe_host_work work = {
            .payload = &i, .payload_bytes = sizeof i, .run = count_up};
        moe_host_streams_push(streams, (enum moe_stream)(i % 2), &work);
        moe_host_event_record(streams, (enum moe_stream)(i % 2), event);
        moe_host_event_wait(streams, (enum moe_stream)(1 - i % 2), event);
    }
    moe_host_event_free(streams, event); /* its last record frees it */
    moe_host_streams_free(streams);
    ck_assert_int_eq(sum, 5050);
}
END_TEST

START_TEST(arena_is_first_fit_and_joins_what_is_freed)
{
    struct moe_host_memory m;
    struct moe_err err;
    void *p[4], *out = NULL;
    ck_assert_int_eq(moe_host_memory_init(&m, 1 << 20, &err), MOE_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, 1 << 18, &p[i], &err),
                         MOE_OK);
    ck_assert_uint_eq(moe_host_memory_left(&m), 0);
    ck_assert(moe_host_memory_free(&m, MOE_MEMORY_DEVICE, p[2]));
    ck_assert(moe_host_memory_free(&m, MOE_MEMORY_DEVICE, p[0]));
    ck_assert(!moe_host_memory_free(&m, MOE_MEMORY_DEVICE, p[0]));
    ck_assert(!moe_host_memory_free(&m, MOE_MEMORY_DEVICE, (char *)p[1] + 256));
    ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, (1 << 18) + 1, &out, &err),
                     MOE_ERR_MEMORY);
    ck_assert_ptr_null(out);
    ck_assert_str_eq(err.text, "out of device memory for 256 KiB: 512 KiB of 1.0 MiB are free, "
                               "at most 256 KiB in one piece; keep fewer experts on the device, "
                               "or give it a larger memory_bytes");
    ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, UINT64_MAX, &out, &err),
                     MOE_ERR_MEMORY);
    ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_PAGEABLE, 1, &out, &err), MOE_ERR_USAGE);
    ck_assert(moe_host_memory_free(&m, MOE_MEMORY_DEVICE, p[1]));
    ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, 3 << 18, &out, &err), MOE_OK);
    ck_assert_ptr_eq(out, p[0]); /* three pieces are one again */
    ck_assert(!moe_host_memory_holds(&m, MOE_MEMORY_DEVICE, (char *)out - 1, 1));
    ck_assert(moe_host_memory_holds(&m, MOE_MEMORY_DEVICE, (char *)out + 1, (3 << 18) - 1));
    ck_assert(!moe_host_memory_holds(&m, MOE_MEMORY_DEVICE, (char *)out + 1, 3 << 18));
    ck_assert(!moe_host_memory_holds(&m, MOE_MEMORY_DEVICE, out, UINT64_MAX));
    moe_host_memory_release(&m);
}
END_TEST

/* Random allocations and releases: aligned, apart, counted; all given back, all is there. */
/* As on a card: nothing has to be found for it when it is first written to. */
START_TEST(memory_is_there_when_it_is_allocated)
{
    enum { PAGES = 64 };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct moe_device *device = open_host("host:memory_bytes=16MiB");
    unsigned char there[PAGES] = {0};
    char *of_its_own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool able = madvise(of_its_own, page, MADV_POPULATE_WRITE) == 0;
    char *at = device_alloc(device, MOE_MEMORY_DEVICE, (PAGES + 2) * page);
    char *first = at + (page - (uintptr_t)at % page) % page;
    ck_assert_int_eq(mincore(first, PAGES * page, there), 0);
    for (int i = 0; i < PAGES && able; i++)
        ck_assert_int_eq(there[i] & 1, 1);
    device->ops->release(device, MOE_MEMORY_DEVICE, at);
    munmap(of_its_own, page);
    moe_device_close(device);
}
END_TEST

START_TEST(arena_keeps_its_accounts)
{
    enum { N = 200, STEPS = 20000, ARENA = 1 << 20 };
    struct moe_host_memory m;
    struct moe_rng rng;
    static unsigned char owner[ARENA / 256];
    struct {
        char *at;
        uint64_t bytes;
    } block[N] = {{0}};
    moe_rng_init(&rng, 9);
    memset(owner, 0, sizeof owner);
    ck_assert_int_eq(moe_host_memory_init(&m, ARENA, NULL), MOE_OK);
    uint64_t used = 0;
    for (int step = 0; step < STEPS; step++) {
        const size_t i = (size_t)moe_rng_below(&rng, N);
        const uint64_t units = (block[i].bytes + 255) / 256;
        void *at = NULL;
        if (block[i].at) {
            ck_assert(moe_host_memory_free(&m, MOE_MEMORY_DEVICE, block[i].at));
            memset(owner + (block[i].at - m.arena) / 256, 0, units);
            used -= units * 256;
            block[i].at = NULL;
        } else {
            block[i].bytes = 1 + moe_rng_below(&rng, 20000);
            if (moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, block[i].bytes, &at, NULL))
                continue;
            block[i].at = at;
            ck_assert_uint_eq((uintptr_t)at % 256, 0);
            for (uint64_t k = 0; k < (block[i].bytes + 255) / 256; k++, used += 256)
                ck_assert(owner[(block[i].at - m.arena) / 256 + (ptrdiff_t)k]++ == 0);
        }
        ck_assert_uint_eq(moe_host_memory_left(&m), ARENA - used);
    }
    for (size_t i = 0; i < N; i++)
        if (block[i].at)
            ck_assert(moe_host_memory_free(&m, MOE_MEMORY_DEVICE, block[i].at));
    void *all;
    ck_assert_int_eq(moe_host_memory_alloc(&m, MOE_MEMORY_DEVICE, ARENA, &all, NULL), MOE_OK);
    moe_host_memory_release(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device_host");
    TCase *tc = tcase_create("device_host");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, contract_holds, 0, N_MANNERS);
    tcase_add_loop_test(tc, kernels_have_the_bits_of_the_cpu, 0, N_MANNERS);
    tcase_add_test(tc, every_kernel_set_has_its_bits);
    tcase_add_test(tc, errors_are_kept);
    tcase_add_test(tc, the_copy_that_was_asked_for_fails);
    tcase_add_test(tc, what_leaves_its_memory_is_found);
    tcase_add_test(tc, times_follow_the_formula);
    tcase_add_test(tc, loads_are_weights_and_cache);
    tcase_add_test(tc, set_times_hold);
    tcase_add_test(tc, set_times_follow_events);
    tcase_add_test(tc, delays_hold);
    tcase_add_test(tc, an_error_wakes_who_waits_for_routes);
    tcase_add_test(tc, full_queues_make_their_callers_wait);
    tcase_add_test(tc, threads_may_feed_a_stream_each);
    tcase_add_test(tc, closing_waits_for_what_is_queued);
    tcase_add_test(tc, arena_is_first_fit_and_joins_what_is_freed);
    tcase_add_test(tc, arena_keeps_its_accounts);
    tcase_add_test(tc, memory_is_there_when_it_is_allocated);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
