#include "exec/generate.h"

#include "base/progress.h"

#include <math.h>

const char *const moe_stop_names[] = {"length", "stop token", "context full", "interrupted"};

/* One generation under way. */
struct generation {
    struct moe_session *session;
    const struct moe_llm *llm;
    struct moe_generate_options *options;
    struct moe_generate_watch watch;
    float *logits;
    struct moe_route_sink sink; /* for all rows; arrays NULL: not wanted */
    int32_t *token_id;          /* of all rows, or NULL */
    uint64_t whole_ns;          /* when the latest complete pass ended */
    struct moe_generated done;
};

static bool is_stop_token(const struct moe_llm_config *config, int32_t token)
{
    for (uint32_t i = 0; i < config->n_eos; i++)
        if (config->eos[i] == token)
            return true;
    return false;
}

/* A computed value is NaN or infinite: blames a weight, if there is one that is not finite. */
static enum moe_status explain(const struct moe_llm *llm, const char *what, struct moe_err *err)
{
    enum moe_status s = llm->weights ? moe_weights_check_finite(llm->weights, err) : MOE_OK;
    return s ? s
             : moe_fail(err, MOE_ERR_INPUT,
                        "model '%s' gives %s that is not finite, though all its weights are",
                        llm->name, what);
}

/* Finds NaN and infinity in the routes. The logits of the last token need not show them: a sliding
 * window may hide the tokens concerned, or no logits are used after a prompt. A NaN among the
 * scores shows in the weights. */
static enum moe_status check_routes(const struct generation *g, uint64_t row, uint64_t n,
                                    struct moe_err *err)
{
    const struct moe_llm_config *c = &g->llm->config;
    const struct moe_route_sink sink = moe_route_sink_from(&g->sink, c, row);
    bool finite = true;
    n *= c->n_layers;
    for (uint64_t i = 0; sink.weight && i < n * c->top_k; i++)
        finite &= isfinite(sink.weight[i]) || sink.expert[i] == MOE_NO_EXPERT;
    for (uint64_t i = 0; sink.score && i < n * c->n_experts; i++)
        finite &= !isinf(sink.score[i]);
    return finite ? MOE_OK : explain(g->llm, "a route", err);
}

/* One more pass, over the token just chosen. */
static enum moe_status decode(struct generation *g, int32_t token, struct moe_err *err)
{
    const uint64_t row = (uint64_t)g->done.n_prompt + g->done.n_passes;
    const struct moe_route_sink sink = moe_route_sink_from(&g->sink, &g->llm->config, row);
    if (g->token_id)
        g->token_id[row] = token;
    if (moe_interrupted()) /* a runner's decode pass does not check */
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    enum moe_status s = moe_session_forward(g->session, &token, 1, &sink, g->logits, err);
    if (s)
        return s;
    g->done.n_passes++;
    g->whole_ns = moe_clock_ns();
    return check_routes(g, row, 1, err);
}

static enum moe_status decode_all(struct generation *g, struct moe_err *err)
{
    struct moe_generated *done = &g->done;
    enum moe_status s = MOE_OK;
    while (done->n_new < g->options->max_new) {
        int32_t token = moe_sampler_next(&g->options->sampler, g->logits);
        if (token < 0 || !isfinite(g->logits[token]))
            return explain(g->llm, "a logit", err);
        if (!g->options->ignore_eos && is_stop_token(&g->llm->config, token)) {
            done->stop = MOE_STOP_TOKEN;
            break;
        }
        done->n_new++;
        if (g->watch.token && (s = g->watch.token(g->watch.context, token, err)))
            return s;
        if (done->n_new == g->options->max_new)
            break;
        if (moe_session_length(g->session) == moe_session_context(g->session)) {
            done->stop = MOE_STOP_CONTEXT;
            break;
        }
        if ((s = decode(g, token, err)))
            return s;
    }
    return MOE_OK;
}

static enum moe_status run(struct generation *g, const int32_t *prompt, struct moe_err *err)
{
    const uint32_t n = g->done.n_prompt;
    for (uint32_t i = 0; g->token_id && i < n; i++)
        g->token_id[i] = prompt[i];
    moe_session_reset(g->session, n);
    uint64_t began = moe_clock_ns();
    enum moe_status s = moe_session_prefill(g->session, prompt, n, &g->sink, g->logits,
                                            g->watch.prefill, g->watch.context, err);
    uint64_t filled = moe_clock_ns();
    g->done.prefill_ns = filled - began;
    g->whole_ns = filled;
    if (!s)
        s = check_routes(g, 0, n, err);
    if (!s)
        s = decode_all(g, err);
    g->done.decode_ns = (s == MOE_ERR_INTERRUPTED ? g->whole_ns : moe_clock_ns()) - filled;
    return s;
}

enum moe_status moe_generate(struct moe_session *session, const int32_t *prompt, uint32_t n_prompt,
                             struct moe_generate_options *options,
                             const struct moe_generate_watch *watch, float *logits,
                             const struct moe_tokens *routes, struct moe_generated *out,
                             struct moe_err *err)
{
    if (n_prompt > moe_session_context(session))
        return moe_fail(err, MOE_ERR_USAGE, "prompt of %u tokens exceeds the context of %u",
                        n_prompt, moe_session_context(session));
    struct generation g = {.session = session,
                           .llm = moe_session_llm(session),
                           .options = options,
                           .logits = logits,
                           .done = {.n_prompt = n_prompt, .stop = MOE_STOP_LENGTH}};
    if (watch)
        g.watch = *watch;
    if (routes) {
        g.sink = (struct moe_route_sink){routes->expert, routes->weight, routes->score,
                                         routes->lookahead};
        g.token_id = routes->token_id;
    }
    enum moe_status s = run(&g, prompt, err);
    if (s == MOE_ERR_INTERRUPTED) {
        g.done.stop = MOE_STOP_INTERRUPTED;
        s = MOE_OK;
    }
    if (!s)
        *out = g.done;
    return s;
}
