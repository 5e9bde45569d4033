#include "exec/machine_state.h"

/* The normalised vectors of the layer to the host. */
static void bring_down(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_activations *a = &m->setup.resident->a;
    uint64_t bytes = (uint64_t)m->host.n * m->config.d_model * sizeof *a->u;
    device->ops->record(device, MOE_STREAM_DOWN, m->down_start);
    device->ops->copy(device, MOE_STREAM_DOWN, m->host.u, a->u, bytes, MOE_MEMORY_PINNED);
    device->ops->record(device, MOE_STREAM_DOWN, m->down_end);
    m->down_queued = true;
}

void moe_machine_cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    const struct moe_llm_config *c = &m->config;
    const struct moe_activations *h = &m->host;
    const struct moe_expert_weights *w =
        moe_expert_store_host(m->setup.store, ffn->layer, ffn->expert);
    size_t row = h->first[ffn->expert];
    if (!m->down_queued)
        bring_down(m);
    m->job_expert[m->n_jobs] = ffn->expert;
    m->jobs[m->n_jobs++] = (struct moe_ffn_job){.w1 = w->w1,
                                                .w3 = w->w3,
                                                .w2 = w->w2,
                                                .n_tokens = h->count[ffn->expert],
                                                .x = h->ffn_x + row * c->d_model,
                                                .h = h->ffn_h + row * c->d_ffn,
                                                .y = h->ffn_y + row * c->d_model};
    m->usage[m->step.phase].cpu_experts++;
}

static void gather(void *context, struct moe_pool *pool)
{
    struct moe_exec_machine *m = context;
    const struct moe_dense dense = {.config = &m->config, .pool = pool, .a = &m->host};
    moe_dense_gather(&dense);
}

static bool works_done(struct moe_exec_machine *m, const void *what)
{
    (void)what;
    return (!m->n_works || m->works[m->n_works - 1].work.done) && moe_machine_taken_done(m);
}

/* What the works were: one operation each expert would show a division that is not there, as they
 * are computed together; the timeline shows each work as its first expert's. */
static void count_works(struct moe_exec_machine *m)
{
    for (uint32_t i = 0; i < m->n_works; i++) {
        const struct moe_layer_work *w = &m->works[i];
        moe_machine_count(m, MOE_LANE_CPU,
                          &(struct moe_operation){.track = MOE_TRACK_CPU,
                                                  .name = w->n > 1 ? "experts" : "expert",
                                                  .cause = "miss",
                                                  .layer = (int32_t)w->layer,
                                                  .expert = m->job_expert[w->first],
                                                  .slot = -1,
                                                  .start_ns = w->work.start_ns,
                                                  .end_ns = w->work.end_ns});
    }
    m->n_works = 0;
}

static void finish_works(struct moe_exec_machine *m)
{
    moe_machine_wait(m, works_done, NULL);
    count_works(m);
}

void moe_machine_start_cpu(struct moe_exec_machine *m)
{
    if (m->n_started == m->n_jobs)
        return;
    if (m->n_works == MOE_MAX_WORKS)
        finish_works(m);
    if (moe_machine_status(m, NULL))
        return; /* works that were given up may be under way still */
    struct moe_layer_work *w = &m->works[m->n_works++];
    *w = (struct moe_layer_work){.work = {.after = m->down_end,
                                          .jobs = m->jobs + m->n_started,
                                          .n_jobs = m->n_jobs - m->n_started,
                                          .gather = m->n_started ? NULL : gather,
                                          .context = m},
                                 .layer = m->step_layer,
                                 .first = m->n_started,
                                 .n = m->n_jobs - m->n_started};
    m->n_started = m->n_jobs;
    moe_cpu_worker_start(m->worker, &w->work);
}

void moe_machine_cpu_wait(void *machine)
{
    struct moe_exec_machine *m = machine;
    moe_machine_start_cpu(m);
    moe_machine_start_early(m);
    finish_works(m);
}

/* Sends up the rows that the CPU computed: neighbours together. */
static void bring_up(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_llm_config *c = &m->config;
    const size_t d = c->d_model;
    for (uint32_t e = 0; e < c->n_experts; e++)
        m->on_cpu[e] = false;
    for (uint32_t i = 0; i < m->n_jobs; i++)
        m->on_cpu[m->job_expert[i]] = true;
    moe_machine_place_taken(m);
    device->ops->record(device, MOE_STREAM_UP, m->up_start);
    for (uint32_t e = 0, row, end = 0; e < c->n_experts; e++) {
        if (!m->on_cpu[e])
            continue;
        row = m->host.first[e];
        for (end = row; e < c->n_experts && (m->on_cpu[e] || !m->host.count[e]); e++)
            end += m->host.count[e];
        device->ops->copy(device, MOE_STREAM_UP, m->setup.resident->a.ffn_y + row * d,
                          m->host.ffn_y + row * d, (end - row) * d * sizeof(float),
                          MOE_MEMORY_PINNED);
    }
    device->ops->record(device, MOE_STREAM_UP, m->up_end);
    device->ops->wait(device, MOE_STREAM_COMPUTE, m->up_end);
}

static bool kernels_submitted(struct moe_exec_machine *m, const void *what)
{
    (void)what;
    return m->n_submitted == m->n_ops && works_done(m, NULL);
}

static void count_state(struct moe_exec_machine *m, enum moe_lane lane, struct moe_event *start,
                        struct moe_event *end, uint32_t layer)
{
    struct moe_device *device = m->setup.device;
    moe_machine_count(
        m, lane,
        &(struct moe_operation){.track = MOE_TRACK_STATE,
                                .name = lane == MOE_LANE_UP ? "state up" : "state down",
                                .layer = (int32_t)layer,
                                .expert = -1,
                                .slot = -1,
                                .start_ns = device->ops->event_ns(device, start),
                                .end_ns = device->ops->event_ns(device, end)});
}

/* The copies of the layer before have ended: its combination waited for them, and this layer's
 * routes for that. */
void moe_machine_count_states(struct moe_exec_machine *m)
{
    if (!m->states_pending)
        return;
    m->states_pending = false;
    if (m->states_down)
        count_state(m, MOE_LANE_DOWN, m->down_start, m->down_end, m->states_layer);
    count_state(m, MOE_LANE_UP, m->up_start, m->up_end, m->states_layer);
}

void moe_machine_combine(void *machine, uint32_t layer)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    moe_machine_start_cpu(m);
    moe_machine_start_early(m);
    moe_machine_wait(m, kernels_submitted, NULL);
    if (moe_machine_status(m, NULL))
        return;
    count_works(m);
    if (m->n_jobs || m->n_taken) {
        bring_up(m);
        m->states_pending = true;
        m->states_layer = layer;
        m->states_down = m->down_queued;
    }
    if (m->early_down) /* the next layer's dense part overwrites what comes down */
        device->ops->wait(device, MOE_STREAM_COMPUTE, m->early_down);
    m->early_down = NULL;
    moe_machine_count_early(m);
    m->n_jobs = m->n_started = 0;
    m->down_queued = false;
    struct moe_kernel_op *op = moe_machine_begin_op(m, "combine", (int32_t)layer);
    if (!op)
        return;
    const struct moe_combine_job job = {.config = &m->config, .a = &m->setup.resident->a};
    device->ops->combine(device, &job);
    moe_machine_end_op(m, op);
}
