// The host waits: for events, and for routes.
#include "exec/cuda/state.cuh"

#include <ctime>

// Waits for a layer's work end within SPIN_NS and are on the critical path, so they spin: a
// sleeping thread would wake some 60 us late. Longer waits are for copies of weights; there the
// core is of more use to the experts on the CPU, and naps are short compared with the wait.
enum { SPIN_NS = 2000000, NAP_PART = 32, MAX_NAP_NS = 100000, PAUSES = 32 };

// How often a wait for routes checks that the work that brings them is still running.
enum { ASK_NS = 200000 };

static inline void relax(void)
{
#if defined(__x86_64__)
    asm volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

void moe_cuda_rest(uint64_t waited_ns)
{
    if (waited_ns < SPIN_NS) {
        for (int i = 0; i < PAUSES; i++)
            relax();
        return;
    }
    uint64_t nap_ns = waited_ns / NAP_PART;
    if (nap_ns > MAX_NAP_NS)
        nap_ns = MAX_NAP_NS;
    const struct timespec nap = {0, static_cast<long>(nap_ns)};
    nanosleep(&nap, nullptr);
}

bool moe_cuda_done(struct moe_device *device, struct moe_event *event)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    if (!moe_cuda_enter(d))
        return true; // otherwise a caller that polls would never learn of the error
    const cudaError_t error = cudaEventQuery(event->event);
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError(); // not an error
        return false;
    }
    moe_cuda_check(d, error, "waiting for queued work");
    return true;
}

enum moe_status moe_cuda_sync(struct moe_device *device, struct moe_event *event,
                              struct moe_err *err)
{
    const uint64_t began = moe_clock_ns();
    while (!moe_cuda_done(device, event))
        moe_cuda_rest(moe_clock_ns() - began);
    return moe_cuda_report(moe_cuda_of(device), err);
}

static bool has_come(const struct moe_route_box *box)
{
    return __atomic_load_n(box->flag, __ATOMIC_ACQUIRE) >= box->ticket;
}

// Checks whether the routes can still come; if not, keeps the error.
static void ask(struct moe_cuda_device *d, const struct moe_route_box *box)
{
    if (!moe_cuda_enter(d))
        return;
    const cudaError_t error = cudaStreamQuery(d->streams[MOE_STREAM_COMPUTE]);
    if (error == cudaErrorNotReady)
        (void)cudaGetLastError(); // not an error
    else if (moe_cuda_check(d, error, "waiting for routes") && !has_come(box))
        moe_cuda_check(d, cudaErrorUnknown, "all work has ended and brought no routes");
}

enum moe_status moe_cuda_routes_wait(struct moe_device *device, const struct moe_route_box *box,
                                     struct moe_err *err)
{
    struct moe_cuda_device *d = moe_cuda_of(device);
    uint64_t asked = moe_clock_ns();
    while (!has_come(box) && !d->failed.load(std::memory_order_acquire)) {
        relax();
        const uint64_t now = moe_clock_ns();
        if (now - asked > ASK_NS) {
            ask(d, box);
            asked = now;
        }
    }
    return moe_cuda_report(d, err);
}
