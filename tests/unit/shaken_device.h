/* Wraps any device and adds random delays: before an operation it may queue a copy of random length
 * on the same stream, within memory that nothing else uses, or let the calling thread spin. So
 * streams and threads interleave in ever new orders, on a real GPU as well. If results differ from
 * those of the wrapped device, a wait is missing. Events, memory and errors are the wrapped
 * device's. */
#ifndef MOELAB_TESTS_SHAKEN_DEVICE_H
#define MOELAB_TESTS_SHAKEN_DEVICE_H

#include "base/progress.h"
#include "base/rng.h"
#include "tests/unit/device_contract.h"

struct shaken_device {
    struct moe_device device; /* must be first */
    struct moe_device *below;
    struct moe_rng rng[MOE_N_STREAMS]; /* a stream is used by one thread at a time */
    unsigned char *pinned, *memory;    /* bytes_most and 2 bytes_most for each stream */
    uint64_t bytes_most, linger_ns;    /* of one delay */
};

static inline struct shaken_device *shaken_of(struct moe_device *device)
{
    return (struct shaken_device *)device;
}

static inline void shaken_linger(uint64_t ns)
{
    const uint64_t end = moe_clock_ns() + ns;
    while (moe_clock_ns() < end)
        ;
}

static inline void shaken_delay(struct shaken_device *s, enum moe_stream stream)
{
    struct moe_rng *rng = &s->rng[stream];
    const uint64_t what = moe_rng_below(rng, 4), bytes = moe_rng_below(rng, s->bytes_most) + 1;
    unsigned char *host = s->pinned + (uint64_t)stream * s->bytes_most;
    unsigned char *memory = s->memory + 2 * (uint64_t)stream * s->bytes_most;
    if (what == 0)
        shaken_linger(moe_rng_below(rng, s->linger_ns + 1));
    if (what != 1)
        return;
    if (stream == MOE_STREAM_COMPUTE)
        s->below->ops->copy(s->below, stream, memory, memory + s->bytes_most, bytes,
                            MOE_MEMORY_DEVICE);
    else if (stream == MOE_STREAM_DOWN)
        s->below->ops->copy(s->below, stream, host, memory, bytes, MOE_MEMORY_PINNED);
    else
        s->below->ops->copy(s->below, stream, memory, host, bytes, MOE_MEMORY_PINNED);
}

static inline void shaken_close(struct moe_device *device)
{
    struct shaken_device *s = shaken_of(device);
    s->below->ops->release(s->below, MOE_MEMORY_PINNED, s->pinned);
    s->below->ops->release(s->below, MOE_MEMORY_DEVICE, s->memory);
    moe_device_close(s->below);
    free(s);
}

static inline enum moe_status shaken_alloc(struct moe_device *device, enum moe_memory kind,
                                           uint64_t bytes, void **out, struct moe_err *err)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->alloc(below, kind, bytes, out, err);
}

static inline void shaken_release(struct moe_device *device, enum moe_memory kind, void *memory)
{
    struct moe_device *below = shaken_of(device)->below;
    below->ops->release(below, kind, memory);
}

static inline uint64_t shaken_free_bytes(struct moe_device *device)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->free_bytes(below);
}

static inline enum moe_status shaken_event_new(struct moe_device *device, struct moe_event **out,
                                               struct moe_err *err)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->event_new(below, out, err);
}

static inline void shaken_event_free(struct moe_device *device, struct moe_event *event)
{
    struct moe_device *below = shaken_of(device)->below;
    below->ops->event_free(below, event);
}

static inline void shaken_record(struct moe_device *device, enum moe_stream stream,
                                 struct moe_event *event)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, stream);
    s->below->ops->record(s->below, stream, event);
}

static inline void shaken_wait(struct moe_device *device, enum moe_stream stream,
                               struct moe_event *event)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, stream);
    s->below->ops->wait(s->below, stream, event);
}

static inline bool shaken_done(struct moe_device *device, struct moe_event *event)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->done(below, event);
}

static inline enum moe_status shaken_sync(struct moe_device *device, struct moe_event *event,
                                          struct moe_err *err)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->sync(below, event, err);
}

static inline uint64_t shaken_event_ns(struct moe_device *device, struct moe_event *event)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->event_ns(below, event);
}

static inline void shaken_copy(struct moe_device *device, enum moe_stream stream, void *to,
                               const void *from, uint64_t bytes, enum moe_memory host)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, stream);
    s->below->ops->copy(s->below, stream, to, from, bytes, host);
}

static inline void shaken_attend(struct moe_device *device, const struct moe_attend_job *job)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, MOE_STREAM_COMPUTE);
    s->below->ops->attend(s->below, job);
}

static inline void shaken_expert(struct moe_device *device, const struct moe_expert_job *job)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, MOE_STREAM_COMPUTE);
    s->below->ops->expert(s->below, job);
}

static inline void shaken_combine(struct moe_device *device, const struct moe_combine_job *job)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, MOE_STREAM_COMPUTE);
    s->below->ops->combine(s->below, job);
}

static inline void shaken_head(struct moe_device *device, const struct moe_head_job *job)
{
    struct shaken_device *s = shaken_of(device);
    shaken_delay(s, MOE_STREAM_COMPUTE);
    s->below->ops->head(s->below, job);
}

static inline enum moe_status
shaken_routes_wait(struct moe_device *device, const struct moe_route_box *box, struct moe_err *err)
{
    struct moe_device *below = shaken_of(device)->below;
    return below->ops->routes_wait(below, box, err);
}

static const struct moe_device_ops shaken_ops = {
    .name = "shaken",
    .close = shaken_close,
    .alloc = shaken_alloc,
    .release = shaken_release,
    .free_bytes = shaken_free_bytes,
    .event_new = shaken_event_new,
    .event_free = shaken_event_free,
    .record = shaken_record,
    .wait = shaken_wait,
    .done = shaken_done,
    .sync = shaken_sync,
    .event_ns = shaken_event_ns,
    .copy = shaken_copy,
    .attend = shaken_attend,
    .expert = shaken_expert,
    .combine = shaken_combine,
    .head = shaken_head,
    .routes_wait = shaken_routes_wait,
};

/* Takes ownership of the device. A delay is a copy of at most bytes_most, or at most linger_ns
 * during which the caller spins. */
static inline struct moe_device *shaken_open(struct moe_device *below, uint64_t bytes_most,
                                             uint64_t linger_ns, uint64_t seed)
{
    struct shaken_device *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    s->device = *below;
    s->device.ops = &shaken_ops;
    s->below = below;
    s->bytes_most = bytes_most;
    s->linger_ns = linger_ns;
    for (uint64_t i = 0; i < MOE_N_STREAMS; i++)
        moe_rng_init(&s->rng[i], seed * MOE_N_STREAMS + i);
    s->pinned = device_alloc(below, MOE_MEMORY_PINNED, MOE_N_STREAMS * bytes_most);
    s->memory = device_alloc(below, MOE_MEMORY_DEVICE, 2 * MOE_N_STREAMS * bytes_most);
    memset(s->pinned, 0, MOE_N_STREAMS * bytes_most);
    return &s->device;
}

#endif
