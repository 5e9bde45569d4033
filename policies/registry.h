/* The policies by name; the public table is moe_policies (policy.h). */
#ifndef MOELAB_POLICIES_REGISTRY_H
#define MOELAB_POLICIES_REGISTRY_H

#include "policies/policy.h"

extern const struct moe_policy_ops moe_policy_lru;
extern const struct moe_policy_ops moe_policy_fifo;
extern const struct moe_policy_ops moe_policy_lfu;
extern const struct moe_policy_ops moe_policy_random;
extern const struct moe_policy_ops moe_policy_clock;
extern const struct moe_policy_ops moe_policy_opt;
extern const struct moe_policy_ops moe_policy_paper_lru;
extern const struct moe_policy_ops moe_policy_slru;
extern const struct moe_policy_ops moe_policy_arc;
extern const struct moe_policy_ops moe_policy_s3_fifo;
extern const struct moe_policy_ops moe_policy_sieve;
extern const struct moe_policy_ops moe_policy_lecar;
extern const struct moe_policy_ops moe_policy_lfu_aged;
extern const struct moe_policy_ops moe_policy_lfru;
extern const struct moe_policy_ops moe_policy_least_stale;
extern const struct moe_policy_ops moe_policy_decayed_count;
extern const struct moe_policy_ops moe_policy_moe_infinity;
extern const struct moe_policy_ops moe_policy_moe_infinity_code;
extern const struct moe_policy_ops moe_policy_distance;
extern const struct moe_policy_ops moe_policy_hybrimoe_mrs;
extern const struct moe_policy_ops moe_policy_static;
extern const struct moe_policy_ops moe_policy_prompt_count;
extern const struct moe_policy_ops moe_policy_opt_time;

#endif
