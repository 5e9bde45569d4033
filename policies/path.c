#include "policies/path.h"

static uint64_t longest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void moe_path_step(struct moe_path *path, const struct moe_step *step)
{
    const struct moe_costs *costs = path->costs;
    const uint64_t n = step->n_tokens;
    path->n_tokens = n;
    if (step->phase != MOE_DECODE)
        return;
    path->decode_ns += moe_cost_dense_ns(costs, n, step->cached);
}

void moe_path_event(struct moe_path *path, const struct moe_decision *decision)
{
    const struct moe_costs *costs = path->costs;
    const struct moe_plan *plan = decision->plan;
    uint64_t cpu = 0, gpu = 0, copies = 0, last = UINT64_MAX;
    if (plan->route.phase != MOE_DECODE)
        return;
    for (uint32_t i = 0; i < plan->route.n; i++) {
        if (decision->place[i] == MOE_PLACE_EARLY)
            continue;
        if (decision->place[i] == MOE_PLACE_CPU) {
            cpu += moe_cost_cpu_expert_ns(costs, plan->tokens[i]);
            continue;
        }
        const uint64_t ns = moe_cost_gpu_expert_ns(costs, plan->tokens[i]);
        gpu += ns;
        if (decision->place[i] != MOE_PLACE_STREAM)
            continue;
        copies += costs->copy_ns[path->pageable];
        last = ns < last ? ns : last; /* any of them may be the last */
    }
    if (cpu)
        cpu += moe_cost_state_down_ns(costs, path->n_tokens) +
               moe_cost_state_up_ns(costs, path->n_tokens);
    path->decode_ns += longest(longest(cpu, gpu), copies ? copies + last : 0);
}
