/* The prefetcher contract: which experts to fetch before they are asked for. */
#ifndef MOELAB_POLICIES_PREFETCHER_H
#define MOELAB_POLICIES_PREFETCHER_H

#include "policies/policy.h"

struct moe_prefetch_env {
    uint32_t n_layers, n_experts, top_k;
    const void *params;
};

struct moe_prefetcher_ops {
    const char *name, *summary, *source;
    const struct moe_param *params;
    size_t params_size;
    uint32_t needs;                                           /* enum moe_policy_needs bits */
    size_t (*state_size)(const struct moe_prefetch_env *env); /* zeroed before init */
    void (*init)(void *state, const struct moe_prefetch_env *env);
    /* After the routing of a layer is known: writes up to max keys, most wanted first; returns how
     * many. Keys already present are skipped by the step loop. */
    uint32_t (*predict)(void *state, const struct moe_route *route, moe_key *out, uint32_t max);
};

struct moe_prefetcher_spec {
    const struct moe_prefetcher_ops *ops;
    _Alignas(8) unsigned char params[MOE_POLICY_PARAMS_MAX];
};

extern const struct moe_prefetcher_ops *const moe_prefetchers[]; /* ended by NULL */

enum moe_status moe_prefetcher_parse(const char *text, struct moe_prefetcher_spec *out,
                                     struct moe_err *err);

#endif
