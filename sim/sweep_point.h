/* One point of a sweep: its inputs, its identity and its row. */
#ifndef MOELAB_SIM_SWEEP_POINT_H
#define MOELAB_SIM_SWEEP_POINT_H

#include "base/table.h"
#include "policies/platform.h"
#include "policies/strategy.h"
#include "sim/experiment.h"
#include "sim/replay.h"
#include "traces/model.h"
#include "traces/trace.h"

/* A trace that several points share; read-only while points run. */
struct moe_sweep_trace {
    const char *name;
    const char *model_name; /* whose shape a generator or a log takes; NULL: a file, or none */
    struct moe_model model; /* of that name */
    struct moe_trace trace;
    uint64_t hash;                                    /* of what every point sees */
    uint64_t weight_hash, score_hash, lookahead_hash; /* of those parts, where a point wants them */
};

/* Everything a point needs, resolved. */
struct moe_sweep_inputs {
    const struct moe_sweep_trace *trace; /* NULL while only checking */
    bool has_model;
    struct moe_model model;
    struct moe_platform platform;
    struct moe_strategy strategy;
    int contract;   /* enum moe_contract: replay */
    int phases;     /* enum moe_phases: replay */
    unsigned parts; /* enum moe_tokens_part: what the strategy looks at in a trace */
    uint64_t hash;  /* of model file, platform file and every setting */
};

/* MOE_SWEEP_POLICY: what a policy reads, such as a hot list. */
enum moe_sweep_kind {
    MOE_SWEEP_MODEL,
    MOE_SWEEP_PLATFORM,
    MOE_SWEEP_STRATEGY,
    MOE_SWEEP_POLICY,
    MOE_SWEEP_KINDS
};

enum { MOE_SWEEP_MAX_KEPT = 256 }; /* files of a kind */

struct moe_sweep_file;

/* Files that points name, each parsed once, a policy's read once (what it means depends on the
 * model); begins as all zero. They are kept while points are checked and only read, by any thread,
 * while points run. */
struct moe_sweep_files {
    size_t n[MOE_SWEEP_KINDS];
    struct moe_sweep_file *file[MOE_SWEEP_KINDS][MOE_SWEEP_MAX_KEPT];
};

/* Takes the point's files from those kept, loads the others, and applies its settings. *out points
 * into files. Errors: MOE_ERR_IO, MOE_ERR_USAGE, MOE_ERR_MEMORY. */
enum moe_status moe_sweep_resolve(const struct moe_experiment *experiment,
                                  const struct moe_sweep_files *files,
                                  const struct moe_point *point, struct moe_sweep_inputs *out,
                                  struct moe_err *err);

/* The same, and keeps those that were not kept yet, while there is room. */
enum moe_status moe_sweep_keep(struct moe_sweep_files *files,
                               const struct moe_experiment *experiment,
                               const struct moe_point *point, struct moe_sweep_inputs *out,
                               struct moe_err *err);
void moe_sweep_files_release(struct moe_sweep_files *files);

/* Identity of the point once its trace is known. */
uint64_t moe_sweep_identity(const struct moe_experiment *experiment,
                            const struct moe_sweep_inputs *inputs);

/* Runs the point and appends its row. A point that cannot run gets a row with its reason; only
 * memory running out is an error. *failed says which. */
enum moe_status moe_sweep_point(const struct moe_experiment *experiment,
                                const struct moe_point *point,
                                const struct moe_sweep_inputs *inputs, struct moe_table *table,
                                bool *failed, struct moe_err *err);

/* The columns of every row, as an empty row of the table. */
void moe_sweep_columns(const struct moe_experiment *experiment, struct moe_table *table);

#endif
