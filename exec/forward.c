#include "exec/forward.h"

#include "base/progress.h"
#include "exec/dense.h"
#include "exec/embed.h"
#include "exec/session_state.h"

#include <inttypes.h>
#include <string.h>

static void embed(struct moe_session *s, const int32_t *tokens, uint32_t n)
{
    s->a.n = n;
    moe_embed(s->llm, &s->rope, s->far, tokens, &s->a);
    for (uint32_t t = 0; t < n && s->history; t++)
        s->history[s->a.length + t] = tokens[t];
}

enum moe_status moe_forward_check(const struct moe_session *s, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err)
{
    uint32_t n_vocab = s->llm->config.n_vocab;
    if (n < 1 || n > s->chunk)
        return moe_fail(err, MOE_ERR_USAGE, "pass of %" PRIu32 " tokens is outside 1..%" PRIu32, n,
                        s->chunk);
    for (uint32_t t = 0; t < n; t++)
        if (tokens[t] < 0 || (uint32_t)tokens[t] >= n_vocab)
            return moe_fail(err, MOE_ERR_USAGE,
                            "token id %" PRId32 " is outside the vocabulary of %" PRIu32, tokens[t],
                            n_vocab);
    return moe_session_room(s, n, err);
}

/* The sequence becomes longer than the short factors are meant for. The keys of all its tokens
 * change, and with them all layers above, so the whole cache is recomputed from the tokens. */
static enum moe_status recompute_cache(struct moe_session *s, struct moe_err *err)
{
    uint32_t length = s->a.length;
    s->far = true;
    s->a.length = 0;
    for (uint32_t n; s->a.length < length; moe_forward_end(s, NULL)) {
        n = length - s->a.length < s->chunk ? length - s->a.length : s->chunk;
        embed(s, s->history + s->a.length, n);
        for (uint32_t l = 0; l < s->llm->config.n_layers; l++) {
            if (moe_interrupted())
                return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
            moe_forward_attend(s, l);
            moe_forward_experts(s, l);
            moe_forward_combine(s, l);
        }
    }
    return MOE_OK;
}

enum moe_status moe_forward_begin(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err)
{
    enum moe_status status = moe_forward_check(s, tokens, n, err);
    uint32_t known = s->a.length + n > s->expected ? s->a.length + n : s->expected;
    if (!status && !s->far && moe_session_is_far(s, known))
        status = recompute_cache(s, err);
    if (!status)
        embed(s, tokens, n);
    return status;
}

void moe_forward_place(struct moe_session *s, const int32_t *tokens, uint32_t n, uint32_t position)
{
    s->a.length = position;
    embed(s, tokens, n);
}

/* The layer in the form that exec/dense.h takes. */
static struct moe_dense dense_of(const struct moe_session *s, uint32_t layer)
{
    const struct moe_llm_config *c = &s->llm->config;
    bool last = layer + 1 == c->n_layers;
    size_t cache = (size_t)layer * c->n_kv_heads * s->context * c->head_dim;
    return (struct moe_dense){.config = c,
                              .layer = &s->llm->layers[layer],
                              .next_router =
                                  s->lookahead && !last ? &s->llm->layers[layer + 1].router : NULL,
                              .pool = s->pool,
                              .keys = s->keys + cache,
                              .values = s->values + cache,
                              .context = s->context,
                              .a = &s->a};
}

void moe_forward_attend(struct moe_session *s, uint32_t layer)
{
    const struct moe_dense dense = dense_of(s, layer);
    moe_dense_attend(&dense);
    moe_dense_choose(&dense);
    moe_dense_group(dense.config, dense.a);
    moe_dense_gather(&dense);
}

void moe_forward_choose(struct moe_session *s, uint32_t layer, const moe_expert *expert,
                        const float *weight)
{
    const struct moe_dense dense = dense_of(s, layer);
    const size_t choices = (size_t)s->a.n * dense.config->top_k;
    memcpy(s->a.expert, expert, choices * sizeof *expert);
    memcpy(s->a.weight, weight, choices * sizeof *weight);
    moe_dense_group(dense.config, dense.a);
    moe_dense_gather(&dense);
}

/* Requests the whole expert before its first use, so that the disk reads it in long runs instead of
 * page by page where threads happen to touch it first. */
static void fetch_once(struct moe_session *s, uint32_t layer, uint32_t e)
{
    const struct moe_expert_weights *w = &s->llm->layers[layer].experts[e];
    bool *fetched = &s->fetched[(size_t)layer * s->llm->config.n_experts + e];
    if (*fetched)
        return;
    *fetched = true;
    moe_matrix_fetch(&w->w1);
    moe_matrix_fetch(&w->w3);
    moe_matrix_fetch(&w->w2);
}

void moe_forward_fetch_experts(struct moe_session *s)
{
    const struct moe_llm_config *c = &s->llm->config;
    for (uint32_t l = 0; l < c->n_layers; l++)
        for (uint32_t e = 0; e < c->n_experts && !moe_interrupted(); e++)
            fetch_once(s, l, e);
}

void moe_forward_experts(struct moe_session *s, uint32_t layer)
{
    const struct moe_llm_config *c = &s->llm->config;
    uint32_t n_jobs = 0;
    for (uint32_t e = 0; e < c->n_experts; e++) {
        const struct moe_expert_weights *w = &s->llm->layers[layer].experts[e];
        if (!s->a.count[e])
            continue;
        fetch_once(s, layer, e);
        s->jobs[n_jobs++] = moe_dense_expert(c, w, &s->a, (moe_expert)e);
    }
    if (n_jobs)
        moe_pool_experts(s->pool, s->jobs, n_jobs);
}

void moe_forward_combine(struct moe_session *s, uint32_t layer)
{
    const struct moe_dense dense = dense_of(s, layer);
    moe_dense_combine(&dense);
}

void moe_forward_end(struct moe_session *s, float *logits)
{
    const struct moe_llm *llm = s->llm;
    const struct moe_dense dense = dense_of(s, 0);
    if (logits)
        moe_dense_head(&dense, &llm->final_norm, &llm->head, llm->head_bias, logits);
    s->a.length += s->a.n;
}
