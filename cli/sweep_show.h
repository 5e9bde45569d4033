/* The table that a sweep prints: some columns of its result, best first. */
#ifndef MOELAB_CLI_SWEEP_SHOW_H
#define MOELAB_CLI_SWEEP_SHOW_H

#include "sim/experiment.h"

/* Prints the columns x->show of the result file to standard output: rows of one model and platform
 * together, by falling x->rank, failed rows last. Prints nothing if x->show is empty. Errors: those
 * of reading it; MOE_ERR_INPUT for a column that the file does not have. */
enum moe_status cli_sweep_show(const struct moe_experiment *x, const char *path,
                               struct moe_err *err);

#endif
