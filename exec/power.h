/* Energy that this machine has used: the processor packages from RAPL (Intel's, and AMD's through
 * the same kernel driver), one GPU from NVML, which is loaded when it is asked for. What is not
 * there, or may not be read, is absent with a reason and never an error.
 *
 * Packages only: their DRAM and other parts that RAPL may count apart are not added. A counter
 * starts again at its range (kernel: power/powercap, energy_uj and max_energy_range_uj); at most
 * one such start may pass between two readings, so read at least every minute: at 1 kW the
 * smallest range in use, 65 kJ, lasts that long. */
#ifndef MOELAB_EXEC_POWER_H
#define MOELAB_EXEC_POWER_H

#include <stddef.h>
#include <stdint.h>

enum { MOE_MAX_PACKAGES = 16 };

/* Where to look. */
struct moe_power_source {
    const char *powercap; /* folder of the RAPL zones, "/sys/class/powercap" */
    const char *nvml;     /* library to load, "libnvidia-ml.so.1" */
    const char *gpu_pci;  /* bus address "0000:01:00.0" of the GPU; NULL or "": none is wanted */
};

/* The usual places. */
struct moe_power_source moe_power_source_of(const char *gpu_pci);

struct moe_power_package {
    char path[256];             /* of energy_uj */
    uint64_t last_uj, range_uj; /* range: the counter goes from there to 0 */
};

struct moe_nvml; /* opaque */

struct moe_power {
    struct moe_power_package package[MOE_MAX_PACKAGES];
    uint32_t n_packages;
    double cpu_joules;
    struct moe_nvml *nvml;   /* NULL: no GPU */
    char cpu[256], gpu[256]; /* how it is measured, or why it is absent */
};

/* Joules since the opening; NaN: absent. */
struct moe_joules {
    double cpu, gpu;
};

/* Starts counting. Where the GPU counts no energy, a thread samples its power every 20 ms, and the
 * counter is the sum of power times time. */
void moe_power_open(struct moe_power *power, const struct moe_power_source *source);

/* A counter that can no longer be read is absent from then on. One thread at a time. */
struct moe_joules moe_power_read(struct moe_power *power);
void moe_power_close(struct moe_power *power);

/* Microjoules from one reading of a counter to the next. */
uint64_t moe_power_delta_uj(uint64_t before_uj, uint64_t after_uj, uint64_t range_uj);

#endif
