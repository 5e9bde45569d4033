/* The keys of "host:KEY=VALUE,...": size of the arena, simulated speeds, delays and faults; and how
 * long an operation takes at those speeds ("set times"). */
#ifndef MOELAB_EXEC_HOST_OPTIONS_H
#define MOELAB_EXEC_HOST_OPTIONS_H

#include "base/param.h"
#include "exec/device.h"

struct moe_host_options {
    uint64_t memory_bytes;
    double link_gb_per_s, pageable_gb_per_s, compute_gb_per_s, compute_gflops;
    double copy_us, launch_us, delay_us;
    uint64_t seed, fail_copy;
    int awake; /* bool */
};

extern const struct moe_param moe_host_params[]; /* for help as well */

/* Defaults, then the list ("" sets nothing). Errors: MOE_ERR_USAGE naming key, value and limit. */
enum moe_status moe_host_options_parse(const char *list, struct moe_host_options *out,
                                       struct moe_err *err);

/* What an operation of the compute stream reads and computes. */
struct moe_host_load {
    uint64_t bytes;    /* of weights, keys and values, each once */
    double flops;      /* two for a multiplication and an addition */
    uint32_t n_tokens; /* with one token only the bytes count: it is bound by memory */
};

/* Set times in ns; 0 where no speed is set. A copy takes copy_us + bytes / rate. The rate is
 * link_gb_per_s; for pageable memory pageable_gb_per_s, if set; within the device half of
 * compute_gb_per_s. A kernel takes launch_us + max(bytes / compute_gb_per_s, flops /
 * compute_gflops). */
uint64_t moe_host_copy_ns(const struct moe_host_options *options, uint64_t bytes,
                          enum moe_memory host);
uint64_t moe_host_kernel_ns(const struct moe_host_options *options,
                            const struct moe_host_load *load);

#endif
