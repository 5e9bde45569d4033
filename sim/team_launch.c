#include "sim/team_launch.h"

#include "base/units.h"

#include <stddef.h>
#include <stdlib.h>

/* Variables of ranks and sizes, the most particular first: within a Slurm job mpirun sets its own
 * beside Slurm's. Sources: mpirun(1) of Open MPI 4.1; PMI 1 as MPICH's Hydra and Slurm's pmi2
 * provide it; srun(1). */
static const struct {
    const char *by, *rank, *size;
} launchers[] = {
    {"mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"mpirun (PMI)", "PMI_RANK", "PMI_SIZE"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
};

struct moe_launch moe_launch_look(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const char *rank = getenv(launchers[i].rank), *size = getenv(launchers[i].size);
        uint64_t r, n;
        if (!rank || !size || moe_parse_u64(size, 1, UINT32_MAX, &n, NULL) ||
            moe_parse_u64(rank, 0, n - 1, &r, NULL))
            continue;
        if (n == 1)
            break;
        return (struct moe_launch){launchers[i].by, (uint32_t)r, (uint32_t)n};
    }
    return (struct moe_launch){.size = 1};
}
