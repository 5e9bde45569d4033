#include "exec/cuda/absence.h"

#include <cuda_runtime_api.h>

#include <cstdio>

enum { OLDEST_MAJOR = 8 }; // the first in cmake/cuda.cmake

// CUDA writes 13.2 as 13020.
static void driver_too_old(int driver, char *reason, size_t size)
{
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    snprintf(reason, size,
             "CUDA driver too old: it knows CUDA up to %d.%d, this program was built with %d.%d; "
             "update the driver, or build with a toolkit of CUDA %d",
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, driver / 1000);
}

int moe_cuda_count(char *reason, size_t size)
{
    int count = 0, driver = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0)
        return count;
    (void)cudaGetLastError(); // or the next kernel would be blamed for it
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        snprintf(reason, size, "no CUDA driver; install the one of the GPU's vendor");
    else if (error == cudaErrorInsufficientDriver)
        driver_too_old(driver, reason, size);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(reason, size,
                 "no CUDA device; see what nvidia-smi lists and CUDA_VISIBLE_DEVICES allows");
    else
        snprintf(reason, size, "CUDA does not start: %s", cudaGetErrorString(error));
    return 0;
}

void moe_cuda_too_old(int major, int minor, char *reason, size_t size)
{
    reason[0] = '\0';
    if (major < OLDEST_MAJOR)
        snprintf(reason, size,
                 "compute capability %d.%d is too old: %d.0 (Ampere) or newer is needed", major,
                 minor, OLDEST_MAJOR);
}
