// What the CUDA device is made of, for the files of exec/cuda/ that are not kernels.
#ifndef MOELAB_EXEC_CUDA_STATE_CUH
#define MOELAB_EXEC_CUDA_STATE_CUH

// The headers of the C side include these, which must not come first inside extern "C".
#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>

extern "C" {
#include "base/progress.h"
#include "base/units.h"
#include "exec/device.h"
}
#include "exec/cuda/clock.cuh"
#include "exec/cuda/kernels.h"

#include <atomic>
#include <cuda_runtime_api.h>
#include <mutex>

struct moe_event {
    cudaEvent_t event;
    std::atomic<bool> recorded; // ever
};

struct moe_cuda_device {
    struct moe_device device; // first
    int index;
    bool one_engine;      // copies both ways, one after the other
    uint64_t taken_bytes; // device memory held by other processes when it was opened
    cudaStream_t streams[MOE_N_STREAMS];
    struct moe_cuda_context context; // what kernels are given
    struct moe_cuda_clock clock;

    // The first error, which every later call that waits reports.
    std::atomic<bool> failed;
    std::mutex failure_lock;
    struct moe_err failure;
};

static inline struct moe_cuda_device *moe_cuda_of(struct moe_device *device)
{
    return reinterpret_cast<struct moe_cuda_device *>(device);
}

// Makes the device the calling thread's. False: the device has failed, now or before, and nothing
// more is to be queued. To be called before anything else.
bool moe_cuda_enter(struct moe_cuda_device *d);

// Keeps the first error, with the words for what was tried. True when there was none.
bool moe_cuda_check(struct moe_cuda_device *d, cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// The error kept, or MOE_OK.
enum moe_status moe_cuda_report(struct moe_cuda_device *d, struct moe_err *err);

const char *moe_cuda_stream_name(enum moe_stream stream);

// A short rest in a loop that polls: it spins while waiting is short, then sleeps in short naps.
void moe_cuda_rest(uint64_t waited_ns);

// The functions of struct moe_device_ops, by file: memory.cu, events.cu, wait.cu.
enum moe_status moe_cuda_alloc(struct moe_device *device, enum moe_memory kind, uint64_t bytes,
                               void **out, struct moe_err *err);
void moe_cuda_free(struct moe_device *device, enum moe_memory kind, void *memory);
uint64_t moe_cuda_free_bytes(struct moe_device *device);

enum moe_status moe_cuda_event_new(struct moe_device *device, struct moe_event **out,
                                   struct moe_err *err);
void moe_cuda_event_free(struct moe_device *device, struct moe_event *event);
void moe_cuda_record(struct moe_device *device, enum moe_stream stream, struct moe_event *event);
void moe_cuda_wait(struct moe_device *device, enum moe_stream stream, struct moe_event *event);
uint64_t moe_cuda_event_ns(struct moe_device *device, struct moe_event *event);

bool moe_cuda_done(struct moe_device *device, struct moe_event *event);
enum moe_status moe_cuda_sync(struct moe_device *device, struct moe_event *event,
                              struct moe_err *err);
enum moe_status moe_cuda_routes_wait(struct moe_device *device, const struct moe_route_box *box,
                                     struct moe_err *err);

#endif
