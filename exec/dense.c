#include "exec/dense.h"

#include "exec/norm.h"
#include "exec/rope.h"
#include "exec/router.h"

#include <string.h>

static void normalise(const struct moe_dense *w, const struct moe_norm *norm, uint32_t t)
{
    size_t d = w->config->d_model;
    moe_norm_apply(norm, w->config->norm_eps, w->a->x + t * d, (uint32_t)d, w->a->u + t * d);
}

static void before_attention(void *context, uint32_t t)
{
    const struct moe_dense *w = context;
    normalise(w, &w->layer->before_attention, t);
}

/* RMSNorm of a token's queries or keys, where the architecture has it. */
static void normalise_heads(const struct moe_llm_config *c, const struct moe_norm *norm,
                            uint32_t n_heads, float *x)
{
    const uint32_t width = moe_llm_qk_width(c, n_heads), all = n_heads * c->head_dim;
    for (uint32_t at = 0; norm->scale && at < all; at += width)
        moe_norm_apply(norm, c->norm_eps, x + at, width, x + at);
}

/* Normalises a token's queries and keys, applies the rotary angles to them, and stores its keys and
 * values in the cache. */
static void place(void *context, uint32_t t)
{
    const struct moe_dense *w = context;
    const struct moe_activations *a = w->a;
    const struct moe_llm_config *c = w->config;
    uint32_t half = c->head_dim / 2;
    const float *cosine = a->cosine + (size_t)t * half, *sine = a->sine + (size_t)t * half;
    size_t hd = c->head_dim, bytes = hd * sizeof(float), position = a->length + t;
    normalise_heads(c, &w->layer->q_norm, c->n_heads, a->q + (size_t)t * c->n_heads * hd);
    normalise_heads(c, &w->layer->k_norm, c->n_kv_heads, a->k + (size_t)t * c->n_kv_heads * hd);
    for (uint32_t h = 0; h < c->n_heads; h++)
        moe_rope_turn(cosine, sine, half, a->q + ((size_t)t * c->n_heads + h) * hd);
    for (uint32_t h = 0; h < c->n_kv_heads; h++) {
        size_t from = ((size_t)t * c->n_kv_heads + h) * hd;
        size_t to = ((size_t)h * w->context + position) * hd;
        moe_rope_turn(cosine, sine, half, a->k + from);
        memcpy(w->keys + to, a->k + from, bytes);
        memcpy(w->values + to, a->v + from, bytes);
    }
}

/* An item of work is a few tokens and the query heads of one key-value head: they share what is
 * read of the cache, and there are still enough items for many threads. */
enum { ATTEND_TOKENS = 8 };

static void attend(void *context, uint32_t i)
{
    const struct moe_dense *w = context;
    const struct moe_activations *a = w->a;
    const struct moe_llm_config *c = w->config;
    const struct moe_attention attention = {.kernels = moe_pool_kernels(w->pool),
                                            .group = c->n_heads / c->n_kv_heads,
                                            .n_heads = c->n_heads,
                                            .head_dim = c->head_dim,
                                            .window = c->sliding_window};
    uint32_t t = i / c->n_kv_heads * ATTEND_TOKENS, kv = i % c->n_kv_heads;
    uint32_t left = a->n - t, n_tokens = left < ATTEND_TOKENS ? left : ATTEND_TOKENS;
    size_t head = (size_t)t * c->n_heads + (size_t)kv * attention.group;
    size_t row = (size_t)kv * w->context * c->head_dim, at = head * c->head_dim;
    moe_attention_run(&attention, n_tokens, a->q + at, w->keys + row, w->values + row,
                      a->length + t, a->soft + head, a->attended + at);
}

static void before_experts(void *context, uint32_t t)
{
    const struct moe_dense *w = context;
    size_t d = w->config->d_model;
    float *x = w->a->x + t * d;
    const float *out = w->a->out + t * d;
    for (size_t i = 0; i < d; i++)
        x[i] += out[i];
    normalise(w, &w->layer->before_experts, t);
}

/* Less work than this, products of attention or floats of vectors, is done by the caller alone, for
 * the reason that exec/pool.c gives for SERIAL_BYTES; each is about 0.1 ms of one core. */
enum { PARALLEL_PRODUCTS = 1 << 20, PARALLEL_FLOATS = 1 << 17 };

/* Calls f for every token of the pass. */
static void each_token(const struct moe_dense *w, void (*f)(void *work, uint32_t t))
{
    struct moe_dense work = *w;
    if ((uint64_t)w->a->n * w->config->d_model >= PARALLEL_FLOATS)
        moe_pool_each(w->pool, w->a->n, f, &work);
    else
        for (uint32_t t = 0; t < w->a->n; t++)
            f(&work, t);
}

/* Attention of every head of every token. */
static void attend_all(const struct moe_dense *w)
{
    struct moe_dense work = *w;
    const struct moe_llm_config *c = w->config;
    uint32_t keys = w->a->length + w->a->n;
    uint32_t n = (w->a->n + ATTEND_TOKENS - 1) / ATTEND_TOKENS * c->n_kv_heads;
    if (c->sliding_window && keys > c->sliding_window)
        keys = c->sliding_window;
    uint64_t products = (uint64_t)w->a->n * c->n_heads * c->head_dim * keys;
    if (products >= PARALLEL_PRODUCTS)
        moe_pool_each(w->pool, n, attend, &work);
    else
        for (uint32_t i = 0; i < n; i++)
            attend(&work, i);
}

/* Router logits of this layer, and those of the next layer's router for the same vectors. */
static void score(const struct moe_dense *w)
{
    const struct moe_linear jobs[] = {
        {&w->layer->router, NULL, w->a->score},
        {w->next_router, NULL, w->a->ahead},
    };
    moe_pool_linears(w->pool, jobs, w->next_router ? 2 : 1, w->a->u, w->a->n);
}

void moe_dense_attend(const struct moe_dense *w)
{
    const struct moe_activations *a = w->a;
    const struct moe_llm_layer *layer = w->layer;
    const struct moe_linear qkv[] = {
        {&layer->q, layer->q_bias, a->q},
        {&layer->k, layer->k_bias, a->k},
        {&layer->v, layer->v_bias, a->v},
    };
    each_token(w, before_attention);
    moe_pool_linears(w->pool, qkv, 3, a->u, a->n);
    each_token(w, place);
    attend_all(w);
    moe_pool_linear(w->pool, &layer->o, layer->o_bias, a->attended, a->n, a->out);
    each_token(w, before_experts);
    score(w);
}

void moe_dense_choose(const struct moe_dense *w)
{
    const struct moe_llm_config *c = w->config;
    const struct moe_activations *a = w->a;
    for (uint32_t t = 0; t < a->n; t++)
        moe_router_choose(c, a->score + (size_t)t * c->n_experts, a->expert + (size_t)t * c->top_k,
                          a->weight + (size_t)t * c->top_k, a->share);
}

void moe_dense_group(const struct moe_llm_config *c, const struct moe_activations *a)
{
    size_t n_choices = (size_t)a->n * c->top_k;
    memset(a->count, 0, c->n_experts * sizeof *a->count);
    for (size_t i = 0; i < n_choices; i++)
        a->count[a->expert[i]]++;
    for (uint32_t e = 0, row = 0; e < c->n_experts; row += a->count[e++])
        a->first[e] = row;
    memset(a->count, 0, c->n_experts * sizeof *a->count);
    for (size_t i = 0; i < n_choices; i++)
        a->row[i] = a->first[a->expert[i]] + a->count[a->expert[i]]++;
}

static void gather(void *context, uint32_t t)
{
    const struct moe_dense *w = context;
    const struct moe_activations *a = w->a;
    size_t d = w->config->d_model, k = w->config->top_k;
    for (size_t i = t * k; i < (t + 1) * k; i++)
        memcpy(a->ffn_x + a->row[i] * d, a->u + t * d, d * sizeof *a->u);
}

void moe_dense_gather(const struct moe_dense *w)
{
    each_token(w, gather);
}

struct moe_ffn_job moe_dense_expert(const struct moe_llm_config *c,
                                    const struct moe_expert_weights *w,
                                    const struct moe_activations *a, moe_expert expert)
{
    const size_t row = a->first[expert];
    return (struct moe_ffn_job){.w1 = w->w1,
                                .w3 = w->w3,
                                .w2 = w->w2,
                                .n_tokens = a->count[expert],
                                .x = a->ffn_x + row * c->d_model,
                                .h = a->ffn_h + row * c->d_ffn,
                                .y = a->ffn_y + row * c->d_model};
}

static void combine(void *context, uint32_t t)
{
    const struct moe_dense *w = context;
    const struct moe_activations *a = w->a;
    size_t d = w->config->d_model, k = w->config->top_k;
    float *x = a->x + t * d, *sum = a->out + t * d;
    memset(sum, 0, d * sizeof *sum);
    for (size_t i = t * k; i < (t + 1) * k; i++) {
        const float *y = a->ffn_y + a->row[i] * d;
        for (size_t j = 0; j < d; j++)
            sum[j] += a->weight[i] * y[j];
    }
    for (size_t j = 0; j < d; j++)
        x[j] += sum[j];
}

void moe_dense_combine(const struct moe_dense *w)
{
    each_token(w, combine);
}

void moe_dense_head(const struct moe_dense *w, const struct moe_norm *norm,
                    const struct moe_matrix *head, const float *bias, float *logits)
{
    const struct moe_activations *a = w->a;
    normalise(w, norm, a->n - 1);
    moe_pool_linear(w->pool, head, bias, a->u + (size_t)(a->n - 1) * w->config->d_model, 1, logits);
}
