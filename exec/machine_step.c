#include "base/progress.h"
#include "exec/machine_state.h"
#include "exec/replayed.h"
#include "policies/trace_run.h"

#include <inttypes.h>
#include <string.h>

static void send_up(const struct moe_exec_machine *m, void *to, const void *from, uint64_t bytes)
{
    struct moe_device *device = m->setup.device;
    device->ops->copy(device, MOE_STREAM_UP, to, from, bytes, MOE_MEMORY_PINNED);
}

/* Lets the kernels queued from now on wait for what was sent up. */
static void end_sending(const struct moe_exec_machine *m, struct moe_event *end)
{
    struct moe_device *device = m->setup.device;
    device->ops->record(device, MOE_STREAM_UP, end);
    device->ops->wait(device, MOE_STREAM_COMPUTE, end);
}

/* Sends the replayed routes of all layers of the step to the device. */
static void force_routes(struct moe_exec_machine *m)
{
    const struct moe_resident *r = m->setup.resident;
    const size_t choices = (size_t)m->host.n * m->config.top_k, all = m->config.n_layers * choices;
    for (uint32_t l = 0; l < m->config.n_layers; l++)
        moe_replayed_routes(&m->step, &m->config, l, m->io.forced + l * choices,
                            m->io.forced_weight + l * choices);
    send_up(m, r->forced, m->io.forced, all * sizeof *r->forced);
    send_up(m, r->forced_weight, m->io.forced_weight, all * sizeof *r->forced_weight);
}

static void embed(struct moe_exec_machine *m)
{
    const struct moe_activations *h = &m->host, *a = &m->setup.resident->a;
    const int32_t *tokens = m->io.input.tokens ? m->io.input.tokens : m->io.ids;
    const size_t n = h->n, angles = n * (m->config.head_dim / 2) * sizeof(float);
    if (!m->io.input.tokens)
        moe_replayed_tokens(&m->step, &m->config, m->io.ids);
    moe_embed(m->setup.llm, &m->rope, m->io.input.far, tokens, h);
    send_up(m, a->x, h->x, n * m->config.d_model * sizeof(float));
    send_up(m, a->cosine, h->cosine, angles);
    send_up(m, a->sine, h->sine, angles);
}

enum moe_status moe_machine_begin_step(void *machine, const struct moe_step *step,
                                       struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    struct moe_activations *h = &m->host, *a = &m->setup.resident->a;
    const struct moe_resident *r = m->setup.resident;
    enum moe_status s = moe_shared_status(&m->shared, err);
    if (s)
        return s;
    if (step->tokens)
        m->io.input = (struct moe_exec_input){.position = step->context, .logits = true};
    if (step->n_tokens > r->chunk)
        return moe_fail(err, MOE_ERR_USAGE,
                        "step of %" PRIu64 " tokens exceeds the chunk of %" PRIu32, step->n_tokens,
                        r->chunk);
    if (m->io.input.position + step->n_tokens > r->context)
        return moe_fail(err, MOE_ERR_USAGE,
                        "position %" PRIu64 " exceeds the context of %" PRIu32 " tokens",
                        m->io.input.position + step->n_tokens, r->context);
    m->step = *step;
    m->io.start_ns = moe_clock_ns();
    m->busy.n = 0;
    h->n = a->n = (uint32_t)step->n_tokens;
    h->length = a->length = m->io.input.position;
    embed(m);
    if (step->tokens)
        force_routes(m);
    end_sending(m, m->io.input_end);
    return MOE_OK;
}

/* Does the layer compute the scores of the next layer's router? */
static bool looks_ahead(const struct moe_exec_machine *m, uint32_t layer)
{
    return m->setup.lookahead && layer + 1 < m->config.n_layers;
}

static void queue_attend(struct moe_exec_machine *m, uint32_t layer)
{
    struct moe_device *device = m->setup.device;
    struct moe_resident *r = m->setup.resident;
    const struct moe_llm_config *c = &m->config;
    const size_t cache = (size_t)layer * c->n_kv_heads * r->context * c->head_dim;
    const size_t route = (size_t)layer * r->a.n * c->top_k;
    m->io.box.ticket++;
    struct moe_attend_job job = {.config = c,
                                 .layer = &r->layers[layer],
                                 .keys = r->keys + cache,
                                 .values = r->values + cache,
                                 .context = r->context,
                                 .a = &r->a,
                                 .box = m->io.box};
    if (looks_ahead(m, layer))
        job.next_router = &r->layers[layer + 1].router;
    else
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

static void own_routes(const struct moe_exec_machine *m, uint32_t layer,
                       struct moe_layer_routes *out)
{
    const struct moe_llm_config *c = &m->config;
    const bool one = m->host.n == 1;
    *out = (struct moe_layer_routes){.layer = layer,
                                     .n_tokens = m->host.n,
                                     .phase = m->step.phase,
                                     .top_k = c->top_k,
                                     .expert = m->io.box.expert,
                                     .weight = m->io.box.weight,
                                     .stride = c->top_k,
                                     .score = one ? m->io.box.score : NULL,
                                     .lookahead =
                                         one && looks_ahead(m, layer) ? m->io.box.ahead : NULL};
}

/* Reads the times of operations that have ended, while the device is busy with attend: each takes a
 * call of a microsecond or so, and later, when the routes have come or the step is over, the device
 * would wait for the host. */
static void count_ended(struct moe_exec_machine *m)
{
    struct moe_device *device = m->setup.device;
    moe_machine_count_ops(m);
    if (m->states.up_pending && device->ops->done(device, m->states.up.end))
        moe_machine_count_states(m);
}

enum moe_status moe_machine_attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                                   struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    const struct moe_route_box *box = &m->io.box;
    enum moe_status s = moe_shared_status(&m->shared, err);
    /* A decode step is finished before an interrupt takes effect: the result of the steps done is
     * kept (moe_execute, moe_generate) and must not count half a step. A prefill is stopped at
     * once, since it may be long and nothing of it is reported. */
    if (!s && moe_interrupted() && m->step.phase != MOE_DECODE)
        s = moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    if (s)
        return s;
    queue_attend(m, layer);
    s = moe_shared_status(&m->shared, err); /* if attend was not queued, routes would never come */
    if (s)
        return s;
    count_ended(m);
    s = m->setup.device->ops->routes_wait(m->setup.device, box, err);
    if (s)
        return s;
    m->kernels.n_ended = m->kernels.n - 1; /* all but this attend, which wrote the routes */
    moe_machine_count_states(m);
    moe_machine_look(m);
    m->gpu.late = false;
    m->host.expert = box->expert;
    m->host.weight = box->weight;
    moe_dense_group(&m->config, &m->host);
    if (m->step.tokens)
        moe_trace_routes(&m->step, m->setup.model, m->setup.next_use, layer, out);
    else
        own_routes(m, layer, out);
    if (m->io.observer)
        m->io.observer(m->io.observer_user, layer, m->host.n, box->expert, box->weight, box->score,
                       looks_ahead(m, layer) ? box->ahead : NULL);
    return moe_shared_status(&m->shared, err);
}

/* Only for steps of one token, whose gathered rows are all the same. So the device only needs to
 * know the new row and weight of each choice before it combines them. They are sent after its
 * attend has ended, as that may still be writing its own rows when the host knows the routes. */
void moe_machine_reroute(void *machine, const struct moe_layer_routes *routes)
{
    struct moe_exec_machine *m = machine;
    struct moe_machine_io *io = &m->io;
    struct moe_device *device = m->setup.device;
    const struct moe_activations *a = &m->setup.resident->a;
    const uint32_t k = m->config.top_k;
    moe_replayed_reroute(routes, k, io->box.expert, io->box.weight);
    moe_dense_group(&m->config, &m->host);
    memcpy(io->row, m->host.row, k * sizeof *io->row);
    device->ops->wait(device, MOE_STREAM_UP, moe_machine_last_end(&m->kernels));
    send_up(m, a->weight, io->box.weight, k * sizeof *a->weight);
    send_up(m, a->row, io->row, k * sizeof *a->row);
    end_sending(m, io->routes_end);
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
    device->ops->copy(device, MOE_STREAM_DOWN, m->io.logits, r->logits,
                      m->config.n_vocab * sizeof *m->io.logits, MOE_MEMORY_PINNED);
}

/* Counts the part of the copy under way that lies in this step. */
static void count_running(struct moe_exec_machine *m, uint64_t end_ns)
{
    struct moe_fetch_job job;
    pthread_mutex_lock(&m->shared.lock);
    bool running = moe_fetcher_running(m->fetcher, &job);
    pthread_mutex_unlock(&m->shared.lock);
    if (running)
        moe_machine_count(&m->busy, MOE_LANE_H2D,
                          &(struct moe_operation){.start_ns = job.start_ns, .end_ns = end_ns});
}

enum moe_status moe_machine_end_step(void *machine, struct moe_err *err)
{
    struct moe_exec_machine *m = machine;
    struct moe_device *device = m->setup.device;
    enum moe_status s = moe_shared_status(&m->shared, err);
    if (s)
        return s;
    if (m->io.input.logits)
        queue_head(m);
    else
        device->ops->wait(device, MOE_STREAM_DOWN, moe_machine_last_end(&m->kernels));
    device->ops->record(device, MOE_STREAM_DOWN, m->io.logits_end);
    s = device->ops->sync(device, m->io.logits_end, err);
    if (s)
        return s;
    const uint64_t end_ns = moe_clock_ns();
    moe_machine_count_states(m);
    moe_machine_count_early(m);
    m->kernels.n_ended = m->kernels.n_submitted;
    moe_machine_count_ops(m);
    moe_machine_look(m);
    count_running(m, end_ns);
    moe_machine_count_step(&m->busy, m->step.phase, m->io.start_ns, end_ns);
    moe_machine_forget_ops(m);
    return moe_shared_status(&m->shared, err);
}
