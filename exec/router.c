#include "exec/router.h"

#include "exec/exp.h"

/* The index of the largest value that is not taken; NaN is less than every number. */
static moe_expert best_left(const float *value, uint32_t n, const moe_expert *taken,
                            uint32_t n_taken)
{
    uint32_t best = n;
    for (uint32_t e = 0; e < n; e++)
        if (!moe_route_has(taken, n_taken, e) &&
            (best == n || value[e] > value[best] || (isnan(value[best]) && !isnan(value[e]))))
            best = e;
    return (moe_expert)best;
}

void moe_router_top_k(const float *score, uint32_t n_experts, uint32_t top_k, bool renormalise,
                      moe_expert *expert, float *weight, float *scratch)
{
    float top = score[best_left(score, n_experts, NULL, 0)], all = 0, chosen = 0;
    for (uint32_t e = 0; e < n_experts; e++) {
        scratch[e] = moe_expf(score[e] - top);
        all += scratch[e];
    }
    for (uint32_t e = 0; e < n_experts; e++)
        scratch[e] /= all;
    for (uint32_t k = 0; k < top_k; k++) {
        expert[k] = best_left(scratch, n_experts, expert, k);
        weight[k] = scratch[expert[k]];
        chosen += weight[k];
    }
    for (uint32_t k = 0; k < top_k && renormalise; k++)
        weight[k] /= chosen;
}

void moe_router_sparsemixer(const float *score, uint32_t n_experts, float jitter,
                            moe_expert expert[2], float weight[2])
{
    for (uint32_t k = 0; k < 2; k++) {
        expert[k] = best_left(score, n_experts, expert, k);
        float top = score[expert[k]], sum = 0;
        for (uint32_t e = 0; e < n_experts; e++) {
            float distance = (top - score[e]) / fmaxf(fabsf(score[e]), top);
            /* 0 / 0 gives NaN, which is not above the limit, so the expert is kept, as in the
             * reference. */
            if (!moe_route_has(expert, k, e) && !(distance > 2 * jitter))
                sum += moe_expf(score[e] - top);
        }
        weight[k] = 1 / sum;
    }
}

void moe_router_choose(const struct moe_llm_config *config, const float *score, moe_expert *expert,
                       float *weight, float *scratch)
{
    if (config->arch == MOE_ARCH_PHIMOE)
        moe_router_sparsemixer(score, config->n_experts, config->router_jitter, expert, weight);
    else
        moe_router_top_k(score, config->n_experts, config->top_k, config->renormalise, expert,
                         weight, scratch);
}
