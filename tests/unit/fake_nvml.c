/* Stands for NVIDIA's libnvidia-ml.so.1 in test_power: GPU 1 counts energy, GPU 2 tells its power
 * only, GPU 3 neither. */
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPUS = 4 };

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
const char *nvmlErrorString(int result);

static int gpu[GPUS];
static unsigned long long energy = 1000;

int nvmlInit_v2(void)
{
    return SUCCESS;
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device)
{
    if (strlen(pci) != 12 || pci[6] < '1' || pci[6] >= '0' + GPUS)
        return NOT_FOUND;
    *device = &gpu[pci[6] - '0'];
    return SUCCESS;
}

/* 1.5 J more at each call. */
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
    if (device != &gpu[1])
        return NOT_SUPPORTED;
    *millijoules = energy;
    energy += 1500;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    if (device == &gpu[3])
        return NOT_SUPPORTED;
    *milliwatts = 100000;
    return SUCCESS;
}

const char *nvmlErrorString(int result)
{
    return result == NOT_SUPPORTED ? "Not Supported" : "Not Found";
}
