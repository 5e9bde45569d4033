/* The columns of a result, the same for every machine. */
#ifndef MOELAB_POLICIES_RESULT_TABLE_H
#define MOELAB_POLICIES_RESULT_TABLE_H

#include "base/table.h"
#include "policies/result.h"
#include "policies/strategy.h"
#include "traces/model.h"
#include "traces/trace.h"

/* The columns that say what was run: lossy ("no", or the reroute rule), kind of trace, model,
 * platform, strategy, geometry, policy, prefetcher, threads. platform: the name of a platform or
 * device. */
void moe_result_labels(struct moe_table *table, const struct moe_trace_info *info,
                       const struct moe_model *model, const char *platform,
                       const struct moe_strategy *strategy);

/* The columns that say what a reroute rule changed: the shares of the router's choices, of their
 * weight, and of the gate mass on them, that were lost. The last three of moe_result_cells. */
void moe_rerouted_cells(struct moe_table *table, const struct moe_rerouted *rerouted);

/* The columns for experts begun early (reroute.h): their number per decode token; the share of them
 * whose results were taken; CPU time per token of the others, by the platform's costs (NaN without
 * a platform). Only for tables in which some strategy may begin any. */
void moe_early_cells(struct moe_table *table, const struct moe_result *result);

/* The columns of the results. */
void moe_result_cells(struct moe_table *table, const struct moe_result *result);

/* The optional parts of a trace (enum moe_tokens_part bits) that the strategy's rules use. */
unsigned moe_strategy_parts(const struct moe_strategy *strategy);

#endif
