/* What the emulated CUDA runtime is made of: inside tests/cuda/emulation.cc (queues and memory) and
 * tests/cuda/cuda_runtime_api.cc (the calls) only. Every function but guard's is called with the
 * lock held. */
#ifndef MOELAB_TESTS_CUDA_EMULATION_STATE_H
#define MOELAB_TESTS_CUDA_EMULATION_STATE_H

#include "tests/cuda/cuda_runtime_api.h"
#include "tests/cuda/emulation.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>

/* A place in a stream, marked by a record. */
struct place {
    bool reached;
    uint64_t at_ns;
};

struct operation {
    std::function<void()> body; /* or none: a record or a wait */
    std::shared_ptr<place> mark, wait;
};

struct CUstream_st {
    std::deque<operation> queue;
};

struct CUevent_st {
    std::shared_ptr<place> mark; /* none: never recorded */
};

namespace emulation
{

enum memory_kind { DEVICE, PINNED };

struct allocation {
    size_t bytes;
    memory_kind kind;
};

struct runtime {
    std::mutex mutex;
    cuda_emulation settings = cuda_emulation_default(1);
    std::mt19937_64 random{1};
    uint64_t counts[N_CUDA_FAULTS] = {};
    cudaError_t broken = cudaSuccess; /* every call fails with it */
    uint64_t used_bytes = 0;
    std::map<uintptr_t, allocation> memory;
    std::set<cudaStream_t> streams;
    std::set<cudaEvent_t> events;
    std::set<const void *> loaded; /* kernels */
};

extern runtime rt;
extern thread_local cudaError_t last_error;
extern thread_local int current_device;

typedef std::lock_guard<std::mutex> guard;

/* Returns the error, and keeps it for cudaGetLastError. */
cudaError_t give(cudaError_t error);
/* Misuse that CUDA does not promise to find: ends the test. */
[[noreturn]] void misuse(const char *what);
/* Counts one of the kind; is it the one that fails? */
bool strikes(cuda_emulation_fault kind);
/* What every call that can fail begins with. */
cudaError_t enter(void);

/* A call that asks moves things on, or a caller that polls would wait for ever. */
void advance(void);
cudaError_t push(cudaStream_t stream, operation item);
cudaError_t run_until(const std::function<bool()> &done);
cudaError_t drain(cudaStream_t stream);

cudaError_t allocate(void **out, size_t bytes, memory_kind kind);
cudaError_t release(void *memory, memory_kind kind);
/* False: pageable. A range that begins in allocated memory must end in it. */
bool is_known(const void *address, size_t bytes, memory_kind *kind);
cudaError_t queue_copy(void *to, const void *from, size_t bytes, cudaStream_t stream);

} // namespace emulation

#endif
