/* The state of a calibration. Inside exec/calibrate*.c only. */
#ifndef MOELAB_EXEC_CALIBRATE_STATE_H
#define MOELAB_EXEC_CALIBRATE_STATE_H

#include "exec/bench_memory.h"
#include "exec/calibrate.h"

enum {
    MOE_CAL_THREADS = 16,
    MOE_CAL_SIZES = MOE_CALIBRATE_SHAPES + 1,
    MOE_CAL_HOST_TOKENS = 64, /* "many" on the CPU */
};

struct moe_cal_size {
    enum moe_dtype dtype;
    uint32_t d_model, d_ffn;
    uint32_t n; /* experts of a layer that are computed together */
    uint64_t bytes;
    uint64_t walk; /* bytes of memory to go through: those of all experts of the model, so that they
                      fit into a cache here if they do in a run */
};

/* The kinds of whole steps: where a layer's experts are. */
enum moe_cal_step {
    MOE_CAL_CPU,  /* all top-k on the CPU */
    MOE_CAL_HIT,  /* all top-k in slots */
    MOE_CAL_COPY, /* one, copied on demand */
    MOE_N_CAL_STEPS
};

/* What is done while power is measured. */
enum moe_cal_activity {
    MOE_CAL_IDLE,
    MOE_CAL_CPU_BUSY,
    MOE_CAL_GPU_BUSY,
    MOE_CAL_COPYING,
    MOE_N_CAL_POWERS
};

/* Times of the steps of one kind: medians over the steps and layers of a round, in ns. */
struct moe_cal_times {
    double layer;  /* from a layer's beginning to the next one's, or the head's */
    double rest;   /* of the step, outside its layers */
    double first;  /* from the routes to the first expert, or to its copy */
    double second; /* CPU: from the last expert to combine; copies: from landing to the kernel */
    double span;   /* from the first kernel of an expert to combine */
    double cpu;    /* from the first expert on the CPU to the end of the last */
};

/* Whole steps without a device, medians over the steps of a round: seconds. */
struct moe_cal_alone {
    double expert, head;
    double layer; /* the rest of the step, divided by the layers */
};

/* Raw measurements of one round, in seconds unless said otherwise. */
struct moe_cal_round {
    double read[MOE_CAL_THREADS]; /* bytes a second */
    double ffn[MOE_CAL_THREADS][MOE_CAL_SIZES];
    double gflops;          /* of a core, many tokens */
    double copy[2], gpu[2]; /* smallest and largest size: a copy; an expert on the device */
    double pageable;        /* a pageable copy of the largest size */
    double together;        /* bytes a second of copies and the CPU's experts at the same time */
    double gpu_many;        /* the largest expert on the device, c->many tokens */
    double gpu_dense;       /* an expert of c->dense */
    struct moe_cal_times step[MOE_N_CAL_STEPS];
    struct moe_cal_alone alone[MOE_CAL_THREADS]; /* instead of the steps and all of the device */
    double ffn_in_steps[MOE_CAL_THREADS]; /* an expert of the steps' model; 0: not measured */
};

struct moe_calibrator {
    const struct moe_calibrate_options *o;
    struct moe_device *device;
    uint32_t threads[MOE_CAL_THREADS], n_threads; /* ascending; the last: all */
    struct moe_cal_size size[MOE_CAL_SIZES];      /* ascending bytes, at least two */
    uint32_t n_sizes;
    /* An expert in BF16, the type of dense weights, of about as many bytes as the largest size;
     * bytes 0: not needed, as that is not quantized. */
    struct moe_cal_size dense;
    struct moe_bench_memory memory; /* pageable */
    /* Source and destination of copies: blocks of the same size that copies go through. */
    uint8_t *pinned, *slots;
    uint64_t block_bytes, at; /* at: where the next copy goes */
    float *x, *h, *y; /* [tokens, widest] of the CPU's experts, for n experts or many tokens */
    uint32_t widest;
    struct moe_activations a; /* ffn_x, ffn_h, ffn_y on the device */
    uint32_t many, many_most; /* "many" tokens on the device: as measured, and most that fit */
    struct moe_event *start, *end;
    struct moe_model model; /* of the whole steps; n_layers 0: none */
    struct moe_synthetic *synthetic;
    const struct moe_llm *llm;
    char steps_of[128];
    struct moe_cal_round *round;               /* [repeats + 1], the first does not count */
    uint32_t n_rounds;                         /* rounds done */
    uint64_t done;                             /* measurements done */
    struct moe_joules power[MOE_N_CAL_POWERS]; /* watts */
};

/* MOE_ERR_INTERRUPTED after an interrupt, else MOE_OK. Called before every sample, as an expert of
 * many tokens can take a second. */
enum moe_status moe_cal_go_on(const struct moe_calibrator *c, struct moe_err *err);

/* The same, and counts a measurement as done, for progress. */
enum moe_status moe_cal_tick(struct moe_calibrator *c, struct moe_err *err);

static inline const struct moe_cal_size *moe_cal_largest(const struct moe_calibrator *c)
{
    return &c->size[c->n_sizes - 1];
}

/* Floating-point operations of an expert for one token: two for each weight. */
static inline double moe_cal_flops(const struct moe_cal_size *size)
{
    return 6.0 * size->d_model * size->d_ffn;
}

/* The offset, in a block of `bytes`, of the part that this round's experts of a size go through. It
 * changes from round to round, as how well small experts fit into a cache depends on their pages.
 */
static inline uint64_t moe_cal_part(const struct moe_calibrator *c, const struct moe_cal_size *size,
                                    uint64_t bytes)
{
    const uint64_t grain = 256; /* kernels read aligned weights faster */
    return size->walk < bytes ? c->n_rounds % (bytes / size->walk) * size->walk / grain * grain : 0;
}

/* The next expert of the size in c->memory. */
static inline const uint8_t *moe_cal_next_expert(struct moe_calibrator *c,
                                                 const struct moe_cal_size *size)
{
    const uint64_t from = moe_cal_part(c, size, c->memory.bytes), at = c->memory.at;
    if (at < from || at + size->bytes > from + size->walk)
        c->memory.at = from;
    return moe_bench_memory_next(&c->memory, size->bytes);
}

/* calibrate_cpu.c */
enum moe_status moe_cal_cpu_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                  struct moe_err *err);
/* Computes experts of the largest size with all threads for as long as go_on, called after each
 * group of them, returns true. *seconds: time spent computing; *experts: how many. */
enum moe_status moe_cal_cpu_while(struct moe_calibrator *c,
                                  bool (*go_on)(struct moe_calibrator *c, void *context),
                                  void *context, double *seconds, uint64_t *experts,
                                  struct moe_err *err);

/* calibrate_device.c */
enum moe_status moe_cal_device_init(struct moe_calibrator *c, struct moe_err *err);
void moe_cal_device_release(struct moe_calibrator *c);
enum moe_status moe_cal_device_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                     struct moe_err *err);
/* Runs a short kernel on the device and waits for it. */
enum moe_status moe_cal_device_touch(struct moe_calibrator *c, struct moe_err *err);
/* Queues one copy of the largest size, or one expert of it; no waiting. */
void moe_cal_device_copy(struct moe_calibrator *c);
void moe_cal_device_expert(struct moe_calibrator *c);

/* calibrate_steps.c */
enum moe_status moe_cal_steps_init(struct moe_calibrator *c, struct moe_err *err);
void moe_cal_steps_release(struct moe_calibrator *c);
enum moe_status moe_cal_steps_round(struct moe_calibrator *c, struct moe_cal_round *r,
                                    struct moe_err *err);

/* calibrate_power.c */
static inline uint32_t moe_cal_powers(const struct moe_calibrator *c)
{
    return c->o->alone ? MOE_CAL_CPU_BUSY + 1u : MOE_N_CAL_POWERS;
}
enum moe_status moe_cal_power(struct moe_calibrator *c, struct moe_err *err);

/* calibrate_platform.c: from rounds to constants */
enum moe_status moe_cal_platform(const struct moe_calibrator *c, struct moe_calibration *out,
                                 struct moe_err *err);

#endif
