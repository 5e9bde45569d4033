/* The state of the real machine, for exec/machine*.c only. Each file has a struct, which only that
 * file changes; the others read it or call the file's functions. Fields marked "lock" are guarded
 * by shared.lock; all others belong to the host's thread. */
#ifndef MOELAB_EXEC_MACHINE_STATE_H
#define MOELAB_EXEC_MACHINE_STATE_H

#include "exec/cpu_worker.h"
#include "exec/dense.h"
#include "exec/fetcher.h"
#include "exec/machine.h"

enum { MOE_STAGING = 2, MOE_MAX_WORKS = 64, MOE_N_EARLY = 2 };

/* A kernel of this step, submitted or waiting for a copy. */
struct moe_kernel_op {
    struct moe_use use; /* lock */
    struct moe_event *start;
    struct moe_operation shown; /* for the timeline; its times are set when it has ended */
    /* Only for experts: */
    struct moe_buffer *buffer; /* slot or staging buffer; NULL: not an expert */
    uint64_t ordinal;          /* how many copies into the buffer must have landed before */
    uint32_t row, n_tokens;
};

/* A copy of activations between host and device. */
struct moe_state_copy {
    struct moe_event *start, *end;
};

/* Experts of a layer that were begun during the layer before. */
struct moe_early_work {
    struct moe_cpu_work work; /* lock: done */
    struct moe_state_copy down;
    float *u;                 /* [D] pinned: the input of the layer before */
    float *h, *y;             /* [K, F], [K, D] heap, as the arrays below */
    struct moe_ffn_job *jobs; /* [K] */
    moe_expert *expert;       /* [K] */
    bool *taken;              /* [K] the layer's router chose the expert, its result is used */
    uint32_t layer, n;        /* the layer that may use them; how many */
    bool pending;             /* started, and not yet counted */
};

/* machine_busy.c: when the CPU, the device and the links were busy. */
struct moe_machine_busy {
    struct moe_timeline *timeline;  /* or NULL */
    uint64_t born_ns;               /* creation of the machine, where the timeline begins */
    struct moe_interval *intervals; /* [n] of the step */
    size_t n, max;
    struct moe_usage usage[2]; /* by enum moe_phase */
};

/* machine_ops.c: the n kernels of the step in their order. [0, n_submitted) are submitted, the rest
 * wait for copies; [0, n_ended) are known to have ended; [0, n_counted) are counted in the
 * statistics. */
struct moe_machine_kernels {
    struct moe_kernel_op **ops; /* [max], made when first needed */
    size_t n, n_submitted, n_ended, n_counted, max;
};

/* machine_step.c: input and output of a step. All arrays are pinned except ids. */
struct moe_machine_io {
    struct moe_exec_input input;
    uint64_t start_ns;
    struct moe_route_box box;
    uint32_t *row;        /* [K] rows of a rerouted token's choices */
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
    bool late;                     /* the last slot_wait found the copy still under way */
    uint64_t redirected;           /* see moe_exec_machine_redirected */
};

/* machine_cpu.c: the CPU's part of the current layer. */
struct moe_machine_cpu {
    uint32_t layer;
    uint32_t n_jobs, n_started; /* jobs asked for; of which were given to the worker */
    struct moe_ffn_job *jobs;   /* [E] */
    moe_expert *expert;         /* [E] of the jobs */
    struct moe_cpu_work works[MOE_MAX_WORKS]; /* each: jobs started together; lock: done */
    uint32_t n_works;
    bool *on_cpu; /* [E] scratch */
};

/* machine_cpu.c: the copies of activations for it. */
struct moe_machine_states {
    struct moe_state_copy down, up;
    bool down_pending, up_pending; /* queued for `layer`, and not yet counted */
    uint32_t layer;
};

/* machine_early.c. Two works are used in turn, so that one can be begun while the other is computed
 * or its results are used. */
struct moe_machine_early {
    struct moe_early_work works[MOE_N_EARLY];
    uint32_t at;            /* the work that was begun last */
    uint32_t n_asked;       /* experts that the current layer asked for and that are not started */
    uint32_t n_taken;       /* experts begun before whose results the current layer uses */
    struct moe_event *down; /* the current layer's input is on the host; NULL: no expert begun */
};

struct moe_exec_machine {
    struct moe_exec_setup setup;
    struct moe_llm_config config; /* with the top-k of the routes */
    struct moe_rope rope;
    struct moe_shared shared;
    struct moe_fetcher *fetcher;
    struct moe_cpu_worker *worker;
    struct moe_step step;
    struct moe_activations host; /* pinned: x, cosine, sine, u, ffn_y; the box's: expert, weight */

    struct moe_machine_busy busy;
    struct moe_machine_kernels kernels;
    struct moe_machine_io io;
    struct moe_machine_gpu gpu;
    struct moe_machine_cpu cpu;
    struct moe_machine_states states;
    struct moe_machine_early early;
};

/* machine_busy.c */

/* Adds one busy interval to the step's usage and, if the operation has a name, to the timeline. */
void moe_machine_count(struct moe_machine_busy *busy, enum moe_lane lane,
                       const struct moe_operation *operation);

/* Counts a copy of activations that has ended. */
void moe_machine_count_copy(struct moe_machine_busy *busy, struct moe_device *device,
                            enum moe_lane lane, const struct moe_state_copy *copy, int32_t layer);

/* Counts a work that the CPU has done, as one operation with the number of its first expert: its
 * experts are computed together and have no times of their own. */
void moe_machine_count_work(struct moe_machine_busy *busy, const struct moe_cpu_work *work,
                            const char *cause, uint32_t layer, moe_expert first);

/* Called when the step has ended and all its operations were counted. */
void moe_machine_count_step(struct moe_machine_busy *busy, enum moe_phase phase, uint64_t start_ns,
                            uint64_t end_ns);

/* machine_ops.c */

/* Has what the host waits for happened? Called with the lock held. */
typedef bool moe_ready(struct moe_exec_machine *m, const void *what);

/* Waits until ready returns true; meanwhile submits kernels whose copies have landed, and marks
 * their slots as ready in the cache. Returns early when the run has failed. */
void moe_machine_wait(struct moe_exec_machine *m, moe_ready *ready, const void *what);

/* The same once, without waiting. */
void moe_machine_look(struct moe_exec_machine *m);

/* The next free record of a kernel, which the caller fills and counts in kernels.n. NULL: out of
 * memory, the run has failed. */
struct moe_kernel_op *moe_machine_next_op(struct moe_exec_machine *m);

/* A record for a kernel that is submitted at once: the caller queues the kernel between begin and
 * end. */
struct moe_kernel_op *moe_machine_begin_op(struct moe_exec_machine *m, const char *name,
                                           int32_t layer);
void moe_machine_end_op(struct moe_exec_machine *m, struct moe_kernel_op *op);

/* The event that ends the latest kernel of the step. */
struct moe_event *moe_machine_last_end(const struct moe_machine_kernels *kernels);

/* Counts the kernels that are known to have ended. */
void moe_machine_count_ops(struct moe_exec_machine *m);

/* Frees the records and events of the step's kernels for the next step; all were counted. */
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
void moe_machine_start_cpu(struct moe_exec_machine *m); /* gives the waiting jobs to the worker */
void moe_machine_combine(void *machine, uint32_t layer);

/* Counts the copies of activations of the layer before. They have ended once this layer's routes
 * are there: the layer's combine waited for them, and the routes for the combine. */
void moe_machine_count_states(struct moe_exec_machine *m);

/* machine_early.c */
void moe_machine_cpu_early(void *machine, const struct moe_ffn *ffn);
void moe_machine_cpu_take(void *machine, const struct moe_ffn *ffn);
void moe_machine_start_early(struct moe_exec_machine *m); /* gives the jobs to the worker */

/* Are all experts done that the layer has taken? Called with the lock held. */
bool moe_machine_taken_done(const struct moe_machine_early *early);

/* Copies the results of the experts taken, all of which are done, to the layer's other results, and
 * sets on_cpu for them. */
void moe_machine_place_taken(struct moe_exec_machine *m);

/* Counts early works that are done. */
void moe_machine_count_early(struct moe_exec_machine *m);

#endif
