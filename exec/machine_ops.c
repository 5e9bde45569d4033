/* The queue of kernels and the waiting, which all parts of the real machine use. */
#include "exec/machine_state.h"

#include <stdlib.h>

static bool has_landed(const struct moe_kernel_op *op)
{
    return !op->buffer || op->buffer->n_landed >= op->ordinal;
}

/* Lock held, since the fetcher reads use.submitted. */
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

/* Submits waiting kernels in their order up to the first whose copy has not landed. Lock held. */
static void submit_landed(struct moe_exec_machine *m)
{
    struct moe_machine_kernels *kernels = &m->kernels;
    bool any = false;
    while (kernels->n_submitted < kernels->n && has_landed(kernels->ops[kernels->n_submitted])) {
        submit_expert(m, kernels->ops[kernels->n_submitted++]);
        any = true;
    }
    if (any)
        moe_fetcher_wake(m->fetcher);
}

/* Tells the cache which slots are ready and counts the copies. Lock held. */
static void take_landed(struct moe_exec_machine *m)
{
    static const char *const causes[] = {[MOE_FETCH_DEMAND] = "on demand",
                                         [MOE_FETCH_FILL] = "miss",
                                         [MOE_FETCH_PREFETCH] = "prefetch"};
    struct moe_fetch_job job;
    while (moe_fetcher_landed(m->fetcher, &job)) {
        if (job.what.slot >= 0)
            moe_cache_ready(m->setup.cache, job.what.slot);
        m->busy.usage[m->step.phase].h2d_copies++;
        moe_machine_count(&m->busy, MOE_LANE_H2D,
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

static enum moe_status make_op(struct moe_device *device, struct moe_kernel_op **out,
                               struct moe_err *err)
{
    struct moe_kernel_op *op = calloc(1, sizeof *op);
    if (!op)
        return moe_fail_memory(err, "a step");
    enum moe_status s = device->ops->event_new(device, &op->start, err);
    if (!s)
        s = device->ops->event_new(device, &op->use.end, err);
    if (!s) {
        *out = op;
        return MOE_OK;
    }
    device->ops->event_free(device, op->start);
    free(op);
    return s;
}

struct moe_kernel_op *moe_machine_next_op(struct moe_exec_machine *m)
{
    struct moe_kernel_op **op = &m->kernels.ops[m->kernels.n];
    struct moe_err err = {0};
    if (!*op && make_op(m->setup.device, op, &err)) {
        pthread_mutex_lock(&m->shared.lock);
        moe_shared_fail(&m->shared, &err);
        pthread_mutex_unlock(&m->shared.lock);
    }
    return *op;
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
    m->kernels.n_submitted = ++m->kernels.n;
}

struct moe_event *moe_machine_last_end(const struct moe_machine_kernels *kernels)
{
    return kernels->ops[kernels->n - 1]->use.end;
}

void moe_machine_count_ops(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    while (m->kernels.n_counted < m->kernels.n_ended) {
        struct moe_kernel_op *op = m->kernels.ops[m->kernels.n_counted++];
        op->shown.start_ns = device->ops->event_ns(device, op->start);
        op->shown.end_ns = device->ops->event_ns(device, op->use.end);
        moe_machine_count(&m->busy, MOE_LANE_GPU, &op->shown);
    }
}

void moe_machine_forget_ops(struct moe_exec_machine *m)
{
    struct moe_machine_kernels *kernels = &m->kernels;
    pthread_mutex_lock(&m->shared.lock);
    for (size_t i = 0; i < kernels->n; i++)
        if (kernels->ops[i]->buffer)
            kernels->ops[i]->buffer->use = NULL;
    moe_fetcher_forget_uses(m->fetcher);
    pthread_mutex_unlock(&m->shared.lock);
    kernels->n = kernels->n_submitted = kernels->n_ended = kernels->n_counted = 0;
}

void moe_machine_free_ops(struct moe_machine_kernels *kernels, struct moe_device *device)
{
    for (size_t i = 0; kernels->ops && i < kernels->max && kernels->ops[i]; i++) {
        device->ops->event_free(device, kernels->ops[i]->start);
        device->ops->event_free(device, kernels->ops[i]->use.end);
        free(kernels->ops[i]);
    }
}
