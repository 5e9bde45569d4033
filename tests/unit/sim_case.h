/* A tiny model and machine with round numbers, for timings worked out by hand. */
#ifndef MOELAB_TESTS_SIM_CASE_H
#define MOELAB_TESTS_SIM_CASE_H

#include "policies/strategy.h"
#include "sim/simulate.h"
#include "tests/unit/run_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Expert 600000 bytes; dense layer 40800, keys and values 200 a token; head 200000. */
static inline struct moe_model tiny_model(uint64_t n_layers, uint64_t n_experts, uint64_t top_k)
{
    return (struct moe_model){.name = "tiny",
                              .source = "test",
                              .n_layers = n_layers,
                              .n_experts = n_experts,
                              .top_k = top_k,
                              .d_model = 100,
                              .d_ffn = 1000,
                              .n_heads = 1,
                              .n_kv_heads = 1,
                              .head_dim = 50,
                              .n_vocab = 1000,
                              .expert_weight_bits = 16,
                              .dense_weight_bits = 16,
                              .kv_bits = 16};
}

/* CPU expert 30000 ns (20 GB/s, 4 threads); GPU expert 1000 + 6000; pinned copy 1000 + 60000,
 * pageable 1000 + 120000; activations 3000 down, 4000 up; a layer 10000 + 408 + 2 a token of
 * context (E = 4), a step 20000 + 2000. */
static inline struct moe_platform tiny_platform(void)
{
    struct moe_platform p = {.name = "tiny"};
    p.link.h2d_pinned_gb_per_s = 10;
    p.link.h2d_pageable_gb_per_s = 5;
    p.link.copy_setup_us = 1;
    p.link.state_down_us = 3;
    p.link.state_up_us = 4;
    p.dram.read_gb_per_s = 100;
    p.cpu.cores = 4;
    p.cpu.gflops_per_core = 10;
    p.cpu.n_points = 1;
    p.cpu.point[0] = (struct moe_ffn_point){4, 600000, 0.03};
    p.gpu.memory_bytes = 100000000;
    p.gpu.read_gb_per_s = 100;
    p.gpu.tflops = 1;
    p.gpu.expert_launch_us = 1;
    p.gpu.layer_overhead_us = 10;
    p.gpu.token_overhead_us = 20;
    p.power.cpu_idle_w = 50;
    p.power.cpu_busy_per_thread_w = 10;
    p.power.gpu_idle_w = 20;
    p.power.gpu_busy_w = 100;
    p.power.gpu_copy_w = 30;
    return p;
}

/* Decode tokens one a step, positions from 0; experts [T, L, K]. */
static inline struct moe_trace tiny_trace(uint32_t n_layers, uint32_t n_experts, uint32_t top_k,
                                          uint64_t n_tokens, const moe_expert *experts)
{
    struct moe_trace t = {.info = {.n_layers = n_layers, .n_experts = n_experts, .top_k = top_k}};
    ck_assert_int_eq(moe_tokens_init(&t.tokens, &t.info, n_tokens, 0, NULL), MOE_OK);
    memcpy(t.tokens.expert, experts, n_tokens * n_layers * top_k * sizeof *experts);
    for (uint64_t i = 0; i < n_tokens; i++) {
        t.tokens.sequence[i] = 0;
        t.tokens.step[i] = (uint32_t)i;
        t.tokens.position[i] = (int32_t)i;
        t.tokens.phase[i] = MOE_DECODE;
    }
    return t;
}

static inline struct moe_strategy load_strategy(const char *name)
{
    char path[128];
    struct moe_strategy s;
    struct moe_err err = {0};
    snprintf(path, sizeof path, "experiments/strategies/%s.yaml", name);
    if (moe_strategy_load(path, &s, &err))
        ck_abort_msg("%s", err.text);
    return s;
}

static inline void set_key(struct moe_strategy *s, const char *key, const char *text)
{
    struct moe_err err = {0};
    if (moe_strategy_set(s, key, text, &err))
        ck_abort_msg("%s", err.text);
}

static inline uint64_t sum_of_causes(const struct moe_time_by_cause *c)
{
    return c->gpu_ns + c->cpu_ns + c->both_ns + c->copy_wait_ns + c->state_ns + c->host_ns;
}

#endif
