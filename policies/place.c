#include "policies/place.h"

#include <stdlib.h>

enum { FEW = 16 }; /* a guess: more than decode tokens have */

static int in_order(const void *a, const void *b)
{
    const struct moe_place_job *x = a, *y = b;
    if (x->resident != y->resident)
        return x->resident ? -1 : 1;
    if (x->resident && x->link_ns != y->link_ns)
        return x->link_ns < y->link_ns ? -1 : 1;
    if (x->tokens != y->tokens)
        return x->tokens > y->tokens ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Insertion sort: for the few experts of a decode token it is faster than qsort. */
static void sort_few(struct moe_place_job *jobs, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct moe_place_job own = jobs[i];
        uint32_t k = i;
        for (; k > 0 && in_order(&own, &jobs[k - 1]) < 0; k--)
            jobs[k] = jobs[k - 1];
        jobs[k] = own;
    }
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool goes_to_gpu(const struct moe_place_job *job, uint64_t on_gpu, uint64_t on_cpu)
{
    bool there = job->resident && job->link_ns == 0;
    return job->side == MOE_SIDE_ANY ? there || on_gpu < on_cpu : job->side == MOE_SIDE_GPU;
}

uint64_t moe_place_experts(struct moe_place_job *jobs, uint32_t n, uint64_t down_ns, uint64_t up_ns)
{
    uint64_t cpu = down_ns, link = 0, gpu = 0, end = 0; /* when each queue is empty */
    if (n <= FEW)
        sort_few(jobs, n);
    else
        qsort(jobs, n, sizeof *jobs, in_order);
    for (uint32_t i = 0; i < n; i++) {
        struct moe_place_job *job = &jobs[i];
        uint64_t start = later(link, job->link_ns);
        uint64_t landed = job->resident ? job->link_ns : start + job->copy_ns;
        uint64_t on_gpu = later(gpu, landed) + job->gpu_ns;
        uint64_t on_cpu = cpu + job->cpu_ns + up_ns;
        job->on_gpu = goes_to_gpu(job, on_gpu, on_cpu);
        if (job->on_gpu) {
            link = job->resident ? link : landed;
            gpu = on_gpu;
        } else {
            cpu += job->cpu_ns;
        }
        end = later(end, job->on_gpu ? on_gpu : on_cpu);
    }
    return end;
}

void moe_place_jobs(const struct moe_plan *plan, const struct moe_costs *costs, bool pageable,
                    struct moe_place_job *jobs)
{
    for (uint32_t i = 0; i < plan->route.n; i++)
        jobs[i] = (struct moe_place_job){.index = i,
                                         .tokens = plan->tokens[i],
                                         .resident = plan->route.access[i] != MOE_MISS,
                                         .cpu_ns = moe_cost_cpu_expert_ns(costs, plan->tokens[i]),
                                         .copy_ns = costs->copy_ns[pageable],
                                         .gpu_ns = moe_cost_gpu_expert_ns(costs, plan->tokens[i])};
}

uint64_t moe_place_plan(const struct moe_plan *plan, const struct moe_costs *costs,
                        uint32_t n_tokens, bool pageable, struct moe_place_job *jobs)
{
    moe_place_jobs(plan, costs, pageable, jobs);
    return moe_place_experts(jobs, plan->route.n, moe_cost_state_down_ns(costs, n_tokens),
                             moe_cost_state_up_ns(costs, n_tokens));
}
