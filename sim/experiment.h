/* Experiments: a YAML file that names every point of a sweep.
 *
 *     experiment: fig5-mixtral
 *     title: text on the plots
 *     kind: sim                # or replay: hits only
 *     trace: synth:...         # a trace as commands name it; files relative to the working folder
 *     model: mixtral-8x7b      # a name, a file, or the folder of a model with its weights; its
 *                              # shape is that of a synth: or log that does not tell its own
 *     platform: paper-4090
 *     strategy: collab
 *     max_tokens: 0
 *     lossy: no                # yes: reroute rules may change what is computed
 *     set: {dispatch.order: gate}                    # keys fixed for every point
 *     axes:                                          # every combination; the first axis is slowest
 *       threads: [1, 2, 4, 8, 16, 24]
 *       geometry: [none, 7x8]
 *       platform.link.h2d_pinned_gb_per_s: 10..50 step 10
 *     plot: throughput-bars                          # scripts in plots/, or a list of them
 *     show: strategy, geometry, tokens_per_s         # columns that a sweep prints when it is done
 *     rank: tokens_per_s                             # in this order, the highest first
 *     grids:                                         # optional: further grids; each takes the keys
 *       - {strategy: on-demand, axes: {threads: [24]}}   # above unless it has its own
 * With `grids` the top level's axes are one more default, not a grid of their own. */
#ifndef MOELAB_SIM_EXPERIMENT_H
#define MOELAB_SIM_EXPERIMENT_H

#include "base/error.h"
#include "base/yaml.h"
#include "traces/model.h"

#include <stddef.h>
#include <stdint.h>

enum moe_experiment_kind { MOE_EXPERIMENT_SIM, MOE_EXPERIMENT_REPLAY };

enum { MOE_MAX_POINTS = 10000000, MOE_MAX_PLOTS = 8, MOE_MAX_SHOWN = 32 };

struct moe_setting {
    const char *key, *value; /* owned by the experiment */
};

/* One point: what to load and the keys to set, in order. */
struct moe_point {
    const char *trace, *model, *platform, *strategy;
    size_t n_settings;
    struct moe_setting *settings;
};

/* The shape of a model that points name but that has no description to be loaded. */
struct moe_named_model {
    const char *name;
    struct moe_model model;
};

struct moe_experiment {
    char name[64];
    char title[256];
    int kind; /* enum moe_experiment_kind */
    uint64_t max_tokens;
    int lossy; /* bool: lossy reroute rules are allowed, and the result says so */
    size_t n_plots;
    char plot[MOE_MAX_PLOTS][64];
    int plot_line[MOE_MAX_PLOTS]; /* of the file, for messages */
    char show[512];               /* names parted by commas and spaces; "": nothing is printed */
    char rank[64];                /* a column, or "": as the points stand */
    size_t n_axes; /* different axis keys over all grids, in order of appearance; last "trace"
                      where grids differ in it */
    const char **axes;
    size_t n_points;
    struct moe_point *points;
    void *memory; /* what the texts above live in */
    size_t n_models;
    const struct moe_named_model *models; /* the caller's, put here after loading; or NULL */
};

/* Reads and expands a file. Errors: MOE_ERR_IO, MOE_ERR_USAGE ('file':line: ...), also when the
 * product of the axes exceeds MOE_MAX_POINTS or the result will have no column of that name.
 * Release with moe_experiment_release. */
enum moe_status moe_experiment_load(const char *path, struct moe_experiment *out,
                                    struct moe_err *err);
enum moe_status moe_experiment_from_yaml(const struct moe_yaml *root, struct moe_experiment *out,
                                         struct moe_err *err);
void moe_experiment_release(struct moe_experiment *experiment);

/* A copy of text that lives as long as the experiment; NULL: no memory. */
const char *moe_experiment_keep(struct moe_experiment *experiment, const char *text);

#endif
