#include "exec/machine_state.h"

#include "base/progress.h"

#include <stdlib.h>

static struct moe_device *device_of(const struct moe_exec_machine *m)
{
    return m->setup.device;
}

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

void moe_machine_fail(struct moe_exec_machine *m, const struct moe_err *err)
{
    pthread_mutex_lock(&m->shared.lock);
    moe_shared_fail(&m->shared, err);
    pthread_mutex_unlock(&m->shared.lock);
}

/* The lock may be held or not: nothing else looks at an operation that is not submitted. */
static void submit_expert(struct moe_exec_machine *m, struct moe_kernel_op *op)
{
    struct moe_device *device = device_of(m);
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

/* The next record; NULL when the run has failed for want of memory. */
static struct moe_kernel_op *next_op(struct moe_exec_machine *m)
{
    struct moe_device *device = device_of(m);
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
    moe_machine_fail(m, &err);
    return NULL;
}

struct moe_kernel_op *moe_machine_begin_op(struct moe_exec_machine *m, const char *name,
                                           int32_t layer)
{
    struct moe_kernel_op *op = next_op(m);
    if (!op)
        return NULL;
    op->buffer = NULL;
    op->shown = (struct moe_operation){
        .track = MOE_TRACK_GPU, .name = name, .layer = layer, .expert = -1, .slot = -1};
    device_of(m)->ops->record(device_of(m), MOE_STREAM_COMPUTE, op->start);
    return op;
}

void moe_machine_end_op(struct moe_exec_machine *m, struct moe_kernel_op *op)
{
    device_of(m)->ops->record(device_of(m), MOE_STREAM_COMPUTE, op->use.end);
    op->use.submitted = true;
    m->n_submitted = ++m->n_ops;
}

void moe_machine_count_ops(struct moe_exec_machine *m)
{
    struct moe_device *device = device_of(m);
    for (size_t i = 0; i < m->n_submitted; i++) {
        struct moe_kernel_op *op = m->ops[i];
        op->shown.start_ns = device->ops->event_ns(device, op->start);
        op->shown.end_ns = device->ops->event_ns(device, op->use.end);
        moe_machine_count(m, MOE_LANE_GPU, &op->shown);
    }
}

/* Is the expert what the last copy into the buffer brings? */
static bool holds(const struct moe_buffer *buffer, const struct moe_ffn *ffn)
{
    return buffer->n_queued && buffer->layer == ffn->layer && buffer->expert == ffn->expert;
}

void moe_machine_gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    struct moe_buffer *buffer =
        ffn->slot >= 0 ? &m->slots[ffn->slot] : &m->staging[m->n_unstaged++ % MOE_STAGING];
    bool late = m->late;
    m->late = false;
    if (!holds(buffer, ffn)) {
        m->redirected++;
        moe_machine_cpu_ffn(machine, ffn);
        return;
    }
    struct moe_kernel_op *op = next_op(m);
    if (!op)
        return;
    const char *cause = ffn->slot < 0 ? "miss" : late ? "late fill" : "hit";
    op->shown = (struct moe_operation){.track = MOE_TRACK_GPU,
                                       .name = "expert",
                                       .cause = cause,
                                       .layer = (int32_t)ffn->layer,
                                       .expert = ffn->expert,
                                       .slot = ffn->slot};
    op->buffer = buffer;
    op->ordinal = buffer->n_queued;
    op->row = m->host.first[ffn->expert];
    op->n_tokens = m->host.count[ffn->expert];
    op->use.submitted = false;
    m->n_ops++;
    m->usage[m->step.phase].gpu_experts++;
    pthread_mutex_lock(&m->shared.lock);
    buffer->use = &op->use;
    pthread_mutex_unlock(&m->shared.lock);
    moe_machine_look(m);
}

static bool buffer_landed(struct moe_exec_machine *m, const void *what)
{
    const struct moe_buffer *buffer = what;
    (void)m;
    return buffer->n_landed == buffer->n_queued;
}

void moe_machine_fetch(void *machine, const struct moe_fetch *fetch)
{
    struct moe_exec_machine *m = machine;
    struct moe_buffer *buffer =
        fetch->slot >= 0 ? &m->slots[fetch->slot] : &m->staging[m->n_staged++ % MOE_STAGING];
    struct moe_err err = {0};
    pthread_mutex_lock(&m->shared.lock);
    if (moe_fetcher_queue(m->fetcher, fetch, buffer, &err))
        moe_shared_fail(&m->shared, &err);
    pthread_mutex_unlock(&m->shared.lock);
    if (fetch->pageable) {
        moe_machine_start_cpu(m);
        moe_machine_wait(m, buffer_landed, buffer);
    }
}

void moe_machine_slot_wait(void *machine, moe_slot slot, bool host)
{
    struct moe_exec_machine *m = machine;
    const struct moe_buffer *buffer = &m->slots[slot];
    pthread_mutex_lock(&m->shared.lock);
    m->late = buffer->n_landed < buffer->n_queued;
    pthread_mutex_unlock(&m->shared.lock);
    if (host && m->late) {
        moe_machine_start_cpu(m);
        moe_machine_wait(m, buffer_landed, buffer);
    }
}

bool moe_machine_cancel(void *machine, moe_slot slot)
{
    struct moe_exec_machine *m = machine;
    pthread_mutex_lock(&m->shared.lock);
    bool taken = moe_fetcher_cancel(m->fetcher, &m->slots[slot]);
    pthread_mutex_unlock(&m->shared.lock);
    return taken;
}
