/* The columns of a simulated result, the same in `sim` and `sweep`. */
#ifndef MOELAB_SIM_RESULT_TABLE_H
#define MOELAB_SIM_RESULT_TABLE_H

#include "base/table.h"
#include "sim/simulate.h"

/* What was simulated: trace kind, model, platform, strategy, geometry, policy, threads. */
void moe_sim_labels(struct moe_table *table, const struct moe_trace_info *info,
                    const struct moe_model *model, const struct moe_platform *platform,
                    const struct moe_strategy *strategy);

/* What came out. */
void moe_sim_cells(struct moe_table *table, const struct moe_sim_result *result);

/* Optional parts of a trace that the strategy's rules need. */
unsigned moe_strategy_parts(const struct moe_strategy *strategy);

#endif
