#include "exec/generate.h"

#include "base/progress.h"

const char *const moe_stop_names[] = {"length", "stop token", "context full", "interrupted"};

static bool is_stop_token(const struct moe_llm_config *config, int32_t token)
{
    for (uint32_t i = 0; i < config->n_eos; i++)
        if (config->eos[i] == token)
            return true;
    return false;
}

/* Where the routes of row `at` go; nothing without routes. */
static struct moe_route_sink sink_at(const struct moe_llm_config *c,
                                     const struct moe_tokens *routes, uint64_t at)
{
    struct moe_route_sink sink = {0};
    size_t lk = (size_t)c->n_layers * c->top_k, le = (size_t)c->n_layers * c->n_experts;
    if (!routes)
        return sink;
    sink.expert = routes->expert + at * lk;
    sink.weight = routes->weight ? routes->weight + at * lk : NULL;
    sink.score = routes->score ? routes->score + at * le : NULL;
    sink.lookahead = routes->lookahead ? routes->lookahead + at * le : NULL;
    return sink;
}

/* One more pass, over the token just chosen. */
static enum moe_status decode(struct moe_session *session, int32_t token, float *logits,
                              const struct moe_tokens *routes, uint64_t row, struct moe_err *err)
{
    const struct moe_llm_config *c = &moe_session_llm(session)->config;
    struct moe_route_sink sink = sink_at(c, routes, row);
    if (routes)
        routes->token_id[row] = token;
    return moe_session_forward(session, &token, 1, &sink, logits, err);
}

/* Not one logit is a number: why? */
static enum moe_status explain_no_token(const struct moe_llm *llm, struct moe_err *err)
{
    enum moe_status s = llm->weights ? moe_weights_check_finite(llm->weights, err) : MOE_OK;
    return s ? s
             : moe_fail(err, MOE_ERR_INPUT,
                        "model '%s' gives no logit that is a number, though its weights all are",
                        llm->name);
}

static enum moe_status decode_all(struct moe_session *session, struct moe_generate_options *options,
                                  const struct moe_generate_watch *watch, float *logits,
                                  const struct moe_tokens *routes, struct moe_generated *out,
                                  struct moe_err *err)
{
    const struct moe_llm_config *c = &moe_session_llm(session)->config;
    out->stop = MOE_STOP_LENGTH;
    while (out->n_new < options->max_new) {
        int32_t token = moe_sampler_next(&options->sampler, logits);
        if (token < 0)
            return explain_no_token(moe_session_llm(session), err);
        if (!options->ignore_eos && is_stop_token(c, token)) {
            out->stop = MOE_STOP_TOKEN;
            break;
        }
        out->n_new++;
        enum moe_status s =
            watch && watch->token ? watch->token(watch->context, token, err) : MOE_OK;
        if (s)
            return s;
        if (out->n_new == options->max_new)
            break;
        if (moe_session_length(session) == moe_session_context(session)) {
            out->stop = MOE_STOP_CONTEXT;
            break;
        }
        s = decode(session, token, logits, routes, (uint64_t)out->n_prompt + out->n_passes, err);
        if (s)
            return s;
        out->n_passes++;
    }
    return MOE_OK;
}

static enum moe_status run(struct moe_session *session, const int32_t *prompt, uint32_t n_prompt,
                           struct moe_generate_options *options,
                           const struct moe_generate_watch *watch, float *logits,
                           const struct moe_tokens *routes, struct moe_generated *out,
                           struct moe_err *err)
{
    struct moe_route_sink sink = sink_at(&moe_session_llm(session)->config, routes, 0);
    for (uint32_t i = 0; routes && i < n_prompt; i++)
        routes->token_id[i] = prompt[i];
    moe_session_reset(session, n_prompt);
    uint64_t began = moe_clock_ns();
    enum moe_status s =
        moe_session_prefill(session, prompt, n_prompt, &sink, logits, watch ? watch->prefill : NULL,
                            watch ? watch->context : NULL, err);
    uint64_t filled = moe_clock_ns();
    out->prefill_ns = filled - began;
    if (!s)
        s = decode_all(session, options, watch, logits, routes, out, err);
    out->decode_ns = moe_clock_ns() - filled;
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
    struct moe_generated done = {.n_prompt = n_prompt};
    enum moe_status s = run(session, prompt, n_prompt, options, watch, logits, routes, &done, err);
    if (s == MOE_ERR_INTERRUPTED) {
        done.stop = MOE_STOP_INTERRUPTED;
        s = MOE_OK;
    }
    if (!s)
        *out = done;
    return s;
}
