/* What the files of the benchmark share: one case measured, one row of the result. */
#ifndef MOELAB_SIM_BENCH_CASE_H
#define MOELAB_SIM_BENCH_CASE_H

#include "base/progress.h"
#include "sim/bench.h"

struct moe_bench {
    uint32_t repeats, n_rows;
    struct moe_bench_row *rows; /* [MOE_BENCH_ROWS_MAX] */
    struct moe_progress progress;
};

/* Nanoseconds that the process has run: what else runs on the machine disturbs it less. */
uint64_t moe_bench_cpu_ns(void);

/* Does the work once; *amount is in the row's unit per second times 1e6, or 0 for seconds. */
typedef enum moe_status moe_bench_fn(void *subject, uint64_t *amount, struct moe_err *err);

/* Runs the case and adds its row; the first row is the read rate. goal: NaN where none is set. */
enum moe_status moe_bench_measure(struct moe_bench *bench, const char *name, double goal,
                                  moe_bench_fn *run, void *subject, struct moe_err *err);

/* A row for every policy and reading of one that options->policies names, on two shapes of model,
 * in pools of layers and in one pool, under both contracts; each over as many accesses as it does
 * in a set time, so that all of them take about as long whatever the policy. opt-time is left out
 * where there are no costs (options->simulate). Errors: MOE_ERR_USAGE (no such policy) and those of
 * moe_synth_make and moe_replay. */
enum moe_status moe_bench_policies(struct moe_bench *bench, const struct moe_bench_options *options,
                                   struct moe_err *err);
/* How many rows those are. */
uint32_t moe_bench_policy_rows(const struct moe_bench_options *options);

#endif
