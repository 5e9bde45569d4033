/* Tests of the contract of exec/device.h on any open device, except kernels (device_kernels.h). */
#ifndef MOELAB_TESTS_DEVICE_CONTRACT_H
#define MOELAB_TESTS_DEVICE_CONTRACT_H

#include "base/progress.h"
#include "base/rng.h"
#include "exec/device.h"
#include "tests/unit/run_suite.h"

#include <stdlib.h>
#include <string.h>

struct device_case {
    struct moe_device *device;
    const char *kernels;     /* CPU set to compare with */
    double tolerance;        /* error of kernels relative to the largest value; 0: same bits */
    uint32_t multiple;       /* that the device's kernels require of D, F and hd, or 1 */
    uint64_t clock_slack_ns; /* allowed between event_ns and moe_clock_ns */
};

static inline void *device_alloc(struct moe_device *device, enum moe_memory kind, uint64_t bytes)
{
    void *out = NULL;
    struct moe_err err = {0};
    enum moe_status s = device->ops->alloc(device, kind, bytes, &out, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    ck_assert_ptr_nonnull(out);
    return out;
}

static inline struct moe_event *device_event(struct moe_device *device)
{
    struct moe_event *event = NULL;
    struct moe_err err = {0};
    enum moe_status s = device->ops->event_new(device, &event, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    return event;
}

static inline void device_sync(struct moe_device *device, struct moe_event *event)
{
    struct moe_err err = {0};
    enum moe_status s = device->ops->sync(device, event, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    ck_assert(device->ops->done(device, event));
}

/* Waits for all that is queued on the stream. */
static inline void device_finish(struct moe_device *device, enum moe_stream stream)
{
    struct moe_event *event = device_event(device);
    device->ops->record(device, stream, event);
    device_sync(device, event);
    device->ops->event_free(device, event);
}

/* Copies and waits, through pageable memory. */
static inline void device_send(struct moe_device *device, void *to, const void *from, size_t bytes)
{
    device->ops->copy(device, MOE_STREAM_UP, to, from, bytes, MOE_MEMORY_PAGEABLE);
    device_finish(device, MOE_STREAM_UP);
}

/* Waits for the kernels, then copies and waits. */
static inline void device_fetch(struct moe_device *device, void *to, const void *from, size_t bytes)
{
    device_finish(device, MOE_STREAM_COMPUTE);
    device->ops->copy(device, MOE_STREAM_DOWN, to, from, bytes, MOE_MEMORY_PAGEABLE);
    device_finish(device, MOE_STREAM_DOWN);
}

static inline void random_bytes(struct moe_rng *rng, unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)moe_rng_next(rng);
}

static inline void contract_memory(const struct device_case *c)
{
    enum { N = 5 };
    static const uint64_t bytes[N] = {1, 255, 4096, 100001, 3 << 20};
    struct moe_device *device = c->device;
    const uint64_t before = device->ops->free_bytes(device);
    ck_assert_uint_le(before, device->memory_bytes);
    for (int kind = MOE_MEMORY_DEVICE; kind <= MOE_MEMORY_PINNED; kind++) {
        void *p[N];
        for (size_t i = 0; i < N; i++) {
            p[i] = device_alloc(device, (enum moe_memory)kind, bytes[i]);
            ck_assert_uint_eq((uintptr_t)p[i] % 256, 0);
            for (size_t k = 0; k < i; k++) /* no two overlap */
                ck_assert((uintptr_t)p[i] + bytes[i] <= (uintptr_t)p[k] ||
                          (uintptr_t)p[k] + bytes[k] <= (uintptr_t)p[i]);
        }
        if (kind == MOE_MEMORY_DEVICE)
            ck_assert_uint_le(device->ops->free_bytes(device), before - (3 << 20));
        else
            memset(p[N - 1], 1, bytes[N - 1]);
        for (size_t i = 0; i < N; i++)
            device->ops->release(device, (enum moe_memory)kind, p[i]);
        device->ops->release(device, (enum moe_memory)kind, NULL);
    }
}

static inline void contract_memory_runs_out(const struct device_case *c)
{
    struct moe_device *device = c->device;
    char byte = 7, back = 0, mark;
    void *p = &mark;
    struct moe_err err = {0};
    ck_assert_int_eq(
        device->ops->alloc(device, MOE_MEMORY_DEVICE, 2 * device->memory_bytes, &p, &err),
        MOE_ERR_MEMORY);
    ck_assert_ptr_eq(p, &mark);
    ck_assert_msg(strstr(err.text, "memory") && strstr(err.text, "free"), "%s", err.text);
    err = (struct moe_err){0};
    ck_assert_int_eq(device->ops->alloc(device, MOE_MEMORY_PINNED, UINT64_MAX / 4, &p, &err),
                     MOE_ERR_MEMORY);
    ck_assert_ptr_eq(p, &mark);
    ck_assert_msg(strstr(err.text, "pinned"), "%s", err.text);
    p = device_alloc(device, MOE_MEMORY_DEVICE, 1); /* after a refusal the device still works */
    device_send(device, p, &byte, 1);
    device_fetch(device, &back, p, 1);
    ck_assert_int_eq(back, 7);
    device->ops->release(device, MOE_MEMORY_DEVICE, p);
}

/* Copies of odd sizes at odd addresses, to and from every kind of host memory. Bytes beside them
 * must not change. */
static inline void contract_copies(const struct device_case *c)
{
    enum { ROOM = 1 << 20, ROUNDS = 24 };
    struct moe_device *device = c->device;
    struct moe_rng rng;
    moe_rng_init(&rng, 5);
    unsigned char *memory = device_alloc(device, MOE_MEMORY_DEVICE, ROOM);
    unsigned char *pinned = device_alloc(device, MOE_MEMORY_PINNED, ROOM);
    unsigned char *pageable = malloc(ROOM), *mirror = malloc(ROOM), *back = malloc(ROOM);
    ck_assert(pageable && mirror && back);
    random_bytes(&rng, mirror, ROOM);
    device_send(device, memory, mirror, ROOM);
    for (int i = 0; i < ROUNDS; i++) {
        const size_t to = moe_rng_below(&rng, ROOM), from = moe_rng_below(&rng, ROOM - to);
        const size_t bytes = i ? moe_rng_below(&rng, ROOM - to - from) : 0;
        const bool pin = i % 2, expert = i % 3 == 0;
        unsigned char *host = pin ? pinned : pageable;
        random_bytes(&rng, host + from, bytes);
        memcpy(mirror + to, host + from, bytes);
        const enum moe_stream stream = expert ? MOE_STREAM_EXPERTS : MOE_STREAM_UP;
        device->ops->copy(device, stream, memory + to, host + from, bytes,
                          pin ? MOE_MEMORY_PINNED : MOE_MEMORY_PAGEABLE);
        if (!pin) /* pageable: the call has read it on return */
            memset(host + from, 0xee, bytes);
        device_finish(device, stream);
        memset(host, 0xdd, ROOM);
        device->ops->copy(device, MOE_STREAM_DOWN, host, memory, ROOM,
                          pin ? MOE_MEMORY_PINNED : MOE_MEMORY_PAGEABLE);
        device_finish(device, MOE_STREAM_DOWN);
        ck_assert_msg(memcmp(host, mirror, ROOM) == 0, "round %d", i);
    }
    device_fetch(device, back, memory, ROOM);
    ck_assert(memcmp(back, mirror, ROOM) == 0);
    device->ops->release(device, MOE_MEMORY_DEVICE, memory);
    device->ops->release(device, MOE_MEMORY_PINNED, pinned);
    free(pageable);
    free(mirror);
    free(back);
}

/* Copies of odd sizes at odd addresses within device memory, on every stream. Bytes beside them
 * must not change. */
static inline void contract_copies_within(const struct device_case *c)
{
    enum { ROOM = 1 << 18, ROUNDS = 16 };
    struct moe_device *device = c->device;
    struct moe_rng rng;
    moe_rng_init(&rng, 6);
    unsigned char *from = device_alloc(device, MOE_MEMORY_DEVICE, ROOM);
    unsigned char *to = device_alloc(device, MOE_MEMORY_DEVICE, ROOM);
    unsigned char *source = malloc(ROOM), *mirror = malloc(ROOM), *back = malloc(ROOM);
    ck_assert(source && mirror && back);
    random_bytes(&rng, source, ROOM);
    random_bytes(&rng, mirror, ROOM);
    device_send(device, from, source, ROOM);
    device_send(device, to, mirror, ROOM);
    for (int i = 0; i < ROUNDS; i++) {
        const size_t at = moe_rng_below(&rng, ROOM), start = moe_rng_below(&rng, ROOM);
        const size_t room = ROOM - (at > start ? at : start);
        const size_t bytes = i ? moe_rng_below(&rng, room) : 0;
        const enum moe_stream stream = (enum moe_stream)(i % MOE_N_STREAMS);
        device->ops->copy(device, stream, to + at, from + start, bytes, MOE_MEMORY_DEVICE);
        device_finish(device, stream);
        memcpy(mirror + at, source + start, bytes);
        device_fetch(device, back, to, ROOM);
        ck_assert_msg(memcmp(back, mirror, ROOM) == 0, "round %d", i);
    }
    device_fetch(device, back, from, ROOM);
    ck_assert(memcmp(back, source, ROOM) == 0);
    device->ops->release(device, MOE_MEMORY_DEVICE, from);
    device->ops->release(device, MOE_MEMORY_DEVICE, to);
    free(source);
    free(mirror);
    free(back);
}

/* Copies a word up and down repeatedly; a wait that fails to order the streams shows in its value.
 */
static inline void contract_streams_are_ordered_by_events(const struct device_case *c)
{
    enum { ROUNDS = 300 };
    struct moe_device *device = c->device;
    const struct moe_device_ops *ops = device->ops;
    uint64_t *word = device_alloc(device, MOE_MEMORY_DEVICE, sizeof *word);
    uint64_t *up = device_alloc(device, MOE_MEMORY_PINNED, ROUNDS * sizeof *up);
    uint64_t *down = device_alloc(device, MOE_MEMORY_PINNED, ROUNDS * sizeof *down);
    struct moe_event *landed = device_event(device), *taken = device_event(device);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        up[i] = i * i;
        ops->wait(device, MOE_STREAM_UP, taken); /* not recorded in the first round: no wait */
        ops->copy(device, MOE_STREAM_UP, word, &up[i], sizeof *up, MOE_MEMORY_PINNED);
        ops->record(device, MOE_STREAM_UP, landed);
        ops->wait(device, MOE_STREAM_DOWN, landed);
        ops->copy(device, MOE_STREAM_DOWN, &down[i], word, sizeof *down, MOE_MEMORY_PINNED);
        ops->record(device, MOE_STREAM_DOWN, taken);
    }
    device_sync(device, taken);
    for (uint64_t i = 0; i < ROUNDS; i++)
        ck_assert_uint_eq(down[i], i * i);
    for (uint64_t i = 0; i < ROUNDS; i++) /* copies in one stream need no event */
        ops->copy(device, MOE_STREAM_EXPERTS, word, &up[i], sizeof *up, MOE_MEMORY_PINNED);
    device_finish(device, MOE_STREAM_EXPERTS);
    uint64_t last = 0;
    device_fetch(device, &last, word, sizeof last);
    ck_assert_uint_eq(last, (uint64_t)(ROUNDS - 1) * (ROUNDS - 1));
    ops->event_free(device, landed);
    ops->event_free(device, taken);
    ops->release(device, MOE_MEMORY_DEVICE, word);
    ops->release(device, MOE_MEMORY_PINNED, up);
    ops->release(device, MOE_MEMORY_PINNED, down);
}

/* A wait refers to the latest record before the call. If it referred to later records, the streams
 * would wait for each other for ever. */
static inline void contract_waits_mean_the_place_of_their_call(const struct device_case *c)
{
    struct moe_device *device = c->device;
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *e = device_event(device), *f = device_event(device);
    for (int i = 0; i < 50; i++) {
        ops->record(device, MOE_STREAM_UP, e);
        ops->wait(device, MOE_STREAM_DOWN, e);
        ops->record(device, MOE_STREAM_DOWN, f);
        ops->wait(device, MOE_STREAM_UP, f);
        ops->record(device, MOE_STREAM_UP, e);
    }
    device_sync(device, e);
    ck_assert(ops->done(device, f));
    ops->event_free(device, e);
    ops->event_free(device, f);
}

static inline void contract_events(const struct device_case *c)
{
    enum { N = 20, BYTES = 1 << 16 };
    struct moe_device *device = c->device;
    const struct moe_device_ops *ops = device->ops;
    struct moe_event *event[N];
    void *memory = device_alloc(device, MOE_MEMORY_DEVICE, BYTES);
    void *pinned = device_alloc(device, MOE_MEMORY_PINNED, BYTES);
    memset(pinned, 3, BYTES);
    const uint64_t began = moe_clock_ns();
    for (int i = 0; i < N; i++) {
        event[i] = device_event(device);
        device_sync(device, event[i]); /* never recorded: done */
        ops->copy(device, MOE_STREAM_UP, memory, pinned, BYTES, MOE_MEMORY_PINNED);
        ops->record(device, MOE_STREAM_UP, event[i]);
    }
    device_sync(device, event[N - 1]);
    const uint64_t ended = moe_clock_ns();
    for (int i = 0; i < N; i++) {
        ck_assert(ops->done(device, event[i]));
        const uint64_t ns = ops->event_ns(device, event[i]);
        ck_assert_uint_ge(ns + c->clock_slack_ns, began);
        ck_assert_uint_le(ns, ended + c->clock_slack_ns);
        if (i)
            ck_assert_uint_ge(ns, ops->event_ns(device, event[i - 1]));
    }
    for (int i = 0; i < N; i++)
        ops->event_free(device, event[i]);
    struct moe_event *lost = device_event(device); /* freed before it is reached */
    for (int i = 0; i < N; i++)
        ops->copy(device, MOE_STREAM_UP, memory, pinned, BYTES, MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_UP, lost);
    ops->event_free(device, lost);
    device_finish(device, MOE_STREAM_UP);
    ops->release(device, MOE_MEMORY_DEVICE, memory);
    ops->release(device, MOE_MEMORY_PINNED, pinned);
}

/* Expects the device's next copy to fail: every waiting call must then return that error, and none
 * may hang. */
static inline void contract_error_is_kept(const struct device_case *c, const char *text)
{
    struct moe_device *device = c->device;
    const struct moe_device_ops *ops = device->ops;
    uint64_t *word = device_alloc(device, MOE_MEMORY_DEVICE, sizeof *word);
    uint64_t *pinned = device_alloc(device, MOE_MEMORY_PINNED, 2 * sizeof *pinned);
    struct moe_event *event = device_event(device), *other = device_event(device);
    const struct moe_route_box box = {.flag = &pinned[1], .ticket = 1};
    struct moe_err err, again;
    pinned[0] = pinned[1] = 0;
    ops->copy(device, MOE_STREAM_EXPERTS, word, pinned, sizeof *word, MOE_MEMORY_PINNED);
    ops->record(device, MOE_STREAM_EXPERTS, event);
    ops->wait(device, MOE_STREAM_COMPUTE, event);
    ops->record(device, MOE_STREAM_COMPUTE, other);
    ck_assert_int_ne(ops->sync(device, event, &err), MOE_OK);
    ck_assert_msg(strstr(err.text, text), "%s", err.text);
    ck_assert_int_eq(ops->sync(device, other, &again), err.status);
    ck_assert_str_eq(again.text, err.text);
    ck_assert_int_eq(ops->routes_wait(device, &box, &again), err.status);
    ck_assert_str_eq(again.text, err.text);
    ops->event_free(device, event);
    ops->event_free(device, other);
    ops->release(device, MOE_MEMORY_DEVICE, word);
    ops->release(device, MOE_MEMORY_PINNED, pinned);
}

/* All tests except the one of errors, after which a device cannot be used. */
static inline void contract_all(const struct device_case *c)
{
    contract_memory(c);
    contract_memory_runs_out(c);
    contract_copies(c);
    contract_copies_within(c);
    contract_streams_are_ordered_by_events(c);
    contract_waits_mean_the_place_of_their_call(c);
    contract_events(c);
}

#endif
