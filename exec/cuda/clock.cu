#include "exec/cuda/clock.cuh"

#include <cmath>

extern "C" {
#include "base/progress.h"
}

enum { TRIES = 4, GOOD_NS = 20000 }; // a base takes at most GOOD_NS unless other work delays it

// Records the event on the idle stream and says when that was.
static cudaError_t mark(struct moe_cuda_clock *clock, cudaEvent_t event, uint64_t *at_ns)
{
    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = moe_clock_ns();
        cudaError_t error = cudaEventRecord(event, clock->stream);
        while (error == cudaSuccess && (error = cudaEventQuery(event)) == cudaErrorNotReady) {
            (void)cudaGetLastError(); // not an error
            error = cudaSuccess;
            if (moe_clock_ns() - before > GOOD_NS) { // delayed by other work: spinning is no use
                error = cudaEventSynchronize(event);
                break;
            }
        }
        if (error != cudaSuccess)
            return error;
        const uint64_t took = moe_clock_ns() - before;
        *at_ns = before + took / 2;
        if (took < GOOD_NS)
            break;
    }
    return cudaSuccess;
}

cudaError_t moe_cuda_clock_open(struct moe_cuda_clock *clock)
{
    cudaError_t error = cudaStreamCreateWithPriority(&clock->stream, cudaStreamNonBlocking, 0);
    uint64_t at_ns = 0;
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&clock->base, cudaEventDefault);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&clock->next, cudaEventDefault);
    if (error == cudaSuccess)
        error = mark(clock, clock->base, &at_ns); // the very first takes long and is repeated
    if (error == cudaSuccess)
        error = mark(clock, clock->base, &at_ns);
    clock->scale = {static_cast<double>(at_ns), 0};
    clock->made_ns = at_ns;
    return error;
}

void moe_cuda_clock_close(struct moe_cuda_clock *clock)
{
    if (clock->base)
        (void)cudaEventDestroy(clock->base);
    if (clock->next)
        (void)cudaEventDestroy(clock->next);
    if (clock->stream)
        (void)cudaStreamDestroy(clock->stream);
    clock->base = clock->next = nullptr;
    clock->stream = nullptr;
}

static cudaError_t make_anew(struct moe_cuda_clock *clock)
{
    uint64_t at_ns = 0;
    float ms = 0;
    cudaError_t error = mark(clock, clock->next, &at_ns);
    if (error == cudaSuccess)
        error = cudaEventElapsedTime(&ms, clock->base, clock->next);
    if (error != cudaSuccess)
        return error;
    clock->scale = moe_cuda_scale_next(&clock->scale, ms, at_ns);
    clock->made_ns = at_ns;
    const cudaEvent_t old = clock->base;
    clock->base = clock->next;
    clock->next = old;
    return cudaSuccess;
}

// Negative if the event came before the base. CUDA's manual does not say whether it returns a
// negative time or 0 then, so the reverse order is tried as well.
static cudaError_t since_base(const struct moe_cuda_clock *clock, cudaEvent_t event, float *ms)
{
    float before = 0;
    cudaError_t error = cudaEventElapsedTime(ms, clock->base, event);
    if (error == cudaSuccess && *ms <= 0)
        error = cudaEventElapsedTime(&before, event, clock->base);
    if (before > 0)
        *ms = -before;
    return error;
}

cudaError_t moe_cuda_clock_read(struct moe_cuda_clock *clock, cudaEvent_t event, uint64_t *ns)
{
    std::lock_guard<std::mutex> lock(clock->lock);
    float ms = 0;
    cudaError_t error = cudaSuccess;
    if (moe_clock_ns() - clock->made_ns > MOE_CUDA_BASE_NS)
        error = make_anew(clock);
    if (error == cudaSuccess)
        error = since_base(clock, event, &ms);
    if (error == cudaErrorNotReady) { // the host knows from later work, by its flag
        (void)cudaGetLastError();     // not an error
        error = cudaEventSynchronize(event);
        if (error == cudaSuccess)
            error = since_base(clock, event, &ms);
    }
    if (error == cudaSuccess)
        *ns = static_cast<uint64_t>(std::llround(moe_cuda_scale_at(&clock->scale, ms)));
    return error;
}
