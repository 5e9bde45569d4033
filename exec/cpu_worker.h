/* Computes the CPU's part of a layer. Usually in a thread of its own, which drives the CPU pool
 * while the host goes on queueing work for the device. Where the host would wait for every expert
 * anyway, in the host's thread, which saves two thread switches for each expert. Inside exec only.
 */
#ifndef MOELAB_EXEC_CPU_WORKER_H
#define MOELAB_EXEC_CPU_WORKER_H

#include "exec/device.h"
#include "exec/pool.h"
#include "exec/shared.h"

struct moe_cpu_worker; /* opaque */

/* Misses of a layer that are computed together: one parallel region, no barrier between the
 * experts. What it points at must stay valid until the work is done. */
struct moe_cpu_work {
    struct moe_event *after; /* waited for first, as the activations arrive then; or NULL */
    const struct moe_ffn_job *jobs;
    uint32_t n_jobs;
    /* Called with context before the jobs, to fill their x; or NULL. */
    void (*gather)(void *context, struct moe_pool *pool);
    void *context;
    uint64_t start_ns, end_ns; /* out: when the CPU computed, moe_clock_ns() */
    bool done;                 /* out; guarded by the lock */
};

/* Creates the pool in a thread of its own; or, with in_caller, in the calling thread, which then
 * has to be the one that calls _start, and each _start returns when its work is done. Errors: those
 * of moe_pool_new, MOE_ERR_MEMORY. */
enum moe_status moe_cpu_worker_new(struct moe_cpu_worker **out, struct moe_shared *shared,
                                   struct moe_device *device,
                                   const struct moe_pool_options *options, bool in_caller,
                                   struct moe_err *err);
void moe_cpu_worker_free(struct moe_cpu_worker *worker); /* completes the work that was started */

/* Works are done in the order in which they are started; with 64 waiting, the call waits too.
 * Signals shared->host at the end of each. */
void moe_cpu_worker_start(struct moe_cpu_worker *worker, struct moe_cpu_work *work);

/* For asking its threads and kernels only; it belongs to the worker's thread. */
const struct moe_pool *moe_cpu_worker_pool(const struct moe_cpu_worker *worker);

#endif
