/* The CPU's part of a layer: a thread of its own that drives the CPU pool, so that the host can go
 * on queueing work for the device; or, where the host would wait for every expert, the host itself,
 * which saves two changes of threads an expert. Inside exec only. */
#ifndef MOELAB_EXEC_CPU_WORKER_H
#define MOELAB_EXEC_CPU_WORKER_H

#include "exec/device.h"
#include "exec/pool.h"
#include "exec/shared.h"

struct moe_cpu_worker; /* opaque */

/* All misses of a layer that were asked for together: one parallel region, no barrier between the
 * experts. Everything is borrowed until the work is done. */
struct moe_cpu_work {
    struct moe_event *after; /* waited for first: the activations are there */
    const struct moe_ffn_job *jobs;
    uint32_t n_jobs;
    /* Called before the jobs, with context: brings x of the jobs in order; may be NULL. */
    void (*gather)(void *context, struct moe_pool *pool);
    void *context;
    uint64_t start_ns, end_ns; /* out: when the CPU computed, moe_clock_ns() */
    bool done;                 /* out, under the lock */
};

/* Starts the pool in a thread of its own or, with in_caller, in the calling one, which then alone
 * starts work and is back when it is done. Errors: those of moe_pool_new, MOE_ERR_MEMORY. */
enum moe_status moe_cpu_worker_new(struct moe_cpu_worker **out, struct moe_shared *shared,
                                   struct moe_device *device,
                                   const struct moe_pool_options *options, bool in_caller,
                                   struct moe_err *err);
void moe_cpu_worker_free(struct moe_cpu_worker *worker); /* after the work under way */

/* Works are done in the order of their start; at most 64 wait. The end signals shared->host. */
void moe_cpu_worker_start(struct moe_cpu_worker *worker, struct moe_cpu_work *work);

/* For what it tells about itself; not to compute with. */
const struct moe_pool *moe_cpu_worker_pool(const struct moe_cpu_worker *worker);

#endif
