/* Energy of a run: per resource an idle power, and a power added while it is busy.
 *   CPU  cpu_idle_w + cpu_busy_per_thread_w * threads * (share of time the CPU pool computes)
 *   GPU  gpu_idle_w + gpu_busy_w * (share computing) + gpu_copy_w * (share copying experts)
 * The host's own work is part of cpu_idle_w, as it is in a measurement of the package. */
#ifndef MOELAB_SIM_ENERGY_H
#define MOELAB_SIM_ENERGY_H

#include "policies/platform.h"
#include "policies/usage.h"

struct moe_energy {
    double cpu_w, gpu_w; /* means over the time of usage */
    double joules;
};

/* threads: those that compute experts (moe_costs.threads). All zero when no time passed. */
struct moe_energy moe_energy_of(const struct moe_platform *platform, uint32_t threads,
                                const struct moe_usage *usage);

#endif
