#include "tests/cuda/emulation_state.h"

extern "C" {
#include "base/progress.h"
}

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace emulation
{

runtime rt;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

cudaError_t give(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

void misuse(const char *what)
{
    fprintf(stderr, "emulated CUDA: %s\n", what);
    std::abort();
}

bool strikes(cuda_emulation_fault kind)
{
    rt.counts[kind]++;
    return rt.settings.fault == kind && rt.counts[kind] == rt.settings.fail_at;
}

cudaError_t enter(void)
{
    if (rt.broken != cudaSuccess)
        return rt.broken;
    return strikes(CUDA_FAULT_CALL) ? cudaErrorUnknown : cudaSuccess;
}

/* Under AddressSanitizer: allows access to device memory only while an operation runs. */
static void device_memory(bool open)
{
#ifdef WITH_ASAN
    for (const auto &[address, block] : rt.memory) {
        if (block.kind != DEVICE)
            continue;
        if (open)
            ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void *>(address), block.bytes);
        else
            ASAN_POISON_MEMORY_REGION(reinterpret_cast<void *>(address), block.bytes);
    }
#else
    (void)open;
#endif
}

static std::map<uintptr_t, allocation>::iterator find_block(const void *address)
{
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    auto next = rt.memory.upper_bound(at);
    if (next == rt.memory.begin())
        return rt.memory.end();
    auto block = std::prev(next);
    return at - block->first < block->second.bytes ? block : rt.memory.end();
}

bool is_known(const void *address, size_t bytes, memory_kind *kind)
{
    const auto block = find_block(address);
    if (block == rt.memory.end())
        return false;
    if (reinterpret_cast<uintptr_t>(address) - block->first + bytes > block->second.bytes)
        misuse("a copy reaches past the end of its memory");
    *kind = block->second.kind;
    return true;
}

static bool can_run(const CUstream_st *stream)
{
    return !stream->queue.empty() &&
           (!stream->queue.front().wait || stream->queue.front().wait->reached);
}

/* The device is lost: queued operations are dropped, and every call returns the error. */
static cudaError_t break_down(cudaError_t error)
{
    rt.broken = error;
    for (cudaStream_t each : rt.streams)
        each->queue.clear();
    return error;
}

static void run_front(CUstream_st *stream)
{
    operation front = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (front.body) {
        if (strikes(CUDA_FAULT_RUN)) {
            (void)break_down(cudaErrorIllegalAddress);
            return;
        }
        device_memory(true);
        front.body();
        device_memory(false);
    }
    if (front.mark) {
        front.mark->reached = true;
        front.mark->at_ns = moe_clock_ns();
    }
}

/* Runs the first operation of a random stream. Returns false if none can run. */
static bool step(void)
{
    std::vector<cudaStream_t> ready;
    for (cudaStream_t stream : rt.streams)
        if (can_run(stream))
            ready.push_back(stream);
    if (ready.empty())
        return false;
    run_front(ready[rt.random() % ready.size()]);
    return true;
}

/* Runs as many operations as the order asks for, within a call that does not wait. */
static void drift(void)
{
    if (rt.settings.order == CUDA_ORDER_LAZY)
        return;
    uint64_t n = rt.settings.order == CUDA_ORDER_EAGER ? UINT64_MAX : rt.random() % 4;
    while (n-- > 0 && step())
        ;
}

void advance(void)
{
    step();
    drift();
}

cudaError_t run_until(const std::function<bool()> &done)
{
    while (rt.broken == cudaSuccess && !done())
        if (!step())
            misuse("waits for something that can never happen");
    return rt.broken;
}

cudaError_t drain(cudaStream_t stream)
{
    return run_until([stream] { return stream->queue.empty(); });
}

cudaError_t push(cudaStream_t stream, operation item)
{
    if (rt.streams.count(stream) == 0)
        return cudaErrorInvalidResourceHandle;
    stream->queue.push_back(std::move(item));
    drift();
    return cudaSuccess;
}

cudaError_t allocate(void **out, size_t bytes, memory_kind kind)
{
    cudaError_t error = enter();
    if (error != cudaSuccess)
        return error;
    const uint64_t room = rt.settings.memory_bytes - rt.settings.taken_bytes - rt.used_bytes;
    if (strikes(CUDA_FAULT_CREATE) || (kind == DEVICE && bytes > room))
        return cudaErrorMemoryAllocation;
    if (bytes == 0) {
        *out = nullptr;
        return cudaSuccess;
    }
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!memory)
        return cudaErrorMemoryAllocation;
    memset(memory, 0xCB, bytes); /* undefined contents: large negative floats */
    rt.memory[reinterpret_cast<uintptr_t>(memory)] = {bytes, kind};
    if (kind == DEVICE)
        rt.used_bytes += bytes;
    device_memory(false);
    *out = memory;
    return cudaSuccess;
}

cudaError_t release(void *memory, memory_kind kind)
{
    if (!memory)
        return cudaSuccess;
    const auto block = rt.memory.find(reinterpret_cast<uintptr_t>(memory));
    if (block == rt.memory.end() || block->second.kind != kind)
        misuse("frees what is not allocated, or not so");
    /* As CUDA does, waits for all streams. */
    for (cudaStream_t stream : rt.streams)
        drain(stream);
    if (kind == DEVICE)
        rt.used_bytes -= block->second.bytes;
#ifdef WITH_ASAN
    ASAN_UNPOISON_MEMORY_REGION(memory, block->second.bytes);
#endif
    rt.memory.erase(block);
    free(memory);
    return rt.broken;
}

cudaError_t queue_copy(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    memory_kind to_kind = PINNED, from_kind = PINNED;
    const bool to_known = is_known(to, bytes, &to_kind);
    const bool from_known = is_known(from, bytes, &from_kind);
    if (!from_known) { /* pageable: the call reads it, into a buffer of the driver */
        const char *begin = static_cast<const char *>(from);
        auto staged = std::make_shared<std::vector<char>>(begin, begin + bytes);
        return push(stream, {[to, staged] { memcpy(to, staged->data(), staged->size()); }, {}, {}});
    }
    cudaError_t error =
        push(stream, {[to, from, bytes] { memcpy(to, from, bytes); }, nullptr, nullptr});
    if (error == cudaSuccess && !to_known) /* pageable: has been written on return */
        error = drain(stream);
    return error;
}

} // namespace emulation

using namespace emulation;

cuda_emulation cuda_emulation_default(uint64_t seed)
{
    cuda_emulation settings = {};
    settings.seed = seed;
    settings.order = static_cast<cuda_emulation_order>(seed % 3);
    settings.driver = settings.runtime = 13000;
    settings.n_devices = 1;
    settings.major = 9;
    settings.engines = 2;
    settings.memory_bytes = uint64_t{1} << 30;
    return settings;
}

void cuda_emulation_set(const cuda_emulation *settings)
{
    guard lock(rt.mutex);
    if (!rt.memory.empty() || !rt.streams.empty() || !rt.events.empty())
        misuse("begins anew while something is left of the time before");
    rt.settings = *settings;
    rt.random.seed(settings->seed);
    memset(rt.counts, 0, sizeof rt.counts);
    rt.broken = last_error = cudaSuccess;
    rt.loaded.clear();
}

uint64_t cuda_emulation_count(cuda_emulation_fault kind)
{
    guard lock(rt.mutex);
    return rt.counts[kind];
}

size_t cuda_emulation_live(void)
{
    guard lock(rt.mutex);
    return rt.memory.size() + rt.streams.size() + rt.events.size();
}

void cuda_emulation_expect_loaded(const void *kernel, const char *name)
{
    guard lock(rt.mutex);
    if (rt.loaded.empty() || rt.loaded.count(kernel))
        return;
    fprintf(stderr, "emulated CUDA: kernel '%s' is launched and was not loaded\n", name);
    std::abort();
}

bool cuda_emulation_reachable(const void *address)
{
    guard lock(rt.mutex);
    return find_block(address) != rt.memory.end();
}

void cuda_emulation_queue(cudaStream_t stream, std::function<void()> body)
{
    guard lock(rt.mutex);
    cudaError_t error = enter();
    if (error == cudaSuccess && strikes(CUDA_FAULT_LAUNCH))
        error = break_down(cudaErrorLaunchFailure);
    if (error == cudaSuccess && current_device >= rt.settings.n_devices)
        error = cudaErrorInvalidDevice;
    give(error == cudaSuccess ? push(stream, {std::move(body), nullptr, nullptr}) : error);
}
