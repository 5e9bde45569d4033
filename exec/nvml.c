#include "exec/nvml.h"

#include "base/progress.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, SAMPLE_MS = 20 }; /* nvmlReturn_t NVML_SUCCESS */

struct functions {
    int (*init)(void);
    int (*shutdown)(void);
    int (*by_pci)(const char *pci, void **device);
    int (*energy_mj)(void *device, unsigned long long *millijoules);
    int (*power_mw)(void *device, unsigned *milliwatts);
    const char *(*text)(int result);
};

struct moe_nvml {
    struct functions f;
    void *library, *device;
    bool counts; /* the GPU has an energy counter: no sampler */
    unsigned long long start_mj;
    pthread_t sampler;
    atomic_bool stop;
    _Atomic double joules; /* set by the sampler; NaN: power could not be read */
};

static bool load(void *library, struct functions *f)
{
    const struct {
        const char *name;
        void *to;
    } wanted[] = {
        {"nvmlInit_v2", &f->init},
        {"nvmlShutdown", &f->shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", &f->by_pci},
        {"nvmlDeviceGetTotalEnergyConsumption", &f->energy_mj},
        {"nvmlDeviceGetPowerUsage", &f->power_mw},
        {"nvmlErrorString", &f->text},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(library, wanted[i].name);
        if (!symbol)
            return false;
        /* ISO C knows no cast from object to function pointer; POSIX makes them alike. */
        memcpy(wanted[i].to, &symbol, sizeof symbol);
    }
    return true;
}

/* Integrates the power by the trapezoid rule until told to stop. */
static void *sample(void *context)
{
    struct moe_nvml *nvml = context;
    const struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000L};
    unsigned before_mw = 0, mw;
    uint64_t before_ns = 0;
    double joules = 0;
    while (!atomic_load(&nvml->stop)) {
        const uint64_t now_ns = moe_clock_ns();
        if (nvml->f.power_mw(nvml->device, &mw) != SUCCESS) {
            atomic_store(&nvml->joules, NAN);
            break;
        }
        if (before_ns)
            joules += 0.5e-3 * ((double)before_mw + mw) * (double)(now_ns - before_ns) * 1e-9;
        atomic_store(&nvml->joules, joules);
        before_mw = mw;
        before_ns = now_ns;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Uses the GPU's own counter, or starts sampling. Returns 0, NVML's error, or -1 (no thread). */
static int start(struct moe_nvml *nvml, char *note, size_t size)
{
    unsigned mw;
    if (nvml->f.energy_mj(nvml->device, &nvml->start_mj) == SUCCESS) {
        nvml->counts = true;
        snprintf(note, size, "NVML, the GPU's energy counter");
        return SUCCESS;
    }
    const int result = nvml->f.power_mw(nvml->device, &mw);
    if (result != SUCCESS)
        return result;
    if (pthread_create(&nvml->sampler, NULL, sample, nvml) != 0)
        return -1;
    snprintf(note, size, "NVML, power every %d ms", SAMPLE_MS);
    return SUCCESS;
}

/* After a successful init: finds the device and starts. */
static bool attach(struct moe_nvml *nvml, const char *pci, char *note, size_t size)
{
    int result = nvml->f.by_pci(pci, &nvml->device);
    if (result == SUCCESS)
        result = start(nvml, note, size);
    if (result == SUCCESS)
        return true;
    snprintf(note, size, "NVML cannot read the power of GPU %s: %s", pci,
             result < 0 ? "no thread to be had" : nvml->f.text(result));
    return false;
}

struct moe_nvml *moe_nvml_open(const char *library, const char *pci, char *note, size_t size)
{
    struct moe_nvml *nvml = calloc(1, sizeof *nvml);
    if (!nvml) {
        snprintf(note, size, "out of memory for NVML");
        return NULL;
    }
    nvml->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library) {
        snprintf(note, size, "no NVML: '%s' cannot be loaded", library);
    } else if (!load(nvml->library, &nvml->f)) {
        snprintf(note, size, "'%s' lacks a function of NVML: driver too old", library);
    } else {
        const int result = nvml->f.init();
        if (result == SUCCESS && attach(nvml, pci, note, size))
            return nvml;
        if (result == SUCCESS)
            nvml->f.shutdown();
        else
            snprintf(note, size, "NVML does not start: %s", nvml->f.text(result));
    }
    if (nvml->library)
        dlclose(nvml->library);
    free(nvml);
    return NULL;
}

double moe_nvml_joules(struct moe_nvml *nvml)
{
    unsigned long long mj;
    if (!nvml->counts)
        return atomic_load(&nvml->joules);
    if (nvml->f.energy_mj(nvml->device, &mj) != SUCCESS || mj < nvml->start_mj)
        return NAN; /* the driver was started again: the count is lost */
    return (double)(mj - nvml->start_mj) * 1e-3;
}

void moe_nvml_close(struct moe_nvml *nvml)
{
    if (!nvml)
        return;
    if (!nvml->counts) {
        atomic_store(&nvml->stop, true);
        pthread_join(nvml->sampler, NULL);
    }
    nvml->f.shutdown();
    dlclose(nvml->library);
    free(nvml);
}
