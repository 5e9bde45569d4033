// Times of events on the clock of moe_clock_ns(): see exec/cuda/scale.h.
#ifndef MOELAB_EXEC_CUDA_CLOCK_CUH
#define MOELAB_EXEC_CUDA_CLOCK_CUH

#include "exec/cuda/scale.h"

#include <cuda_runtime_api.h>
#include <mutex>

struct moe_cuda_clock {
    std::mutex lock;
    cudaStream_t stream; // of its own: always idle, so that a base is reached at once
    cudaEvent_t base, next;
    struct moe_cuda_scale scale;
    uint64_t made_ns; // when base was
};

// Streams and events are NULL where it fails; closing takes that. On the current device.
cudaError_t moe_cuda_clock_open(struct moe_cuda_clock *clock);
void moe_cuda_clock_close(struct moe_cuda_clock *clock);
// When the event was reached, which it has been. Any thread.
cudaError_t moe_cuda_clock_read(struct moe_cuda_clock *clock, cudaEvent_t event, uint64_t *ns);

#endif
