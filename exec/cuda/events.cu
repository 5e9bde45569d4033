// Events: places in streams.
#include "exec/cuda/state.cuh"

#include <new>

enum moe_status moe_cuda_event_new(struct moe_device *device, struct moe_event **out,
                                   struct moe_err *err)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return moe_cuda_report(d, err);
    struct moe_event *event = new (std::nothrow) moe_event();
    if (!event)
        return moe_fail_memory(err, "an event");
    // With times, for timelines; not of the kind that blocks, because moe_cuda_sync polls.
    const cudaError_t error = cudaEventCreateWithFlags(&event->event, cudaEventDefault);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        delete event;
        return moe_fail(err, error == cudaErrorMemoryAllocation ? MOE_ERR_MEMORY : MOE_ERR_IO,
                        "device 'cuda:%d': cannot make an event: %s", d->index,
                        cudaGetErrorString(error));
    }
    *out = event;
    return MOE_OK;
}

void moe_cuda_event_free(struct moe_device *device, struct moe_event *event)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!event)
        return;
    (void)moe_cuda_enter(d);
    moe_cuda_check(d, cudaEventDestroy(event->event), "freeing an event");
    delete event;
}

void moe_cuda_record(struct moe_device *device, enum moe_stream stream, struct moe_event *event)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (moe_cuda_enter(d) &&
        moe_cuda_check(d, cudaEventRecord(event->event, d->streams[stream]),
                       "recording an event on stream '%s'", moe_cuda_stream_name(stream)))
        event->recorded.store(true, std::memory_order_release);
}

void moe_cuda_wait(struct moe_device *device, enum moe_stream stream, struct moe_event *event)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (moe_cuda_enter(d))
        moe_cuda_check(d, cudaStreamWaitEvent(d->streams[stream], event->event, 0),
                       "making stream '%s' wait for an event", moe_cuda_stream_name(stream));
}

uint64_t moe_cuda_event_ns(struct moe_device *device, struct moe_event *event)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    uint64_t ns = 0;
    if (event->recorded.load(std::memory_order_acquire) && moe_cuda_enter(d))
        moe_cuda_check(d, moe_cuda_clock_read(&d->clock, event->event, &ns),
                       "reading an event's time");
    return ns;
}
