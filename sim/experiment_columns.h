/* The columns that an experiment names, against those that its result will have. */
#ifndef MOELAB_SIM_EXPERIMENT_COLUMNS_H
#define MOELAB_SIM_EXPERIMENT_COLUMNS_H

#include "sim/experiment.h"

/* Are all names of `show` and `rank` columns of the result? root: the file that the experiment was
 * read from. Errors: MOE_ERR_USAGE ('file':line, with the nearest column), MOE_ERR_MEMORY. */
enum moe_status moe_experiment_check_columns(const struct moe_experiment *experiment,
                                             const struct moe_yaml *root, struct moe_err *err);

#endif
