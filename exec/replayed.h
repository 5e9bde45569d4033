/* A step of a trace in the form that kernels take: routes without gaps, tokens that the model has.
 * Inside exec only. */
#ifndef MOELAB_EXEC_REPLAYED_H
#define MOELAB_EXEC_REPLAYED_H

#include "exec/config.h"
#include "policies/machine.h"

/* The routes of a layer for all tokens of the step: expert, weight [n, K]. Kernels need K choices,
 * so one that the trace lacks (MOE_NO_EXPERT) becomes the token's first choice, or expert 0, with
 * weight 0; the step loop does not plan it. Weights that were not recorded are 1 / K. config: with
 * the top-k of the trace. */
void moe_replayed_routes(const struct moe_step *step, const struct moe_llm_config *config,
                         uint32_t layer, moe_expert *expert, float *weight);

/* The same for the changed routes of one token: expert, weight [K]. */
void moe_replayed_reroute(const struct moe_layer_routes *routes, uint32_t top_k, moe_expert *expert,
                          float *weight);

/* The tokens' ids [n] as far as the trace knows them and the model has them; else 0. */
void moe_replayed_tokens(const struct moe_step *step, const struct moe_llm_config *config,
                         int32_t *id);

#endif
