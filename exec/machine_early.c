/* Experts that the CPU begins with the layer before (policies/machine.h: cpu_early, cpu_take). */
#include "exec/machine_state.h"

#include <stdlib.h>
#include <string.h>

static enum moe_status early_new(struct moe_exec_machine *m, struct moe_early_work *e,
                                 struct moe_err *err)
{
    struct moe_device *device = m->setup.device;
    const struct moe_llm_config *c = &m->config;
    const size_t k = c->top_k, f = sizeof(float);
    void *u = NULL;
    e->h = calloc(k * c->d_ffn, f);
    e->y = calloc(k * c->d_model, f);
    e->jobs = calloc(k, sizeof *e->jobs);
    e->expert = calloc(k, sizeof *e->expert);
    e->taken = calloc(k, sizeof *e->taken);
    if (!e->h || !e->y || !e->jobs || !e->expert || !e->taken)
        return moe_fail_memory(err, "the machine");
    enum moe_status s = device->ops->alloc(device, MOE_MEMORY_PINNED, c->d_model * f, &u, err);
    e->u = u;
    if (!s)
        s = device->ops->event_new(device, &e->down_start, err);
    return s ? s : device->ops->event_new(device, &e->down_end, err);
}

enum moe_status moe_machine_early_new(struct moe_exec_machine *m, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (int i = 0; i < MOE_N_EARLY && !s; i++)
        s = early_new(m, &m->early[i], err);
    return s;
}

void moe_machine_early_free(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    for (int i = 0; i < MOE_N_EARLY; i++) {
        struct moe_early_work *e = &m->early[i];
        device->ops->event_free(device, e->down_start);
        device->ops->event_free(device, e->down_end);
        device->ops->release(device, MOE_MEMORY_PINNED, e->u);
        free(e->h);
        free(e->y);
        free(e->jobs);
        free(e->expert);
        free(e->taken);
    }
}

static bool is_done(struct moe_exec_machine *m, const void *what)
{
    const struct moe_early_work *e = what;
    (void)m;
    return !e->pending || e->work.done;
}

/* The work is done. */
static void count(struct moe_exec_machine *m, struct moe_early_work *e)
{
    struct moe_device *device = m->setup.device;
    struct moe_operation o = {.track = MOE_TRACK_STATE,
                              .name = "state down",
                              .layer = (int32_t)e->layer - 1,
                              .expert = -1,
                              .slot = -1,
                              .start_ns = device->ops->event_ns(device, e->down_start),
                              .end_ns = device->ops->event_ns(device, e->down_end)};
    moe_machine_count(m, MOE_LANE_DOWN, &o);
    o = (struct moe_operation){.track = MOE_TRACK_CPU,
                               .name = e->n > 1 ? "experts" : "expert",
                               .cause = "early",
                               .layer = (int32_t)e->layer,
                               .expert = e->expert[0],
                               .slot = -1,
                               .start_ns = e->work.start_ns,
                               .end_ns = e->work.end_ns};
    moe_machine_count(m, MOE_LANE_CPU, &o);
    e->pending = false;
}

void moe_machine_count_early(struct moe_exec_machine *m)
{
    for (int i = 0; i < MOE_N_EARLY; i++) {
        struct moe_early_work *e = &m->early[i];
        pthread_mutex_lock(&m->shared.lock);
        bool done = e->pending && e->work.done;
        pthread_mutex_unlock(&m->shared.lock);
        if (done)
            count(m, e);
    }
}

/* The layer's first: its input comes down, into the buffer that nothing reads any more. */
static bool begin(struct moe_exec_machine *m, uint32_t layer)
{
    struct moe_device *device = m->setup.device;
    struct moe_early_work *e = &m->early[m->early_at ^= 1];
    moe_machine_wait(m, is_done, e);
    if (moe_machine_status(m, NULL))
        return false;
    if (e->pending)
        count(m, e);
    e->layer = layer;
    e->n = 0;
    device->ops->record(device, MOE_STREAM_DOWN, e->down_start);
    device->ops->copy(device, MOE_STREAM_DOWN, e->u, m->setup.resident->a.u,
                      m->config.d_model * sizeof *e->u, MOE_MEMORY_PINNED);
    device->ops->record(device, MOE_STREAM_DOWN, e->down_end);
    return true;
}

void moe_machine_cpu_early(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    const struct moe_llm_config *c = &m->config;
    const struct moe_expert_weights *w =
        moe_expert_store_host(m->setup.store, ffn->layer, ffn->expert);
    if (moe_machine_status(m, NULL) || (!m->n_early && !begin(m, ffn->layer)))
        return;
    struct moe_early_work *e = &m->early[m->early_at];
    const size_t i = m->n_early++;
    e->expert[i] = ffn->expert;
    e->taken[i] = false;
    e->jobs[i] = (struct moe_ffn_job){.w1 = w->w1,
                                      .w3 = w->w3,
                                      .w2 = w->w2,
                                      .n_tokens = 1,
                                      .x = e->u,
                                      .h = e->h + i * c->d_ffn,
                                      .y = e->y + i * c->d_model};
    m->usage[m->step.phase].cpu_unused++;
}

void moe_machine_start_early(struct moe_exec_machine *m)
{
    struct moe_early_work *e = &m->early[m->early_at];
    const uint32_t n = m->n_early;
    m->n_early = 0;
    if (!n || moe_machine_status(m, NULL))
        return;
    e->n = n;
    e->pending = true;
    e->work = (struct moe_cpu_work){.after = e->down_end, .jobs = e->jobs, .n_jobs = n};
    moe_cpu_worker_start(m->worker, &e->work);
    m->early_down = e->down_end;
}

/* Before the layer begins any itself: those begun last are its own. */
void moe_machine_cpu_take(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    struct moe_early_work *e = &m->early[m->early_at];
    for (uint32_t i = 0; i < e->n && e->layer == ffn->layer; i++) {
        if (e->expert[i] != ffn->expert)
            continue;
        e->taken[i] = true;
        m->n_taken++;
        m->usage[m->step.phase].cpu_experts++;
        m->usage[m->step.phase].cpu_unused--;
    }
}

bool moe_machine_taken_done(const struct moe_exec_machine *m)
{
    for (int at = 0; at < MOE_N_EARLY && m->n_taken; at++)
        for (uint32_t i = 0; i < m->early[at].n; i++)
            if (m->early[at].taken[i] && !m->early[at].work.done)
                return false;
    return true;
}

void moe_machine_place_taken(struct moe_exec_machine *m)
{
    const size_t d = m->config.d_model;
    for (int at = 0; at < MOE_N_EARLY && m->n_taken; at++) {
        struct moe_early_work *e = &m->early[at];
        for (uint32_t i = 0; i < e->n; i++) {
            if (!e->taken[i])
                continue;
            memcpy(m->host.ffn_y + m->host.first[e->expert[i]] * d, e->y + i * d, d * sizeof *e->y);
            m->on_cpu[e->expert[i]] = true;
            e->taken[i] = false;
        }
    }
    m->n_taken = 0;
}
