/* Sweeps: runs every point of an experiment in parallel and writes one TSV.
 *
 * Rows stand in the order of the points and are the same bytes for any number of threads. A
 * finished point is written at once to OUT.journal and is not run again when the sweep is repeated:
 * rows of OUT and OUT.journal are taken over by their `point` column, a hash of everything that
 * decides a result (trace content, model, platform, strategy with every key, program version). A
 * point that cannot run (a cache larger than the GPU's memory) has its reason in the `status`
 * column. */
#ifndef MOELAB_SIM_SWEEP_H
#define MOELAB_SIM_SWEEP_H

#include "sim/experiment.h"

#include <stdbool.h>

struct moe_sweep_summary {
    size_t n_points, n_reused, n_run, n_failed;
    bool synthetic; /* some trace is synthetic */
};

/* Runs what is missing and writes `output` (whole or not at all). Errors: MOE_ERR_USAGE before
 * anything runs (unknown names and keys of any point), MOE_ERR_IO, MOE_ERR_INTERRUPTED (the journal
 * keeps what was finished). jobs: threads; 0: all. */
enum moe_status moe_sweep_run(const struct moe_experiment *experiment, const char *output,
                              uint32_t jobs, struct moe_sweep_summary *summary,
                              struct moe_err *err);

#endif
