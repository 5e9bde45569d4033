/* Experts that the CPU begins during the layer before (policies/machine.h: cpu_early, cpu_take).
 *
 * Layer l asks for experts of layer l + 1 with cpu_early: the first call copies l's input to the
 * host, and each adds a job. start_early gives the jobs to the CPU worker, behind l's own. In layer
 * l + 1, cpu_take names those that its router chose; the layer waits for them (taken_done), and
 * place_taken copies their results to its own. The results of the others are not used. As l + 1
 * asks for experts of l + 2 meanwhile, two works are used in turn. */
#include "exec/machine_state.h"

#include <string.h>

/* Is the work free to be begun again? */
static bool is_done(struct moe_exec_machine *m, const void *what)
{
    const struct moe_early_work *e = what;
    (void)m;
    return !e->pending || e->work.done;
}

/* Counts a work that is done. */
static void count(struct moe_exec_machine *m, struct moe_early_work *e)
{
    const int32_t begun_with = (int32_t)e->layer - 1;
    moe_machine_count_copy(&m->busy, m->setup.device, MOE_LANE_DOWN, &e->down, begun_with);
    moe_machine_count_work(&m->busy, &e->work, "early", e->layer, e->expert[0]);
    e->pending = false;
}

void moe_machine_count_early(struct moe_exec_machine *m)
{
    for (int i = 0; i < MOE_N_EARLY; i++) {
        struct moe_early_work *e = &m->early.works[i];
        pthread_mutex_lock(&m->shared.lock);
        bool done = e->pending && e->work.done;
        pthread_mutex_unlock(&m->shared.lock);
        if (done)
            count(m, e);
    }
}

/* Begins the work whose turn it is, for the first expert that a layer asks for: waits until its
 * previous jobs are done, then copies the current layer's input into its buffer. */
static bool begin(struct moe_exec_machine *m, uint32_t layer)
{
    struct moe_device *device = m->setup.device;
    struct moe_early_work *e = &m->early.works[m->early.at ^= 1];
    moe_machine_wait(m, is_done, e);
    if (moe_shared_status(&m->shared, NULL))
        return false;
    if (e->pending)
        count(m, e);
    e->layer = layer;
    e->n = 0;
    device->ops->record(device, MOE_STREAM_DOWN, e->down.start);
    device->ops->copy(device, MOE_STREAM_DOWN, e->u, m->setup.resident->a.u,
                      m->config.d_model * sizeof *e->u, MOE_MEMORY_PINNED);
    device->ops->record(device, MOE_STREAM_DOWN, e->down.end);
    return true;
}

void moe_machine_cpu_early(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    const struct moe_llm_config *c = &m->config;
    const struct moe_expert_weights *w =
        moe_expert_store_host(m->setup.store, ffn->layer, ffn->expert);
    if (moe_shared_status(&m->shared, NULL) || (!m->early.n_asked && !begin(m, ffn->layer)))
        return;
    struct moe_early_work *e = &m->early.works[m->early.at];
    const size_t i = m->early.n_asked++;
    e->expert[i] = ffn->expert;
    e->taken[i] = false;
    e->jobs[i] = (struct moe_ffn_job){.w1 = w->w1,
                                      .w3 = w->w3,
                                      .w2 = w->w2,
                                      .n_tokens = 1,
                                      .x = e->u,
                                      .h = e->h + i * c->d_ffn,
                                      .y = e->y + i * c->d_model};
    m->busy.usage[m->step.phase].cpu_unused++;
}

void moe_machine_start_early(struct moe_exec_machine *m)
{
    struct moe_early_work *e = &m->early.works[m->early.at];
    const uint32_t n = m->early.n_asked;
    m->early.n_asked = 0;
    if (!n || moe_shared_status(&m->shared, NULL))
        return;
    e->n = n;
    e->pending = true;
    e->work = (struct moe_cpu_work){.after = e->down.end, .jobs = e->jobs, .n_jobs = n};
    moe_cpu_worker_start(m->worker, &e->work);
    m->early.down = e->down.end;
}

/* Called before the layer begins experts of the next one, so the work begun last is for this layer.
 */
void moe_machine_cpu_take(void *machine, const struct moe_ffn *ffn)
{
    struct moe_exec_machine *m = machine;
    struct moe_early_work *e = &m->early.works[m->early.at];
    for (uint32_t i = 0; i < e->n && e->layer == ffn->layer; i++) {
        if (e->expert[i] != ffn->expert)
            continue;
        e->taken[i] = true;
        m->early.n_taken++;
        m->busy.usage[m->step.phase].cpu_experts++;
        m->busy.usage[m->step.phase].cpu_unused--;
    }
}

bool moe_machine_taken_done(const struct moe_machine_early *early)
{
    for (int at = 0; at < MOE_N_EARLY && early->n_taken; at++)
        for (uint32_t i = 0; i < early->works[at].n; i++)
            if (early->works[at].taken[i] && !early->works[at].work.done)
                return false;
    return true;
}

void moe_machine_place_taken(struct moe_exec_machine *m)
{
    const size_t d = m->config.d_model;
    for (int at = 0; at < MOE_N_EARLY && m->early.n_taken; at++) {
        struct moe_early_work *e = &m->early.works[at];
        for (uint32_t i = 0; i < e->n; i++) {
            if (!e->taken[i])
                continue;
            memcpy(m->host.ffn_y + m->host.first[e->expert[i]] * d, e->y + i * d, d * sizeof *e->y);
            m->cpu.on_cpu[e->expert[i]] = true;
            e->taken[i] = false;
        }
    }
    m->early.n_taken = 0;
}
