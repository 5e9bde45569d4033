#include "exec/machine_state.h"

/* The slot; for slot < 0 the staging buffer whose turn it is. */
static struct moe_buffer *buffer_of(struct moe_machine_gpu *gpu, moe_slot slot, uint64_t *turn)
{
    return slot >= 0 ? &gpu->slots[slot] : &gpu->staging[(*turn)++ % MOE_STAGING];
}

/* Does the last copy queued into the buffer bring this expert? */
static bool holds(const struct moe_buffer *buffer, const struct moe_ffn *ffn)
{
    return buffer->n_queued && buffer->layer == ffn->layer && buffer->expert == ffn->expert;
}

void moe_machine_gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    struct moe_buffer *buffer = buffer_of(&m->gpu, ffn->slot, &m->gpu.n_unstaged);
    bool late = m->gpu.late;
    m->gpu.late = false;
    if (!holds(buffer, ffn)) {
        m->gpu.redirected++;
        moe_machine_cpu_ffn(machine, ffn);
        return;
    }
    struct moe_kernel_op *op = moe_machine_next_op(m);
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
    m->kernels.n++;
    m->busy.usage[m->step.phase].gpu_experts++;
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

/* The host waits until the last copy into the buffer has landed; the CPU starts its part first. */
static void wait_landed(struct moe_exec_machine *m, const struct moe_buffer *buffer)
{
    moe_machine_start_cpu(m);
    moe_machine_wait(m, buffer_landed, buffer);
}

void moe_machine_fetch(void *machine, const struct moe_fetch *fetch)
{
    struct moe_exec_machine *m = machine;
    struct moe_buffer *buffer = buffer_of(&m->gpu, fetch->slot, &m->gpu.n_staged);
    struct moe_err err = {0};
    pthread_mutex_lock(&m->shared.lock);
    if (moe_fetcher_queue(m->fetcher, fetch, buffer, &err))
        moe_shared_fail(&m->shared, &err);
    pthread_mutex_unlock(&m->shared.lock);
    if (fetch->pageable)
        wait_landed(m, buffer);
}

void moe_machine_slot_wait(void *machine, moe_slot slot, bool host)
{
    struct moe_exec_machine *m = machine;
    const struct moe_buffer *buffer = &m->gpu.slots[slot];
    pthread_mutex_lock(&m->shared.lock);
    m->gpu.late = buffer->n_landed < buffer->n_queued;
    pthread_mutex_unlock(&m->shared.lock);
    if (host && m->gpu.late)
        wait_landed(m, buffer);
}

bool moe_machine_cancel(void *machine, moe_slot slot)
{
    struct moe_exec_machine *m = machine;
    pthread_mutex_lock(&m->shared.lock);
    bool taken = moe_fetcher_cancel(m->fetcher, &m->gpu.slots[slot]);
    pthread_mutex_unlock(&m->shared.lock);
    return taken;
}
