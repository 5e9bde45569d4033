/* What all parts of the real machine stand on: errors of its threads, waiting, the queue of kernels
 * and the record of what was busy when. */
#include "exec/machine_state.h"

#include <stdlib.h>

static bool has_landed(const struct moe_kernel_op *op)
{
    return !op->buffer || op->buffer->n_landed >= op->ordinal;
}

enum moe_status moe_machine_status(struct moe_exec_machine *m, struct moe_err *err)
{
    pthread_mutex_lock(&m->shared.lock);
    enum moe_status s = m->shared.err.status;
    if (s && err)
        *err = m->shared.err;
    pthread_mutex_unlock(&m->shared.lock);
    return s;
}

/* The lock may be held or not: nothing else looks at an operation that is not submitted. */
static void submit_expert(struct moe_exec_machine *m, struct moe_kernel_op *op)
{
    struct moe_device *device = m->setup.device;
    const struct moe_expert_layout *layout = moe_expert_store_layout(m->setup.store);
    const struct moe_expert_weights weights = moe_expert_layout_at(layout, op->buffer->memory);
    const struct moe_expert_job job = {
        .weights = &weights, .row = op->row, .n_tokens = op->n_tokens, .a = &m->setup.resident->a};
    device->ops->record(device, MOE_STREAM_COMPUTE, op->start);
    device->ops->expert(device, &job);
    device->ops->record(device, MOE_STREAM_COMPUTE, op->use.end);
    op->use.submitted = true;
}

/* In their order, as far as their copies have landed; lock held. */
static void submit_landed(struct moe_exec_machine *m)
{
    bool any = false;
    while (m->n_submitted < m->n_ops && has_landed(m->ops[m->n_submitted])) {
        submit_expert(m, m->ops[m->n_submitted++]);
        any = true;
    }
    if (any)
        moe_fetcher_wake(m->fetcher);
}

void moe_machine_count(struct moe_exec_machine *m, enum moe_lane lane,
                       const struct moe_operation *operation)
{
    if (m->n_intervals == m->max_intervals) {
        size_t n = 2 * m->max_intervals;
        struct moe_interval *more = realloc(m->intervals, n * sizeof *more);
        if (!more)
            return; /* a busy time less in the statistics */
        m->intervals = more;
        m->max_intervals = n;
    }
    m->intervals[m->n_intervals++] =
        (struct moe_interval){lane, operation->start_ns, operation->end_ns};
    if (!operation->name || !m->setup.timeline)
        return;
    struct moe_operation shown = *operation;
    shown.start_ns = shown.start_ns > m->born_ns ? shown.start_ns - m->born_ns : 0;
    shown.end_ns = shown.end_ns > m->born_ns ? shown.end_ns - m->born_ns : 0;
    moe_timeline_add(m->setup.timeline, &shown);
}

static void take_landed(struct moe_exec_machine *m)
{
    static const char *const causes[] = {[MOE_FETCH_DEMAND] = "on demand",
                                         [MOE_FETCH_FILL] = "miss",
                                         [MOE_FETCH_PREFETCH] = "prefetch"};
    struct moe_fetch_job job;
    while (moe_fetcher_landed(m->fetcher, &job)) {
        if (job.what.slot >= 0)
            moe_cache_ready(m->setup.cache, job.what.slot);
        m->usage[m->step.phase].h2d_copies++;
        moe_machine_count(m, MOE_LANE_H2D,
                          &(struct moe_operation){.track = MOE_TRACK_H2D,
                                                  .name = "fill",
                                                  .cause = causes[job.what.priority],
                                                  .layer = (int32_t)job.what.layer,
                                                  .expert = job.what.expert,
                                                  .slot = job.what.slot,
                                                  .start_ns = job.start_ns,
                                                  .end_ns = job.end_ns});
    }
}

void moe_machine_wait(struct moe_exec_machine *m, moe_ready *ready, const void *what)
{
    pthread_mutex_lock(&m->shared.lock);
    for (;;) {
        take_landed(m);
        submit_landed(m);
        if (m->shared.err.status || !ready || ready(m, what))
            break;
        pthread_cond_wait(&m->shared.host, &m->shared.lock);
    }
    pthread_mutex_unlock(&m->shared.lock);
}

void moe_machine_look(struct moe_exec_machine *m)
{
    moe_machine_wait(m, NULL, NULL);
}

struct moe_kernel_op *moe_machine_next_op(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    struct moe_kernel_op *op = m->ops[m->n_ops];
    struct moe_err err = {0};
    enum moe_status s = MOE_OK;
    if (!op) {
        op = calloc(1, sizeof *op);
        s = op ? device->ops->event_new(device, &op->start, &err) : moe_fail_memory(&err, "a step");
        if (!s)
            s = device->ops->event_new(device, &op->use.end, &err);
        if (!s)
            m->ops[m->n_ops] = op;
    }
    if (!s)
        return op;
    if (op)
        device->ops->event_free(device, op->start);
    free(op);
    pthread_mutex_lock(&m->shared.lock);
    moe_shared_fail(&m->shared, &err);
    pthread_mutex_unlock(&m->shared.lock);
    return NULL;
}

struct moe_kernel_op *moe_machine_begin_op(struct moe_exec_machine *m, const char *name,
                                           int32_t layer)
{
    struct moe_kernel_op *op = moe_machine_next_op(m);
    if (!op)
        return NULL;
    op->buffer = NULL;
    op->shown = (struct moe_operation){
        .track = MOE_TRACK_GPU, .name = name, .layer = layer, .expert = -1, .slot = -1};
    m->setup.device->ops->record(m->setup.device, MOE_STREAM_COMPUTE, op->start);
    return op;
}

void moe_machine_end_op(struct moe_exec_machine *m, struct moe_kernel_op *op)
{
    m->setup.device->ops->record(m->setup.device, MOE_STREAM_COMPUTE, op->use.end);
    op->use.submitted = true;
    m->n_submitted = ++m->n_ops;
}

void moe_machine_count_ops(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    for (size_t i = 0; i < m->n_submitted; i++) {
        struct moe_kernel_op *op = m->ops[i];
        op->shown.start_ns = device->ops->event_ns(device, op->start);
        op->shown.end_ns = device->ops->event_ns(device, op->use.end);
        moe_machine_count(m, MOE_LANE_GPU, &op->shown);
    }
}
