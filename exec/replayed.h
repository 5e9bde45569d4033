/* A step of a trace as kernels want it: routes without gaps, tokens that the model has. Inside exec
 * only. */
#ifndef MOELAB_EXEC_REPLAYED_H
#define MOELAB_EXEC_REPLAYED_H

#include "exec/config.h"
#include "policies/machine.h"

/* The routes of a layer for all tokens of the step: expert, weight [n, K]. A choice that the trace
 * lacks (MOE_NO_EXPERT) becomes the token's first one, or expert 0, with weight 0, since kernels
 * want K of them: no plan has it. Weights that were not recorded are 1 / K. config: with the top-k
 * of the trace. */
void moe_replayed_routes(const struct moe_step *step, const struct moe_llm_config *config,
                         uint32_t layer, moe_expert *expert, float *weight);

/* As moe_replayed_routes of one token whose routes were changed: expert, weight [K]. */
void moe_replayed_reroute(const struct moe_layer_routes *routes, uint32_t top_k, moe_expert *expert,
                          float *weight);

/* What the trace knows of the tokens [n]; 0 for the others. */
void moe_replayed_tokens(const struct moe_step *step, const struct moe_llm_config *config,
                         int32_t *id);

#endif
