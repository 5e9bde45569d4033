#include "exec/forward.h"

#include "base/progress.h"
#include "exec/norm.h"
#include "exec/router.h"
#include "exec/session_state.h"

#include <inttypes.h>
#include <string.h>

static void embed_token(struct moe_session *s, int32_t token, uint32_t t)
{
    const struct moe_matrix *m = &s->llm->embedding;
    const char *row =
        (const char *)m->data + (uint64_t)token * moe_dtype_row_bytes(m->dtype, m->cols);
    moe_dtype_info(m->dtype)->to_f32(row, m->cols, s->x + (size_t)t * m->cols);
}

static void embed(struct moe_session *s, const int32_t *tokens, uint32_t n)
{
    size_t half = s->rope.half;
    s->n = n;
    for (uint32_t t = 0; t < n; t++) {
        embed_token(s, tokens[t], t);
        moe_rope_angles(&s->rope, s->far, s->length + t, s->cosine + t * half, s->sine + t * half);
        if (s->history)
            s->history[s->length + t] = tokens[t];
    }
}

static enum moe_status check_pass(const struct moe_session *s, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err)
{
    uint32_t n_vocab = s->llm->config.n_vocab;
    if (n < 1 || n > s->chunk)
        return moe_fail(err, MOE_ERR_USAGE, "pass of %" PRIu32 " tokens, allowed are 1 to %" PRIu32,
                        n, s->chunk);
    for (uint32_t t = 0; t < n; t++)
        if (tokens[t] < 0 || (uint32_t)tokens[t] >= n_vocab)
            return moe_fail(err, MOE_ERR_USAGE,
                            "token id %" PRId32 " outside the vocabulary of %" PRIu32, tokens[t],
                            n_vocab);
    return moe_session_room(s, n, err);
}

/* The sequence passes the length for which the short factors are meant: the keys of all its tokens
 * change, and with them everything above, so the cache is made again from the tokens. */
static enum moe_status go_far(struct moe_session *s, struct moe_err *err)
{
    uint32_t length = s->length;
    s->far = true;
    s->length = 0;
    for (uint32_t n; s->length < length; moe_forward_end(s, NULL)) {
        n = length - s->length < s->chunk ? length - s->length : s->chunk;
        embed(s, s->history + s->length, n);
        for (uint32_t l = 0; l < s->llm->config.n_layers; l++) {
            if (moe_interrupted())
                return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
            moe_forward_attend(s, l, NULL, NULL);
            moe_forward_experts(s, l, NULL, 0);
            moe_forward_combine(s, l);
        }
    }
    return MOE_OK;
}

enum moe_status moe_forward_begin(struct moe_session *s, const int32_t *tokens, uint32_t n,
                                  struct moe_err *err)
{
    enum moe_status status = check_pass(s, tokens, n, err);
    uint32_t known = s->length + n > s->expected ? s->length + n : s->expected;
    if (!status && !s->far && moe_session_is_far(s, known))
        status = go_far(s, err);
    if (!status)
        embed(s, tokens, n);
    return status;
}

/* The layer at work, for the functions that the pool calls. */
struct work {
    struct moe_session *s;
    uint32_t layer;
};

static void normalise(struct moe_session *s, const struct moe_norm *norm, uint32_t t)
{
    size_t d = s->llm->config.d_model;
    moe_norm_apply(norm, s->llm->config.norm_eps, s->x + t * d, (uint32_t)d, s->u + t * d);
}

static void before_attention(void *context, uint32_t t)
{
    const struct work *w = context;
    normalise(w->s, &w->s->llm->layers[w->layer].before_attention, t);
}

/* First position of a key-value head in the cache. */
static size_t cache_row(const struct moe_session *s, uint32_t layer, uint32_t head)
{
    const struct moe_llm_config *c = &s->llm->config;
    return ((size_t)layer * c->n_kv_heads + head) * s->context * c->head_dim;
}

/* Turns the queries and keys of a token and puts its keys and values into the cache. */
static void place(void *context, uint32_t t)
{
    const struct work *w = context;
    struct moe_session *s = w->s;
    const struct moe_llm_config *c = &s->llm->config;
    uint32_t half = s->rope.half;
    const float *cosine = s->cosine + (size_t)t * half, *sine = s->sine + (size_t)t * half;
    size_t hd = c->head_dim, bytes = hd * sizeof(float), position = s->length + t;
    for (uint32_t h = 0; h < c->n_heads; h++)
        moe_rope_turn(cosine, sine, half, s->q + ((size_t)t * c->n_heads + h) * hd);
    for (uint32_t h = 0; h < c->n_kv_heads; h++) {
        size_t from = ((size_t)t * c->n_kv_heads + h) * hd;
        size_t to = cache_row(s, w->layer, h) + position * hd;
        moe_rope_turn(cosine, sine, half, s->k + from);
        memcpy(s->keys + to, s->k + from, bytes);
        memcpy(s->values + to, s->v + from, bytes);
    }
}

/* Item i is one token and the query heads of one key-value head. */
static void attend(void *context, uint32_t i)
{
    const struct work *w = context;
    struct moe_session *s = w->s;
    const struct moe_llm_config *c = &s->llm->config;
    uint32_t t = i / c->n_kv_heads, kv = i % c->n_kv_heads;
    size_t head = (size_t)t * c->n_heads + (size_t)kv * s->attention.group;
    size_t row = cache_row(s, w->layer, kv), at = head * c->head_dim;
    moe_attention_run(&s->attention, s->q + at, s->keys + row, s->values + row, s->length + t,
                      s->soft + head, s->attended + at);
}

static void before_experts(void *context, uint32_t t)
{
    const struct work *w = context;
    size_t d = w->s->llm->config.d_model;
    float *x = w->s->x + t * d;
    const float *out = w->s->out + t * d;
    for (size_t i = 0; i < d; i++)
        x[i] += out[i];
    normalise(w->s, &w->s->llm->layers[w->layer].before_experts, t);
}

/* Less than this does not pay for waking the threads: some ten microseconds of one of them. */
enum { PARALLEL_PRODUCTS = 1 << 16 };

/* f on every token of the pass. */
static void each_token(struct work *w, void (*f)(void *work, uint32_t t))
{
    if (w->s->n == 1)
        f(w, 0);
    else
        moe_pool_each(w->s->pool, w->s->n, f, w);
}

/* Every head of every token, over all keys it may see at most. */
static void attend_all(struct work *w)
{
    struct moe_session *s = w->s;
    const struct moe_llm_config *c = &s->llm->config;
    uint32_t keys = s->length + s->n, n = s->n * c->n_kv_heads;
    if (c->sliding_window && keys > c->sliding_window)
        keys = c->sliding_window;
    uint64_t products = (uint64_t)s->n * c->n_heads * c->head_dim * keys;
    if (products >= PARALLEL_PRODUCTS)
        moe_pool_each(s->pool, n, attend, w);
    else
        for (uint32_t i = 0; i < n; i++)
            attend(w, i);
}

static void attention(struct work *w)
{
    struct moe_session *s = w->s;
    const struct moe_llm_layer *layer = &s->llm->layers[w->layer];
    const struct moe_linear qkv[] = {
        {&layer->q, layer->q_bias, s->q},
        {&layer->k, layer->k_bias, s->k},
        {&layer->v, layer->v_bias, s->v},
    };
    each_token(w, before_attention);
    moe_pool_linears(s->pool, qkv, 3, s->u, s->n);
    each_token(w, place);
    attend_all(w);
    moe_pool_linear(s->pool, &layer->o, layer->o_bias, s->attended, s->n, s->out);
    each_token(w, before_experts);
}

/* Router logits of this layer, and those that the next layer's router gives to the same vectors. */
static void score(struct moe_session *s, uint32_t layer)
{
    const struct moe_llm_layer *l = &s->llm->layers[layer];
    bool last = layer + 1 == s->llm->config.n_layers;
    const struct moe_linear jobs[] = {
        {&l->router, NULL, s->score},
        {last ? NULL : &l[1].router, NULL, s->ahead},
    };
    moe_pool_linears(s->pool, jobs, s->lookahead && !last ? 2 : 1, s->u, s->n);
}

/* Chooses the experts of every token, and gives each choice its row: rows of one expert are
 * neighbours, in the order of the tokens. */
static void route(struct moe_session *s)
{
    const struct moe_llm_config *c = &s->llm->config;
    size_t k = c->top_k, n_choices = s->n * k;
    memset(s->count, 0, c->n_experts * sizeof *s->count);
    for (uint32_t t = 0; t < s->n; t++)
        moe_router_choose(c, s->score + (size_t)t * c->n_experts, s->expert + t * k,
                          s->weight + t * k, s->share);
    for (size_t i = 0; i < n_choices; i++)
        s->count[s->expert[i]]++;
    for (uint32_t e = 0, row = 0; e < c->n_experts; row += s->count[e++])
        s->first[e] = row;
    memset(s->count, 0, c->n_experts * sizeof *s->count);
    for (size_t i = 0; i < n_choices; i++)
        s->row[i] = s->first[s->expert[i]] + s->count[s->expert[i]]++;
}

static void gather(void *context, uint32_t t)
{
    const struct moe_session *s = ((const struct work *)context)->s;
    size_t d = s->llm->config.d_model, k = s->llm->config.top_k;
    for (size_t i = t * k; i < (t + 1) * k; i++)
        memcpy(s->ffn_x + s->row[i] * d, s->u + t * d, d * sizeof *s->u);
}

void moe_forward_attend(struct moe_session *s, uint32_t layer, const moe_expert **expert,
                        const float **weight)
{
    struct work w = {s, layer};
    attention(&w);
    score(s, layer);
    route(s);
    each_token(&w, gather);
    if (expert)
        *expert = s->expert;
    if (weight)
        *weight = s->weight;
}

/* An expert is asked for whole before its first use: the disk then reads it in long runs, instead
 * of a little at each place where a thread first touches it. */
static void meet(struct moe_session *s, uint32_t layer, uint32_t e)
{
    const struct moe_expert_weights *w = &s->llm->layers[layer].experts[e];
    bool *met = &s->met[(size_t)layer * s->llm->config.n_experts + e];
    if (*met)
        return;
    *met = true;
    moe_matrix_fetch(&w->w1);
    moe_matrix_fetch(&w->w3);
    moe_matrix_fetch(&w->w2);
}

void moe_forward_experts(struct moe_session *s, uint32_t layer, const moe_expert *experts,
                         uint32_t n_experts)
{
    const struct moe_llm_config *c = &s->llm->config;
    uint32_t n_jobs = 0;
    for (uint32_t i = 0; i < (experts ? n_experts : c->n_experts); i++) {
        uint32_t e = experts ? experts[i] : i;
        const struct moe_expert_weights *w = &s->llm->layers[layer].experts[e];
        size_t row = s->first[e];
        if (!s->count[e])
            continue;
        meet(s, layer, e);
        s->jobs[n_jobs++] = (struct moe_ffn_job){.w1 = w->w1,
                                                 .w3 = w->w3,
                                                 .w2 = w->w2,
                                                 .n_tokens = s->count[e],
                                                 .x = s->ffn_x + row * c->d_model,
                                                 .h = s->ffn_h + row * c->d_ffn,
                                                 .y = s->ffn_y + row * c->d_model};
    }
    if (n_jobs)
        moe_pool_experts(s->pool, s->jobs, n_jobs);
}

/* As in the reference, the experts are added to each other before they are added to x. */
static void combine(void *context, uint32_t t)
{
    const struct moe_session *s = ((const struct work *)context)->s;
    size_t d = s->llm->config.d_model, k = s->llm->config.top_k;
    float *x = s->x + t * d, *sum = s->out + t * d;
    memset(sum, 0, d * sizeof *sum);
    for (size_t i = t * k; i < (t + 1) * k; i++) {
        const float *y = s->ffn_y + s->row[i] * d;
        for (size_t j = 0; j < d; j++)
            sum[j] += s->weight[i] * y[j];
    }
    for (size_t j = 0; j < d; j++)
        x[j] += sum[j];
}

void moe_forward_combine(struct moe_session *s, uint32_t layer)
{
    struct work w = {s, layer};
    each_token(&w, combine);
}

void moe_forward_end(struct moe_session *s, float *logits)
{
    const struct moe_llm *llm = s->llm;
    if (logits) {
        normalise(s, &llm->final_norm, s->n - 1);
        moe_pool_linear(s->pool, &llm->head, llm->head_bias,
                        s->u + (size_t)(s->n - 1) * llm->config.d_model, 1, logits);
    }
    s->length += s->n;
}
