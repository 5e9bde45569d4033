/* A real run under a strategy, as `run` prepares it: settings, device, energy counters, and the
 * files that watch it. */
#ifndef MOELAB_CLI_HYBRID_H
#define MOELAB_CLI_HYBRID_H

#include "cli/device_options.h"
#include "cli/inference.h"

struct cli_hybrid_options {
    char strategy[CLI_PATH_MAX], geometry[1024], policy[256], platform[CLI_PATH_MAX];
    char timeline[CLI_PATH_MAX], decisions[CLI_PATH_MAX];
    int fit, lossy;
    struct cli_device_options device;
};

/* Option records for a table of `owner`, whose member `hybrid` is a struct cli_hybrid_options. */
#define CLI_HYBRID_OPTIONS(owner)                                                                  \
    CLI_OPTION_NAME(owner, hybrid.strategy, "strategy", "",                                        \
                    "compute experts on device and CPU as this strategy says: a name from "        \
                    "`moelab list strategies`, or a file; not given: all on the CPU"),             \
        CLI_OPTION_NAME(owner, hybrid.geometry, "geometry", "", "instead of the strategy's"),      \
        CLI_OPTION_NAME(owner, hybrid.policy, "policy", "", "instead of the strategy's"),          \
        CLI_OPTION_SWITCH(owner, hybrid.fit, "fit", "off",                                         \
                          "shrink a geometry that does not fit into the device's free memory"),    \
        CLI_OPTION_LOSSY(owner, hybrid.lossy), CLI_DEVICE_OPTIONS(owner, hybrid.device),           \
        CLI_OPTION_NAME(owner, hybrid.platform, "platform", "",                                    \
                        "platform file of this machine, from `moelab calibrate`: needed by "       \
                        "prefill auto, and by `run --trace` for the bounds"),                      \
        CLI_OPTION_TIMELINE(owner, hybrid.timeline), CLI_OPTION_DECISIONS(owner, hybrid.decisions)

struct cli_hybrid {
    const struct cli_hybrid_options *o;
    struct moe_strategy strategy;
    struct moe_platform platform; /* if o names one */
    struct moe_device *device;
    struct moe_power power;
    bool alone; /* set by the caller after opening: the run does without the device */
    bool power_open, misfit;
    char fitted[1024]; /* a geometry that fits, if the strategy's does not */
    struct moe_timeline *timeline;
    struct moe_output decisions_file;
    struct moe_decision_log decisions;
};

/* Without --strategy, refuses options that would have no effect then. */
enum moe_status cli_hybrid_check(const struct cli_call *call, const struct cli_hybrid_options *o,
                                 struct moe_err *err);

/* Loads strategy and platform only; nothing to close. threads 0: the strategy's. */
enum moe_status cli_hybrid_load(struct cli_hybrid *hybrid, const struct cli_call *call,
                                const struct cli_hybrid_options *o, uint64_t threads,
                                struct moe_err *err);

/* Loads and opens everything. After a failure, too, cli_hybrid_close has to be called. */
enum moe_status cli_hybrid_open(struct cli_hybrid *hybrid, const struct cli_call *call,
                                const struct cli_hybrid_options *o, const char *kernels,
                                uint64_t threads, struct moe_err *err);

/* With --fit, shrinks the strategy's geometry to one that fits, and logs that; without, keeps what
 * would fit for cli_hybrid_explain. */
enum moe_status cli_hybrid_fit(struct cli_hybrid *hybrid, const struct moe_llm *llm,
                               uint64_t context, uint64_t chunk, struct moe_err *err);

/* Adds the geometry that would fit to an error of starting the run. Returns err->status. */
enum moe_status cli_hybrid_explain(const struct cli_hybrid *hybrid, struct moe_err *err);

struct moe_hybrid_options cli_hybrid_settings(struct cli_hybrid *hybrid,
                                              const struct cli_inference *inference);

/* _log writes what was allocated to standard error; _note adds it to a table as provenance, with
 * the strategy's keys. */
void cli_hybrid_log(const struct cli_hybrid *hybrid, const struct moe_allocation *allocation);
void cli_hybrid_note(const struct cli_hybrid *hybrid, const struct moe_allocation *allocation,
                     struct moe_table *table);

/* "1.5 J/token", or why it was not measured. */
const char *cli_hybrid_energy(const struct cli_hybrid *hybrid, const struct moe_result *result,
                              char *buf, size_t size);

/* Writes the timeline (what: the run's name in it) and completes the file of decisions. */
enum moe_status cli_hybrid_finish(struct cli_hybrid *hybrid, const char *what, struct moe_err *err);
void cli_hybrid_close(struct cli_hybrid *hybrid); /* all zero: no-op */

#endif
