/* The streams of the `host` device: a thread and a queue each, with events as CUDA has them, set
 * times, random delays, and the first error kept. Any thread may call. */
#ifndef MOELAB_EXEC_HOST_STREAM_H
#define MOELAB_EXEC_HOST_STREAM_H

#include "exec/device.h"

enum {
    MOE_HOST_QUEUE = 1024, /* most operations queued on a stream; queueing one more waits */
    MOE_HOST_PAYLOAD = 3584,
};

struct moe_host_streams; /* opaque */

/* An operation. It starts at the latest of: the end of the operation before it, the time when it
 * was queued, the events that it waited for. It ends when its work is done and set_ns have passed
 * since its start. */
struct moe_host_work {
    const void *payload; /* payload_bytes <= MOE_HOST_PAYLOAD, copied */
    size_t payload_bytes;
    enum moe_status (*run)(void *context, const void *payload, struct moe_err *err);
    void (*finish)(void *context, const void *payload); /* called at its end; or NULL */
    uint64_t set_ns;
};

/* context is passed to every operation's functions. Each operation first waits a random time of at
 * most delay_ns. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_host_streams_new(struct moe_host_streams **out, void *context,
                                     uint64_t delay_ns, uint64_t seed, struct moe_err *err);
void moe_host_streams_free(struct moe_host_streams *streams); /* waits for what is queued */

/* After an error, operations are neither run nor finished. */
void moe_host_streams_push(struct moe_host_streams *streams, enum moe_stream stream,
                           const struct moe_host_work *work);
/* The same, but returns when the operation has ended. */
void moe_host_streams_run(struct moe_host_streams *streams, enum moe_stream stream,
                          const struct moe_host_work *work);

/* Sets the error of the streams, unless there already is one. */
void moe_host_streams_fail(struct moe_host_streams *streams, const struct moe_err *err);

/* As in struct moe_device_ops. */
enum moe_status moe_host_event_new(struct moe_event **out, struct moe_err *err);
void moe_host_event_free(struct moe_host_streams *streams, struct moe_event *event);
void moe_host_event_record(struct moe_host_streams *streams, enum moe_stream stream,
                           struct moe_event *event);
void moe_host_event_wait(struct moe_host_streams *streams, enum moe_stream stream,
                         const struct moe_event *event);
bool moe_host_event_done(struct moe_host_streams *streams, const struct moe_event *event);
enum moe_status moe_host_event_sync(struct moe_host_streams *streams, const struct moe_event *event,
                                    struct moe_err *err);
uint64_t moe_host_event_ns(struct moe_host_streams *streams, const struct moe_event *event);

/* Sets the flag from within an operation and wakes those who await it. */
void moe_host_flag_raise(struct moe_host_streams *streams, uint64_t *flag, uint64_t value);
/* Waits until the flag holds at least the value, or for an error. */
enum moe_status moe_host_flag_await(struct moe_host_streams *streams, const uint64_t *flag,
                                    uint64_t value, struct moe_err *err);

#endif
