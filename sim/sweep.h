/* Sweeps: runs every point of an experiment in parallel and writes one TSV.
 *
 * Rows stand in the order of the points and are the same bytes for any number of threads and
 * processes. A finished point is written at once to OUT.journal and is not run again when the sweep
 * is repeated: rows of OUT and OUT.journal are reused by their `point` column, a hash of
 * everything that decides a result (trace content, model, platform, strategy with every key,
 * program version), where the program's sources (sim/sources.h) are those of the file's line
 * "# sources". A point that cannot run (a cache larger than the GPU's memory) has its reason
 * in the `status` column. */
#ifndef MOELAB_SIM_SWEEP_H
#define MOELAB_SIM_SWEEP_H

#include "sim/experiment.h"
#include "sim/team.h"

#include <stdbool.h>

/* A part of an experiment's points: number `part` of `parts`, from 1; every parts-th point, so that
 * no part gets all the slow ones. Zeros: all points. */
struct moe_shard {
    uint32_t part, parts;
};

enum { MOE_MAX_SHARDS = 100000 };

/* "2/4": the second of four parts. Errors: MOE_ERR_USAGE. */
enum moe_status moe_shard_parse(const char *text, struct moe_shard *out, struct moe_err *err);

struct moe_sweep_options {
    uint32_t jobs;         /* threads of this process; 0: all it may have */
    struct moe_team *team; /* NULL: this process alone */
    struct moe_shard shard;
    const char *file; /* the experiment's, for what shards tell; may be NULL */
    /* Measured times, for sim/plan.h; may be NULL. [n_points] of the experiment, ns that each point
     * took, 0 where it did not run. */
    uint64_t *point_ns;
    struct moe_team_cost *cost;
};

struct moe_sweep_summary {
    size_t n_points, n_reused, n_run, n_failed; /* of the shard */
    bool synthetic;                             /* some trace is synthetic */
    uint64_t prepare_ns;                        /* before the first point ran */
    char first_failure[256]; /* why the first point that could not run could not; or "" */
    /* Points whose strategy has more threads than the platform cores, with which they are
     * simulated; and what the first of them has. */
    size_t n_capped;
    uint64_t threads, cores;
    char platform[64];
};

/* Runs what is missing and writes `output` (whole or not at all). Errors: MOE_ERR_USAGE before
 * anything runs (unknown names and keys of any point), MOE_ERR_IO, MOE_ERR_INTERRUPTED (the journal
 * keeps what was finished). jobs: threads; 0: all. */
enum moe_status moe_sweep_run(const struct moe_experiment *experiment, const char *output,
                              uint32_t jobs, struct moe_sweep_summary *summary,
                              struct moe_err *err);

/* The same, with others. Ranks other than 0 of a team compute, and neither read nor write `output`;
 * their summary tells nothing. */
enum moe_status moe_sweep_run_with(const struct moe_experiment *experiment, const char *output,
                                   const struct moe_sweep_options *options,
                                   struct moe_sweep_summary *summary, struct moe_err *err);

/* Makes one result of the files that all shards of a sweep have written, the same bytes as without
 * shards. Errors: MOE_ERR_INPUT (a shard is missing, cut short, changed, of other points, program,
 * or traces than the others, or there twice with different rows), MOE_ERR_IO. */
enum moe_status moe_sweep_merge(const char *const *paths, size_t n, const char *output,
                                size_t *n_points, struct moe_err *err);

#endif
