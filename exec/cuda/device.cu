// The CUDA device: streams, copies, kernels; opening and closing.
#include "exec/cuda/state.cuh"

extern "C" {
#include "exec/kernels.h"
}
#include "exec/cuda/absence.h"
#include "exec/cuda/gemm.h"
#include "exec/cuda/open.h"

#include <new>
#include <type_traits>

static_assert(std::is_standard_layout<moe_cuda_device>::value, "a device begins with moe_device");

// Is this copy made by a kernel? In the direction up the copy engine is busy with experts; if there
// is only one engine for both directions, as on some GeForce cards, so it is for the direction
// down.
static bool is_by_kernel(const struct moe_cuda_device *d, enum moe_stream stream, uint64_t bytes,
                         enum moe_memory host)
{
    return host == MOE_MEMORY_PINNED && bytes <= MOE_CUDA_WORDS_BYTES &&
           (stream == MOE_STREAM_UP || (stream == MOE_STREAM_DOWN && d->one_engine));
}

static void copy(struct moe_device *device, enum moe_stream stream, void *to, const void *from,
                 uint64_t bytes, enum moe_memory host)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    char text[32];
    if (bytes == 0 || !moe_cuda_enter(d))
        return;
    if (is_by_kernel(d, stream, bytes, host)) {
        moe_cuda_words(d->streams[stream], to, from, bytes);
        moe_cuda_check(d, cudaGetLastError(), "queuing activations");
        return;
    }
    // With cudaMemcpyDefault CUDA tells from the address whether memory is pinned.
    moe_cuda_check(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, d->streams[stream]),
                   "queuing a copy of %s on stream '%s'",
                   moe_format_bytes(bytes, text, sizeof text), moe_cuda_stream_name(stream));
}

static void attend(struct moe_device *device, const struct moe_attend_job *job)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return;
    moe_cuda_attend(&d->context, job);
    moe_cuda_check(d, cudaGetLastError(), "queuing the dense part of a layer");
}

static void expert(struct moe_device *device, const struct moe_expert_job *job)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return;
    moe_cuda_expert(&d->context, job);
    moe_cuda_check(d, cudaGetLastError(), "queuing an expert");
}

static void combine(struct moe_device *device, const struct moe_combine_job *job)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return;
    moe_cuda_combine(&d->context, job);
    moe_cuda_check(d, cudaGetLastError(), "queuing the sum of experts");
}

static void head(struct moe_device *device, const struct moe_head_job *job)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return;
    moe_cuda_head(&d->context, job);
    moe_cuda_check(d, cudaGetLastError(), "queuing the logits");
}

static void close_device(struct moe_device *device)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    (void)moe_cuda_enter(d);
    for (cudaStream_t stream : d->streams)
        if (stream)
            (void)cudaStreamSynchronize(stream);
    moe_cuda_gemm_close(d->context.gemm);
    (void)cudaFree(d->context.partial);
    moe_cuda_clock_close(&d->clock);
    for (cudaStream_t stream : d->streams)
        if (stream)
            (void)cudaStreamDestroy(stream);
    (void)cudaGetLastError(); // after a failure of the device all of these calls fail
    delete d;
}

static const struct moe_device_ops cuda_ops = {
    "cuda",
    close_device,
    moe_cuda_alloc,
    moe_cuda_free,
    moe_cuda_free_bytes,
    moe_cuda_event_new,
    moe_cuda_event_free,
    moe_cuda_record,
    moe_cuda_wait,
    moe_cuda_done,
    moe_cuda_sync,
    moe_cuda_event_ns,
    copy,
    attend,
    expert,
    combine,
    head,
    moe_cuda_routes_wait,
};

// The order of sums that is asked for.
static enum moe_status find_order(const struct moe_device_options *options,
                                  struct moe_cuda_order *order, struct moe_err *err)
{
    const struct moe_kernels *set;
    *order = {};
    if (!options->deterministic)
        return MOE_OK;
    enum moe_status s = moe_kernels_find(options->kernels ? options->kernels : "auto", &set, err);
    if (s)
        return s;
    if (set->lanes == 0)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "device 'cuda': deterministic: kernel set '%s' has no order of sums that a "
                        "GPU can keep; choose another ('portable' always works)",
                        set->name);
    *order = {set->lanes, set->fused};
    return MOE_OK;
}

// Is there such a device, and can it run what was built?
static enum moe_status check_device(uint32_t index, struct cudaDeviceProp *prop,
                                    struct moe_err *err)
{
    char reason[192];
    const int count = moe_cuda_count(reason, sizeof reason);
    if (count == 0)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "device 'cuda': %s; device 'host' computes the same on the CPU", reason);
    if (index >= static_cast<uint32_t>(count))
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "device 'cuda:%" PRIu32 "': no such device, there %s %d; `moelab version` "
                        "lists them",
                        index, count == 1 ? "is" : "are", count);
    const cudaError_t error = cudaGetDeviceProperties(prop, static_cast<int>(index));
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "device 'cuda:%" PRIu32 "': does not answer: %s",
                        index, cudaGetErrorString(error));
    }
    moe_cuda_too_old(prop->major, prop->minor, reason, sizeof reason);
    if (reason[0])
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "device 'cuda:%" PRIu32 "' (%s): %s", index,
                        prop->name, reason);
    return MOE_OK;
}

// The first use of a device starts it, and may be refused; so may be kernels that it cannot run.
static enum moe_status start(struct moe_cuda_device *d, struct moe_err *err)
{
    size_t left = 0, total = 0;
    cudaError_t error = cudaSetDevice(d->index);
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&left, &total);
    if (error == cudaSuccess)
        error = static_cast<cudaError_t>(moe_cuda_load());
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return moe_fail(err, MOE_ERR_MEMORY,
                        "device 'cuda:%d': other processes hold so much of its memory that it "
                        "cannot even be started; nvidia-smi lists them",
                        d->index);
    }
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return moe_fail(
            err, MOE_ERR_UNSUPPORTED, "device 'cuda:%d': cannot be used%s: %s", d->index,
            error == cudaErrorDevicesUnavailable
                ? ", as another process uses it exclusively (see nvidia-smi -q -d COMPUTE)"
                : "",
            cudaGetErrorString(error));
    }
    d->taken_bytes = total - left;
    return MOE_OK;
}

// Experts are copied ahead of time; everything else is waited for and gets the higher priority.
// Activations may be copied by a kernel (words.cu), which then need not wait until all blocks of an
// expert have started.
static int priority_of(int stream, int least, int greatest)
{
    const int second = least > greatest + 1 ? greatest + 1 : greatest; // the greatest is the lowest
    if (stream == MOE_STREAM_EXPERTS)
        return least;
    return stream == MOE_STREAM_COMPUTE ? second : greatest;
}

static cudaError_t open_streams(struct moe_cuda_device *d)
{
    int least = 0, greatest = 0;
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    for (int i = 0; i < MOE_N_STREAMS && error == cudaSuccess; i++)
        error = cudaStreamCreateWithPriority(&d->streams[i], cudaStreamNonBlocking,
                                             priority_of(i, least, greatest));
    return error == cudaSuccess ? moe_cuda_clock_open(&d->clock) : error;
}

static enum moe_status open_context(struct moe_cuda_device *d, struct moe_err *err)
{
    void *partial = nullptr;
    enum moe_status s =
        moe_cuda_alloc(&d->device, MOE_MEMORY_DEVICE, MOE_CUDA_PARTIAL_BYTES, &partial, err);
    if (s)
        return s;
    d->context.stream = d->streams[MOE_STREAM_COMPUTE];
    d->context.cores = d->device.cores;
    d->context.partial = static_cast<float *>(partial);
    d->context.partial_bytes = MOE_CUDA_PARTIAL_BYTES;
    if (d->device.deterministic) // cuBLAS guarantees no order of sums
        return MOE_OK;
    struct moe_err why = {};
    s = moe_cuda_gemm_open(&d->context.gemm, d->context.stream, nullptr, &why);
    if (s != MOE_ERR_UNSUPPORTED)
        return s ? moe_fail(err, s, "device 'cuda:%d': %s", d->index, why.text) : MOE_OK;
    snprintf(d->device.note, sizeof d->device.note, "%.300s", why.text);
    return MOE_OK;
}

static enum moe_status open_parts(struct moe_cuda_device *d, struct moe_err *err)
{
    enum moe_status s = start(d, err);
    if (s)
        return s;
    if (!moe_cuda_check(d, open_streams(d), "making streams"))
        return moe_cuda_report(d, err);
    return open_context(d, err);
}

enum moe_status moe_cuda_open(struct moe_device **out, uint32_t index,
                              const struct moe_device_options *options, struct moe_err *err)
{
    struct cudaDeviceProp prop;
    struct moe_cuda_order order;
    enum moe_status s = find_order(options, &order, err);
    if (s || (s = check_device(index, &prop, err)))
        return s;
    struct moe_cuda_device *d = new (std::nothrow) moe_cuda_device();
    if (!d)
        return moe_fail_memory(err, "the device");
    d->device.ops = &cuda_ops;
    snprintf(d->device.name, sizeof d->device.name, "%s", prop.name);
    d->device.memory_bytes = prop.totalGlobalMem;
    d->device.cores = static_cast<uint32_t>(prop.multiProcessorCount);
    d->device.sm = static_cast<uint32_t>(prop.major * 10 + prop.minor);
    d->device.integrated = prop.integrated != 0;
    d->device.deterministic = options->deterministic;
    d->index = static_cast<int>(index);
    d->one_engine = prop.asyncEngineCount < 2;
    d->context.order = order;
    s = open_parts(d, err);
    if (s) {
        close_device(&d->device);
        return s;
    }
    *out = &d->device;
    return MOE_OK;
}
