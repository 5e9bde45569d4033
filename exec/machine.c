#include "exec/machine.h"

#include "base/progress.h"
#include "exec/machine_state.h"
#include "policies/trace_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_INTERVALS = 1024, MAX_PINNED = 16 };

/* One array of pinned memory. */
struct piece {
    void *at; /* address of the pointer to it */
    uint64_t items, item_bytes;
};

static enum moe_status pin(struct moe_exec_machine *m, uint32_t chunk, struct moe_err *err)
{
    const struct moe_llm_config *c = &m->config;
    const uint64_t t = chunk, d = c->d_model, e = c->n_experts, f = sizeof(float),
                   tk = t * c->top_k;
    struct moe_activations *h = &m->host;
    const struct piece pieces[] = {
        {&h->x, t * d, f},
        {&h->cosine, t * (c->head_dim / 2), f},
        {&h->sine, t * (c->head_dim / 2), f},
        {&h->u, t * d, f},
        {&h->ffn_y, tk * d, f},
        {&m->box.expert, tk, sizeof *m->box.expert},
        {&m->box.weight, tk, f},
        {&m->box.score, t * e, f},
        {&m->box.ahead, m->setup.lookahead ? t * e : 0, f},
        {&m->box.flag, 1, sizeof *m->box.flag},
        {&m->row, c->top_k, sizeof *m->row},
        {&m->forced, c->n_layers * tk, sizeof *m->forced},
        {&m->forced_weight, c->n_layers * tk, f},
        {&m->logits, c->n_vocab, f},
    };
    struct moe_device *device = m->setup.device;
    _Static_assert(sizeof pieces / sizeof *pieces <= MAX_PINNED, "room for every array");
    m->pinned = calloc(MAX_PINNED, sizeof *m->pinned);
    if (!m->pinned)
        return moe_fail_memory(err, "the machine");
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        void *memory = NULL;
        const uint64_t bytes = pieces[i].items * pieces[i].item_bytes;
        enum moe_status s =
            bytes ? device->ops->alloc(device, MOE_MEMORY_PINNED, bytes, &memory, err) : MOE_OK;
        if (s)
            return moe_fail_prefix(err, "activations on the host");
        if (memory)
            m->pinned[m->n_pinned++] = memory;
        memcpy(pieces[i].at, &memory, sizeof memory);
    }
    *m->box.flag = 0;
    return MOE_OK;
}

static enum moe_status allocate(struct moe_exec_machine *m, uint32_t chunk, struct moe_err *err)
{
    const struct moe_llm_config *c = &m->config;
    struct moe_activations *h = &m->host;
    const size_t tk = (size_t)chunk * c->top_k, e = c->n_experts, f = sizeof(float);
    m->max_ops = c->n_layers * (e + 3) + 4;
    m->max_intervals = FIRST_INTERVALS;
    m->ops = calloc(m->max_ops, sizeof(struct moe_kernel_op *));
    m->slots = calloc(m->setup.n_slots + 1, sizeof *m->slots);
    m->jobs = calloc(e, sizeof *m->jobs);
    m->job_expert = calloc(e, sizeof *m->job_expert);
    m->on_cpu = calloc(e, sizeof *m->on_cpu);
    m->intervals = malloc(FIRST_INTERVALS * sizeof *m->intervals);
    m->ids = calloc(chunk, sizeof *m->ids);
    h->count = calloc(e, sizeof *h->count);
    h->first = calloc(e, sizeof *h->first);
    h->row = calloc(tk, sizeof *h->row);
    h->ffn_x = calloc(tk * c->d_model, f);
    h->ffn_h = calloc(tk * c->d_ffn, f);
    if (!m->ops || !m->slots || !m->jobs || !m->job_expert || !m->on_cpu || !m->intervals ||
        !m->ids || !h->count || !h->first || !h->row || !h->ffn_x || !h->ffn_h)
        return moe_fail_memory(err, "the machine");
    struct moe_resident *r = m->setup.resident;
    for (uint32_t i = 0; i < m->setup.n_slots; i++)
        m->slots[i].memory = r->slots + i * r->expert_bytes;
    for (uint32_t i = 0; i < MOE_STAGING; i++)
        m->staging[i].memory = r->staging ? r->staging + i * r->expert_bytes : NULL;
    return MOE_OK;
}

static enum moe_status start(struct moe_exec_machine *m, struct moe_err *err)
{
    struct moe_device *device = m->setup.device;
    struct moe_event **const events[] = {&m->down_start, &m->down_end,   &m->up_start,  &m->up_end,
                                         &m->input_end,  &m->routes_end, &m->logits_end};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; i < sizeof events / sizeof *events && !s; i++)
        s = device->ops->event_new(device, events[i], err);
    if (!s)
        s = moe_fetcher_new(&m->fetcher, &m->shared, device, m->setup.store, err);
    if (!s)
        s = moe_cpu_worker_new(&m->worker, &m->shared, device, &m->setup.pool, err);
    return s;
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
    m->born_ns = moe_clock_ns();
    moe_rope_init(&m->rope, &m->config);
    moe_shared_init(&m->shared);
    enum moe_status s = pin(m, setup->resident->chunk, err);
    if (!s)
        s = allocate(m, setup->resident->chunk, err);
    if (!s && setup->early)
        s = moe_machine_early_new(m, err);
    if (!s)
        s = start(m, err);
    if (s)
        moe_exec_machine_free(m);
    else
        *out = m;
    return s;
}

/* What is queued still reads and writes what is about to be released. */
static void drain_streams(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    for (int i = 0; i < MOE_N_STREAMS && m->logits_end; i++) {
        device->ops->record(device, (enum moe_stream)i, m->logits_end);
        (void)device->ops->sync(device, m->logits_end, NULL);
    }
}

void moe_exec_machine_free(struct moe_exec_machine *m)
{
    if (!m)
        return;
    struct moe_device *device = m->setup.device;
    moe_cpu_worker_free(m->worker);
    moe_fetcher_free(m->fetcher);
    drain_streams(m);
    struct moe_event *const events[] = {m->down_start, m->down_end,   m->up_start,  m->up_end,
                                        m->input_end,  m->routes_end, m->logits_end};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        device->ops->event_free(device, events[i]);
    for (size_t i = 0; m->ops && i < m->max_ops && m->ops[i]; i++) {
        device->ops->event_free(device, m->ops[i]->start);
        device->ops->event_free(device, m->ops[i]->use.end);
        free(m->ops[i]);
    }
    for (size_t i = 0; i < m->n_pinned; i++)
        device->ops->release(device, MOE_MEMORY_PINNED, m->pinned[i]);
    moe_machine_early_free(m);
    void *const heap[] = {m->pinned,   m->ops,        m->slots,     m->jobs,       m->job_expert,
                          m->on_cpu,   m->intervals,  m->ids,       m->host.count, m->host.first,
                          m->host.row, m->host.ffn_x, m->host.ffn_h};
    for (size_t i = 0; i < sizeof heap / sizeof *heap; i++)
        free(heap[i]);
    moe_shared_release(&m->shared);
    free(m);
}

/* A choice that the trace lacks (MOE_NO_EXPERT) becomes the token's first one, or expert 0, with
 * weight 0: kernels want K of them. It is in no plan, so that nothing is computed for it. */
static void force_route(struct moe_exec_machine *m, size_t from, size_t to)
{
    const struct moe_tokens *tokens = m->step.tokens;
    const size_t k = m->config.top_k;
    const moe_expert first = tokens->expert[from] != MOE_NO_EXPERT ? tokens->expert[from] : 0;
    for (size_t i = 0; i < k; i++) {
        const bool absent = tokens->expert[from + i] == MOE_NO_EXPERT;
        const float w = tokens->weight ? tokens->weight[from + i] : NAN;
        m->forced[to + i] = absent ? first : tokens->expert[from + i];
        m->forced_weight[to + i] = absent ? 0 : isfinite(w) ? w : 1.0f / (float)k;
    }
}

/* The replayed routes of the whole step, layer by layer, up to the device. */
static void force_routes(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_resident *r = m->setup.resident;
    const struct moe_llm_config *c = &m->config;
    const size_t k = c->top_k, n = m->host.n, layers = c->n_layers;
    for (size_t l = 0; l < layers; l++)
        for (size_t t = 0; t < n; t++)
            force_route(m, ((m->step.first + t) * layers + l) * k, (l * n + t) * k);
    device->ops->copy(device, MOE_STREAM_UP, r->forced, m->forced,
                      layers * n * k * sizeof *m->forced, MOE_MEMORY_PINNED);
    device->ops->copy(device, MOE_STREAM_UP, r->forced_weight, m->forced_weight,
                      layers * n * k * sizeof *m->forced_weight, MOE_MEMORY_PINNED);
}

static void embed(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    const struct moe_llm_config *c = &m->config;
    struct moe_activations *h = &m->host, *a = &m->setup.resident->a;
    const int32_t *tokens = m->input.tokens;
    const size_t n = h->n, half = c->head_dim / 2, f = sizeof(float);
    if (!tokens) {
        for (size_t t = 0; t < n; t++) {
            const int32_t id = m->step.tokens ? m->step.tokens->token_id[m->step.first + t] : 0;
            m->ids[t] = id >= 0 && (uint32_t)id < c->n_vocab ? id : 0;
        }
        tokens = m->ids;
    }
    moe_embed(m->setup.llm, &m->rope, m->input.far, tokens, (uint32_t)n, h->length, h->x, h->cosine,
              h->sine);
    device->ops->copy(device, MOE_STREAM_UP, a->x, h->x, n * c->d_model * f, MOE_MEMORY_PINNED);
    device->ops->copy(device, MOE_STREAM_UP, a->cosine, h->cosine, n * half * f, MOE_MEMORY_PINNED);
    device->ops->copy(device, MOE_STREAM_UP, a->sine, h->sine, n * half * f, MOE_MEMORY_PINNED);
}

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    struct moe_activations *h = &m->host, *a = &m->setup.resident->a;
    enum moe_status s = moe_machine_status(m, err);
    if (s)
        return s;
    if (step->tokens)
        m->input = (struct moe_exec_input){.position = step->context, .logits = true};
    if (step->n_tokens > m->setup.resident->chunk)
        return moe_fail(err, MOE_ERR_USAGE,
                        "step of %" PRIu64 " tokens exceeds the chunk of %" PRIu32, step->n_tokens,
                        m->setup.resident->chunk);
    if (m->input.position + step->n_tokens > m->setup.resident->context)
        return moe_fail(err, MOE_ERR_USAGE,
                        "position %" PRIu64 " exceeds the context of %" PRIu32 " tokens",
                        m->input.position + step->n_tokens, m->setup.resident->context);
    m->step = *step;
    m->step_start_ns = moe_clock_ns();
    m->n_intervals = 0;
    h->n = a->n = (uint32_t)step->n_tokens;
    h->length = a->length = m->input.position;
    embed(m);
    if (step->tokens)
        force_routes(m);
    device->ops->record(device, MOE_STREAM_UP, m->input_end);
    device->ops->wait(device, MOE_STREAM_COMPUTE, m->input_end);
    return MOE_OK;
}

static void queue_attend(struct moe_exec_machine *m, uint32_t layer)
{
    struct moe_device *device = m->setup.device;
    struct moe_resident *r = m->setup.resident;
    const struct moe_llm_config *c = &m->config;
    const size_t cache = (size_t)layer * c->n_kv_heads * r->context * c->head_dim;
    const size_t route = (size_t)layer * r->a.n * c->top_k;
    const bool ahead = m->setup.lookahead && layer + 1 < c->n_layers;
    m->box.ticket++;
    struct moe_attend_job job = {.config = c,
                                 .layer = &r->layers[layer],
                                 .next_router = ahead ? &r->layers[layer + 1].router : NULL,
                                 .keys = r->keys + cache,
                                 .values = r->values + cache,
                                 .context = r->context,
                                 .a = &r->a,
                                 .box = m->box};
    if (!ahead)
        job.box.ahead = NULL;
    if (m->step.tokens) {
        job.forced = r->forced + route;
        job.forced_weight = r->forced_weight + route;
    }
    struct moe_kernel_op *op = moe_machine_begin_op(m, "attend", (int32_t)layer);
    if (!op)
        return;
    device->ops->attend(device, &job);
    moe_machine_end_op(m, op);
    device->ops->wait(device, MOE_STREAM_DOWN, op->use.end);
}

static void own_routes(struct moe_exec_machine *m, uint32_t layer, struct moe_layer_routes *out)
{
    const struct moe_llm_config *c = &m->config;
    const bool one = m->host.n == 1;
    const bool ahead = m->setup.lookahead && layer + 1 < c->n_layers;
    *out = (struct moe_layer_routes){.layer = layer,
                                     .n_tokens = m->host.n,
                                     .phase = m->step.phase,
                                     .top_k = c->top_k,
                                     .n_experts = c->n_experts,
                                     .expert = m->box.expert,
                                     .weight = m->box.weight,
                                     .stride = c->top_k,
                                     .score = one ? m->box.score : NULL,
                                     .lookahead = one && ahead ? m->box.ahead : NULL};
}

static enum moe_status attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    enum moe_status s = moe_machine_status(m, err);
    if (!s && moe_interrupted())
        s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    if (s)
        return s;
    m->step_layer = layer;
    queue_attend(m, layer);
    s = m->setup.device->ops->routes_wait(m->setup.device, &m->box, err);
    if (s)
        return s;
    moe_machine_count_states(m);
    moe_machine_look(m);
    m->late = false;
    m->host.expert = m->box.expert;
    m->host.weight = m->box.weight;
    moe_dense_group(&m->config, &m->host);
    if (m->step.tokens)
        moe_trace_routes(&m->step, m->setup.model, m->setup.next_use, layer, out);
    else
        own_routes(m, layer, out);
    if (m->observer)
        m->observer(m->observer_user, layer, m->host.n, m->box.expert, m->box.weight, m->box.score,
                    m->setup.lookahead && layer + 1 < m->config.n_layers ? m->box.ahead : NULL);
    return moe_machine_status(m, err);
}

/* Of one token, whose gathered rows are all the same: the device only has to be told which row and
 * what weight each choice has now, before it sums them; but after its own rows, which it may still
 * be writing when the host knows the routes. An absent choice is, as in force_route, the first one
 * with weight 0. */
static void reroute(void *machine, const struct moe_layer_routes *routes)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    const struct moe_activations *a = &m->setup.resident->a;
    const uint32_t k = m->config.top_k;
    for (uint32_t i = 0; i < k; i++) {
        const bool absent = routes->expert[i] == MOE_NO_EXPERT;
        m->box.expert[i] = absent ? routes->expert[0] : routes->expert[i];
        m->box.weight[i] = absent ? 0 : routes->weight[i];
    }
    moe_dense_group(&m->config, &m->host);
    memcpy(m->row, m->host.row, k * sizeof *m->row);
    device->ops->wait(device, MOE_STREAM_UP, m->ops[m->n_ops - 1]->use.end);
    device->ops->copy(device, MOE_STREAM_UP, a->weight, m->box.weight, k * sizeof *a->weight,
                      MOE_MEMORY_PINNED);
    device->ops->copy(device, MOE_STREAM_UP, a->row, m->row, k * sizeof *a->row, MOE_MEMORY_PINNED);
    device->ops->record(device, MOE_STREAM_UP, m->routes_end);
    device->ops->wait(device, MOE_STREAM_COMPUTE, m->routes_end);
}

static void queue_head(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    struct moe_resident *r = m->setup.resident;
    struct moe_kernel_op *op = moe_machine_begin_op(m, "head", -1);
    if (!op)
        return;
    const struct moe_head_job job = {.config = &m->config,
                                     .norm = &r->final_norm,
                                     .head = &r->head,
                                     .bias = r->head_bias,
                                     .a = &r->a,
                                     .logits = r->logits};
    device->ops->head(device, &job);
    moe_machine_end_op(m, op);
    device->ops->wait(device, MOE_STREAM_DOWN, op->use.end);
    device->ops->copy(device, MOE_STREAM_DOWN, m->logits, r->logits,
                      m->config.n_vocab * sizeof *m->logits, MOE_MEMORY_PINNED);
}

/* The kernels have ended: their records and events are free for the next step. */
static void forget_kernels(struct moe_exec_machine *m)
{
    pthread_mutex_lock(&m->shared.lock);
    for (size_t i = 0; i < m->n_ops; i++)
        if (m->ops[i]->buffer)
            m->ops[i]->buffer->use = NULL;
    moe_fetcher_forget_uses(m->fetcher);
    pthread_mutex_unlock(&m->shared.lock);
    m->n_ops = m->n_submitted = 0;
}

static void count_running(struct moe_exec_machine *m, uint64_t end_ns)
{
    struct moe_fetch_job job;
    pthread_mutex_lock(&m->shared.lock);
    bool running = moe_fetcher_running(m->fetcher, &job);
    pthread_mutex_unlock(&m->shared.lock);
    if (running)
        moe_machine_count(m, MOE_LANE_H2D,
                          &(struct moe_operation){.start_ns = job.start_ns, .end_ns = end_ns});
}

static enum moe_status end_step(void *machine, struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    enum moe_status s = moe_machine_status(m, err);
    if (s)
        return s;
    if (m->input.logits)
        queue_head(m);
    else
        device->ops->wait(device, MOE_STREAM_DOWN, m->ops[m->n_ops - 1]->use.end);
    device->ops->record(device, MOE_STREAM_DOWN, m->logits_end);
    s = device->ops->sync(device, m->logits_end, err);
    if (s)
        return s;
    const uint64_t end_ns = moe_clock_ns();
    moe_machine_count_states(m);
    moe_machine_count_early(m);
    moe_machine_count_ops(m);
    moe_machine_look(m);
    count_running(m, end_ns);
    moe_usage_add_intervals(&m->usage[m->step.phase], m->intervals, m->n_intervals,
                            m->step_start_ns, end_ns);
    m->n_intervals = 0;
    forget_kernels(m);
    if (m->setup.timeline)
        moe_timeline_add(
            m->setup.timeline,
            &(struct moe_operation){.track = MOE_TRACK_TOKEN,
                                    .name = m->step.phase == MOE_PREFILL ? "prefill" : "token",
                                    .layer = -1,
                                    .expert = -1,
                                    .slot = -1,
                                    .start_ns = m->step_start_ns - m->born_ns,
                                    .end_ns = end_ns - m->born_ns});
    return moe_machine_status(m, err);
}

static moe_ns now(void *machine)
{
    (void)machine;
    return moe_clock_ns();
}

const struct moe_machine_ops moe_exec_machine_ops = {
    .name = "exec",
    .begin_step = begin_step,
    .attend = attend,
    .reroute = reroute,
    .gpu_ffn = moe_machine_gpu_ffn,
    .cpu_ffn = moe_machine_cpu_ffn,
    .cpu_early = moe_machine_cpu_early,
    .cpu_take = moe_machine_cpu_take,
    .cpu_wait = moe_machine_cpu_wait,
    .fetch = moe_machine_fetch,
    .slot_wait = moe_machine_slot_wait,
    .cancel = moe_machine_cancel,
    .combine = moe_machine_combine,
    .end_step = end_step,
    .now = now,
};

void moe_exec_machine_input(struct moe_exec_machine *m, const struct moe_exec_input *input)
{
    m->input = *input;
}

const float *moe_exec_machine_logits(const struct moe_exec_machine *m)
{
    return m->logits;
}

void moe_exec_machine_observe(struct moe_exec_machine *m, moe_routes_observer *observer, void *user)
{
    m->observer = observer;
    m->observer_user = user;
}

const struct moe_usage *moe_exec_machine_usage(const struct moe_exec_machine *m,
                                               enum moe_phase phase)
{
    return &m->usage[phase];
}

uint64_t moe_exec_machine_redirected(const struct moe_exec_machine *m)
{
    return m->redirected;
}

const struct moe_pool *moe_exec_machine_pool(const struct moe_exec_machine *m)
{
    return moe_cpu_worker_pool(m->worker);
}
