#include "exec/machine_alone.h"

#include "base/progress.h"
#include "exec/forward.h"
#include "exec/machine_state.h"
#include "exec/memory_limits.h"
#include "exec/replayed.h"
#include "policies/trace_run.h"

#include <stdlib.h>

struct moe_alone_machine {
    struct moe_alone_setup setup;
    struct moe_llm llm; /* a view of setup.llm with the top-k of the routes */
    struct moe_session *session;
    struct moe_step step;
    uint64_t start_ns; /* of the step */
    struct moe_machine_busy busy;
    moe_expert *expert; /* [T, K] of a layer */
    float *weight;      /* [T, K] */
    int32_t *token;     /* [T] */
    float *logits;      /* [V] */
};

/* An operation that began at start_ns has just ended. */
static void count(struct moe_alone_machine *m, const char *name, const char *cause, int32_t layer,
                  uint64_t start_ns)
{
    moe_machine_count(&m->busy, MOE_LANE_CPU,
                      &(struct moe_operation){.track = MOE_TRACK_CPU,
                                              .name = name,
                                              .cause = cause,
                                              .layer = layer,
                                              .expert = -1,
                                              .slot = -1,
                                              .start_ns = start_ns,
                                              .end_ns = moe_clock_ns()});
}

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *err)
{
    struct moe_alone_machine *m = machine;
    (void)err;
    m->step = *step;
    m->start_ns = moe_clock_ns();
    moe_replayed_tokens(step, &m->llm.config, m->token);
    moe_forward_place(m->session, m->token, (uint32_t)step->n_tokens, step->context);
    return MOE_OK;
}

/* An interrupt stops a prefill at the next layer but lets a decode step finish, as in
 * moe_machine_attend. */
static enum moe_status attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err)
{
    struct moe_alone_machine *m = machine;
    const uint64_t start_ns = moe_clock_ns();
    if (moe_interrupted() && m->step.phase != MOE_DECODE)
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    moe_forward_attend(m->session, layer);
    moe_replayed_routes(&m->step, &m->llm.config, layer, m->expert, m->weight);
    moe_forward_choose(m->session, layer, m->expert, m->weight);
    count(m, "attend", NULL, (int32_t)layer, start_ns);
    moe_trace_routes(&m->step, m->setup.model, m->setup.next_use, layer, out);
    return MOE_OK;
}

static void reroute(void *machine, const struct moe_layer_routes *routes)
{
    struct moe_alone_machine *m = machine;
    moe_replayed_reroute(routes, m->llm.config.top_k, m->expert, m->weight);
    moe_forward_choose(m->session, routes->layer, m->expert, m->weight);
}

/* Only counts: all experts of a layer are computed together, in combine. */
static void cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_alone_machine *m = machine;
    (void)ffn;
    m->busy.usage[m->step.phase].cpu_experts++;
}

static void cpu_wait(void *machine)
{
    (void)machine;
}

static void combine(void *machine, uint32_t layer)
{
    struct moe_alone_machine *m = machine;
    uint64_t start_ns = moe_clock_ns();
    moe_forward_experts(m->session, layer);
    count(m, "experts", "miss", (int32_t)layer, start_ns);
    start_ns = moe_clock_ns();
    moe_forward_combine(m->session, layer);
    count(m, "combine", NULL, (int32_t)layer, start_ns);
}

static enum moe_status end_step(void *machine, struct moe_err *err)
{
    struct moe_alone_machine *m = machine;
    const uint64_t start_ns = moe_clock_ns();
    (void)err;
    moe_forward_end(m->session, m->logits);
    count(m, "head", NULL, -1, start_ns);
    moe_machine_count_step(&m->busy, m->step.phase, m->start_ns, moe_clock_ns());
    return MOE_OK;
}

static moe_ns now(void *machine)
{
    (void)machine;
    return moe_clock_ns();
}

/* The operations left out need a device. */
const struct moe_machine_ops moe_alone_machine_ops = {.begin_step = begin_step,
                                                      .attend = attend,
                                                      .reroute = reroute,
                                                      .cpu_ffn = cpu_ffn,
                                                      .cpu_wait = cpu_wait,
                                                      .combine = combine,
                                                      .end_step = end_step,
                                                      .now = now};

/* Reads the experts before the clock starts, just as experts are packed for a device before it
 * starts. Skipped for a model so large that its pages would evict one another: the limit of half
 * the available memory is a guess that leaves room for the rest of the model and for other
 * programs. */
static void fetch_experts(const struct moe_alone_machine *m)
{
    const struct moe_model *model = m->setup.model;
    struct moe_memory_limits limits;
    moe_memory_limits_read(&limits);
    const uint64_t bytes = model->n_layers * model->n_experts * moe_model_expert_bytes(model);
    if (!m->llm.weights || bytes <= limits.available / 2) /* no file behind it, or small enough */
        moe_forward_fetch_experts(m->session);
}

static enum moe_status build(struct moe_alone_machine *m, struct moe_err *err)
{
    const struct moe_alone_setup *setup = &m->setup;
    const struct moe_session_options options = {.context = setup->context,
                                                .chunk = setup->chunk,
                                                .threads = setup->pool.threads,
                                                .kernels = setup->pool.kernels,
                                                .pin = setup->pool.pin};
    const size_t choices = (size_t)setup->chunk * m->llm.config.top_k;
    m->expert = calloc(choices, sizeof *m->expert);
    m->weight = calloc(choices, sizeof *m->weight);
    m->token = calloc(setup->chunk, sizeof *m->token);
    m->logits = calloc(m->llm.config.n_vocab, sizeof *m->logits);
    if (!m->expert || !m->weight || !m->token || !m->logits)
        return moe_fail_memory(err, "the machine");
    enum moe_status s = moe_session_new(&m->session, &m->llm, &options, err);
    if (!s)
        fetch_experts(m);
    return s;
}

enum moe_status moe_alone_machine_new(struct moe_alone_machine **out,
                                      const struct moe_alone_setup *setup, struct moe_err *err)
{
    struct moe_alone_machine *m = calloc(1, sizeof *m);
    if (!m)
        return moe_fail_memory(err, "the machine");
    m->setup = *setup;
    m->llm = *setup->llm;
    m->llm.config.top_k = (uint32_t)setup->model->top_k;
    m->busy.timeline = setup->timeline;
    m->busy.born_ns = moe_clock_ns();
    enum moe_status s = build(m, err);
    if (s)
        moe_alone_machine_free(m);
    else
        *out = m;
    return s;
}

void moe_alone_machine_free(struct moe_alone_machine *m)
{
    if (!m)
        return;
    moe_session_free(m->session);
    free(m->busy.intervals);
    free(m->expert);
    free(m->weight);
    free(m->token);
    free(m->logits);
    free(m);
}

const float *moe_alone_machine_logits(const struct moe_alone_machine *m)
{
    return m->logits;
}

const struct moe_usage *moe_alone_machine_usage(const struct moe_alone_machine *m,
                                                enum moe_phase phase)
{
    return &m->busy.usage[phase];
}

const struct moe_pool *moe_alone_machine_pool(const struct moe_alone_machine *m)
{
    return moe_session_pool(m->session);
}
