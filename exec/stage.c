#include "exec/stage.h"

#include "exec/memory_limits.h"
#include "policies/result_table.h"

#include <stdio.h>

static struct moe_resident_options without_slots(const struct moe_stage *stage)
{
    return (struct moe_resident_options){
        .context = stage->context, .chunk = stage->chunk, .expert_bytes = stage->layout.bytes};
}

/* An integrated device shares the host's memory and counts the page cache as used (the model's own
 * pages, too), although the system gives it up on demand. Then the host's view of what is available
 * is taken, if it is more. */
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

enum moe_status moe_stage_spec(struct moe_stage *stage, const struct moe_strategy *strategy,
                               const struct moe_platform *platform, struct moe_setup_spec *out,
                               struct moe_err *err)
{
    struct moe_device *device = stage->device;
    enum moe_status s = moe_expert_layout_of(stage->llm, &stage->layout, err);
    if (s)
        return s;
    const struct moe_resident_options options = without_slots(stage);
    moe_llm_shape(stage->llm, &stage->shape);
    if (platform)
        moe_costs_init(&stage->costs, &stage->shape, platform, strategy->threads);
    *out = (struct moe_setup_spec){.strategy = strategy,
                                   .model = &stage->shape,
                                   .expert_bytes = stage->layout.bytes,
                                   .device = "a machine without a device",
                                   .costs = platform ? &stage->costs : NULL};
    if (!device)
        return MOE_OK;
    snprintf(stage->device_name, sizeof stage->device_name, "device %s (%s), free now",
             device->ops->name, device->name);
    /* Where both share a memory, experts in a file still have to fit into what is free; experts
     * that were generated in memory already occupy theirs. */
    const bool experts_to_come = device->integrated && stage->llm->weights;
    out->dense_bytes = moe_resident_bytes(stage->llm, &options);
    out->memory_bytes = free_bytes(device);
    out->host_expert_bytes = experts_to_come ? stage->layout.bytes : 0;
    out->device = stage->device_name;
    return MOE_OK;
}

static bool wants_lookahead(const struct moe_strategy *strategy)
{
    return (moe_strategy_parts(strategy) & MOE_HAS_LOOKAHEAD) != 0;
}

static enum moe_status build_alone(struct moe_stage *stage,
                                   const struct moe_hybrid_options *options,
                                   const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                   const uint32_t *next_use, struct moe_err *err)
{
    if (setup->geometry.n_slots || moe_strategy_streams(spec->strategy))
        return moe_fail(err, MOE_ERR_USAGE,
                        "strategy '%s' computes experts on a device, and there is none: take "
                        "cpu-only",
                        spec->strategy->name);
    struct moe_alone_setup machine = {.llm = stage->llm,
                                      .model = spec->model,
                                      .context = stage->context,
                                      .chunk = stage->chunk,
                                      .pool = options->pool,
                                      .next_use = next_use,
                                      .timeline = options->timeline};
    if (!machine.pool.threads)
        machine.pool.threads = (uint32_t)spec->strategy->threads;
    return moe_alone_machine_new(&stage->alone, &machine, err);
}

enum moe_status moe_stage_build(struct moe_stage *stage, const struct moe_hybrid_options *options,
                                const struct moe_setup *setup, const struct moe_setup_spec *spec,
                                const uint32_t *next_use, struct moe_err *err)
{
    if (!stage->device)
        return build_alone(stage, options, setup, spec, next_use, err);
    struct moe_resident_options resident = without_slots(stage);
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
                                     .serial = !spec->strategy->overlap,
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
    moe_alone_machine_free(stage->alone);
    moe_expert_store_free(stage->store);
    moe_resident_free(stage->resident);
    stage->machine = NULL;
    stage->alone = NULL;
    stage->store = NULL;
    stage->resident = NULL;
}

void moe_stage_begin_energy(struct moe_stage *stage, struct moe_power *power)
{
    stage->power = power;
    if (power)
        stage->at = moe_power_read(power);
}

void moe_stage_add_energy(struct moe_stage *stage, enum moe_phase phase)
{
    if (!stage->power)
        return;
    const struct moe_joules now = moe_power_read(stage->power);
    if (phase == MOE_DECODE) {
        stage->used.cpu += now.cpu - stage->at.cpu;
        stage->used.gpu += now.gpu - stage->at.gpu;
    }
    stage->at = now;
}

void moe_stage_result(const struct moe_stage *stage, const struct moe_setup *setup,
                      struct moe_result *r)
{
    moe_result_add_counts(r, setup->cache, &setup->geometry);
    if (!r->decode_tokens)
        return;
    const struct moe_usage *usage = stage->alone
                                        ? moe_alone_machine_usage(stage->alone, MOE_DECODE)
                                        : moe_exec_machine_usage(stage->machine, MOE_DECODE);
    moe_result_add_usage(r, usage, stage->layout.bytes);
    if (stage->power)
        moe_result_add_joules(r, stage->used.cpu, stage->used.gpu,
                              stage->device && stage->device->sm != 0);
}

void moe_stage_allocation(const struct moe_stage *stage, const struct moe_setup *setup,
                          struct moe_allocation *out)
{
    const struct moe_pool *pool =
        stage->alone ? moe_alone_machine_pool(stage->alone) : moe_exec_machine_pool(stage->machine);
    const uint64_t slots = setup->geometry.n_slots * stage->layout.bytes;
    *out = (struct moe_allocation){.slots = setup->geometry.n_slots,
                                   .slot_bytes = stage->layout.bytes,
                                   .threads = moe_pool_threads(pool),
                                   .store_note = "where the model lies"};
    snprintf(out->kernels, sizeof out->kernels, "%s", moe_pool_kernels(pool)->name);
    if (stage->alone)
        return;
    out->dense_bytes = stage->resident->dense_bytes;
    out->other_bytes = stage->resident->other_bytes + stage->resident->cache_bytes - slots;
    out->free_bytes = stage->free_bytes;
    out->store = moe_expert_store_kind(stage->store);
    out->redirected = moe_exec_machine_redirected(stage->machine);
    snprintf(out->store_note, sizeof out->store_note, "%s", moe_expert_store_note(stage->store));
}
