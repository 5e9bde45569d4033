#include "sim/tune_ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* best[s]: what the layers so far are worth with at most s slots; takes[l, s]: the ways that layer
 * l has in that. */
struct program {
    size_t n; /* slots + 1 */
    uint64_t *best, *before;
    uint16_t *takes;
};

static void add_layer(struct program *p, const uint64_t *worth, uint32_t n_experts, uint16_t *takes)
{
    uint64_t *swap = p->before;
    p->before = p->best;
    p->best = swap;
    for (size_t s = 0; s < p->n; s++) {
        uint64_t best = 0;
        uint16_t ways = 0;
        for (uint32_t m = 0; m <= n_experts && m <= s; m++) {
            uint64_t sum = p->before[s - m] + worth[m];
            if (m == 0 || sum > best) {
                best = sum;
                ways = (uint16_t)m;
            }
        }
        p->best[s] = best;
        takes[s] = ways;
    }
}

enum moe_status moe_tune_ways(const uint64_t *worth, uint32_t n_layers, uint32_t n_experts,
                              uint64_t slots, uint32_t *ways, uint64_t *best, struct moe_err *err)
{
    uint64_t most = (uint64_t)n_layers * n_experts;
    struct program p = {.n = (size_t)(slots < most ? slots : most) + 1};
    p.best = calloc(p.n, sizeof *p.best);
    p.before = calloc(p.n, sizeof *p.before);
    p.takes = calloc(p.n * n_layers + 1, sizeof *p.takes);
    enum moe_status s = MOE_OK;
    if (!p.best || !p.before || !p.takes)
        s = moe_fail_memory(err, "the division of slots over layers");
    for (uint32_t l = 0; !s && l < n_layers; l++)
        add_layer(&p, worth + (size_t)l * (n_experts + 1), n_experts, p.takes + l * p.n);
    size_t left = p.n - 1;
    for (uint32_t l = n_layers; !s && l-- > 0;) {
        ways[l] = p.takes[l * p.n + left];
        left -= ways[l];
    }
    if (!s && best)
        *best = p.best[p.n - 1];
    free(p.best);
    free(p.before);
    free(p.takes);
    return s;
}

void moe_tune_worth_hits(const struct moe_mrc *mrc, enum moe_mrc_policy policy, uint64_t *worth)
{
    for (uint32_t l = 0; l < mrc->n_layers; l++)
        for (uint32_t m = 0; m <= mrc->n_experts; m++)
            *worth++ = moe_mrc_at_ways(mrc, policy, MOE_PHASES_DECODE, l, l + 1, m).hits;
}

void moe_tune_worth_ns(const struct moe_mrc *mrc, enum moe_mrc_policy policy,
                       const struct moe_costs *costs, uint64_t *worth)
{
    uint64_t cpu = costs->cpu_expert_ns, gpu = costs->gpu_expert_ns;
    uint64_t a_hit = cpu > gpu ? cpu - gpu : 0;
    uint64_t an_event = moe_cost_state_down_ns(costs, 1) + moe_cost_state_up_ns(costs, 1);
    for (uint32_t l = 0; l < mrc->n_layers; l++)
        for (uint32_t m = 0; m <= mrc->n_experts; m++) {
            struct moe_mrc_point at = moe_mrc_at_ways(mrc, policy, MOE_PHASES_DECODE, l, l + 1, m);
            *worth++ = at.hits * a_hit + at.all_hit_events * an_event;
        }
}

static int falling(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? 1 : *x > *y ? -1 : 0;
}

enum moe_status moe_tune_worth_static(const uint64_t *uses, uint32_t n_layers, uint32_t n_experts,
                                      uint64_t *worth, struct moe_err *err)
{
    uint64_t *sorted = malloc(n_experts * sizeof *sorted + 1);
    if (!sorted)
        return moe_fail_memory(err, "the uses of a layer");
    for (uint32_t l = 0; l < n_layers; l++) {
        memcpy(sorted, uses + (size_t)l * n_experts, n_experts * sizeof *sorted);
        qsort(sorted, n_experts, sizeof *sorted, falling);
        uint64_t sum = 0;
        *worth++ = 0;
        for (uint32_t m = 0; m < n_experts; m++)
            *worth++ = sum += sorted[m];
    }
    free(sorted);
    return MOE_OK;
}

bool moe_tune_ways_format(const uint32_t *ways, uint32_t n_layers, char *buf, size_t size)
{
    uint64_t slots = 0;
    for (uint32_t l = 0; l < n_layers; l++)
        slots += ways[l];
    if (slots == 0) /* nothing is worth one */
        return (size_t)snprintf(buf, size, "none") < size;
    size_t at = (size_t)snprintf(buf, size, "per-layer:");
    for (uint32_t l = 0; l < n_layers && at < size; l++)
        at += (size_t)snprintf(buf + at, size - at, l ? ",%u" : "%u", ways[l]);
    return at < size;
}
