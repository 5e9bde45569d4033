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

static double gpu_gb_per_s(const struct moe_costs *c)
{
    const struct moe_platform *p = c->platform;
    return c->shares_dram ? fmin(p->gpu.read_gb_per_s, p->dram.read_gb_per_s)
                          : p->gpu.read_gb_per_s;
}

/* Where the dense part is computed. */
static double dense_gb_per_s(const struct moe_costs *c, double bytes)
{
    return c->no_gpu ? moe_platform_dense_gb_per_s(c->platform, c->threads, (uint64_t)bytes)
                     : gpu_gb_per_s(c);
}

static uint64_t copy_ns(const struct moe_costs *c, double h2d_gb_per_s)
{
    double ns = (double)c->expert_bytes / h2d_gb_per_s;
    if (c->shares_dram)
        ns = fmax(ns, moe_cost_copy_dram_bytes(c) / c->platform->dram.read_gb_per_s);
    return c->no_gpu ? MOE_MAX_WORK_NS : whole_ns(us(c->platform->link.copy_setup_us) + ns);
}

static double dense_ns(const struct moe_costs *c, double bytes, uint64_t n)
{
    const double gflops =
        c->no_gpu ? c->threads * c->platform->cpu.gflops_per_core : c->platform->gpu.tflops * 1e3;
    return matmul_ns(bytes, c->model->dense_weight_bits, n, dense_gb_per_s(c, bytes), gflops);
}

static uint64_t gpu_expert_ns(const struct moe_costs *c, uint64_t n)
{
    const struct moe_platform *p = c->platform;
    return c->no_gpu ? MOE_MAX_WORK_NS
                     : whole_ns(us(p->gpu.expert_launch_us) +
                                matmul_ns((double)c->expert_bytes, c->model->expert_weight_bits, n,
                                          gpu_gb_per_s(c), p->gpu.tflops * 1e3));
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
                            .no_gpu = !moe_platform_has_gpu(platform),
                            .shares_dram = moe_platform_shares_dram(platform),
                            .expert_bytes = moe_model_expert_bytes(model)};
    c->cpu_gb_per_s = moe_platform_expert_gb_per_s(platform, c->threads, c->expert_bytes);
    c->cpu_expert_ns = cpu_expert_ns(c, 1);
    c->gpu_expert_ns = gpu_expert_ns(c, 1);
    c->copy_ns[0] = copy_ns(c, platform->link.h2d_pinned_gb_per_s);
    c->copy_ns[1] = copy_ns(c, platform->link.h2d_pageable_gb_per_s);
    if (c->no_gpu)
        return;
    c->layer_overhead_ns = whole_ns(us(platform->gpu.layer_overhead_us));
    c->token_overhead_ns = whole_ns(us(platform->gpu.token_overhead_us));
}

static double layer_ns(const struct moe_costs *c, uint64_t weight_bytes, uint64_t n,
                       uint64_t context)
{
    double bytes = (double)weight_bytes, kv = (double)moe_model_kv_bytes(c->model, context + n);
    return fmax(dense_ns(c, bytes, n), (bytes + kv) / dense_gb_per_s(c, bytes));
}

uint64_t moe_cost_attend_ns(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    return whole_ns(layer_ns(c, moe_model_dense_layer_bytes(c->model), n, context));
}

uint64_t moe_cost_leading_ns(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    return whole_ns((double)c->model->dense_layers *
                    layer_ns(c, moe_model_leading_layer_bytes(c->model), n, context));
}

uint64_t moe_cost_head_ns(const struct moe_costs *c, uint64_t n)
{
    return whole_ns(dense_ns(c, (double)moe_model_head_bytes(c->model), n));
}

uint64_t moe_cost_dense_ns(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    const struct moe_model *m = c->model;
    return (m->dense_layers + m->n_layers) * c->layer_overhead_ns +
           moe_cost_leading_ns(c, n, context) + m->n_layers * moe_cost_attend_ns(c, n, context) +
           c->token_overhead_ns + moe_cost_head_ns(c, n);
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
    if (c->no_gpu)
        return 0;
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

/* bytes, or 0 where the dense part lies in the GPU's own memory. */
static double dense_dram_bytes(const struct moe_costs *c, uint64_t bytes)
{
    return c->no_gpu || c->shares_dram ? (double)bytes : 0;
}

double moe_cost_attend_dram_bytes(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    return dense_dram_bytes(c, moe_model_dense_layer_bytes(c->model) +
                                   moe_model_kv_bytes(c->model, context + n));
}

double moe_cost_leading_dram_bytes(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    return dense_dram_bytes(c,
                            c->model->dense_layers * (moe_model_leading_layer_bytes(c->model) +
                                                      moe_model_kv_bytes(c->model, context + n)));
}

double moe_cost_head_dram_bytes(const struct moe_costs *c)
{
    return dense_dram_bytes(c, moe_model_head_bytes(c->model));
}

double moe_cost_dense_dram_bytes(const struct moe_costs *c, uint64_t n, uint64_t context)
{
    return moe_cost_leading_dram_bytes(c, n, context) +
           (double)c->model->n_layers * moe_cost_attend_dram_bytes(c, n, context) +
           moe_cost_head_dram_bytes(c);
}

double moe_cost_gpu_expert_dram_bytes(const struct moe_costs *c)
{
    return c->shares_dram ? (double)c->expert_bytes : 0;
}

double moe_cost_copy_dram_bytes(const struct moe_costs *c)
{
    return (c->shares_dram ? 2 : 1) * (double)c->expert_bytes;
}

uint64_t moe_cost_kb_per_s(double bytes, uint64_t ns)
{
    return ns ? (uint64_t)ceil(bytes * 1e6 / (double)ns) : 0;
}

uint64_t moe_cost_expert_dram_kb_per_s(const struct moe_costs *c, uint64_t ns)
{
    return moe_cost_kb_per_s((double)c->expert_bytes, ns);
}

uint64_t moe_cost_dram_kb_per_s(const struct moe_costs *c)
{
    return (uint64_t)(c->platform->dram.read_gb_per_s * 1e6);
}

uint64_t moe_cost_dense_bytes(const struct moe_model *model)
{
    return model->dense_layers * moe_model_leading_layer_bytes(model) +
           model->n_layers * moe_model_dense_layer_bytes(model) + moe_model_head_bytes(model);
}
