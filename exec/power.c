#include "exec/power.h"

#include "base/units.h"
#include "exec/nvml.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct moe_power_source moe_power_source_of(const char *gpu_pci)
{
    return (struct moe_power_source){
        .powercap = "/sys/class/powercap", .nvml = "libnvidia-ml.so.1", .gpu_pci = gpu_pci};
}

uint64_t moe_power_delta_uj(uint64_t before_uj, uint64_t after_uj, uint64_t range_uj)
{
    if (after_uj >= before_uj)
        return after_uj - before_uj;
    return (range_uj > before_uj ? range_uj - before_uj : 0) + after_uj;
}

/* The first line of a file without its end; 0, or errno. */
static int read_line(const char *path, char *out, int size)
{
    errno = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return errno ? errno : EIO;
    const bool there = fgets(out, size, f) != NULL;
    const int error = errno;
    fclose(f);
    if (!there)
        return error ? error : ENODATA;
    out[strcspn(out, "\n")] = '\0';
    return 0;
}

/* One number in a file; 0, or errno. */
static int read_number(const char *path, uint64_t *out)
{
    char text[64];
    const int error = read_line(path, text, sizeof text);
    if (error)
        return error;
    return moe_parse_u64(text, 0, UINT64_MAX, out, NULL) ? EINVAL : 0;
}

__attribute__((format(printf, 3, 4))) static bool path_of(char *out, size_t size,
                                                          const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(out, size, format, args);
    va_end(args);
    return n > 0 && (size_t)n < size;
}

/* "intel-rapl:0" is a package, a die of one, or the whole board ("psys", which would count the
 * packages twice); "intel-rapl:0:1" is a part of one; "intel-rapl-mmio:0" shows a package again. */
static bool is_package(const char *powercap, const char *zone)
{
    static const char prefix[] = "intel-rapl:";
    char path[512], name[64];
    if (strncmp(zone, prefix, sizeof prefix - 1) != 0 || strchr(zone + sizeof prefix - 1, ':'))
        return false;
    return path_of(path, sizeof path, "%s/%s/name", powercap, zone) &&
           read_line(path, name, sizeof name) == 0 && strncmp(name, "package", 7) == 0;
}

/* Stops measuring the packages, and says why: a sum over only some of them would be taken for all.
 */
static void lose_cpu(struct moe_power *power, const char *path, int error)
{
    power->n_packages = 0;
    if (error == EACCES || error == EPERM)
        snprintf(power->cpu, sizeof power->cpu,
                 "cannot read '%.120s': permission denied (until the next boot: sudo chmod a+r %s)",
                 path, "/sys/class/powercap/intel-rapl*/energy_uj");
    else
        snprintf(power->cpu, sizeof power->cpu, "cannot read '%.160s': %s", path,
                 error == EINVAL ? "not a number" : strerror(error));
}

static bool add_package(struct moe_power *power, const char *powercap, const char *zone)
{
    char range_path[512];
    if (power->n_packages == MOE_MAX_PACKAGES) {
        power->n_packages = 0;
        snprintf(power->cpu, sizeof power->cpu, "more than %d RAPL packages in '%.160s'",
                 MOE_MAX_PACKAGES, powercap);
        return false;
    }
    struct moe_power_package *p = &power->package[power->n_packages];
    if (!path_of(p->path, sizeof p->path, "%s/%s/energy_uj", powercap, zone) ||
        !path_of(range_path, sizeof range_path, "%s/%s/max_energy_range_uj", powercap, zone)) {
        lose_cpu(power, powercap, ENAMETOOLONG);
        return false;
    }
    int error = read_number(p->path, &p->last_uj);
    if (error) {
        char path[sizeof p->path];
        memcpy(path, p->path, sizeof path);
        lose_cpu(power, path, error);
        return false;
    }
    error = read_number(range_path, &p->range_uj);
    if (error) {
        lose_cpu(power, range_path, error);
        return false;
    }
    power->n_packages++;
    return true;
}

static void open_cpu(struct moe_power *power, const char *powercap)
{
    DIR *folder = opendir(powercap);
    bool ok = true;
    snprintf(power->cpu, sizeof power->cpu, "no RAPL package in '%.160s'", powercap);
    for (const struct dirent *entry; folder && ok && (entry = readdir(folder)) != NULL;)
        if (is_package(powercap, entry->d_name))
            ok = add_package(power, powercap, entry->d_name);
    if (folder)
        closedir(folder);
    if (power->n_packages)
        snprintf(power->cpu, sizeof power->cpu, "RAPL, %" PRIu32 " package%s", power->n_packages,
                 power->n_packages == 1 ? "" : "s");
}

void moe_power_open(struct moe_power *power, const struct moe_power_source *source)
{
    *power = (struct moe_power){0};
    open_cpu(power, source->powercap);
    if (source->gpu_pci && *source->gpu_pci)
        power->nvml = moe_nvml_open(source->nvml, source->gpu_pci, power->gpu, sizeof power->gpu);
    else
        snprintf(power->gpu, sizeof power->gpu, "no GPU");
}

static double read_cpu(struct moe_power *power)
{
    for (uint32_t i = 0; i < power->n_packages; i++) {
        struct moe_power_package *p = &power->package[i];
        uint64_t now_uj;
        const int error = read_number(p->path, &now_uj);
        if (error) {
            char path[sizeof p->path];
            memcpy(path, p->path, sizeof path);
            lose_cpu(power, path, error);
            break;
        }
        power->cpu_joules += (double)moe_power_delta_uj(p->last_uj, now_uj, p->range_uj) * 1e-6;
        p->last_uj = now_uj;
    }
    return power->n_packages ? power->cpu_joules : NAN;
}

struct moe_joules moe_power_read(struct moe_power *power)
{
    return (struct moe_joules){.cpu = read_cpu(power),
                               .gpu = power->nvml ? moe_nvml_joules(power->nvml) : NAN};
}

void moe_power_close(struct moe_power *power)
{
    moe_nvml_close(power->nvml);
    power->nvml = NULL;
    power->n_packages = 0;
}
