#include "sim/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds column `ways` for every number of indexes: the layers below it have a pool. */
static void add_column(uint64_t *hits, const struct moe_counts *layer, uint32_t n_layers,
                       uint32_t ways, uint32_t max_ways)
{
    uint64_t sum = 0;
    for (uint32_t n = 1; n <= n_layers; n++) {
        sum += layer[n - 1].hits;
        hits[(size_t)n * (max_ways + 1) + ways] = sum;
    }
}

static enum moe_status replay_column(const struct moe_trace *trace,
                                     const struct moe_policy_spec *policy,
                                     const struct moe_replay_options *options, uint32_t ways,
                                     uint32_t max_ways, uint64_t *hits, struct moe_err *err)
{
    const struct moe_trace_info *info = &trace->info;
    struct moe_geometry geometry;
    struct moe_replay_result result;
    char text[32];
    snprintf(text, sizeof text, "%ux%u", info->n_layers, ways);
    enum moe_status s = moe_geometry_parse(text, info->n_layers, info->n_experts,
                                           info->expert_bytes, &geometry, err);
    if (s)
        return s;
    s = moe_replay(trace, &geometry, policy, options, &result, err);
    if (!s) {
        add_column(hits, result.layer[MOE_DECODE], info->n_layers, ways, max_ways);
        moe_replay_release(&result);
    }
    moe_geometry_release(&geometry);
    return s;
}

enum moe_status moe_replay_grid(const struct moe_trace *trace, const struct moe_policy_spec *policy,
                                const struct moe_replay_options *options, uint32_t max_ways,
                                uint64_t **hits, struct moe_err *err)
{
    if (options->admission && strcmp(options->admission->ops->name, "always") != 0)
        return moe_fail(err, MOE_ERR_USAGE,
                        "admission '%s' may tie layers together: a grid of geometries needs "
                        "'always'",
                        options->admission->ops->name);
    if (options->reroute && moe_reroute_is_lossy(options->reroute))
        return moe_fail(err, MOE_ERR_USAGE,
                        "reroute '%s' changes routes by what is resident: no grid of geometries",
                        options->reroute->ops->name);
    if (max_ways > trace->info.n_experts)
        return moe_fail(err, MOE_ERR_USAGE, "ways %u exceeds the %u experts of a layer", max_ways,
                        trace->info.n_experts);
    uint64_t *grid = calloc(((size_t)trace->info.n_layers + 1) * (max_ways + 1), sizeof *grid);
    if (!grid)
        return moe_fail_memory(err, "a grid of geometries");
    for (uint32_t ways = 1; ways <= max_ways; ways++) {
        enum moe_status s = replay_column(trace, policy, options, ways, max_ways, grid, err);
        if (s) {
            free(grid);
            return s;
        }
    }
    *hits = grid;
    return MOE_OK;
}
