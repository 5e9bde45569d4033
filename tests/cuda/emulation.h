/* What tests set and see of the emulated CUDA runtime (tests/cuda/cuda_runtime_api.h). Plain C. */
#ifndef MOELAB_TESTS_CUDA_EMULATION_H
#define MOELAB_TESTS_CUDA_EMULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of things that can be made to fail. */
enum cuda_emulation_fault {
    CUDA_FAULT_NONE,
    CUDA_FAULT_CREATE, /* memory, streams and events: the call says that memory ran out */
    CUDA_FAULT_COPY,   /* a copy: the call says that it cannot be queued */
    CUDA_FAULT_LAUNCH, /* a kernel: its launch finds the device lost, and so does every call after
                          it */
    CUDA_FAULT_RUN,    /* anything that was queued: fails while it runs, and so does every call
                          after that */
    CUDA_FAULT_CALL,   /* any call that can fail */
    N_CUDA_FAULTS
};

/* How the operations of streams are interleaved. */
enum cuda_emulation_order {
    CUDA_ORDER_RANDOM, /* some run in each call */
    CUDA_ORDER_LAZY,   /* as late as can be: only inside calls that wait or ask */
    CUDA_ORDER_EAGER,  /* everything that can run runs in each call, in random order */
};

struct cuda_emulation {
    uint64_t seed;
    enum cuda_emulation_order order;
    enum cuda_emulation_fault fault;
    uint64_t fail_at; /* the how-manieth of that kind fails, from 1; 0: none */

    int driver, runtime; /* versions as CUDA writes them: 13000; driver 0: none */
    int n_devices, major, minor;
    int engines;                        /* that copy */
    bool in_use;                        /* another process has the devices for itself */
    int pinning;                        /* error that pinning memory ends with; 0: it works */
    bool integrated;                    /* their memory is the host's */
    uint64_t memory_bytes, taken_bytes; /* of a device, and what other processes hold of it */
};

/* One device that fits, no fault. */
struct cuda_emulation cuda_emulation_default(uint64_t seed);
/* Begins anew with these settings. Nothing may be left of the time before. */
void cuda_emulation_set(const struct cuda_emulation *settings);
/* Things of this kind seen since then. */
uint64_t cuda_emulation_count(enum cuda_emulation_fault kind);
/* Memory, streams and events that were made and not freed. */
size_t cuda_emulation_live(void);

/* A stream, for tests of kernels alone; sync ends the program where the runtime reports an error.
 */
struct CUstream_st;
struct CUstream_st *cuda_emulation_stream_new(void);
void cuda_emulation_stream_sync(struct CUstream_st *stream); /* NULL: no-op */
void cuda_emulation_stream_free(struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif
