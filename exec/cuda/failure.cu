// The first error of a device: kept, and reported by every call that waits.
#include "exec/cuda/state.cuh"

bool moe_cuda_enter(struct moe_cuda_device *d)
{
    int current = -1;
    if (d->failed.load(std::memory_order_acquire))
        return false;
    // The runtime keeps the current device for each thread; reading it takes nanoseconds, setting
    // it may not.
    if (cudaGetDevice(&current) == cudaSuccess && current == d->index)
        return true;
    return moe_cuda_check(d, cudaSetDevice(d->index), "choosing the device");
}

bool moe_cuda_check(struct moe_cuda_device *d, cudaError_t error, const char *format, ...)
{
    char what[160];
    va_list args;
    if (error == cudaSuccess)
        return true;
    (void)cudaGetLastError(); // or the next kernel would be blamed for it
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    std::lock_guard<std::mutex> lock(d->failure_lock);
    if (!d->failed.load(std::memory_order_relaxed)) {
        moe_fail(&d->failure, MOE_ERR_IO, "device 'cuda:%d': %s: %s (%s)", d->index, what,
                 cudaGetErrorString(error), cudaGetErrorName(error));
        d->failed.store(true, std::memory_order_release);
    }
    return false;
}

enum moe_status moe_cuda_report(struct moe_cuda_device *d, struct moe_err *err)
{
    if (!d->failed.load(std::memory_order_acquire))
        return MOE_OK;
    std::lock_guard<std::mutex> lock(d->failure_lock);
    return moe_fail(err, d->failure.status, "%s", d->failure.text);
}

const char *moe_cuda_stream_name(enum moe_stream stream)
{
    switch (stream) {
    case MOE_STREAM_COMPUTE:
        return "compute";
    case MOE_STREAM_EXPERTS:
        return "expert weights";
    case MOE_STREAM_DOWN:
        return "activations down";
    case MOE_STREAM_UP:
        return "activations up";
    default:
        return "no stream";
    }
}
