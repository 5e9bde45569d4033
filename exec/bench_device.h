/* Speed of a device on a model's sizes, for `moelab bench device`: copies, the kernels of a step,
 * and what it costs to queue and to wait. */
#ifndef MOELAB_EXEC_BENCH_DEVICE_H
#define MOELAB_EXEC_BENCH_DEVICE_H

#include "exec/device.h"
#include "traces/model.h"

enum { MOE_BENCH_ROUNDS_MAX = 99 };

struct moe_device_bench {
    struct moe_device *device;
    const struct moe_model *model; /* the shape, as moe_synthetic_new takes it */
    uint32_t rounds;               /* 1..MOE_BENCH_ROUNDS_MAX, after one that is not counted */
    uint32_t max_tokens;           /* of an expert: 1, 2, 8, 64, 256 as far as they go */
    uint32_t context;              /* tokens in the KV cache for the dense part */
    uint64_t walk_bytes; /* least memory of the experts on the device, which are used in turn: more
                            than its caches hold */
};

/* NaN where a rate or a share has no meaning. */
struct moe_device_bench_row {
    const char *what;   /* see the table in exec/bench_device.c */
    uint32_t tokens;    /* 0: a copy or a wait */
    uint64_t bytes;     /* copied, or read: weights and KV cache */
    double us;          /* median */
    double spread;      /* (largest - smallest) / median of the times */
    double gb_per_s;    /* bytes over the median (1e9 bytes); a copy within the device: read and
                           written, so twice its bytes */
    double gflop_per_s; /* of experts on several tokens */
    double share;       /* h2d pinned: of the best rate of all h2d pinned cases. Kernels of one
                           token: of the rate of d2d in the same round, median over the rounds */
    double aim;         /* what share is to reach, for experts of 64 MiB or more; else NaN */
};

/* Calls row for every case at the end. Every round measures each case once, so that a change of the
 * machine's speed affects all of them. Takes pinned memory for at least two experts, and device
 * memory for walk_bytes, two layers and the head. Errors: those of moe_synthetic_new and of the
 * device, MOE_ERR_MEMORY, MOE_ERR_INTERRUPTED. */
enum moe_status moe_bench_device(const struct moe_device_bench *bench,
                                 void (*row)(void *context, const struct moe_device_bench_row *row),
                                 void *context, struct moe_err *err);

#endif
