#include "sim/replay_fast.h"

#include "policies/registry.h"
#include "sim/replay_kind.h"

#include <stdlib.h>
#include <string.h>

/* Of the (layer, expert) keys: places of experts and slots are 32-bit numbers (replay_places.h). */
enum { MAX_KEYS = 1 << 26 };

static const struct moe_policy_ops *const order_policies[MOE_FAST_ORDERS] = {
    &moe_policy_lru, &moe_policy_fifo, &moe_policy_clock};

struct moe_fast {
    struct moe_fast_task task;
    const struct moe_fast_kind *kind;
    void *state;
};

static enum moe_fast_order order_of(const struct moe_policy_spec *policy)
{
    uint32_t order = 0;
    while (order < MOE_FAST_ORDERS && policy->ops != order_policies[order])
        order++;
    return (enum moe_fast_order)order;
}

bool moe_fast_supports(const struct moe_geometry *geometry, const struct moe_policy_spec *policy,
                       const struct moe_replay_options *options)
{
    if (order_of(policy) == MOE_FAST_ORDERS || options->generic || options->compare_log ||
        (options->admission && strcmp(options->admission->ops->name, "always") != 0) ||
        (options->reroute && moe_reroute_is_lossy(options->reroute)) ||
        (uint64_t)geometry->n_layers * geometry->n_experts > MAX_KEYS)
        return false;
    for (uint32_t p = 0; p < geometry->n_pools; p++)
        if (geometry->pool[p].bytes > 0 || geometry->pool[p].n_slots == 0)
            return false;
    return true;
}

enum moe_status moe_fast_new(struct moe_fast **out, const struct moe_geometry *geometry,
                             const struct moe_policy_spec *policy, uint32_t top_k,
                             enum moe_contract contract, struct moe_err *err)
{
    struct moe_fast *f = calloc(1, sizeof *f);
    if (!f)
        return moe_fail_memory(err, "a replay");
    f->task = (struct moe_fast_task){
        .geometry = geometry, .order = order_of(policy), .contract = contract, .top_k = top_k};
    f->task.event.expert = calloc(geometry->n_experts + 1u, sizeof *f->task.event.expert);
    f->task.event.seen = calloc(geometry->n_experts + 1u, sizeof *f->task.event.seen);
    f->kind = moe_fast_is_narrow(&f->task) ? &moe_fast_narrow : &moe_fast_wide;
    if (f->task.event.expert && f->task.event.seen)
        f->state = f->kind->create(&f->task);
    if (!f->state) {
        moe_fast_free(f);
        return moe_fail_memory(err, "a replay");
    }
    *out = f;
    return MOE_OK;
}

void moe_fast_free(struct moe_fast *f)
{
    if (!f)
        return;
    if (f->state)
        f->kind->destroy(f->state);
    free(f->task.event.expert);
    free(f->task.event.seen);
    free(f);
}

void moe_fast_clear(struct moe_fast *f)
{
    f->kind->clear(f->state);
}

void moe_fast_step(struct moe_fast *f, const struct moe_tokens *tokens, uint64_t begin,
                   uint64_t end)
{
    f->kind->step(f->state, tokens, begin, end);
}

struct moe_counts moe_fast_counts(const struct moe_fast *f, uint32_t layer, enum moe_phase phase)
{
    return f->kind->counts(f->state, layer, phase);
}

void moe_fast_collect(struct moe_fast_task *task, const moe_expert *row, uint64_t n_rows,
                      size_t stride)
{
    struct moe_fast_event *event = &task->event;
    event->n = 0;
    for (uint64_t t = 0; t < n_rows; t++, row += stride)
        for (uint32_t k = 0; k < task->top_k && row[k] != MOE_NO_EXPERT; k++)
            if (!event->seen[row[k]]) {
                event->seen[row[k]] = 1;
                event->expert[event->n++] = row[k];
            }
    for (uint32_t i = 0; i < event->n; i++)
        event->seen[event->expert[i]] = 0;
}
