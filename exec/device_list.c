#include "exec/device_list.h"

#include "base/units.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef MOELAB_HAVE_CUDA
#include "exec/cuda/probe.h"
#endif

/* The processor's name from /proc/cpuinfo; machines whose kernel gives none are called "host". */
static void host_name(char *name, size_t size)
{
    snprintf(name, size, "host");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strstr(line, ": ") : NULL;
        if (value && value[2] != '\n' && value[2] != '\0') {
            value += 2;
            snprintf(name, size, "%.*s", (int)strcspn(value, "\n"), value);
            break;
        }
    }
    fclose(f);
}

void moe_device_host_info(struct moe_device_info *device)
{
    *device = (struct moe_device_info){.kind = MOE_DEVICE_HOST};
    host_name(device->name, sizeof device->name);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    device->cores = cores > 0 ? (uint32_t)cores : 1;
    if (pages > 0 && page > 0)
        device->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

#ifdef MOELAB_HAVE_CUDA
/* Reads one number at the start of a sysfs attribute; 0 where there is none. */
static double pci_attribute(const char *pci, const char *attribute)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", pci, attribute);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    double value = 0;
    if (fscanf(f, "%lf", &value) != 1 || !(value > 0 && value < 1000))
        value = 0;
    fclose(f);
    return value;
}

static void cuda_fill(struct moe_devices *out)
{
    const size_t n = moe_cuda_probe(out->device + out->n, MOE_MAX_DEVICES - out->n,
                                    out->cuda_absent, sizeof out->cuda_absent);
    for (size_t i = 0; i < n; i++, out->n++) {
        struct moe_device_info *device = &out->device[out->n];
        const double port = pci_attribute(device->pci, "../max_link_speed"); /* the slot's */
        device->link_gt_per_s = pci_attribute(device->pci, "max_link_speed");
        if (port > 0 && port < device->link_gt_per_s)
            device->link_gt_per_s = port;
        device->link_lanes = (uint32_t)pci_attribute(device->pci, "current_link_width");
    }
}
#else
static void cuda_fill(struct moe_devices *out)
{
    snprintf(out->cuda_absent, sizeof out->cuda_absent, "built without CUDA");
}
#endif

enum moe_status moe_device_list(struct moe_devices *out, struct moe_err *err)
{
    (void)err;
    *out = (struct moe_devices){.n = 1};
    moe_device_host_info(&out->device[0]);
    cuda_fill(out);
    return MOE_OK;
}

/* Appends to the text already in buf; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void append(char *buf, size_t size, const char *format,
                                                         ...)
{
    const size_t used = strlen(buf);
    va_list args;
    va_start(args, format);
    vsnprintf(buf + used, size - used, format, args);
    va_end(args);
}

const char *moe_device_describe(const struct moe_device_info *device, char *buf, size_t size)
{
    if (size == 0)
        return buf;
    buf[0] = '\0';
    const bool cuda = device->kind == MOE_DEVICE_CUDA;
    if (cuda)
        append(buf, size, "cuda:%u %s", device->index, device->name);
    else
        append(buf, size, "host %s", device->name);
    char text[32];
    if (device->memory_bytes > 0)
        append(buf, size, ", %s", moe_format_bytes(device->memory_bytes, text, sizeof text));
    append(buf, size, ", %u %s", device->cores, cuda ? "multiprocessors" : "logical processors");
    if (device->sm > 0)
        append(buf, size, ", sm %u", device->sm);
    if (device->link_gt_per_s > 0 && device->link_lanes > 0)
        append(buf, size, ", PCIe %g GT/s x%u", device->link_gt_per_s, device->link_lanes);
    return buf;
}
