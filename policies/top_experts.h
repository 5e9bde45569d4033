/* The highest scores of a layer's experts, for prefetchers, and how many of them to take. */
#ifndef MOELAB_POLICIES_TOP_EXPERTS_H
#define MOELAB_POLICIES_TOP_EXPERTS_H

#include "policies/prefetcher.h"

/* Writes the keys (first + expert) of the at most n experts with the highest score [E] above least
 * into out, highest first, the lower number first where equal; returns how many. NaN is no score.
 */
static inline uint32_t moe_top_experts(const float *score, uint32_t n_experts, float least,
                                       moe_key first, uint32_t n, moe_key *out)
{
    uint32_t found = 0;
    for (uint32_t e = 0; e < n_experts && n > 0; e++) {
        if (!(score[e] > least))
            continue;
        uint32_t at = found < n ? found++ : n;
        for (; at > 0 && score[out[at - 1] - first] < score[e]; at--)
            if (at < n)
                out[at] = out[at - 1];
        if (at < n)
            out[at] = first + e;
    }
    return found;
}

/* Parameters of a rule that fetches the best n experts of the next layer; their table is in
 * prefetcher.c. */
struct moe_prefetch_width {
    uint64_t n; /* 0: as many as a route has */
};

extern const struct moe_param moe_prefetch_width_params[];

static inline uint32_t moe_prefetch_width(const struct moe_prefetch_env *env)
{
    const struct moe_prefetch_width *width = env->params;
    return width->n ? (uint32_t)width->n : env->top_k;
}

#endif
