#include "tests/cuda/emulation_state.h"

#include <cstdio>
#include <cstring>

using namespace emulation;

cudaError_t cudaDriverGetVersion(int *version)
{
    guard lock(rt.mutex);
    *version = rt.settings.driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    guard lock(rt.mutex);
    *version = rt.settings.runtime;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    guard lock(rt.mutex);
    if (rt.settings.driver / 1000 < rt.settings.runtime / 1000)
        return give(cudaErrorInsufficientDriver);
    if (rt.settings.n_devices == 0)
        return give(cudaErrorNoDevice);
    *count = rt.settings.n_devices;
    return give(enter());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    guard lock(rt.mutex);
    if (device < 0 || device >= rt.settings.n_devices)
        return give(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "emulated GPU %d", device);
    prop->totalGlobalMem = rt.settings.memory_bytes;
    prop->sharedMemPerBlockOptin = 99 * 1024;
    prop->major = rt.settings.major;
    prop->minor = rt.settings.minor;
    prop->multiProcessorCount = 4;
    prop->unifiedAddressing = 1;
    prop->asyncEngineCount = rt.settings.engines;
    prop->integrated = rt.settings.integrated;
    return give(enter());
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device)
{
    guard lock(rt.mutex);
    snprintf(id, static_cast<size_t>(size), "0000:%02X:00.0", static_cast<unsigned>(device + 1));
    return give(enter());
}

cudaError_t cudaSetDevice(int device)
{
    guard lock(rt.mutex);
    if (device < 0 || device >= rt.settings.n_devices)
        return give(cudaErrorInvalidDevice);
    if (rt.settings.in_use)
        return give(cudaErrorDevicesUnavailable);
    current_device = device;
    return give(enter());
}

cudaError_t cudaGetDevice(int *device)
{
    guard lock(rt.mutex);
    *device = current_device;
    return give(enter());
}

cudaError_t cudaGetLastError(void)
{
    guard lock(rt.mutex);
    const cudaError_t error = rt.broken != cudaSuccess ? rt.broken : last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    guard lock(rt.mutex);
    return rt.broken != cudaSuccess ? rt.broken : last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    default:
        return "cudaErrorOther";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    default:
        return "another error";
    }
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    guard lock(rt.mutex);
    *least = 0;
    *greatest = -5;
    return give(enter());
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && strikes(CUDA_FAULT_CREATE))
        error = cudaErrorMemoryAllocation;
    if (error == cudaSuccess)
        rt.streams.insert(*stream = new CUstream_st);
    return give(error);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    guard lock(rt.mutex);
    if (rt.streams.count(stream) == 0)
        misuse("destroys a stream twice");
    drain(stream);
    rt.streams.erase(stream);
    delete stream;
    return give(rt.broken);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error != cudaSuccess)
        return give(error);
    advance();
    if (rt.broken != cudaSuccess)
        return give(rt.broken);
    return give(stream->queue.empty() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess)
        error = drain(stream);
    return give(error);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && event->mark)
        error = push(stream, {nullptr, nullptr, event->mark});
    return give(error);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && strikes(CUDA_FAULT_CREATE))
        error = cudaErrorMemoryAllocation;
    if (error == cudaSuccess)
        rt.events.insert(*event = new CUevent_st);
    return give(error);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    guard lock(rt.mutex);
    if (rt.events.erase(event) == 0)
        misuse("destroys an event twice");
    delete event;
    return give(rt.broken);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess) {
        event->mark = std::make_shared<place>();
        error = push(stream, {nullptr, event->mark, nullptr});
    }
    return give(error);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error != cudaSuccess)
        return give(error);
    advance();
    if (rt.broken != cudaSuccess)
        return give(rt.broken);
    return give(!event->mark || event->mark->reached ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && event->mark)
        error = run_until([event] { return event->mark->reached; });
    return give(error);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error != cudaSuccess)
        return give(error);
    if (!start->mark || !end->mark)
        return give(cudaErrorInvalidResourceHandle);
    if (!start->mark->reached || !end->mark->reached)
        return give(cudaErrorNotReady);
    const int64_t ns =
        static_cast<int64_t>(end->mark->at_ns) - static_cast<int64_t>(start->mark->at_ns);
    *ms = static_cast<float>(static_cast<double>(ns) / 1e6);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    guard lock(rt.mutex);
    *attributes = {};
    rt.loaded.insert(kernel);
    return give(enter());
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    guard lock(rt.mutex);
    return give(allocate(out, bytes, DEVICE));
}

cudaError_t cudaFree(void *memory)
{
    guard lock(rt.mutex);
    return give(release(memory, DEVICE));
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    guard lock(rt.mutex);
    if (rt.settings.pinning)
        return give(static_cast<cudaError_t>(rt.settings.pinning));
    return give(allocate(out, bytes, PINNED));
}

cudaError_t cudaHostGetDevicePointer(void **out, void *memory, unsigned)
{
    guard lock(rt.mutex);
    *out = memory;
    return give(enter());
}

cudaError_t cudaFreeHost(void *memory)
{
    guard lock(rt.mutex);
    return give(release(memory, PINNED));
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    guard lock(rt.mutex);
    *total = rt.settings.memory_bytes;
    *free_bytes = rt.settings.memory_bytes - rt.settings.taken_bytes - rt.used_bytes;
    return give(enter());
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && strikes(CUDA_FAULT_COPY))
        error = cudaErrorInvalidValue;
    return give(error == cudaSuccess ? queue_copy(to, from, bytes, stream) : error);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error != cudaSuccess)
        return give(error);
    memory_kind kind;
    if (!is_known(to, bytes, &kind) || kind != DEVICE)
        misuse("sets memory that is not the device's");
    return give(push(stream, {[to, value, bytes] { memset(to, value, bytes); }, nullptr, nullptr}));
}
