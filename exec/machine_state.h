/* What the real machine holds, for exec/machine*.c only: a part for each file, which keeps it in
 * order; the others read it, or call that file's functions. "lock" is shared.lock; what is not
 * marked belongs to the host's thread alone. */
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

/* Activations on their way between host and device. */
struct moe_state_copy {
    struct moe_event *start, *end;
};

/* Experts of a layer begun with the layer before. */
struct moe_early_work {
    struct moe_cpu_work work; /* lock: done */
    struct moe_state_copy down;
    float *u;                 /* [D] pinned: the input */
    float *h, *y;             /* [K, F], [K, D] heap, as the rest */
    struct moe_ffn_job *jobs; /* [K] */
    moe_expert *expert;       /* [K] */
    bool *taken;              /* [K] by the layer */
    uint32_t layer, n;
    bool pending; /* started, and not counted so far */
};

/* machine_busy.c: what was busy when. */
struct moe_machine_busy {
    struct moe_timeline *timeline;  /* or NULL */
    uint64_t born_ns;               /* where the timeline begins */
    struct moe_interval *intervals; /* [n] of the step */
    size_t n, max;
    struct moe_usage usage[2]; /* by enum moe_phase */
};

/* machine_ops.c: the kernels of the step in their order. Submitted are [0, n_submitted), the rest
 * waits for copies; [0, n_ended) are known to have ended, [0, n_counted) were counted. */
struct moe_machine_kernels {
    struct moe_kernel_op **ops; /* [max], made when first needed */
    size_t n, n_submitted, n_ended, n_counted, max;
};

/* machine_step.c: what a step takes and gives. Arrays are pinned, but for ids. */
struct moe_machine_io {
    struct moe_exec_input input;
    uint64_t start_ns;
    struct moe_route_box box;
    uint32_t *row;        /* [K] of a rerouted token */
    moe_expert *forced;   /* [L, T, K] */
    float *forced_weight; /* [L, T, K] */
    float *logits;        /* [V] */
    int32_t *ids;         /* [T] tokens of a replayed step */
    struct moe_event *input_end, *routes_end, *logits_end;
    moe_routes_observer *observer;
    void *observer_user;
};

/* machine_gpu.c: where experts lie on the device. */
struct moe_machine_gpu {
    struct moe_buffer *slots; /* [n_slots]; lock: n_landed */
    struct moe_buffer staging[MOE_STAGING];
    uint64_t n_staged, n_unstaged; /* experts copied to, and computed from, staging buffers */
    bool late;                     /* slot_wait found the copy under way */
    uint64_t redirected;
};

/* machine_cpu.c: the CPU's part of the layer under way. */
struct moe_machine_cpu {
    uint32_t layer;
    uint32_t n_jobs, n_started;
    struct moe_ffn_job *jobs;                 /* [E] started up to n_started */
    moe_expert *expert;                       /* [E] of the jobs */
    struct moe_cpu_work works[MOE_MAX_WORKS]; /* jobs started together; lock: done */
    uint32_t n_works;
    bool *on_cpu; /* [E] scratch */
};

/* machine_cpu.c: the activations' copies for it. */
struct moe_machine_states {
    struct moe_state_copy down, up;
    bool down_pending, up_pending; /* those of `layer`, not counted so far */
    uint32_t layer;
};

/* machine_early.c. Two works take turns, so that one can be begun while the other is computed or
 * taken. */
struct moe_machine_early {
    struct moe_early_work works[MOE_N_EARLY];
    uint32_t at;            /* the one of the latest layer that began any */
    uint32_t n_asked;       /* for by the layer under way, and not started */
    uint32_t n_taken;       /* by it */
    struct moe_event *down; /* its input has come down; NULL: it began none */
};

struct moe_exec_machine {
    struct moe_exec_setup setup;
    struct moe_llm_config config; /* with the top-k of the routes */
    struct moe_rope rope;
    struct moe_shared shared;
    struct moe_fetcher *fetcher;
    struct moe_cpu_worker *worker;
    struct moe_step step;
    struct moe_activations host; /* pinned: x, cosine, sine, u, ffn_y, weight; the rest is heap */

    struct moe_machine_busy busy;
    struct moe_machine_kernels kernels;
    struct moe_machine_io io;
    struct moe_machine_gpu gpu;
    struct moe_machine_cpu cpu;
    struct moe_machine_states states;
    struct moe_machine_early early;
};

/* machine_busy.c */

/* One busy time: into the step's usage and, with a name, the timeline. */
void moe_machine_count(struct moe_machine_busy *busy, enum moe_lane lane,
                       const struct moe_operation *operation);

/* A copy of activations that has ended. */
void moe_machine_count_copy(struct moe_machine_busy *busy, struct moe_device *device,
                            enum moe_lane lane, const struct moe_state_copy *copy, int32_t layer);

/* What the CPU was asked for at once and has done: one operation for each expert would show a
 * division that is not there, as they are computed together; shown is the first one. */
void moe_machine_count_work(struct moe_machine_busy *busy, const struct moe_cpu_work *work,
                            const char *cause, uint32_t layer, moe_expert first);

/* The step has ended: all of it was counted. */
void moe_machine_count_step(struct moe_machine_busy *busy, enum moe_phase phase, uint64_t start_ns,
                            uint64_t end_ns);

/* machine_ops.c */

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

/* The end of the latest kernel of the step. */
struct moe_event *moe_machine_last_end(const struct moe_machine_kernels *kernels);

/* Counts what those that have ended were busy with. */
void moe_machine_count_ops(struct moe_exec_machine *m);

/* All of the step were counted: their records and events are free for the next one. */
void moe_machine_forget_ops(struct moe_exec_machine *m);
void moe_machine_free_ops(struct moe_machine_kernels *kernels, struct moe_device *device);

/* machine_step.c */
enum moe_status moe_machine_begin_step(void *machine, const struct moe_step *step,
                                       struct moe_err *err);
enum moe_status moe_machine_attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                                   struct moe_err *err);
void moe_machine_reroute(void *machine, const struct moe_layer_routes *routes);
enum moe_status moe_machine_end_step(void *machine, struct moe_err *err);

/* machine_gpu.c */
void moe_machine_gpu_ffn(void *machine, const struct moe_ffn *ffn);
void moe_machine_fetch(void *machine, const struct moe_fetch *fetch);
void moe_machine_slot_wait(void *machine, moe_slot slot, bool host);
bool moe_machine_cancel(void *machine, moe_slot slot);

/* machine_cpu.c */
void moe_machine_cpu_ffn(void *machine, const struct moe_ffn *ffn);
void moe_machine_cpu_wait(void *machine);
void moe_machine_start_cpu(struct moe_exec_machine *m); /* what was asked for and has not begun */
void moe_machine_combine(void *machine, uint32_t layer);

/* Counts the activations' copies of the layer before, which have ended: its combination waited for
 * them, and this layer's routes for that. */
void moe_machine_count_states(struct moe_exec_machine *m);

/* machine_early.c */
void moe_machine_cpu_early(void *machine, const struct moe_ffn *ffn);
void moe_machine_cpu_take(void *machine, const struct moe_ffn *ffn);
void moe_machine_start_early(struct moe_exec_machine *m);           /* as moe_machine_start_cpu */
bool moe_machine_taken_done(const struct moe_machine_early *early); /* lock */

/* What was taken goes where the layer's results are, and on_cpu says so; all of it is done. */
void moe_machine_place_taken(struct moe_exec_machine *m);

/* Counts works that are done. */
void moe_machine_count_early(struct moe_exec_machine *m);

#endif
