#include "exec/stage.h"

#include "exec/memory_limits.h"
#include "policies/result_table.h"

#include <stdio.h>
#include <string.h>

static struct moe_resident_options without_slots(const struct moe_stage *stage, uint32_t context,
                                                 uint32_t chunk)
{
    return (struct moe_resident_options){
        .context = context, .chunk = chunk, .expert_bytes = stage->layout.bytes};
}

/* Of a memory shared with the host a device counts as taken what the host only keeps because nobody
 * has needed it yet: pages of files, those of the model too. */
static uint64_t free_bytes(struct moe_device *device)
{
    const uint64_t free = device->ops->free_bytes(device);
    struct moe_memory_limits limits;
    if (!device->integrated)
        return free;
    moe_memory_limits_read(&limits);
    const uint64_t left = limits.available < limits.cgroup ? limits.available : limits.cgroup;
    return left > free && left < UINT64_MAX ? left : free;
}

enum moe_status moe_stage_spec(struct moe_stage *stage, struct moe_device *device,
                               const struct moe_llm *llm, const struct moe_strategy *strategy,
                               const struct moe_model *model, uint32_t context, uint32_t chunk,
                               char device_name[288], struct moe_setup_spec *out,
                               struct moe_err *err)
{
    stage->device = device;
    stage->llm = llm;
    enum moe_status s = moe_expert_layout_of(llm, &stage->layout, err);
    if (s)
        return s;
    const struct moe_resident_options options = without_slots(stage, context, chunk);
    snprintf(device_name, 288, "device %s (%s), free now", device->ops->name, device->name);
    /* Experts made in memory are no longer free memory. */
    const bool on_the_way = device->integrated && llm->weights;
    *out = (struct moe_setup_spec){.strategy = strategy,
                                   .model = model,
                                   .expert_bytes = stage->layout.bytes,
                                   .dense_bytes = moe_resident_bytes(llm, &options),
                                   .memory_bytes = free_bytes(device),
                                   .host_expert_bytes = on_the_way ? stage->layout.bytes : 0,
                                   .device = device_name};
    return MOE_OK;
}

static bool wants_lookahead(const struct moe_strategy *strategy)
{
    return (moe_strategy_parts(strategy) & MOE_HAS_LOOKAHEAD) != 0;
}

enum moe_status moe_stage_build(struct moe_stage *stage, const struct moe_hybrid_options *options,
                                const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                uint32_t context, uint32_t chunk, const uint32_t *next_use,
                                struct moe_err *err)
{
    struct moe_resident_options resident = without_slots(stage, context, chunk);
    resident.n_slots = setup->geometry.n_slots;
    resident.n_staging = (uint32_t)(moe_setup_staging_bytes(spec) / spec->expert_bytes);
    enum moe_status s =
        moe_resident_new(&stage->resident, stage->device, stage->llm, &resident, err);
    if (!s)
        s = moe_expert_store_new(&stage->store, stage->device, stage->llm, &options->store,
                                 options->progress, err);
    if (s)
        return s;
    struct moe_exec_setup machine = {.device = stage->device,
                                     .llm = stage->llm,
                                     .model = spec->model,
                                     .resident = stage->resident,
                                     .store = stage->store,
                                     .cache = setup->cache,
                                     .n_slots = setup->geometry.n_slots,
                                     .pool = options->pool,
                                     .lookahead =
                                         options->lookahead || wants_lookahead(spec->strategy),
                                     .early = moe_reroute_is_early(&spec->strategy->reroute),
                                     .next_use = next_use,
                                     .timeline = options->timeline};
    if (!machine.pool.threads)
        machine.pool.threads = (uint32_t)spec->strategy->threads;
    s = moe_exec_machine_new(&stage->machine, &machine, err);
    stage->free_bytes = stage->device->ops->free_bytes(stage->device);
    return s;
}

void moe_stage_release(struct moe_stage *stage)
{
    moe_exec_machine_free(stage->machine);
    moe_expert_store_free(stage->store);
    moe_resident_free(stage->resident);
    *stage = (struct moe_stage){0};
}

void moe_stage_allocation(const struct moe_stage *stage, const struct moe_setup *setup,
                          struct moe_allocation *out)
{
    const struct moe_pool *pool = moe_exec_machine_pool(stage->machine);
    const uint64_t slots = setup->geometry.n_slots * stage->layout.bytes;
    *out = (struct moe_allocation){.slots = setup->geometry.n_slots,
                                   .slot_bytes = stage->layout.bytes,
                                   .dense_bytes = stage->resident->dense_bytes,
                                   .other_bytes = stage->resident->other_bytes +
                                                  stage->resident->cache_bytes - slots,
                                   .free_bytes = stage->free_bytes,
                                   .store = moe_expert_store_kind(stage->store),
                                   .threads = moe_pool_threads(pool),
                                   .redirected = moe_exec_machine_redirected(stage->machine)};
    snprintf(out->store_note, sizeof out->store_note, "%s", moe_expert_store_note(stage->store));
    snprintf(out->kernels, sizeof out->kernels, "%s", moe_pool_kernels(pool)->name);
}
