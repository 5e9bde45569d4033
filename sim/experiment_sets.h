/* What a command line changes in an experiment: "KEY=VALUE" of `moelab sweep --set`. */
#ifndef MOELAB_SIM_EXPERIMENT_SETS_H
#define MOELAB_SIM_EXPERIMENT_SETS_H

#include "sim/experiment.h"

/* Sets trace, model, platform, strategy, max_tokens, or a key of the strategy, in every point (one
 * like policy.list only where the file has it, if it does so anywhere; geometry only where there
 * are slots, if there are anywhere); the title then says so.
 * Texts are borrowed as long as the experiment lives. Errors: MOE_ERR_USAGE (no "KEY=VALUE"; a key
 * over which the experiment varies), MOE_ERR_MEMORY. */
enum moe_status moe_experiment_set(struct moe_experiment *experiment, const char *const *sets,
                                   size_t n_sets, struct moe_err *err);

#endif
