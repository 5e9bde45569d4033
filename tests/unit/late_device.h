/* A device without kernels that carries out every queued copy as late as allowed: when the host
 * waits for an event behind it, or at the end. It counts allocations and refuses those beyond its
 * limit. */
#ifndef MOELAB_TESTS_LATE_DEVICE_H
#define MOELAB_TESTS_LATE_DEVICE_H

#include "exec/device.h"
#include "tests/unit/run_suite.h"

#include <stdlib.h>
#include <string.h>

enum { LATE_QUEUE = 1 << 16 };

struct moe_event {
    uint64_t at; /* number of copies queued before it */
};

struct late_copy {
    char *to;
    const char *from;
    uint64_t bytes;
};

struct late_device {
    struct moe_device device;
    struct late_copy queue[LATE_QUEUE];
    uint64_t n_queued, n_done;
    uint64_t pinned_bytes, pinned_limit; /* allocated now; the most allowed */
    uint64_t n_allocs, n_live, n_events; /* allocations of both kinds: all, live; events: live */
    uint64_t n_pageable, n_pinned;       /* copies from this kind of memory */
};

struct late_block {
    uint64_t bytes, unused;
    char data[];
};

static inline struct late_device *late_of(struct moe_device *device)
{
    return (struct late_device *)device;
}

static inline enum moe_status late_alloc(struct moe_device *device, enum moe_memory kind,
                                         uint64_t bytes, void **out, struct moe_err *err)
{
    struct late_device *d = late_of(device);
    if (kind == MOE_MEMORY_PINNED && d->pinned_bytes + bytes > d->pinned_limit)
        return moe_fail(err, MOE_ERR_MEMORY, "pinned memory: no");
    struct late_block *block = malloc(sizeof *block + bytes);
    ck_assert_ptr_nonnull(block);
    *block = (struct late_block){.bytes = kind == MOE_MEMORY_PINNED ? bytes : 0};
    if (bytes < 1 << 24) /* larger blocks are left untouched, so they take no pages */
        memset(block->data, 0x7f, bytes);
    d->pinned_bytes += block->bytes;
    d->n_allocs++;
    d->n_live++;
    *out = block->data;
    return MOE_OK;
}

static inline void late_release(struct moe_device *device, enum moe_memory kind, void *memory)
{
    struct late_device *d = late_of(device);
    (void)kind;
    if (!memory)
        return;
    struct late_block *block = (struct late_block *)((char *)memory - sizeof *block);
    d->pinned_bytes -= block->bytes;
    d->n_live--;
    free(block);
}

static inline enum moe_status late_event_new(struct moe_device *device, struct moe_event **out,
                                             struct moe_err *err)
{
    (void)err;
    *out = calloc(1, sizeof **out);
    ck_assert_ptr_nonnull(*out);
    late_of(device)->n_events++;
    return MOE_OK;
}

static inline void late_event_free(struct moe_device *device, struct moe_event *event)
{
    late_of(device)->n_events--;
    free(event);
}

static inline void late_record(struct moe_device *device, enum moe_stream stream,
                               struct moe_event *event)
{
    ck_assert_int_eq(stream, MOE_STREAM_EXPERTS);
    event->at = late_of(device)->n_queued;
}

static inline void late_run(struct late_device *d, uint64_t end)
{
    for (; d->n_done < end; d->n_done++) {
        struct late_copy *c = &d->queue[d->n_done % LATE_QUEUE];
        memcpy(c->to, c->from, c->bytes);
    }
}

static inline enum moe_status late_sync(struct moe_device *device, struct moe_event *event,
                                        struct moe_err *err)
{
    (void)err;
    late_run(late_of(device), event->at);
    return MOE_OK;
}

static inline void late_copy_queue(struct moe_device *device, enum moe_stream stream, void *to,
                                   const void *from, uint64_t bytes, enum moe_memory host)
{
    struct late_device *d = late_of(device);
    ck_assert_int_eq(stream, MOE_STREAM_EXPERTS);
    ck_assert(host == MOE_MEMORY_PINNED || host == MOE_MEMORY_PAGEABLE);
    ck_assert_uint_lt(d->n_queued - d->n_done, LATE_QUEUE);
    d->queue[d->n_queued++ % LATE_QUEUE] = (struct late_copy){to, from, bytes};
    if (host == MOE_MEMORY_PAGEABLE)
        late_run(d, d->n_queued);
    d->n_pageable += host == MOE_MEMORY_PAGEABLE;
    d->n_pinned += host == MOE_MEMORY_PINNED;
}

static const struct moe_device_ops late_ops = {
    .name = "late",
    .alloc = late_alloc,
    .release = late_release,
    .event_new = late_event_new,
    .event_free = late_event_free,
    .record = late_record,
    .sync = late_sync,
    .copy = late_copy_queue,
};

static inline struct late_device *late_open(void)
{
    struct late_device *d = calloc(1, sizeof *d);
    ck_assert_ptr_nonnull(d);
    d->device.ops = &late_ops;
    d->pinned_limit = UINT64_MAX;
    return d;
}

static inline void late_close(struct late_device *d)
{
    ck_assert_uint_eq(d->n_live, 0);
    ck_assert_uint_eq(d->n_events, 0);
    free(d);
}

#endif
