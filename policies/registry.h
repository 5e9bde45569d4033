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

#endif
