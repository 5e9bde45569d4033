/* The state of the emulated CUDA runtime, for tests/cuda/emulation.cc (queues and memory) and
 * tests/cuda/cuda_runtime_api.cc (the calls) only. Their callers hold the lock (guard). */
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

/* A place in a stream that an event recorded. */
struct place {
    bool reached;
    uint64_t at_ns;
};

struct operation {
    std::function<void()> body; /* none: only a record or a wait */
    std::shared_ptr<place> mark, wait;
};

struct CUstream_st {
    std::deque<operation> queue;
};

struct CUevent_st {
    std::shared_ptr<place> mark; /* NULL: never recorded */
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
    cudaError_t broken = cudaSuccess; /* if not success, every call fails with it */
    uint64_t used_bytes = 0;
    std::map<uintptr_t, allocation> memory;
    std::set<cudaStream_t> streams;
    std::set<cudaEvent_t> events;
    std::set<const void *> loaded; /* kernels loaded beforehand */
};

extern runtime rt;
extern thread_local cudaError_t last_error;
extern thread_local int current_device;

typedef std::lock_guard<std::mutex> guard;

/* Returns the error after storing it for cudaGetLastError. */
cudaError_t give(cudaError_t error);
/* Ends the test because of a misuse that CUDA itself need not detect. */
[[noreturn]] void misuse(const char *what);
/* Counts an operation of this kind; returns whether it is the one that has to fail. */
bool strikes(cuda_emulation_fault kind);
/* Every call that can fail begins with this. */
cudaError_t enter(void);

/* Runs at least one operation that can run: queries call it, or a caller that polls would never
 * end. */
void advance(void);
cudaError_t push(cudaStream_t stream, operation item);
cudaError_t run_until(const std::function<bool()> &done);
cudaError_t drain(cudaStream_t stream);

cudaError_t allocate(void **out, size_t bytes, memory_kind kind);
cudaError_t release(void *memory, memory_kind kind);
/* Is it device or pinned memory (else it is pageable)? Ends the test if the range begins in an
 * allocation and reaches past its end. */
bool is_known(const void *address, size_t bytes, memory_kind *kind);
cudaError_t queue_copy(void *to, const void *from, size_t bytes, cudaStream_t stream);

} // namespace emulation

#endif
