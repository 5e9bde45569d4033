#include "cli/device_options.h"

#include "base/progress.h"
#include "base/units.h"
#include "exec/cpu.h"
#include "exec/device_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum moe_status cli_open_device(const struct cli_device_options *o, const char *kernels,
                                struct moe_device **out, struct moe_err *err)
{
    struct moe_device_options options = {
        .spec = o->device, .kernels = kernels, .deterministic = o->deterministic};
    enum moe_status s = moe_device_open(out, &options, err);
    if (!s && (*out)->note[0])
        moe_log("device %s: %s", (*out)->name, (*out)->note);
    return s;
}

/* The GPU that was opened: that of the number in the spec, else the first. All zero: not found. */
static struct moe_device_info find_gpu(const char *spec)
{
    struct moe_devices devices;
    uint64_t index = 0;
    const char *number = strchr(spec, ':');
    const bool known = !number || !moe_parse_u64(number + 1, 0, UINT32_MAX, &index, NULL);
    if (known && !moe_device_list(&devices, NULL))
        for (size_t i = 0; i < devices.n; i++)
            if (devices.device[i].kind == MOE_DEVICE_CUDA && devices.device[i].index == index)
                return devices.device[i];
    return (struct moe_device_info){.kind = MOE_DEVICE_CUDA};
}

void cli_open_power(const struct cli_device_options *o, const struct moe_device *device,
                    struct moe_power *out)
{
    struct moe_device_info gpu = {.pci = ""};
    if (device->sm)
        gpu = find_gpu(o->device);
    struct moe_power_source source = moe_power_source_of(gpu.pci);
    moe_power_open(out, &source);
}

bool cli_device_slot(const struct cli_device_options *o, const struct moe_device *device,
                     uint32_t *generation, uint32_t *lanes)
{
    static const double later[] = {5, 8, 16, 32, 64}; /* GT/s a lane, from generation 2 on */
    if (!device->sm)
        return false;
    const struct moe_device_info gpu = find_gpu(o->device);
    if (!gpu.link_lanes || !(gpu.link_gt_per_s > 0))
        return false;
    *lanes = gpu.link_lanes;
    *generation = 1;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        *generation += gpu.link_gt_per_s >= later[i];
    return true;
}

const char *cli_device_name(const struct moe_device *device, char *buf, size_t size)
{
    snprintf(buf, size, "%s %s", device->ops->name, device->name);
    return buf;
}

void cli_note_device(struct moe_table *table, const struct moe_device *device,
                     const struct moe_power *power)
{
    char memory[32], name[300];
    if (!device) {
        moe_table_note(table, "device", "none: the CPU computes all");
        moe_table_note(table, "cpu_energy", "%s", power->cpu);
        return;
    }
    moe_table_note(table, "device", "%s, %s%s", cli_device_name(device, name, sizeof name),
                   moe_format_bytes(device->memory_bytes, memory, sizeof memory),
                   device->deterministic ? ", deterministic" : "");
    if (device->note[0])
        moe_table_note(table, "device_note", "%s", device->note);
    moe_table_note(table, "cpu_energy", "%s", power->cpu);
    moe_table_note(table, "gpu_energy", "%s", device->sm ? power->gpu : "the device is no GPU");
}

void cli_note_allocation(struct moe_table *table, const struct moe_allocation *a)
{
    moe_table_note(table, "slots", "%" PRIu64 " of %" PRIu64 " bytes", a->slots, a->slot_bytes);
    moe_table_note(table, "dense_bytes", "%" PRIu64, a->dense_bytes);
    moe_table_note(table, "other_bytes", "%" PRIu64, a->other_bytes);
    moe_table_note(table, "free_bytes", "%" PRIu64, a->free_bytes);
    moe_table_note(table, "store", "%s", a->store_note);
    moe_table_note(table, "cpu_threads", "%" PRIu32, a->threads);
    moe_table_note(table, "kernels", "%s", a->kernels);
    moe_table_note(table, "redirected_experts", "%" PRIu64, a->redirected);
}

static void limit_threads(struct moe_strategy *strategy)
{
    uint16_t order[MOE_CPUS_MAX];
    uint32_t n_cores, n_nodes;
    moe_cpu_order(order, &n_cores, &n_nodes);
    if (strategy->threads <= n_cores)
        return;
    moe_log("strategy '%s' has %" PRIu64 " threads, this machine %" PRIu32
            " core%s: computed with %" PRIu32,
            strategy->name, strategy->threads, n_cores, moe_plural(n_cores), n_cores);
    strategy->threads = n_cores;
}

enum moe_status cli_choose_strategy(const struct cli_call *call,
                                    const struct cli_strategy_choice *choice,
                                    struct moe_strategy *out, struct moe_platform *platform,
                                    struct moe_err *err)
{
    enum moe_status s = cli_load_strategy(choice->strategy, out, err);
    if (s)
        return s;
    out->lossy = choice->lossy;
    if (choice->threads)
        out->threads = choice->threads;
    else
        limit_threads(out);
    if (choice->geometry && cli_call_sets(call, "geometry")) /* even to "" */
        s = moe_strategy_set(out, "geometry", choice->geometry, err);
    if (!s && choice->policy && cli_call_sets(call, "policy"))
        s = moe_strategy_set(out, "policy", choice->policy, err);
    for (int i = 0; !s && i < call->n_sets; i++)
        s = cli_apply_set(call->sets[i], out, platform, err);
    return s;
}
