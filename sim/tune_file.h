/* Strategies as files, as moe_strategy_load reads them. */
#ifndef MOELAB_SIM_TUNE_FILE_H
#define MOELAB_SIM_TUNE_FILE_H

#include "policies/strategy.h"

#include <stdio.h>

/* Writes every key. source: the file's own `source`; notes: lines put in front as comments, or
 * NULL. What was written is read back before and must be the same strategy: errors
 * MOE_ERR_UNSUPPORTED where it is not, MOE_ERR_MEMORY; whoever closes the stream sees errors of
 * writing. */
enum moe_status moe_tune_write_strategy(const struct moe_strategy *strategy, const char *source,
                                        const char *notes, FILE *out, struct moe_err *err);

#endif
