/* The energy that this machine uses: of the processor packages from RAPL (Intel's, and AMD's
 * through the same kernel driver), of one GPU from NVML, which is loaded at run time. What does not
 * exist, or may not be read, is reported as absent, with the reason, and is never an error.
 *
 * Packages only: DRAM and other parts that RAPL may count separately are not added. A counter
 * wraps to 0 at its range (kernel: power/powercap, energy_uj and max_energy_range_uj). It may wrap
 * at most once between two readings, so read at least every minute: at 1 kW the
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
    uint64_t last_uj, range_uj; /* range: where the counter wraps to 0 */
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

/* Starts counting. If the GPU has no energy counter, a thread samples its power every 20 ms and
 * integrates it. */
void moe_power_open(struct moe_power *power, const struct moe_power_source *source);

/* A counter that can no longer be read is absent from then on. One thread at a time. */
struct moe_joules moe_power_read(struct moe_power *power);
void moe_power_close(struct moe_power *power);

/* Microjoules between two readings of a counter, which may have wrapped once. */
uint64_t moe_power_delta_uj(uint64_t before_uj, uint64_t after_uj, uint64_t range_uj);

#endif
