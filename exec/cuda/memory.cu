// Device memory and pinned memory, and what to say when there is none.
#include "exec/cuda/state.cuh"

extern "C" {
#include "exec/memory_limits.h"
}

enum { TEXT = 32 };

// Memory of other processes is mentioned from a twentieth of the device on; mere contexts take
// less.
enum { WORTH_A_WORD = 20 };

enum { RESERVE_BYTES = 256 << 20, RESERVE_PART = 32 };

static uint64_t left_bytes(struct moe_cuda_device *d)
{
    size_t left = 0, total = 0;
    if (!moe_cuda_enter(d) ||
        !moe_cuda_check(d, cudaMemGetInfo(&left, &total), "asking for free memory"))
        return 0;
    return left;
}

// Leaves a reserve for what the driver takes later: code that is loaded when it is first called,
// ours and cuBLAS's, and the rounding of each allocation to pages of 2 MiB.
uint64_t moe_cuda_free_bytes(struct moe_device *device)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    const uint64_t left = left_bytes(d), most = RESERVE_BYTES;
    const uint64_t part = device->memory_bytes / RESERVE_PART, reserve = part < most ? part : most;
    return left > reserve ? left - reserve : 0;
}

static enum moe_status no_device_memory(struct moe_cuda_device *d, uint64_t bytes,
                                        struct moe_err *err)
{
    char asked[TEXT], left[TEXT], total[TEXT], taken[TEXT], others[96] = "";
    if (d->taken_bytes > d->device.memory_bytes / WORTH_A_WORD)
        snprintf(others, sizeof others, "; other processes held %s when it was opened",
                 moe_format_bytes(d->taken_bytes, taken, sizeof taken));
    return moe_fail(err, MOE_ERR_MEMORY,
                    "device 'cuda:%d': out of device memory: %s asked, %s of %s free%s; use a "
                    "smaller cache or context, or free the device (nvidia-smi lists who uses it)",
                    d->index, moe_format_bytes(bytes, asked, sizeof asked),
                    moe_format_bytes(left_bytes(d), left, sizeof left),
                    moe_format_bytes(d->device.memory_bytes, total, sizeof total), others);
}

static enum moe_status no_pinned_memory(struct moe_cuda_device *d, uint64_t bytes,
                                        const struct moe_memory_limits *limits, const char *why,
                                        struct moe_err *err)
{
    char asked[TEXT], text[160];
    return moe_fail(err, MOE_ERR_MEMORY,
                    "device 'cuda:%d': out of pinned memory: %s asked: %s (%s); pin less, or raise "
                    "the limit",
                    d->index, moe_format_bytes(bytes, asked, sizeof asked), why,
                    moe_memory_limits_format(limits, text, sizeof text));
}

static enum moe_status alloc_device(struct moe_cuda_device *d, uint64_t bytes, void **out,
                                    struct moe_err *err)
{
    void *memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); // or the next kernel would be blamed for it
        return no_device_memory(d, bytes, err);
    }
    if (!moe_cuda_check(d, error, "allocating device memory"))
        return moe_cuda_report(d, err);
    *out = memory;
    return MOE_OK;
}

// Errors with which drivers refuse to pin memory (from reports: on Linux beyond some size, on
// Windows and WSL when the graphics memory manager has no room); the device remains usable.
static bool is_refusal(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation || error == cudaErrorOperatingSystem ||
           error == cudaErrorAlreadyMapped || error == cudaErrorNotSupported;
}

static enum moe_status alloc_pinned(struct moe_cuda_device *d, uint64_t bytes, void **out,
                                    struct moe_err *err)
{
    struct moe_memory_limits limits;
    char why[96];
    void *memory = nullptr, *seen = nullptr;
    moe_memory_limits_read(&limits);
    // Checked here because beyond these limits Linux does not refuse but kills the process.
    if (bytes > limits.available || bytes > limits.cgroup)
        return no_pinned_memory(d, bytes, &limits, "more than there is", err);
    const cudaError_t error =
        cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
    if (is_refusal(error)) {
        (void)cudaGetLastError();
        snprintf(why, sizeof why, "the driver refused: %s", cudaGetErrorString(error));
        return no_pinned_memory(d, bytes, &limits, why, err);
    }
    if (!moe_cuda_check(d, error, "allocating pinned memory"))
        return moe_cuda_report(d, err);
    // Kernels are given the host's address.
    if (cudaHostGetDevicePointer(&seen, memory, 0) != cudaSuccess || seen != memory) {
        (void)cudaGetLastError();
        (void)cudaFreeHost(memory);
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "device 'cuda:%d': pinned memory has another address on the device; "
                        "a device and a system with unified addressing are needed",
                        d->index);
    }
    *out = memory;
    return MOE_OK;
}

enum moe_status moe_cuda_alloc(struct moe_device *device, enum moe_memory kind, uint64_t bytes,
                               void **out, struct moe_err *err)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return moe_cuda_report(d, err);
    bytes = bytes ? bytes : 1; // CUDA gives NULL for nothing, which would look like a failure
    switch (kind) {
    case MOE_MEMORY_DEVICE:
        return alloc_device(d, bytes, out, err);
    case MOE_MEMORY_PINNED:
        return alloc_pinned(d, bytes, out, err);
    default:
        return moe_fail(err, MOE_ERR_USAGE,
                        "device 'cuda:%d': pageable memory is not allocated "
                        "by devices",
                        d->index);
    }
}

void moe_cuda_free(struct moe_device *device, enum moe_memory kind, void *memory)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!memory)
        return;
    (void)moe_cuda_enter(d); // freed on a device that has failed as well
    moe_cuda_check(d, kind == MOE_MEMORY_DEVICE ? cudaFree(memory) : cudaFreeHost(memory),
                   "freeing %s memory", kind == MOE_MEMORY_DEVICE ? "device" : "pinned");
}
