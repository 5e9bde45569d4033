/* The event engine: operations on lanes in virtual time, integer nanoseconds.
 *
 * A lane is a resource that runs one operation at a time. Each lane is fed by one or more in-order
 * queues; an idle lane takes the first queue (in the order below) whose head has its dependencies
 * done, so a queued demand copy passes fills that have not started, and a running copy is never
 * broken off. There is no deadlock: the unfinished operation that was submitted first has all its
 * dependencies done and heads its queue.
 *
 * Operations that read host DRAM say how much they read a second at full speed. When the running
 * ones together want more than the DRAM gives, all of them slow down by the same factor
 * dram / wanted (proportional sharing), until one of them ends or another begins. Progress is kept
 * in units of 2^-20 ns, speeds are rounded down to 2^-20: no floating-point sum builds up, the DRAM
 * is never read faster than it can be, and two equal sharers of a saturated DRAM get exactly half.
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
    MOE_QUEUE_DEMAND, /* these three feed MOE_LANE_H2D, the first first */
    MOE_QUEUE_FILL,
    MOE_QUEUE_PREFETCH,
    MOE_QUEUE_DOWN,
    MOE_QUEUE_UP,
    MOE_N_QUEUES
};

/* Handle of a submitted operation; 0 is an operation that was always done. */
typedef uint64_t moe_op;

struct moe_op_spec {
    moe_op after[2];        /* starts when both are done */
    uint64_t work_ns;       /* at full speed; longer than MOE_MAX_WORK_NS is cut to it */
    uint64_t dram_kb_per_s; /* 1000 bytes a second, read from host DRAM at full speed; 0: none */
    /* for the observer, untouched by the engine */
    int32_t slot;
    uint16_t layer, expert;
    uint8_t kind, cause;
};

/* Called when an operation of an observed queue is done. */
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

/* Where the queue's next operation is to be written: every member, before the next call to the
 * engine. Waits when the queue is full. */
struct moe_op_spec *moe_engine_place(struct moe_engine *engine, enum moe_queue queue);

/* Submits the operation written there; it starts at once if it can. (Two calls: copying a
 * spec just written waits for its stores, a tenth of a simulation's time.) */
moe_op moe_engine_submit(struct moe_engine *engine, enum moe_queue queue);

bool moe_engine_done(const struct moe_engine *engine, moe_op op);

/* Takes an operation back: it keeps its place in the queue, takes no time and is of this kind.
 * False: it has begun. */
bool moe_engine_cancel(struct moe_engine *engine, moe_op op, uint8_t kind);

/* Moves time forward until op is done; does not move it when op is done already. */
void moe_engine_run_until(struct moe_engine *engine, moe_op op);

uint64_t moe_engine_now(const struct moe_engine *engine);

/* What a layer does beside copies that it does not wait for: gpu_ns on the GPU and, from the same
 * time on, down_ns, cpu_ns, up_ns one after another; then last_ns on the GPU. It ends with an
 * operation that takes time on the GPU or the CPU: these are served before copies that end then. */
struct moe_layer_work {
    uint64_t gpu_ns, down_ns, cpu_ns, up_ns, last_ns;
    uint64_t dram_kb_per_s; /* that the CPU's part and a copy read together, at most */
};

/* Moves time as submitting those operations and waiting until all are done would, without them:
 * their times only add up. None of them is observed; copies are, as ever. False, and nothing is
 * done: something other than copies is running or waiting, or the DRAM would have to be shared. */
bool moe_engine_run_layer(struct moe_engine *engine, const struct moe_layer_work *work);

/* busy_ns[mask] grows by every stretch of time during which exactly the lanes of the mask (bits
 * 1 << MOE_LANE_x) were busy; [1 << MOE_N_LANES]. The sum of all entries is the time that passed
 * while this table was set. The caller owns it; it must be set before time moves. */
void moe_engine_count_into(struct moe_engine *engine, uint64_t *busy_ns);

#endif
