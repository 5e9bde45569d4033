/* Platforms: the constants of a computer, each with value, unit and origin (YAML; experiments/
 * platforms/). A missing or unknown key is an error, never a default. GB/s is 1e9 bytes a second.
 *
 * The GPU has memory of its own, unless the file says `memory: unified` at its top. GPU and CPU
 * then share one DRAM: whatever they read there at the same time, GPU kernels (which alone reach
 * gpu.read_gb_per_s) and the CPU alike, shares dram.read_gb_per_s. Copies into slots exist all the
 * same, as strategies decide on them and the machine carries them out: such a copy is a memcpy at
 * the link's rates, which reads and writes the DRAM. A GPU that can use an expert where it lies
 * needs no copies; that is a strategy without copies: geometry `all`, or policy `static` in any.
 * gpu.memory_bytes is then the size of the shared memory: what lies on the GPU and the experts on
 * the host have to fit into it together (moe_setup_init). The host keeps every expert, besides the
 * slots, except those that stay in their slots.
 *
 * A computer without a GPU says `gpu: none` in place of that section, and has no `link` and none of
 * the keys power.gpu_*. gpu.memory_bytes 0 (as --set platform.gpu.memory_bytes=0 makes it of any
 * platform) means the same: all other values of GPU, link and GPU power are ignored then. The CPU
 * computes all of a model, and nothing is ever copied (policies/cost.h). cpu.dense says how fast it
 * is with the weights outside the experts, as cpu.expert_ffn does for experts; where a file has no
 * such list these weights are read at the experts' rates. */
#ifndef MOELAB_POLICIES_PLATFORM_H
#define MOELAB_POLICIES_PLATFORM_H

#include "base/error.h"
#include "base/param.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOE_MAX_FFN_POINTS = 256 };

/* One measured time on the CPU at batch 1: of an expert's FFN, or of other matrices. */
struct moe_ffn_point {
    uint32_t threads;
    uint64_t expert_bytes; /* or of the matrices */
    double ms;
};

enum moe_platform_memory { MOE_MEMORY_SEPARATE, MOE_MEMORY_UNIFIED };

struct moe_platform {
    char name[64];
    char description[256];
    int memory; /* enum moe_platform_memory */
    struct {
        double h2d_pinned_gb_per_s, h2d_pageable_gb_per_s;
        double copy_setup_us;              /* fixed cost of one expert copy */
        double state_down_us, state_up_us; /* transfer of a layer's activations GPU -> CPU, back */
    } link;
    struct {
        double read_gb_per_s; /* usable read bandwidth, all cores and engines together */
    } dram;
    struct {
        uint64_t cores;
        double gflops_per_core; /* for many tokens (prefill) */
        uint32_t n_points;
        struct moe_ffn_point point[MOE_MAX_FFN_POINTS]; /* sorted by threads, then bytes */
        uint32_t n_dense; /* 0: the dense part was not measured on the CPU */
        struct moe_ffn_point dense[MOE_MAX_FFN_POINTS]; /* weights outside the experts, of a layer
                                                           and of the head; sorted likewise */
    } cpu;
    struct {
        uint64_t memory_bytes;
        double read_gb_per_s; /* reachable by matrix-vector kernels */
        double tflops;        /* reachable by matrix products, weights' type */
        double expert_launch_us, layer_overhead_us, token_overhead_us;
    } gpu;
    struct {
        double cpu_idle_w, cpu_busy_per_thread_w;
        double gpu_idle_w, gpu_busy_w, gpu_copy_w; /* busy and copy: added to idle */
    } power;
};

/* Errors: MOE_ERR_IO; MOE_ERR_USAGE with 'file':line (unknown key and the nearest one, missing key,
 * wrong unit, value outside its limits, origin of no known kind). */
enum moe_status moe_platform_load(const char *path, struct moe_platform *out, struct moe_err *err);

/* The same from memory; name stands for the file in messages. */
enum moe_status moe_platform_parse(const char *name, const void *data, size_t size,
                                   struct moe_platform *out, struct moe_err *err);

/* The constants of each section, as tables over struct moe_platform; ended by a NULL name.
 * cpu.expert_ffn and cpu.dense are lists and stand in none. */
struct moe_platform_section {
    const char *name;
    const struct moe_param *table;
};
extern const struct moe_platform_section moe_platform_sections[];

/* The constants that a file of this platform has in the section; NULL where `gpu: none` leaves the
 * section out. */
const struct moe_param *moe_platform_table(const struct moe_platform *platform,
                                           const struct moe_platform_section *section);

static inline bool moe_platform_has_gpu(const struct moe_platform *platform)
{
    return platform->gpu.memory_bytes > 0;
}

/* Do GPU and CPU read one DRAM? */
static inline bool moe_platform_shares_dram(const struct moe_platform *platform)
{
    return moe_platform_has_gpu(platform) && platform->memory == MOE_MEMORY_UNIFIED;
}

/* Sets one constant by "section.key", e.g. "link.h2d_pinned_gb_per_s" (what-if sweeps), or
 * "memory". */
enum moe_status moe_platform_set(struct moe_platform *platform, const char *key, const char *text,
                                 struct moe_err *err);

/* GB/s at which `threads` cores read the weights of an expert of the given size at batch 1: from
 * the measured points, interpolated linearly in bandwidth between thread counts and in the
 * logarithm of the size between sizes, clamped outside. More threads than cores count as cores. */
double moe_platform_expert_gb_per_s(const struct moe_platform *platform, uint64_t threads,
                                    uint64_t expert_bytes);

/* The same for weights outside the experts: from cpu.dense, or else as for experts of that size. */
double moe_platform_dense_gb_per_s(const struct moe_platform *platform, uint64_t threads,
                                   uint64_t bytes);

#endif
