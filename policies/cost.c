#include "policies/cost.h"

#include <math.h>

/* To the nearest ns, so that a measured time comes back as it was written. */
static uint64_t whole_ns(double ns)
{
    return ns < (double)MOE_MAX_WORK_NS ? (uint64_t)(ns + 0.5) : MOE_MAX_WORK_NS;
}

static double us(double microseconds)
{
    return microseconds * 1e3;
}

static double matmul_ns(double bytes, double weight_bits, uint64_t n, double gb_per_s,
                        double gflops)
{
    double flops = 2 * (bytes * 8 / weight_bits) * (double)n;
    return fmax(bytes / gb_per_s, n > 1 ? flops / gflops : 0);
}

static double gpu_ns(const struct moe_costs *c, double bytes, double weight_bits, uint64_t n)
{
    return matmul_ns(bytes, weight_bits, n, c->platform->gpu.read_gb_per_s,
                     c->platform->gpu.tflops * 1e3);
}

static uint64_t gpu_expert_ns(const struct moe_costs *c, uint64_t n)
{
    return whole_ns(us(c->platform->gpu.expert_launch_us) +
                    gpu_ns(c, (double)c->expert_bytes, c->model->expert_weight_bits, n));
}

static uint64_t cpu_expert_ns(const struct moe_costs *c, uint64_t n)
{
    double gflops = c->threads * c->platform->cpu.gflops_per_core;
    return whole_ns(matmul_ns((double)c->expert_bytes, c->model->expert_weight_bits, n,
                              c->cpu_gb_per_s, gflops));
}

void moe_costs_init(struct moe_costs *c, const struct moe_model *model,
                    const struct moe_platform *platform, uint64_t threads)
{
    uint64_t cores = platform->cpu.cores;
    *c = (struct moe_costs){.model = model,
                            .platform = platform,
                            .threads = (uint32_t)(threads < cores ? threads : cores),
                            .expert_bytes = moe_model_expert_bytes(model)};
    double bytes = (double)c->expert_bytes, setup = us(platform->link.copy_setup_us);
    c->cpu_gb_per_s = moe_platform_expert_gb_per_s(platform, c->threads, c->expert_bytes);
    c->cpu_expert_ns = cpu_expert_ns(c, 1);
    c->gpu_expert_ns = gpu_expert_ns(c, 1);
    c->copy_ns[0] = whole_ns(setup + bytes / platform->link.h2d_pinned_gb_per_s);
    c->copy_ns[1] = whole_ns(setup + bytes / platform->link.h2d_pageable_gb_per_s);
    c->layer_overhead_ns = whole_ns(us(platform->gpu.layer_overhead_us));
    c->token_overhead_ns = whole_ns(us(platform->gpu.token_overhead_us));
}

uint64_t moe_cost_attend_ns(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    double bytes = (double)moe_model_dense_layer_bytes(c->model);
    double kv = (double)moe_model_kv_bytes(c->model, context + n);
    double compute = gpu_ns(c, bytes, c->model->dense_weight_bits, n);
    return whole_ns(fmax(compute, (bytes + kv) / c->platform->gpu.read_gb_per_s));
}

uint64_t moe_cost_head_ns(const struct moe_costs *c, uint64_t n)
{
    return whole_ns(
        gpu_ns(c, (double)moe_model_head_bytes(c->model), c->model->dense_weight_bits, n));
}

uint64_t moe_cost_gpu_expert_ns(const struct moe_costs *c, uint64_t n)
{
    return n == 1 ? c->gpu_expert_ns : gpu_expert_ns(c, n);
}

uint64_t moe_cost_cpu_expert_ns(const struct moe_costs *c, uint64_t n)
{
    return n == 1 ? c->cpu_expert_ns : cpu_expert_ns(c, n);
}

static uint64_t state_ns(const struct moe_costs *c, double first_us, uint64_t n)
{
    double more = n > 1 ? 2.0 * (double)c->model->d_model * (double)(n - 1) : 0;
    return whole_ns(us(first_us) + more / c->platform->link.h2d_pinned_gb_per_s);
}

uint64_t moe_cost_state_down_ns(const struct moe_costs *c, uint64_t n)
{
    return state_ns(c, c->platform->link.state_down_us, n);
}

uint64_t moe_cost_state_up_ns(const struct moe_costs *c, uint64_t n)
{
    return state_ns(c, c->platform->link.state_up_us, n);
}

uint64_t moe_cost_expert_dram_kb_per_s(const struct moe_costs *c, uint64_t ns)
{
    return ns ? (uint64_t)ceil((double)c->expert_bytes * 1e6 / (double)ns) : 0;
}

uint64_t moe_cost_dram_kb_per_s(const struct moe_costs *c)
{
    return (uint64_t)(c->platform->dram.read_gb_per_s * 1e6);
}

uint64_t moe_cost_dense_bytes(const struct moe_model *model)
{
    return model->n_layers * moe_model_dense_layer_bytes(model) + moe_model_head_bytes(model);
}
