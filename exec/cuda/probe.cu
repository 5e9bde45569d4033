/* Lists CUDA devices through the runtime, which is linked statically: it looks for the driver when
 * it is first called, so that the same program starts on a machine without one. */
#include "exec/cuda/probe.h"

#include "exec/cuda/absence.h"

#include <cuda_runtime_api.h>

#include <cctype>
#include <cstdio>

static bool fill(int index, struct moe_device_info *device)
{
    cudaDeviceProp prop;
    if (cudaGetDeviceProperties(&prop, index) != cudaSuccess) {
        (void)cudaGetLastError(); /* or the next kernel would be blamed for it */
        return false;
    }
    *device = {};
    device->kind = MOE_DEVICE_CUDA;
    device->index = static_cast<uint32_t>(index);
    snprintf(device->name, sizeof device->name, "%s", prop.name);
    device->memory_bytes = prop.totalGlobalMem;
    device->cores = static_cast<uint32_t>(prop.multiProcessorCount);
    device->sm = static_cast<uint32_t>(prop.major * 10 + prop.minor);
    if (cudaDeviceGetPCIBusId(device->pci, sizeof device->pci, index) != cudaSuccess) {
        (void)cudaGetLastError();
        device->pci[0] = '\0';
    }
    for (char *c = device->pci; *c != '\0'; c++) /* sysfs writes bus addresses in lower case */
        *c = static_cast<char>(tolower(static_cast<unsigned char>(*c)));
    return true;
}

size_t moe_cuda_probe(struct moe_device_info *out, size_t room, char *reason, size_t size)
{
    const int count = moe_cuda_count(reason, size);
    if (count == 0)
        return 0;
    size_t n = 0;
    for (int i = 0; i < count && n < room; i++)
        n += fill(i, &out[n]);
    snprintf(reason, size, "%s", n > 0 ? "" : "no CUDA device answers");
    return n;
}
