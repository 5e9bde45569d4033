/* `moelab trace stats --hot-list`: experts ranked by uses, as policies/hot_list.h reads them. */
#ifndef MOELAB_CLI_HOT_LIST_H
#define MOELAB_CLI_HOT_LIST_H

#include "cli/command.h"
#include "policies/future.h"
#include "traces/trace.h"

/* Writes the list of a trace to path. split says which sequences are counted:
 *     all             every one
 *     first:0.5       the first half of them, rounded down
 *     last:0.5        the last half: disjoint from the first
 *     sequences:0,3   these, numbered from 0
 * Errors: MOE_ERR_USAGE (split: another form, a share outside 0..1, no sequence chosen, a number
 * that the trace does not have or that is given twice), MOE_ERR_IO, MOE_ERR_MEMORY. */
enum moe_status cli_write_hot_list(const struct cli_call *call, const struct moe_trace *trace,
                                   const char *split, enum moe_phases phases, const char *path,
                                   struct moe_err *err);

#endif
