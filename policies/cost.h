/* Durations of operations on a platform for a model, and what they read from host DRAM.
 *
 * All are rounded to whole nanoseconds; bytes over GB/s gives ns. The platform file says where its
 * rates are from. Batch 1 is bound by bytes, many tokens by flops (roofline, Williams, Waterman,
 * Patterson 2009): for n = 1 flops are taken to cost nothing. n is the number of tokens of the step
 * that use the operation; for the head in prompts, where only the last token needs it, the number
 * of requests. KV bytes are those of the tokens in the cache before the step and of the step's own.
 *
 * - attend: layer_overhead_us + max(dense + KV bytes / gpu.read, 2 weights n / gpu.tflops)
 * - leading: the same, summed over the layers without experts that come before those with experts;
 *   it is part of the first attend of a step
 * - head: max(head bytes / gpu.read, 2 weights n / gpu.tflops) + token_overhead_us
 * - GPU expert: expert_launch_us + max(bytes / gpu.read, 2 weights n / gpu.tflops)
 * - CPU expert: bytes / expert_gb_per_s(threads, bytes), for n = 1 the measured time itself; for
 *   n > 1, where that is longer, 2 weights n / (threads gflops_per_core)
 * - copy: copy_setup_us + bytes / h2d (pinned or pageable)
 * - state: state_down_us or state_up_us, which is for one token's vector, and for each further
 *   token 2 D bytes / h2d_pinned
 *
 * Without a GPU the CPU computes the dense part as well: attend and head take max(bytes /
 * dense_gb_per_s(threads, bytes), 2 weights n / (threads gflops_per_core)); nothing is added for a
 * layer or a step (the CPU's fixed costs stand in its measured times), activations stay where they
 * are, and an expert on the GPU or a copy takes MOE_MAX_WORK_NS, so that no comparison favours it.
 *
 * Where GPU and CPU share one DRAM, gpu.read is at most dram.read, and a copy takes at least 2
 * bytes / dram.read, as it reads and writes that DRAM. Like all times here these are of one
 * operation alone; how operations that run together slow each other, the simulator's engine tells.
 *
 * Left out, because each is below 5 % at contexts up to 2000 tokens: flops of attention scores, and
 * the device memory bandwidth that a landing copy takes from kernels. A pageable copy is charged to
 * host DRAM once, though staging reads and writes more. */
#ifndef MOELAB_POLICIES_COST_H
#define MOELAB_POLICIES_COST_H

#include "policies/platform.h"
#include "traces/model.h"

#include <stdint.h>

/* Longest operation (2.4 hours); longer durations are clamped to it. */
#define MOE_MAX_WORK_NS ((uint64_t)1 << 43)

/* What one expert costs at batch 1, and the model's and platform's parts of the formulas. */
struct moe_costs {
    const struct moe_model *model;       /* not owned */
    const struct moe_platform *platform; /* not owned */
    uint32_t threads;                    /* at most the cores */
    bool no_gpu;                         /* !moe_platform_has_gpu */
    bool shares_dram;                    /* moe_platform_shares_dram */
    uint64_t expert_bytes;
    double cpu_gb_per_s; /* at which the threads read an expert's weights */
    uint64_t cpu_expert_ns, gpu_expert_ns;
    uint64_t copy_ns[2]; /* pinned, pageable */
    uint64_t layer_overhead_ns, token_overhead_ns;
};

void moe_costs_init(struct moe_costs *costs, const struct moe_model *model,
                    const struct moe_platform *platform, uint64_t threads);

/* Without layer_overhead_us and token_overhead_us, which the host spends. context: tokens already
 * in the KV caches, summed over the step's requests: each token reads its own request's. */
uint64_t moe_cost_attend_ns(const struct moe_costs *costs, uint64_t n, uint64_t context);
uint64_t moe_cost_leading_ns(const struct moe_costs *costs, uint64_t n, uint64_t context);
uint64_t moe_cost_head_ns(const struct moe_costs *costs, uint64_t n);
/* All dense parts of a step, with the overheads. */
uint64_t moe_cost_dense_ns(const struct moe_costs *costs, uint64_t n, uint64_t context);

uint64_t moe_cost_gpu_expert_ns(const struct moe_costs *costs, uint64_t n);
uint64_t moe_cost_cpu_expert_ns(const struct moe_costs *costs, uint64_t n);
uint64_t moe_cost_state_down_ns(const struct moe_costs *costs, uint64_t n);
uint64_t moe_cost_state_up_ns(const struct moe_costs *costs, uint64_t n);

/* Bytes that the dense part of a layer, the leading layers, the head, all these in a step, and an
 * expert on the GPU read from host DRAM: 0 where a GPU with memory of its own computes them. Bytes
 * that a copy reads and writes there. */
double moe_cost_attend_dram_bytes(const struct moe_costs *costs, uint64_t n, uint64_t context);
double moe_cost_leading_dram_bytes(const struct moe_costs *costs, uint64_t n, uint64_t context);
double moe_cost_head_dram_bytes(const struct moe_costs *costs);
double moe_cost_dense_dram_bytes(const struct moe_costs *costs, uint64_t n, uint64_t context);
double moe_cost_gpu_expert_dram_bytes(const struct moe_costs *costs);
double moe_cost_copy_dram_bytes(const struct moe_costs *costs);

/* Rate in kB/s of an operation that moves so many bytes, or an expert's, in so many ns; rounded up.
 * The rate of the DRAM; rounded down. */
uint64_t moe_cost_kb_per_s(double bytes, uint64_t ns);
uint64_t moe_cost_expert_dram_kb_per_s(const struct moe_costs *costs, uint64_t ns);
uint64_t moe_cost_dram_kb_per_s(const struct moe_costs *costs);

/* Device memory that the weights outside the experts take. */
uint64_t moe_cost_dense_bytes(const struct moe_model *model);

#endif
