/* What the real machine holds, for exec/machine*.c only. "lock" is shared.lock; what is not marked
 * belongs to the host's thread alone. */
#ifndef MOELAB_EXEC_MACHINE_STATE_H
#define MOELAB_EXEC_MACHINE_STATE_H

#include "exec/cpu_worker.h"
#include "exec/dense.h"
#include "exec/fetcher.h"
#include "exec/machine.h"

enum { MOE_STAGING = 2, MOE_MAX_WORKS = 64, MOE_N_EARLY = 2 };

/* A kernel of this step. */
struct moe_kernel_op {
    struct moe_use use; /* lock */
    struct moe_event *start;
    struct moe_operation shown; /* but for its times */
    /* Experts: the buffer, and how many copies into it must have landed before. */
    struct moe_buffer *buffer; /* NULL: not an expert */
    uint64_t ordinal;
    uint32_t row, n_tokens;
};

/* Some misses of a layer, started together. */
struct moe_layer_work {
    struct moe_cpu_work work; /* lock: done */
    uint32_t layer, first, n; /* its jobs in machine->jobs */
};

/* Experts of a layer begun with the layer before. Two of these take turns, so that one can be begun
 * while the other is computed or taken. */
struct moe_early_work {
    struct moe_cpu_work work; /* lock: done */
    struct moe_event *down_start, *down_end;
    float *u;                 /* [D] pinned: the input */
    float *h, *y;             /* [K, F], [K, D] heap, as the rest */
    struct moe_ffn_job *jobs; /* [K] */
    moe_expert *expert;       /* [K] */
    bool *taken;              /* [K] by the layer */
    uint32_t layer, n;
    bool pending; /* started, and not counted so far */
};

struct moe_exec_machine {
    struct moe_exec_setup setup;
    struct moe_llm_config config; /* with the top-k of the routes */
    struct moe_rope rope;
    struct moe_shared shared;
    struct moe_fetcher *fetcher;
    struct moe_cpu_worker *worker;

    struct moe_buffer *slots; /* [n_slots]; lock: n_landed */
    struct moe_buffer staging[MOE_STAGING];
    uint64_t n_staged, n_unstaged; /* experts copied to, and computed from, staging buffers */

    /* Kernels of the step: submitted are [0, n_submitted), the rest waits for copies. */
    struct moe_kernel_op **ops; /* [max_ops], made when first needed */
    size_t n_ops, n_submitted, max_ops;
    bool late; /* slot_wait found the copy under way */

    /* The CPU's part of the layer. */
    struct moe_activations host; /* pinned: x, cosine, sine, u, ffn_y, weight; the rest is heap */
    struct moe_ffn_job *jobs;    /* [E] of the layer, started up to n_started */
    moe_expert *job_expert;      /* [E] */
    uint32_t n_jobs, n_started;
    bool *on_cpu;        /* [E] scratch */
    uint32_t step_layer; /* under way */
    struct moe_early_work early[MOE_N_EARLY];
    uint32_t early_at;            /* the one of the latest layer that began any */
    uint32_t n_early;             /* asked for by the layer under way and not started */
    uint32_t n_taken;             /* by it */
    struct moe_event *early_down; /* its input has come down; NULL: it began none */
    bool states_pending; /* the events below are those of states_layer, not counted so far */
    bool states_down;    /* both ways */
    uint32_t states_layer;
    struct moe_layer_work works[MOE_MAX_WORKS];
    uint32_t n_works;
    bool down_queued;
    struct moe_event *down_start, *down_end, *up_start, *up_end, *input_end, *routes_end,
        *logits_end;

    /* pinned */
    void **pinned;
    size_t n_pinned;
    struct moe_route_box box;
    uint32_t *row;        /* [K] of a rerouted token */
    moe_expert *forced;   /* [L, T, K] */
    float *forced_weight; /* [L, T, K] */
    float *logits;        /* [V] */
    int32_t *ids;         /* [T] heap: tokens of a replayed step */

    struct moe_step step;
    struct moe_exec_input input;
    uint64_t born_ns, step_start_ns;
    moe_routes_observer *observer;
    void *observer_user;

    struct moe_interval *intervals; /* of the step */
    size_t n_intervals, max_intervals;
    struct moe_usage usage[2]; /* by enum moe_phase */
    uint64_t redirected;
};

/* machine_ops.c */

/* The error of any thread, copied; MOE_OK when there is none. err may be NULL. */
enum moe_status moe_machine_status(struct moe_exec_machine *m, struct moe_err *err);

/* Is there what the host waits for? Called with the lock held. */
typedef bool moe_ready(struct moe_exec_machine *m, const void *what);

/* Waits until ready, meanwhile submitting kernels whose copies land and telling the cache of
 * them. Ends early when the run has failed. */
void moe_machine_wait(struct moe_exec_machine *m, moe_ready *ready, const void *what);

/* The same once, without waiting. */
void moe_machine_look(struct moe_exec_machine *m);

/* The next record of a kernel; NULL when the run has failed for want of memory. */
struct moe_kernel_op *moe_machine_next_op(struct moe_exec_machine *m);

/* A record for a kernel that is submitted at once: the caller queues it between begin and end. */
struct moe_kernel_op *moe_machine_begin_op(struct moe_exec_machine *m, const char *name,
                                           int32_t layer);
void moe_machine_end_op(struct moe_exec_machine *m, struct moe_kernel_op *op);

/* Adds what the step's kernels were busy with; all have ended. */
void moe_machine_count_ops(struct moe_exec_machine *m);

/* One busy time: into the step's usage and, with a name, the timeline. */
void moe_machine_count(struct moe_exec_machine *m, enum moe_lane lane,
                       const struct moe_operation *operation);

/* machine_gpu.c */
void moe_machine_gpu_ffn(void *machine, const struct moe_ffn *ffn);
void moe_machine_fetch(void *machine, const struct moe_fetch *fetch);
void moe_machine_slot_wait(void *machine, moe_slot slot, bool host);
bool moe_machine_cancel(void *machine, moe_slot slot);

/* machine_early.c */
enum moe_status moe_machine_early_new(struct moe_exec_machine *m, struct moe_err *err);
void moe_machine_early_free(struct moe_exec_machine *m);
void moe_machine_cpu_early(void *machine, const struct moe_ffn *ffn);
void moe_machine_cpu_take(void *machine, const struct moe_ffn *ffn);
void moe_machine_start_early(struct moe_exec_machine *m);      /* as moe_machine_start_cpu */
bool moe_machine_taken_done(const struct moe_exec_machine *m); /* lock */

/* What was taken goes where the layer's results are, and on_cpu says so; all of it is done. */
void moe_machine_place_taken(struct moe_exec_machine *m);

/* Counts works that are done. */
void moe_machine_count_early(struct moe_exec_machine *m);

/* machine_cpu.c */
void moe_machine_cpu_ffn(void *machine, const struct moe_ffn *ffn);
void moe_machine_cpu_wait(void *machine);
void moe_machine_start_cpu(struct moe_exec_machine *m); /* what was asked for and has not begun */
void moe_machine_combine(void *machine, uint32_t layer);

/* Counts the activations' copies of the layer before, which have ended. */
void moe_machine_count_states(struct moe_exec_machine *m);

#endif
