/* From router logits to experts and their weights, for one token. Ties go to the lowest index. NaN
 * logits still give K different experts, so nothing downstream reads out of bounds. */
#ifndef MOELAB_EXEC_ROUTER_H
#define MOELAB_EXEC_ROUTER_H

#include "exec/config.h"
#include "traces/trace.h"

/* Softmax over all E, the top K; their weights divided by their sum, if renormalise. score: [E];
 * expert, weight: [K], falling weight; scratch: [E]. K <= E. Source: transformers,
 * MixtralSparseMoeBlock, Qwen3MoeSparseMoeBlock, OlmoeSparseMoeBlock. */
void moe_router_top_k(const float *score, uint32_t n_experts, uint32_t top_k, bool renormalise,
                      moe_expert *expert, float *weight, float *scratch);

/* PhiMoE: SparseMixer at inference: two experts, weights not renormalised. Each is the best expert
 * left. Its weight is its share of a softmax over the experts left whose logit lies within 2 jitter
 * of its own, relative to the larger of its logit and the magnitude of theirs. E >= 2. Source:
 * arXiv 2409.12136; transformers, modeling_phimoe.sparsemixer. */
void moe_router_sparsemixer(const float *score, uint32_t n_experts, float jitter,
                            moe_expert expert[2], float weight[2]);

/* Whichever of the two the architecture uses. scratch: [E]. */
void moe_router_choose(const struct moe_llm_config *config, const float *score, moe_expert *expert,
                       float *weight, float *scratch);

#endif
