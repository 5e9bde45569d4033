#include "exec/device_host.h"

#include "exec/awake.h"
#include "exec/device_list.h"
#include "exec/host_kernels.h"
#include "exec/host_stream.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host {
    struct moe_device device; /* first */
    struct moe_host_options options;
    struct moe_host_memory memory;
    struct moe_host_kernels kernels;
    struct moe_host_streams *streams;
    struct moe_awake *awake;       /* NULL: not wanted */
    atomic_uint_fast64_t n_copies; /* queued */
};

static struct host *host_of(struct moe_device *device)
{
    return (struct host *)device;
}

static void close_host(struct moe_device *device)
{
    struct host *h = host_of(device);
    if (h->streams)
        moe_host_streams_free(h->streams);
    moe_awake_end(h->awake);
    moe_host_memory_release(&h->memory);
    moe_pool_free(h->kernels.pool);
    free(h);
}

static enum moe_status alloc(struct moe_device *device, enum moe_memory kind, uint64_t bytes,
                             void **out, struct moe_err *err)
{
    return moe_host_memory_alloc(&host_of(device)->memory, kind, bytes, out, err);
}

static void release(struct moe_device *device, enum moe_memory kind, void *memory)
{
    struct moe_err err;
    struct host *h = host_of(device);
    if (!memory || moe_host_memory_free(&h->memory, kind, memory))
        return;
    moe_fail(&err, MOE_ERR_CHECK, "device 'host': release of %s memory that is not allocated",
             kind == MOE_MEMORY_DEVICE ? "device" : "pinned");
    moe_host_streams_fail(h->streams, &err);
}

static uint64_t free_bytes(struct moe_device *device)
{
    return moe_host_memory_left(&host_of(device)->memory);
}

static enum moe_status event_new(struct moe_device *device, struct moe_event **out,
                                 struct moe_err *err)
{
    (void)device;
    return moe_host_event_new(out, err);
}

static void event_free(struct moe_device *device, struct moe_event *event)
{
    moe_host_event_free(host_of(device)->streams, event);
}

static void record(struct moe_device *device, enum moe_stream stream, struct moe_event *event)
{
    moe_host_event_record(host_of(device)->streams, stream, event);
}

static void wait(struct moe_device *device, enum moe_stream stream, struct moe_event *event)
{
    moe_host_event_wait(host_of(device)->streams, stream, event);
}

static bool done(struct moe_device *device, struct moe_event *event)
{
    return moe_host_event_done(host_of(device)->streams, event);
}

static enum moe_status sync(struct moe_device *device, struct moe_event *event, struct moe_err *err)
{
    return moe_host_event_sync(host_of(device)->streams, event, err);
}

static uint64_t event_ns(struct moe_device *device, struct moe_event *event)
{
    return moe_host_event_ns(host_of(device)->streams, event);
}

struct copy {
    void *to;
    const void *from;
    uint64_t bytes;
    enum moe_memory host;
    uint64_t number; /* of all copies, from 1 */
};

/* One side has to be device memory, the other memory of the kind that the caller named. */
static enum moe_status check_copy(struct host *h, const struct copy *c, struct moe_err *err)
{
    const bool up = moe_host_memory_holds(&h->memory, MOE_MEMORY_DEVICE, c->to, c->bytes);
    if (!up && !moe_host_memory_holds(&h->memory, MOE_MEMORY_DEVICE, c->from, c->bytes))
        return moe_fail(err, MOE_ERR_CHECK,
                        "copy of %" PRIu64 " bytes leaves what is allocated of device memory",
                        c->bytes);
    if (!moe_host_memory_holds(&h->memory, c->host, up ? c->from : c->to, c->bytes))
        return moe_fail(err, MOE_ERR_CHECK,
                        "copy of %" PRIu64 " bytes leaves what is allocated of %s memory", c->bytes,
                        c->host == MOE_MEMORY_DEVICE ? "device" : "pinned");
    return MOE_OK;
}

static enum moe_status run_copy(void *context, const void *payload, struct moe_err *err)
{
    struct host *h = context;
    const struct copy *c = payload;
    if (c->number == h->options.fail_copy)
        return moe_fail(err, MOE_ERR_IO,
                        "device 'host': copy %" PRIu64 " of %" PRIu64
                        " bytes failed, as fail_copy asks",
                        c->number, c->bytes);
    enum moe_status s = check_copy(h, c, err);
    if (!s && c->bytes)
        memcpy(c->to, c->from, (size_t)c->bytes);
    return s;
}

static void copy(struct moe_device *device, enum moe_stream stream, void *to, const void *from,
                 uint64_t bytes, enum moe_memory host)
{
    struct host *h = host_of(device);
    const struct copy c = {.to = to,
                           .from = from,
                           .bytes = bytes,
                           .host = host,
                           .number = atomic_fetch_add(&h->n_copies, 1) + 1};
    const struct moe_host_work work = {.payload = &c,
                                       .payload_bytes = sizeof c,
                                       .run = run_copy,
                                       .set_ns = moe_host_copy_ns(&h->options, bytes, host)};
    if (host == MOE_MEMORY_PAGEABLE) /* as with CUDA, the caller may reuse the memory on return */
        moe_host_streams_run(h->streams, stream, &work);
    else
        moe_host_streams_push(h->streams, stream, &work);
}

static void push_kernel(struct host *h, const void *payload, size_t bytes,
                        enum moe_status (*run)(void *, const void *, struct moe_err *),
                        void (*finish)(void *, const void *), struct moe_host_load load)
{
    const struct moe_host_work work = {.payload = payload,
                                       .payload_bytes = bytes,
                                       .run = run,
                                       .finish = finish,
                                       .set_ns = moe_host_kernel_ns(&h->options, &load)};
    moe_host_streams_push(h->streams, MOE_STREAM_COMPUTE, &work);
}

static enum moe_status run_attend(void *context, const void *payload, struct moe_err *err)
{
    return moe_host_attend_run(&((struct host *)context)->kernels, payload, err);
}

/* Called when the kernel's set time is over: only then do its routes arrive. */
static void finish_attend(void *context, const void *payload)
{
    const struct moe_route_box *box = &((const struct moe_host_attend *)payload)->job.box;
    moe_host_flag_raise(((struct host *)context)->streams, box->flag, box->ticket);
}

static enum moe_status run_expert(void *context, const void *payload, struct moe_err *err)
{
    return moe_host_expert_run(&((struct host *)context)->kernels, payload, err);
}

static enum moe_status run_combine(void *context, const void *payload, struct moe_err *err)
{
    return moe_host_combine_run(&((struct host *)context)->kernels, payload, err);
}

static enum moe_status run_head(void *context, const void *payload, struct moe_err *err)
{
    return moe_host_head_run(&((struct host *)context)->kernels, payload, err);
}

_Static_assert(sizeof(struct moe_host_attend) <= MOE_HOST_PAYLOAD, "the largest job fits");
_Static_assert(sizeof(struct moe_host_head) <= MOE_HOST_PAYLOAD, "so does this");

static void attend(struct moe_device *device, const struct moe_attend_job *job)
{
    const struct moe_host_attend taken = moe_host_attend_take(job);
    push_kernel(host_of(device), &taken, sizeof taken, run_attend, finish_attend,
                moe_host_attend_load(job));
}

static void expert(struct moe_device *device, const struct moe_expert_job *job)
{
    const struct moe_host_expert taken = moe_host_expert_take(job);
    push_kernel(host_of(device), &taken, sizeof taken, run_expert, NULL, moe_host_expert_load(job));
}

static void combine(struct moe_device *device, const struct moe_combine_job *job)
{
    const struct moe_host_combine taken = moe_host_combine_take(job);
    push_kernel(host_of(device), &taken, sizeof taken, run_combine, NULL,
                (struct moe_host_load){0});
}

static void head(struct moe_device *device, const struct moe_head_job *job)
{
    const struct moe_host_head taken = moe_host_head_take(job);
    push_kernel(host_of(device), &taken, sizeof taken, run_head, NULL, moe_host_head_load(job));
}

static enum moe_status routes_wait(struct moe_device *device, const struct moe_route_box *box,
                                   struct moe_err *err)
{
    return moe_host_flag_await(host_of(device)->streams, box->flag, box->ticket, err);
}

static const struct moe_device_ops host_ops = {
    .name = "host",
    .close = close_host,
    .alloc = alloc,
    .release = release,
    .free_bytes = free_bytes,
    .event_new = event_new,
    .event_free = event_free,
    .record = record,
    .wait = wait,
    .done = done,
    .sync = sync,
    .event_ns = event_ns,
    .copy = copy,
    .attend = attend,
    .expert = expert,
    .combine = combine,
    .head = head,
    .routes_wait = routes_wait,
};

static void describe(struct host *h)
{
    struct moe_device_info info;
    moe_device_host_info(&info);
    snprintf(h->device.name, sizeof h->device.name, "%s", info.name);
    h->device.ops = &host_ops;
    h->device.memory_bytes = h->options.memory_bytes;
    h->device.cores = info.cores;
    h->device.deterministic = true;
}

static enum moe_status build(struct host *h, const char *kernels, struct moe_err *err)
{
    const struct moe_pool_options pool = {.threads = 1, .kernels = kernels};
    enum moe_status s = moe_pool_new(&h->kernels.pool, &pool, err);
    if (s || (s = moe_host_memory_init(&h->memory, h->options.memory_bytes, err)))
        return s;
    h->kernels.memory = &h->memory;
    if (h->options.awake && (s = moe_awake_start(&h->awake, err)))
        return s;
    return moe_host_streams_new(&h->streams, h, (uint64_t)(h->options.delay_us * 1e3),
                                h->options.seed, err);
}

enum moe_status moe_host_open(struct moe_device **out, const struct moe_host_options *options,
                              const char *kernels, struct moe_err *err)
{
    struct host *h = calloc(1, sizeof *h);
    if (!h)
        return moe_fail_memory(err, "a device");
    h->options = *options;
    describe(h);
    enum moe_status s = build(h, kernels, err);
    if (s) {
        close_host(&h->device);
        return s;
    }
    *out = &h->device;
    return MOE_OK;
}
