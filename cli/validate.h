/* One strategy after another on one trace: simulated once, run several times, compared. */
#ifndef MOELAB_CLI_VALIDATE_H
#define MOELAB_CLI_VALIDATE_H

#include "cli/device_options.h"
#include "cli/traced.h"
#include "policies/agreement.h"

/* What all points share. */
struct cli_validation {
    const struct cli_traced *traced;
    struct moe_device *device;
    bool alone;                   /* the platform has no GPU: real runs do without the device */
    struct moe_platform platform; /* gpu.memory_bytes: the device's */
    struct moe_store_options store;
    struct moe_pool_options pool; /* threads: each strategy's */
    struct moe_power *power;
    uint64_t max_tokens, n_decode; /* n_decode: decode tokens of the trace */
    uint32_t repeats;
    double tolerance, tolerance_p95; /* percent */
    bool asleep; /* the device is 'host' with its key awake off: processors may sleep */
};

/* A strategy with its geometry, and its results. */
struct cli_point {
    struct moe_strategy strategy;
    struct moe_result simulated, executed; /* executed: the repeat of the median time */
    struct moe_allocation allocation;
    struct moe_time_agreement times;
    struct moe_time_causes causes;
    double spread_percent; /* of the repeats' means: (largest - smallest) / median */
    /* Comparison with the simulation: of the repeat that differs most. */
    struct moe_decision_agreement decisions, timeless;
    bool time_may_differ; /* the first timeless difference comes at or after the first event that
                             was planned with copies under way, so timing may explain it */
    struct cli_point_runs *runs; /* only while it is being measured */
};

/* Simulates the point, and allocates memory for its repeats. Errors: those of moe_simulate. */
enum moe_status cli_point_begin(struct cli_point *point, const struct cli_validation *v,
                                struct moe_err *err);

/* Runs the point once more on the device. */
enum moe_status cli_point_repeat(struct cli_point *point, const struct cli_validation *v,
                                 struct moe_err *err);

/* Computes medians and comparisons when all repeats are done. */
enum moe_status cli_point_end(struct cli_point *point, const struct cli_validation *v,
                              struct moe_err *err);

/* Runs and simulates it once more, with timelines to STEM-exec.json and STEM-sim.json. */
enum moe_status cli_point_draw(const struct cli_point *point, const struct cli_validation *v,
                               const char *stem, struct moe_err *err);
void cli_point_release(struct cli_point *point); /* all zero: no-op */

/* Are the times within the tolerances? Are the decisions equal, except for what timing explains? */
bool cli_point_times_pass(const struct cli_point *point, const struct cli_validation *v);
bool cli_point_decisions_pass(const struct cli_point *point);

/* "equal", "equal but for flights", "differ by time", "DIFFER". */
const char *cli_point_decisions(const struct cli_point *point);

#endif
