/* Fewer layers of a trace: what a model cut to its first layers would have routed. */
#ifndef MOELAB_TRACES_TRACE_LAYERS_H
#define MOELAB_TRACES_TRACE_LAYERS_H

#include "traces/trace.h"

/* Keeps the first n_layers layers, in place; the info says so in its note. Lookahead scores of the
 * layer that is now last become absent (NaN), and the header of an imported file, which tells of
 * all layers, is dropped. Errors: MOE_ERR_USAGE (n_layers 0 or more than the trace has), and then
 * nothing has changed. */
enum moe_status moe_trace_keep_layers(struct moe_trace *trace, uint32_t n_layers,
                                      struct moe_err *err);

#endif
