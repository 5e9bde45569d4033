/* The tests' controls of the emulated CUDA runtime (tests/cuda/cuda_runtime_api.h). Plain C. */
#ifndef MOELAB_TESTS_CUDA_EMULATION_H
#define MOELAB_TESTS_CUDA_EMULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What can be made to fail. */
enum cuda_emulation_fault {
    CUDA_FAULT_NONE,
    CUDA_FAULT_CREATE, /* creating memory, a stream or an event: out of memory */
    CUDA_FAULT_COPY,   /* queueing a copy: the call fails */
    CUDA_FAULT_LAUNCH, /* launching a kernel: this call and all later ones find the device lost */
    CUDA_FAULT_RUN,    /* running a queued operation: all later calls fail */
    CUDA_FAULT_CALL,   /* any call that can fail: this call alone */
    N_CUDA_FAULTS
};

/* How the operations of streams are interleaved. */
enum cuda_emulation_order {
    CUDA_ORDER_RANDOM, /* each call runs some */
    CUDA_ORDER_LAZY,   /* as late as possible: only calls that wait or query run any */
    CUDA_ORDER_EAGER,  /* each call runs all that can run, in random order */
};

struct cuda_emulation {
    uint64_t seed;
    enum cuda_emulation_order order;
    enum cuda_emulation_fault fault;
    uint64_t fail_at; /* the fail_at-th of that kind fails, counted from 1; 0: none */

    int driver, runtime; /* versions as CUDA numbers them (13000); driver 0: no driver */
    int n_devices, major, minor;
    int engines;                        /* copy engines */
    bool in_use;                        /* another process has exclusive use of the devices */
    int pinning;                        /* the error of pinning memory; 0: none */
    bool integrated;                    /* the devices' memory is the host's */
    uint64_t memory_bytes, taken_bytes; /* of a device; of these, held by other processes */
};

/* One suitable device, no fault. */
struct cuda_emulation cuda_emulation_default(uint64_t seed);
/* Resets the runtime to these settings. Everything created before must have been freed. */
void cuda_emulation_set(const struct cuda_emulation *settings);
/* How many operations of this kind there were since then. */
uint64_t cuda_emulation_count(enum cuda_emulation_fault kind);
/* How many allocations, streams and events have not been freed. */
size_t cuda_emulation_live(void);

/* A stream, for tests of kernels without a device. _sync ends the program if the runtime reports an
 * error. */
struct CUstream_st;
struct CUstream_st *cuda_emulation_stream_new(void);
void cuda_emulation_stream_sync(struct CUstream_st *stream); /* NULL: no-op */
void cuda_emulation_stream_free(struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif
