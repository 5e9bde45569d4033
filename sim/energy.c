#include "sim/energy.h"

struct moe_energy moe_energy_of(const struct moe_platform *platform, uint32_t threads,
                                const struct moe_usage *usage)
{
    double ns = (double)moe_usage_ns(usage);
    if (ns <= 0)
        return (struct moe_energy){0};
    double cpu = (double)moe_usage_lane_ns(usage, MOE_LANE_CPU) / ns;
    double gpu = (double)moe_usage_lane_ns(usage, MOE_LANE_GPU) / ns;
    double copy = (double)moe_usage_lane_ns(usage, MOE_LANE_H2D) / ns;
    struct moe_energy e = {
        .cpu_w = platform->power.cpu_idle_w + platform->power.cpu_busy_per_thread_w * threads * cpu,
        .gpu_w = platform->power.gpu_idle_w + platform->power.gpu_busy_w * gpu +
                 platform->power.gpu_copy_w * copy,
    };
    if (!moe_platform_has_gpu(platform))
        e.gpu_w = 0;
    e.joules = (e.cpu_w + e.gpu_w) * ns * 1e-9;
    return e;
}
