#include "exec/hybrid.h"

#include "base/units.h"
#include "exec/stage.h"
#include "policies/step.h"

#include <stdlib.h>
#include <string.h>

struct moe_hybrid {
    struct moe_hybrid_options options;
    struct moe_session *session;
    struct moe_pass_runner runner;
    struct moe_setup setup;
    struct moe_stage stage;
    struct moe_loop loop;

    const struct moe_route_sink *sink; /* of the pass under way, or NULL */
    struct moe_run_times times;
    double *token_ms; /* what times.token_ms points at */
    size_t room;      /* entries allocated in it */
};

static void begin_sequence(void *context)
{
    struct moe_hybrid *h = context;
    moe_loop_sequence(&h->loop);
}

static void deliver(void *user, uint32_t layer, uint32_t n_tokens, const moe_expert *expert,
                    const float *weight, const float *score, const float *ahead)
{
    const struct moe_hybrid *h = user;
    if (h->sink)
        moe_route_sink_put(h->sink, &h->stage.llm->config, layer, n_tokens, expert, weight, score,
                           ahead);
}

static enum moe_status keep_time(struct moe_hybrid *h, const struct moe_pass *pass, uint64_t ns,
                                 struct moe_err *err)
{
    if (pass->phase == MOE_PREFILL) {
        h->times.n_prefill += pass->n;
        h->times.prefill_ns += ns;
        return MOE_OK;
    }
    if (h->times.n_decode == h->room) {
        size_t room = h->room ? 2 * h->room : 1024;
        double *more = realloc(h->token_ms, room * sizeof *more);
        if (!more)
            return moe_fail_memory(err, "the times of the tokens");
        h->times.token_ms = h->token_ms = more;
        h->room = room;
    }
    h->token_ms[h->times.n_decode++] = (double)ns * 1e-6;
    h->times.decode_ns += ns;
    return MOE_OK;
}

static enum moe_status run_pass(void *context, const struct moe_pass *pass, struct moe_err *err)
{
    struct moe_hybrid *h = context;
    const struct moe_exec_input input = {.tokens = pass->tokens,
                                         .position = pass->position,
                                         .far = pass->far,
                                         .logits = pass->logits != NULL};
    const struct moe_step step = {
        .n_tokens = pass->n, .phase = pass->phase, .context = pass->position};
    h->sink = pass->sink;
    moe_exec_machine_input(h->stage.machine, &input);
    const uint64_t start = moe_clock_ns();
    enum moe_status s = moe_loop_step(&h->loop, &step, err);
    const uint64_t ns = moe_clock_ns() - start;
    h->sink = NULL;
    if (s)
        return s;
    moe_stage_add_energy(&h->stage, pass->phase);
    if (pass->logits)
        memcpy(pass->logits, moe_exec_machine_logits(h->stage.machine),
               h->stage.llm->config.n_vocab * sizeof *pass->logits);
    return keep_time(h, pass, ns, err);
}

static enum moe_status build(struct moe_hybrid *h, struct moe_device *device, struct moe_err *err)
{
    const struct moe_strategy *strategy = h->options.strategy;
    const struct moe_model *shape = &h->stage.shape;
    struct moe_setup_spec spec;
    h->stage = (struct moe_stage){.device = device,
                                  .llm = moe_session_llm(h->session),
                                  .context = moe_session_context(h->session),
                                  .chunk = moe_session_chunk(h->session)};
    enum moe_status s = moe_stage_spec(&h->stage, strategy, h->options.platform, &spec, err);
    if (s)
        return s;
    spec.parts = MOE_HAS_WEIGHT | MOE_HAS_SCORE | MOE_HAS_LOOKAHEAD;
    s = moe_setup_init(&h->setup, &spec, err);
    if (!s)
        s = moe_stage_build(&h->stage, &h->options, &h->setup, &spec, NULL, err);
    if (s)
        return s;
    s = moe_loop_init(&h->loop, strategy, &moe_exec_machine_ops, h->stage.machine, h->setup.cache,
                      spec.costs, (uint32_t)shape->n_layers, (uint32_t)shape->n_experts,
                      (uint32_t)shape->top_k, err);
    if (s)
        return s;
    if (h->options.decisions) {
        h->loop.observer = moe_decision_log_write;
        h->loop.observer_user = h->options.decisions;
    }
    moe_loop_preload(&h->loop);
    return MOE_OK;
}

enum moe_status moe_hybrid_new(struct moe_hybrid **out, struct moe_device *device,
                               struct moe_session *session,
                               const struct moe_hybrid_options *options, struct moe_err *err)
{
    struct moe_hybrid *h = calloc(1, sizeof *h);
    if (!h)
        return moe_fail_memory(err, "the hybrid run");
    h->options = *options;
    h->options.lookahead |= moe_session_lookahead(session);
    h->session = session;
    enum moe_status s = build(h, device, err);
    if (s) {
        moe_hybrid_free(h);
        return s;
    }
    h->runner = (struct moe_pass_runner){begin_sequence, run_pass, h};
    moe_exec_machine_observe(h->stage.machine, deliver, h);
    moe_session_run_on(session, &h->runner);
    moe_stage_begin_energy(&h->stage, options->power);
    *out = h;
    return MOE_OK;
}

void moe_hybrid_free(struct moe_hybrid *h)
{
    if (!h)
        return;
    moe_session_run_on(h->session, NULL);
    moe_loop_release(&h->loop);
    moe_stage_release(&h->stage);
    moe_setup_release(&h->setup);
    free(h->token_ms);
    free(h);
}

enum moe_status moe_hybrid_result(const struct moe_hybrid *h, struct moe_result *out,
                                  struct moe_err *err)
{
    struct moe_result r;
    moe_result_init(&r);
    enum moe_status s = h->times.n_decode ? moe_result_add_times(&r, &h->times, err) : MOE_OK;
    if (s)
        return s;
    r.prefill_tokens = h->times.n_prefill;
    r.prefill_ns = h->times.prefill_ns;
    moe_stage_result(&h->stage, &h->setup, &r);
    r.rerouted = h->loop.reroute.done;
    *out = r;
    return MOE_OK;
}

void moe_hybrid_allocation(const struct moe_hybrid *h, struct moe_allocation *out)
{
    moe_stage_allocation(&h->stage, &h->setup, out);
}

enum moe_status moe_hybrid_room(struct moe_device *device, const struct moe_llm *llm,
                                const struct moe_strategy *strategy, uint32_t context,
                                uint32_t chunk, uint32_t *slots, struct moe_err *err)
{
    struct moe_stage stage = {.device = device, .llm = llm, .context = context, .chunk = chunk};
    struct moe_setup_spec spec;
    enum moe_status s = moe_stage_spec(&stage, strategy, NULL, &spec, err);
    if (s)
        return s;
    const uint64_t other = spec.dense_bytes + moe_setup_staging_bytes(&spec);
    char a[32], b[32];
    if (other > spec.memory_bytes)
        return moe_fail(err, MOE_ERR_USAGE,
                        "model '%s' takes %s without any slot: more than the %s of %s; take a "
                        "device with more memory, fewer layers or a shorter context",
                        stage.shape.name, moe_format_bytes(other, a, sizeof a),
                        moe_format_bytes(spec.memory_bytes, b, sizeof b), spec.device);
    *slots = moe_setup_slots_in(&spec, spec.memory_bytes - other);
    return MOE_OK;
}
