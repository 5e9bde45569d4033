/* The columns of a result, the same for every machine. */
#ifndef MOELAB_POLICIES_RESULT_TABLE_H
#define MOELAB_POLICIES_RESULT_TABLE_H

#include "base/table.h"
#include "policies/result.h"
#include "policies/strategy.h"
#include "traces/model.h"
#include "traces/trace.h"

/* What was run: whether it is lossy ("no", or the reroute rule), trace kind, model, platform,
 * strategy, geometry, policy, threads. platform: the name of a platform or device. */
void moe_result_labels(struct moe_table *table, const struct moe_trace_info *info,
                       const struct moe_model *model, const char *platform,
                       const struct moe_strategy *strategy);

/* What a reroute rule changed: the share of the router's choices, of their weight, and of the gate
 * mass on them, that is lost. The last three cells of moe_result_cells. */
void moe_rerouted_cells(struct moe_table *table, const struct moe_rerouted *rerouted);

/* What a rule began early (reroute.h), per decode token: experts, and CPU time of those that were
 * not taken, by the platform's costs (NaN without a platform); and the share of those taken. Only
 * for results of which some may begin any. */
void moe_early_cells(struct moe_table *table, const struct moe_result *result);

/* What came out. */
void moe_result_cells(struct moe_table *table, const struct moe_result *result);

/* Optional parts of a trace that the strategy's rules need. */
unsigned moe_strategy_parts(const struct moe_strategy *strategy);

#endif
