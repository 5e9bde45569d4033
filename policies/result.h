/* The results of a timed run of a strategy, on a simulated machine or a real one: the same numbers,
 * and in policies/result_table.h the same columns. */
#ifndef MOELAB_POLICIES_RESULT_H
#define MOELAB_POLICIES_RESULT_H

#include "policies/cache.h"
#include "policies/geometry.h"
#include "policies/rerouter.h"
#include "policies/usage.h"

struct moe_result {
    uint64_t prefill_tokens, decode_tokens;
    uint64_t prefill_ns, decode_ns;
    double tokens_per_s;                    /* decode */
    double ms_mean, ms_p50, ms_p95, ms_p99; /* per decode token */
    struct moe_time_by_cause cause;         /* decode; the parts sum to decode_ns */
    struct moe_counts decode, prefill;      /* sums over covered layers */
    struct moe_preloads preloads;           /* initial content of the slots, loaded before time 0 */
    struct moe_prefetches prefetches;       /* that decode asked for */
    uint64_t prefetch_wasted_bytes;         /* bytes of prefetches.wasted */
    uint64_t routed_experts;                /* expert uses of decode, all layers */
    uint64_t cpu_experts, gpu_experts;      /* where decode computed them */
    uint64_t h2d_bytes;                     /* expert copies, decode */
    double gpu_busy, cpu_busy, h2d_busy;    /* share of decode time */
    double dram_gb_per_s;                   /* mean over decode */
    /* Of decode, modelled or measured; NaN: not known. */
    double energy_j, cpu_w, gpu_w, j_per_token;
    double bound_ms;    /* per token: no schedule on this platform is faster; NaN: not computed */
    double bound_share; /* bound / mean */
    uint64_t path_ns;   /* of decode (policies/path.h); 0: not computed */
    double schedule_bound_ms;    /* per token: no schedule of the same decisions is faster; NaN: not
                                    computed */
    double schedule_bound_share; /* schedule bound / mean */
    uint64_t cache_slots, cache_bytes;
    struct moe_rerouted rerouted; /* what a lossy rule changed; all 0 without one */
};

/* Times of a run's steps. */
struct moe_run_times {
    uint64_t n_prefill, n_decode; /* tokens */
    uint64_t prefill_ns, decode_ns;
    const double *token_ms; /* [n_decode] in the order of the run; a step's time is divided equally
                               among its tokens */
    uint64_t path_ns;       /* of decode (policies/path.h); 0: not known */
};

/* Sets energy and bounds to NaN (unknown), the rest to 0. */
void moe_result_init(struct moe_result *result);

/* Each fills its part of the result. Errors: MOE_ERR_MEMORY. */
enum moe_status moe_result_add_times(struct moe_result *result, const struct moe_run_times *times,
                                     struct moe_err *err);
/* usage: of decode; moe_usage_ns of it is decode_ns. To be called after moe_result_add_times. */
void moe_result_add_usage(struct moe_result *result, const struct moe_usage *usage,
                          uint64_t expert_bytes);
/* Measured energy of decode in joules, NaN where there is no counter. has_gpu: the device is a GPU,
 * whose energy counts beside the CPU's. */
void moe_result_add_joules(struct moe_result *result, double cpu, double gpu, bool has_gpu);
void moe_result_add_counts(struct moe_result *result, const struct moe_cache *cache,
                           const struct moe_geometry *geometry);

#endif
