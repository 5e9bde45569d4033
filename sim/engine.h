/* The event engine: operations on lanes in virtual time, integer nanoseconds.
 *
 * A lane is a resource that runs one operation at a time. Each lane is fed by one or more in-order
 * queues; an idle lane takes the first queue (in the order below) whose head has its dependencies
 * done, so a queued demand copy overtakes fills that have not started; a running copy is never
 * preempted. There is no deadlock: the unfinished operation that was submitted first has all its
 * dependencies done and heads its queue.
 *
 * Operations that read host DRAM state the bandwidth that they use at full speed. When the running
 * ones together want more than the DRAM has, all of them slow down by the same factor
 * dram / wanted (proportional sharing), until one of them ends or another begins. Progress is kept
 * in units of 2^-20 ns, speeds are rounded down to 2^-20: no floating-point error accumulates, the
 * DRAM is never read faster than it can be, and two equal sharers of a saturated DRAM get exactly
 * half.
 *
 * Time moves only inside moe_engine_run_until and inside a submit to a full queue (which waits as a
 * launch into a full CUDA stream does). Events at one time are handled in lane order, and nothing
 * reads a clock: the same submissions give the same times everywhere. */
#ifndef MOELAB_SIM_ENGINE_H
#define MOELAB_SIM_ENGINE_H

#include "base/error.h"
#include "policies/cost.h"
#include "policies/usage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moe_queue {
    MOE_QUEUE_GPU,
    MOE_QUEUE_CPU,
    MOE_QUEUE_DEMAND, /* these three feed MOE_LANE_H2D, by falling priority */
    MOE_QUEUE_FILL,
    MOE_QUEUE_PREFETCH,
    MOE_QUEUE_DOWN,
    MOE_QUEUE_UP,
    MOE_N_QUEUES
};

/* Handle of a submitted operation: its number within its queue, from 1, and the queue in the lowest
 * MOE_OP_QUEUE_BITS. 0 is never given out and counts as done. */
typedef uint64_t moe_op;

enum { MOE_OP_QUEUE_BITS = 3 };

/* The queue that an operation other than 0 was submitted to. */
static inline enum moe_queue moe_op_queue(moe_op op)
{
    return (enum moe_queue)(op & ((1 << MOE_OP_QUEUE_BITS) - 1));
}

struct moe_op_spec {
    moe_op after[2];        /* starts when both are done */
    uint64_t work_ns;       /* at full speed; longer than MOE_MAX_WORK_NS is cut to it */
    uint64_t dram_kb_per_s; /* 1000 bytes a second, read from host DRAM at full speed; 0: none */
    /* for the observer; the engine only passes them on (but moe_engine_cancel sets kind) */
    int32_t slot;
    uint16_t layer, expert;
    uint8_t kind, cause;
};

/* Called when an operation of an observed queue is done; spec is valid during the call. */
typedef void moe_op_observer(void *user, moe_op op, const struct moe_op_spec *spec,
                             uint64_t start_ns, uint64_t end_ns);

struct moe_engine; /* opaque; single-threaded */

/* dram_kb_per_s in 1..2^40. Each queue holds `capacity` waiting operations. Errors: MOE_ERR_MEMORY.
 */
enum moe_status moe_engine_new(struct moe_engine **out, uint64_t dram_kb_per_s, uint32_t capacity,
                               struct moe_err *err);
void moe_engine_free(struct moe_engine *engine);

/* observer gets the operations of the queues in the mask (1 << MOE_QUEUE_x). */
void moe_engine_observe(struct moe_engine *engine, unsigned queues, moe_op_observer *observer,
                        void *user);

/* Returns where to write the queue's next operation: all members, before any other call to the
 * engine. When the queue is full, moves time until it is not. */
struct moe_op_spec *moe_engine_place(struct moe_engine *engine, enum moe_queue queue);

/* Submits the operation written there; it starts at once if it can. (There are two calls so that
 * the spec is written in place: copying one that was just written stalls on its stores, which took
 * a tenth of a simulation's time.) */
moe_op moe_engine_submit(struct moe_engine *engine, enum moe_queue queue);

bool moe_engine_done(const struct moe_engine *engine, moe_op op);

/* Cancels an operation: it keeps its place in the queue, but takes no time, reads no DRAM and gets
 * the kind given. Returns false, and changes nothing, if it has begun. */
bool moe_engine_cancel(struct moe_engine *engine, moe_op op, uint8_t kind);

/* Moves time forward until op is done; does not move it when op is done already. */
void moe_engine_run_until(struct moe_engine *engine, moe_op op);

uint64_t moe_engine_now(const struct moe_engine *engine);

/* The work of a layer that waits for no copy: gpu_ns on the GPU and, from the same time on,
 * down_ns, cpu_ns, up_ns one after another; when both are through, last_ns on the GPU. The last
 * operation has to take time on the GPU or the CPU: those lanes are served before a copy that ends
 * then. */
struct moe_layer_work {
    uint64_t gpu_ns, down_ns, cpu_ns, up_ns, last_ns;
    uint64_t dram_kb_per_s; /* that the CPU's part and a copy read together, at most */
};

/* A shortcut: moves time just as submitting these operations and waiting for all of them would, but
 * only adds up their durations. They are not observed; copies that end meanwhile are. Returns
 * false, and does nothing, when anything but copies is running or queued, or when the DRAM might
 * have to be shared. */
bool moe_engine_run_layer(struct moe_engine *engine, const struct moe_layer_work *work);

/* busy_ns[mask] grows by every stretch of time during which exactly the lanes of the mask (bits
 * 1 << MOE_LANE_x) were busy; [1 << MOE_N_LANES]. The sum of all entries is the time that passed
 * while this table was set. The caller owns it and keeps it valid until another one is set. */
void moe_engine_count_into(struct moe_engine *engine, uint64_t *busy_ns);

#endif
