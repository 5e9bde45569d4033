/* Creation and release of the real machine, and its functions beside the step loop's operations. */
#include "exec/machine.h"

#include "base/progress.h"
#include "exec/machine_state.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ARRAYS = 40, MAX_EVENTS = 12 };

/* An array that lives as long as the machine. */
struct array {
    void *at; /* address of the pointer to it */
    uint64_t items, item_bytes;
    bool heap; /* true: heap; false: pinned */
};

static size_t list_arrays(struct moe_exec_machine *m, struct array out[MAX_ARRAYS])
{
    const struct moe_llm_config *c = &m->config;
    const uint64_t t = m->setup.resident->chunk, d = c->d_model, e = c->n_experts,
                   half = c->head_dim / 2, tk = t * c->top_k, f = sizeof(float),
                   k = m->setup.early ? c->top_k : 0;
    struct moe_activations *h = &m->host;
    struct moe_machine_io *io = &m->io;
    struct moe_early_work *early = m->early.works;
    const struct array arrays[] = {
        {&h->x, t * d, f, false},
        {&h->cosine, t * half, f, false},
        {&h->sine, t * half, f, false},
        {&h->u, t * d, f, false},
        {&h->ffn_y, tk * d, f, false},
        {&io->box.expert, tk, sizeof *io->box.expert, false},
        {&io->box.weight, tk, f, false},
        {&io->box.score, t * e, f, false},
        {&io->box.ahead, m->setup.lookahead ? t * e : 0, f, false},
        {&io->box.flag, 1, sizeof *io->box.flag, false},
        {&io->row, c->top_k, sizeof *io->row, false},
        {&io->forced, c->n_layers * tk, sizeof *io->forced, false},
        {&io->forced_weight, c->n_layers * tk, f, false},
        {&io->logits, c->n_vocab, f, false},
        {&early[0].u, k ? d : 0, f, false},
        {&early[1].u, k ? d : 0, f, false},
        {&io->ids, t, sizeof *io->ids, true},
        {&h->count, e, sizeof *h->count, true},
        {&h->first, e, sizeof *h->first, true},
        {&h->row, tk, sizeof *h->row, true},
        {&h->ffn_x, tk * d, f, true},
        {&h->ffn_h, tk * c->d_ffn, f, true},
        {&m->kernels.ops, m->kernels.max, sizeof *m->kernels.ops, true},
        {&m->gpu.slots, m->setup.n_slots, sizeof *m->gpu.slots, true},
        {&m->cpu.jobs, e, sizeof *m->cpu.jobs, true},
        {&m->cpu.expert, e, sizeof *m->cpu.expert, true},
        {&m->cpu.on_cpu, e, sizeof *m->cpu.on_cpu, true},
        {&early[0].h, k * c->d_ffn, f, true},
        {&early[1].h, k * c->d_ffn, f, true},
        {&early[0].y, k * d, f, true},
        {&early[1].y, k * d, f, true},
        {&early[0].jobs, k, sizeof *early->jobs, true},
        {&early[1].jobs, k, sizeof *early->jobs, true},
        {&early[0].expert, k, sizeof *early->expert, true},
        {&early[1].expert, k, sizeof *early->expert, true},
        {&early[0].taken, k, sizeof *early->taken, true},
        {&early[1].taken, k, sizeof *early->taken, true},
    };
    _Static_assert(sizeof arrays / sizeof *arrays <= MAX_ARRAYS, "room for every array");
    memcpy(out, arrays, sizeof arrays);
    return sizeof arrays / sizeof *arrays;
}

static size_t list_events(struct moe_exec_machine *m, struct moe_event **out[MAX_EVENTS])
{
    struct moe_early_work *early = m->early.works;
    struct moe_event **const events[] = {
        &m->states.down.start, &m->states.down.end,  &m->states.up.start, &m->states.up.end,
        &m->io.input_end,      &m->io.routes_end,    &m->io.logits_end,   &early[0].down.start,
        &early[0].down.end,    &early[1].down.start, &early[1].down.end,
    };
    _Static_assert(sizeof events / sizeof *events <= MAX_EVENTS, "room for every event");
    memcpy(out, events, sizeof events);
    return sizeof events / sizeof *events;
}

/* Arrays on the heap are zeroed. */
static enum moe_status make_arrays(struct moe_exec_machine *m, struct moe_err *err)
{
    struct moe_device *device = m->setup.device;
    struct array arrays[MAX_ARRAYS];
    const size_t n = list_arrays(m, arrays);
    for (const struct array *a = arrays; a < arrays + n; a++) {
        const uint64_t bytes = a->items * a->item_bytes;
        void *memory = a->heap && bytes ? calloc(a->items, a->item_bytes) : NULL;
        if (a->heap && bytes && !memory)
            return moe_fail_memory(err, "the machine");
        if (!a->heap && bytes && device->ops->alloc(device, MOE_MEMORY_PINNED, bytes, &memory, err))
            return moe_fail_prefix(err, "activations on the host");
        memcpy(a->at, &memory, sizeof memory);
    }
    *m->io.box.flag = 0;
    return MOE_OK;
}

static enum moe_status start(struct moe_exec_machine *m, struct moe_err *err)
{
    struct moe_device *device = m->setup.device;
    struct moe_event **events[MAX_EVENTS];
    const size_t n = list_events(m, events);
    enum moe_status s = MOE_OK;
    for (size_t i = 0; i < n && !s; i++)
        s = device->ops->event_new(device, events[i], err);
    if (!s)
        s = moe_fetcher_new(&m->fetcher, &m->shared, device, m->setup.store, err);
    if (!s)
        s = moe_cpu_worker_new(&m->worker, &m->shared, device, &m->setup.pool, m->setup.serial,
                               err);
    return s;
}

static void place_buffers(struct moe_machine_gpu *gpu, uint32_t n_slots,
                          const struct moe_resident *r)
{
    for (uint32_t i = 0; i < n_slots; i++)
        gpu->slots[i].memory = r->slots + i * r->expert_bytes;
    for (uint32_t i = 0; i < MOE_STAGING; i++)
        gpu->staging[i].memory = r->staging ? r->staging + i * r->expert_bytes : NULL;
}

enum moe_status moe_exec_machine_new(struct moe_exec_machine **out,
                                     const struct moe_exec_setup *setup, struct moe_err *err)
{
    struct moe_exec_machine *m = calloc(1, sizeof *m);
    if (!m)
        return moe_fail_memory(err, "the machine");
    m->setup = *setup;
    m->config = setup->llm->config;
    m->config.top_k = (uint32_t)setup->model->top_k;
    m->kernels.max = m->config.n_layers * (m->config.n_experts + 3) + 4;
    m->busy.timeline = setup->timeline;
    m->busy.born_ns = moe_clock_ns();
    moe_rope_init(&m->rope, &m->config);
    moe_shared_init(&m->shared);
    enum moe_status s = make_arrays(m, err);
    if (!s) {
        place_buffers(&m->gpu, setup->n_slots, setup->resident);
        s = start(m, err);
    }
    if (s)
        moe_exec_machine_free(m);
    else
        *out = m;
    return s;
}

/* Waits for everything queued, which still reads and writes the arrays that are about to be
 * released. */
static void drain_streams(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    for (int i = 0; i < MOE_N_STREAMS && m->io.logits_end; i++) {
        device->ops->record(device, (enum moe_stream)i, m->io.logits_end);
        (void)device->ops->sync(device, m->io.logits_end, NULL);
    }
}

static void release(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    struct moe_event **events[MAX_EVENTS];
    struct array arrays[MAX_ARRAYS];
    for (size_t i = 0, n = list_events(m, events); i < n; i++)
        device->ops->event_free(device, *events[i]);
    for (size_t i = 0, n = list_arrays(m, arrays); i < n; i++) {
        void *memory;
        memcpy(&memory, arrays[i].at, sizeof memory);
        if (arrays[i].heap)
            free(memory);
        else
            device->ops->release(device, MOE_MEMORY_PINNED, memory);
    }
    free(m->busy.intervals);
}

void moe_exec_machine_free(struct moe_exec_machine *m)
{
    if (!m)
        return;
    moe_cpu_worker_free(m->worker);
    moe_fetcher_free(m->fetcher);
    drain_streams(m);
    moe_machine_free_ops(&m->kernels, m->setup.device);
    release(m);
    moe_shared_release(&m->shared);
    free(m);
}

static moe_ns now(void *machine)
{
    (void)machine;
    return moe_clock_ns();
}

const struct moe_machine_ops moe_exec_machine_ops = {
    .begin_step = moe_machine_begin_step,
    .attend = moe_machine_attend,
    .reroute = moe_machine_reroute,
    .gpu_ffn = moe_machine_gpu_ffn,
    .cpu_ffn = moe_machine_cpu_ffn,
    .cpu_early = moe_machine_cpu_early,
    .cpu_take = moe_machine_cpu_take,
    .cpu_wait = moe_machine_cpu_wait,
    .fetch = moe_machine_fetch,
    .slot_wait = moe_machine_slot_wait,
    .cancel = moe_machine_cancel,
    .combine = moe_machine_combine,
    .end_step = moe_machine_end_step,
    .now = now,
};

void moe_exec_machine_input(struct moe_exec_machine *m, const struct moe_exec_input *input)
{
    m->io.input = *input;
}

const float *moe_exec_machine_logits(const struct moe_exec_machine *m)
{
    return m->io.logits;
}

void moe_exec_machine_observe(struct moe_exec_machine *m, moe_routes_observer *observer, void *user)
{
    m->io.observer = observer;
    m->io.observer_user = user;
}

const struct moe_usage *moe_exec_machine_usage(const struct moe_exec_machine *m,
                                               enum moe_phase phase)
{
    return &m->busy.usage[phase];
}

uint64_t moe_exec_machine_redirected(const struct moe_exec_machine *m)
{
    return m->gpu.redirected;
}

const struct moe_pool *moe_exec_machine_pool(const struct moe_exec_machine *m)
{
    return moe_cpu_worker_pool(m->worker);
}
