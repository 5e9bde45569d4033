#include "exec/machine_state.h"

#include <stdlib.h>

enum { FIRST_INTERVALS = 1024 };

static void show(const struct moe_machine_busy *busy, const struct moe_operation *operation)
{
    const uint64_t born = busy->born_ns;
    struct moe_operation shown = *operation;
    if (!busy->timeline)
        return;
    shown.start_ns = shown.start_ns > born ? shown.start_ns - born : 0;
    shown.end_ns = shown.end_ns > born ? shown.end_ns - born : 0;
    moe_timeline_add(busy->timeline, &shown);
}

void moe_machine_count(struct moe_machine_busy *busy, enum moe_lane lane,
                       const struct moe_operation *operation)
{
    if (busy->n == busy->max) {
        const size_t max = busy->max ? 2 * busy->max : FIRST_INTERVALS;
        struct moe_interval *more = realloc(busy->intervals, max * sizeof *more);
        if (!more)
            return; /* out of memory: the statistics lack this interval */
        busy->intervals = more;
        busy->max = max;
    }
    busy->intervals[busy->n++] =
        (struct moe_interval){lane, operation->start_ns, operation->end_ns};
    if (operation->name)
        show(busy, operation);
}

void moe_machine_count_copy(struct moe_machine_busy *busy, struct moe_device *device,
                            enum moe_lane lane, const struct moe_state_copy *copy, int32_t layer)
{
    const bool up = lane == MOE_LANE_UP;
    moe_machine_count(
        busy, lane,
        &(struct moe_operation){.track = MOE_TRACK_STATE,
                                .name = up ? "state up" : "state down",
                                .layer = layer,
                                .expert = -1,
                                .slot = -1,
                                .start_ns = device->ops->event_ns(device, copy->start),
                                .end_ns = device->ops->event_ns(device, copy->end)});
}

void moe_machine_count_work(struct moe_machine_busy *busy, const struct moe_cpu_work *work,
                            const char *cause, uint32_t layer, moe_expert first)
{
    moe_machine_count(busy, MOE_LANE_CPU,
                      &(struct moe_operation){.track = MOE_TRACK_CPU,
                                              .name = work->n_jobs > 1 ? "experts" : "expert",
                                              .cause = cause,
                                              .layer = (int32_t)layer,
                                              .expert = first,
                                              .slot = -1,
                                              .start_ns = work->start_ns,
                                              .end_ns = work->end_ns});
}

void moe_machine_count_step(struct moe_machine_busy *busy, enum moe_phase phase, uint64_t start_ns,
                            uint64_t end_ns)
{
    moe_usage_add_intervals(&busy->usage[phase], busy->intervals, busy->n, start_ns, end_ns);
    busy->n = 0;
    show(busy, &(struct moe_operation){.track = MOE_TRACK_TOKEN,
                                       .name = phase == MOE_PREFILL ? "prefill" : "token",
                                       .layer = -1,
                                       .expert = -1,
                                       .slot = -1,
                                       .start_ns = start_ns,
                                       .end_ns = end_ns});
}
