/* Synthetic traces: routing drawn from a generator. Always marked synthetic in the file.
 *
 * Spec string: "KIND:key=value,key=value" (keys in the table moe_synth_params):
 *   uniform      every route is K different experts at random
 *   zipf         popularity falls as rank^-alpha, ranks shuffled per layer, no memory
 *   sticky       each expert is kept from the previous token with probability `repeat`
 *   stats        fitted to a statistics file (file=PATH, JSON: synth_stats.h); its LRU hit rates
 *                are met by sequences of the measured length, as each starts with a cold cache
 * Layers are independent of each other. Gate weights fall and sum to 1 and are a stand-in: uniform
 * draws, sorted, over their sum. Same spec and seed, same trace. */
#ifndef MOELAB_TRACES_SYNTH_H
#define MOELAB_TRACES_SYNTH_H

#include "base/param.h"
#include "traces/model.h"
#include "traces/trace.h"

extern const struct moe_param moe_synth_params[];

extern const char moe_synth_kinds[]; /* "uniform|zipf|sticky|stats" */

/* Makes the trace. Errors: MOE_ERR_USAGE (spec), MOE_ERR_INPUT (statistics file), MOE_ERR_MEMORY.
 */
enum moe_status moe_synth_make(const char *spec, struct moe_trace *out, struct moe_err *err);
/* The same; the shape that the spec leaves out is the model's (moe_synth_parse_for). */
enum moe_status moe_synth_make_for(const char *spec, const struct moe_model *model,
                                   struct moe_trace *out, struct moe_err *err);

#endif
