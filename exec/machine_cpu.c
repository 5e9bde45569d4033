#include "exec/machine_state.h"

/* Copies the normalised vectors of the layer, the experts' input, to the host. */
static void bring_down(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_activations *a = &m->setup.resident->a;
    uint64_t bytes = (uint64_t)m->host.n * m->config.d_model * sizeof *a->u;
    device->ops->record(device, MOE_STREAM_DOWN, m->states.down.start);
    device->ops->copy(device, MOE_STREAM_DOWN, m->host.u, a->u, bytes, MOE_MEMORY_PINNED);
    device->ops->record(device, MOE_STREAM_DOWN, m->states.down.end);
}

void moe_machine_cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    struct moe_machine_cpu *cpu = &m->cpu;
    const struct moe_expert_weights *w =
        moe_expert_store_host(m->setup.store, ffn->layer, ffn->expert);
    if (!cpu->n_jobs)
        bring_down(m);
    cpu->layer = ffn->layer;
    cpu->expert[cpu->n_jobs] = ffn->expert;
    cpu->jobs[cpu->n_jobs++] = moe_dense_expert(&m->config, w, &m->host, ffn->expert);
    m->busy.usage[m->step.phase].cpu_experts++;
}

static void gather(void *context, struct moe_pool *pool)
{
    struct moe_exec_machine *m = context;
    const struct moe_dense dense = {.config = &m->config, .pool = pool, .a = &m->host};
    moe_dense_gather(&dense);
}

static bool works_done(struct moe_exec_machine *m, const void *what)
{
    const struct moe_machine_cpu *cpu = &m->cpu;
    (void)what;
    return (!cpu->n_works || cpu->works[cpu->n_works - 1].done) &&
           moe_machine_taken_done(&m->early);
}

static void count_works(struct moe_machine_cpu *cpu, struct moe_machine_busy *busy)
{
    for (const struct moe_cpu_work *w = cpu->works; w < cpu->works + cpu->n_works; w++)
        moe_machine_count_work(busy, w, "miss", cpu->layer, cpu->expert[w->jobs - cpu->jobs]);
    cpu->n_works = 0;
}

static void finish_works(struct moe_exec_machine *m)
{
    moe_machine_wait(m, works_done, NULL);
    if (!moe_shared_status(&m->shared, NULL)) /* after an error they may still be running */
        count_works(&m->cpu, &m->busy);
}

void moe_machine_start_cpu(struct moe_exec_machine *m)
{
    struct moe_machine_cpu *cpu = &m->cpu;
    if (cpu->n_started == cpu->n_jobs)
        return;
    if (cpu->n_works == MOE_MAX_WORKS)
        finish_works(m);
    if (moe_shared_status(&m->shared, NULL))
        return; /* works may still be running, and their records must not be reused */
    struct moe_cpu_work *work = &cpu->works[cpu->n_works++];
    *work = (struct moe_cpu_work){.after = m->states.down.end,
                                  .jobs = cpu->jobs + cpu->n_started,
                                  .n_jobs = cpu->n_jobs - cpu->n_started,
                                  .gather = cpu->n_started ? NULL : gather,
                                  .context = m};
    cpu->n_started = cpu->n_jobs;
    moe_cpu_worker_start(m->worker, work);
}

void moe_machine_cpu_wait(void *machine)
{
    struct moe_exec_machine *m = machine;
    moe_machine_start_cpu(m);
    moe_machine_start_early(m);
    finish_works(m);
}

/* Copies the rows that the CPU computed to the device, neighbouring rows in one copy. */
static void bring_up(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_activations *h = &m->host;
    const size_t d = m->config.d_model;
    const uint32_t n_experts = m->config.n_experts;
    bool *on_cpu = m->cpu.on_cpu;
    for (uint32_t e = 0; e < n_experts; e++)
        on_cpu[e] = false;
    for (uint32_t i = 0; i < m->cpu.n_jobs; i++)
        on_cpu[m->cpu.expert[i]] = true;
    moe_machine_place_taken(m);
    device->ops->record(device, MOE_STREAM_UP, m->states.up.start);
    for (uint32_t e = 0, row, end = 0; e < n_experts; e++) {
        if (!on_cpu[e])
            continue;
        row = h->first[e];
        for (end = row; e < n_experts && (on_cpu[e] || !h->count[e]); e++)
            end += h->count[e];
        device->ops->copy(device, MOE_STREAM_UP, m->setup.resident->a.ffn_y + row * d,
                          h->ffn_y + row * d, (end - row) * d * sizeof(float), MOE_MEMORY_PINNED);
    }
    device->ops->record(device, MOE_STREAM_UP, m->states.up.end);
    device->ops->wait(device, MOE_STREAM_COMPUTE, m->states.up.end);
}

static bool kernels_submitted(struct moe_exec_machine *m, const void *what)
{
    return m->kernels.n_submitted == m->kernels.n && works_done(m, what);
}

void moe_machine_count_states(struct moe_exec_machine *m)
{
    struct moe_machine_states *s = &m->states;
    struct moe_device *device = m->setup.device;
    const int32_t layer = (int32_t)s->layer;
    if (s->down_pending)
        moe_machine_count_copy(&m->busy, device, MOE_LANE_DOWN, &s->down, layer);
    if (s->up_pending)
        moe_machine_count_copy(&m->busy, device, MOE_LANE_UP, &s->up, layer);
    s->down_pending = s->up_pending = false;
}

void moe_machine_combine(void *machine, uint32_t layer)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    moe_machine_start_cpu(m);
    moe_machine_start_early(m);
    moe_machine_wait(m, kernels_submitted, NULL);
    if (moe_shared_status(&m->shared, NULL))
        return;
    count_works(&m->cpu, &m->busy);
    if (m->cpu.n_jobs || m->early.n_taken) {
        bring_up(m);
        m->states.up_pending = true;
        m->states.down_pending = m->cpu.n_jobs > 0;
        m->states.layer = layer;
    }
    if (m->early.down) /* the next layer's dense part overwrites what comes down */
        device->ops->wait(device, MOE_STREAM_COMPUTE, m->early.down);
    m->early.down = NULL;
    moe_machine_count_early(m);
    m->cpu.n_jobs = m->cpu.n_started = 0;
    struct moe_kernel_op *op = moe_machine_begin_op(m, "combine", (int32_t)layer);
    if (!op)
        return;
    const struct moe_combine_job job = {.config = &m->config, .a = &m->setup.resident->a};
    device->ops->combine(device, &job);
    moe_machine_end_op(m, op);
}
