#include "exec/host_kernels.h"

#include "exec/dense.h"

#include <inttypes.h>
#include <string.h>

/* Memory that a kernel accesses; bytes 0: not accessed this time. */
struct use {
    const char *what;
    const void *at;
    uint64_t bytes;
    enum moe_memory kind;
};

static enum moe_status check_uses(const struct moe_host_kernels *k, const char *kernel,
                                  const struct use *use, size_t n, struct moe_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (use[i].bytes && !moe_host_memory_holds(k->memory, use[i].kind, use[i].at, use[i].bytes))
            return moe_fail(err, MOE_ERR_CHECK,
                            "kernel '%s': '%s' of %" PRIu64
                            " bytes leaves what is allocated of %s memory",
                            kernel, use[i].what, use[i].bytes,
                            use[i].kind == MOE_MEMORY_DEVICE ? "device" : "pinned");
    return MOE_OK;
}

static uint64_t products(const struct moe_matrix *w)
{
    return (uint64_t)w->rows * w->cols;
}

/* Bytes of an optional array of n float32. */
static uint64_t optional(const float *p, uint64_t n)
{
    return p ? n * sizeof *p : 0;
}

#define ON_DEVICE(name, pointer, size)                                                             \
    {                                                                                              \
        .what = (name), .at = (pointer), .bytes = (size), .kind = MOE_MEMORY_DEVICE                \
    }
#define ON_HOST(name, pointer, size)                                                               \
    {                                                                                              \
        .what = (name), .at = (pointer), .bytes = (size), .kind = MOE_MEMORY_PINNED                \
    }

struct moe_host_attend moe_host_attend_take(const struct moe_attend_job *job)
{
    struct moe_host_attend taken = {
        .job = *job, .config = *job->config, .layer = *job->layer, .a = *job->a};
    if (job->next_router)
        taken.next_router = *job->next_router;
    return taken;
}

struct moe_host_expert moe_host_expert_take(const struct moe_expert_job *job)
{
    return (struct moe_host_expert){.job = *job, .weights = *job->weights, .a = *job->a};
}

struct moe_host_combine moe_host_combine_take(const struct moe_combine_job *job)
{
    return (struct moe_host_combine){.config = *job->config, .a = *job->a};
}

struct moe_host_head moe_host_head_take(const struct moe_head_job *job)
{
    return (struct moe_host_head){
        .job = *job, .config = *job->config, .norm = *job->norm, .head = *job->head, .a = *job->a};
}

/* The number of keys that token t of the pass attends to. */
static uint64_t visible(const struct moe_attend_job *job, uint32_t t)
{
    const uint64_t keys = (uint64_t)job->a->length + t + 1, window = job->config->sliding_window;
    return window && keys > window ? window : keys;
}

struct moe_host_load moe_host_attend_load(const struct moe_attend_job *job)
{
    const struct moe_llm_layer *layer = job->layer;
    const struct moe_matrix *w[] = {&layer->q, &layer->k,      &layer->v,
                                    &layer->o, &layer->router, job->next_router};
    const struct moe_llm_config *c = job->config;
    struct moe_host_load load = {.n_tokens = job->a->n};
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        if (w[i]) {
            load.bytes += moe_matrix_bytes(w[i]);
            load.flops += 2.0 * (double)products(w[i]) * job->a->n;
        }
    for (uint32_t t = 0; t < job->a->n; t++)
        load.flops += 4.0 * c->n_heads * c->head_dim * (double)visible(job, t);
    /* The tokens of a pass attend to nearly the same keys: those of the last token are read once.
     */
    if (job->a->n)
        load.bytes += 2 * sizeof(float) * c->n_kv_heads * c->head_dim * visible(job, job->a->n - 1);
    return load;
}

struct moe_host_load moe_host_expert_load(const struct moe_expert_job *job)
{
    const struct moe_expert_weights *w = job->weights;
    const uint64_t all = products(&w->w1) + products(&w->w3) + products(&w->w2);
    return (struct moe_host_load){.bytes = moe_matrix_bytes(&w->w1) + moe_matrix_bytes(&w->w3) +
                                           moe_matrix_bytes(&w->w2),
                                  .flops = 2.0 * (double)all * job->n_tokens,
                                  .n_tokens = job->n_tokens};
}

struct moe_host_load moe_host_head_load(const struct moe_head_job *job)
{
    return (struct moe_host_load){.bytes = moe_matrix_bytes(job->head),
                                  .flops = 2.0 * (double)products(job->head),
                                  .n_tokens = 1};
}

static enum moe_status check_weights(const struct moe_host_kernels *k,
                                     const struct moe_host_attend *w, struct moe_err *err)
{
    const struct moe_llm_layer *l = &w->layer;
    const struct moe_llm_config *c = &w->config;
    const uint64_t d = c->d_model, f = sizeof(float);
    const struct use use[] = {
        ON_DEVICE("q", l->q.data, moe_matrix_bytes(&l->q)),
        ON_DEVICE("k", l->k.data, moe_matrix_bytes(&l->k)),
        ON_DEVICE("v", l->v.data, moe_matrix_bytes(&l->v)),
        ON_DEVICE("o", l->o.data, moe_matrix_bytes(&l->o)),
        ON_DEVICE("router", l->router.data, moe_matrix_bytes(&l->router)),
        ON_DEVICE("next router", w->next_router.data, moe_matrix_bytes(&w->next_router)),
        ON_DEVICE("q bias", l->q_bias, optional(l->q_bias, l->q.rows)),
        ON_DEVICE("k bias", l->k_bias, optional(l->k_bias, l->k.rows)),
        ON_DEVICE("v bias", l->v_bias, optional(l->v_bias, l->v.rows)),
        ON_DEVICE("o bias", l->o_bias, optional(l->o_bias, l->o.rows)),
        ON_DEVICE("q norm", l->q_norm.scale,
                  optional(l->q_norm.scale, moe_llm_qk_width(c, c->n_heads))),
        ON_DEVICE("k norm", l->k_norm.scale,
                  optional(l->k_norm.scale, moe_llm_qk_width(c, c->n_kv_heads))),
        ON_DEVICE("scale before attention", l->before_attention.scale, d * f),
        ON_DEVICE("shift before attention", l->before_attention.shift,
                  optional(l->before_attention.shift, d)),
        ON_DEVICE("scale before experts", l->before_experts.scale, d * f),
        ON_DEVICE("shift before experts", l->before_experts.shift,
                  optional(l->before_experts.shift, d)),
    };
    return check_uses(k, "attend", use, sizeof use / sizeof *use, err);
}

static enum moe_status check_arrays(const struct moe_host_kernels *k,
                                    const struct moe_host_attend *w, struct moe_err *err)
{
    const struct moe_activations *a = &w->a;
    const struct moe_llm_config *c = &w->config;
    const uint64_t n = a->n, d = c->d_model, hd = c->head_dim, e = c->n_experts, tk = n * c->top_k;
    const uint64_t f = sizeof(float), q = n * c->n_heads * hd * f, kv = n * c->n_kv_heads * hd * f;
    const uint64_t cache = (uint64_t)c->n_kv_heads * w->job.context * hd * f;
    const struct use use[] = {
        ON_DEVICE("keys", w->job.keys, cache),
        ON_DEVICE("values", w->job.values, cache),
        ON_DEVICE("forced", w->job.forced, w->job.forced ? tk * sizeof(moe_expert) : 0),
        ON_DEVICE("forced_weight", w->job.forced_weight, w->job.forced ? tk * f : 0),
        ON_DEVICE("x", a->x, n * d * f),
        ON_DEVICE("u", a->u, n * d * f),
        ON_DEVICE("cosine", a->cosine, n * (hd / 2) * f),
        ON_DEVICE("sine", a->sine, n * (hd / 2) * f),
        ON_DEVICE("q of activations", a->q, q),
        ON_DEVICE("k of activations", a->k, kv),
        ON_DEVICE("v of activations", a->v, kv),
        ON_DEVICE("attended", a->attended, q),
        ON_DEVICE("soft", a->soft, n * c->n_heads * sizeof *a->soft),
        ON_DEVICE("out", a->out, n * d * f),
        ON_DEVICE("score", a->score, n * e * f),
        ON_DEVICE("ahead", a->ahead, w->next_router.data ? n * e * f : 0),
        ON_DEVICE("share", a->share, e * f),
        ON_DEVICE("expert", a->expert, tk * sizeof *a->expert),
        ON_DEVICE("weight", a->weight, tk * f),
        ON_DEVICE("count", a->count, e * sizeof *a->count),
        ON_DEVICE("first", a->first, e * sizeof *a->first),
        ON_DEVICE("row", a->row, tk * sizeof *a->row),
        ON_DEVICE("ffn_x", a->ffn_x, tk * d * f),
        ON_HOST("box.expert", w->job.box.expert, tk * sizeof *a->expert),
        ON_HOST("box.weight", w->job.box.weight, tk * f),
        ON_HOST("box.score", w->job.box.score, optional(w->job.box.score, n * e)),
        ON_HOST("box.ahead", w->job.box.ahead, optional(w->job.box.ahead, n * e)),
        ON_HOST("box.flag", w->job.box.flag, sizeof *w->job.box.flag),
    };
    return check_uses(k, "attend", use, sizeof use / sizeof *use, err);
}

static enum moe_status check_attend(const struct moe_host_kernels *k,
                                    const struct moe_host_attend *w, struct moe_err *err)
{
    if (w->a.n == 0)
        return moe_fail(err, MOE_ERR_CHECK, "kernel 'attend': a pass of 0 tokens");
    if ((uint64_t)w->a.length + w->a.n > w->job.context)
        return moe_fail(err, MOE_ERR_CHECK,
                        "kernel 'attend': %" PRIu32 " tokens and %" PRIu32
                        " more exceed the context of %" PRIu32,
                        w->a.length, w->a.n, w->job.context);
    enum moe_status s = check_weights(k, w, err);
    return s ? s : check_arrays(k, w, err);
}

static enum moe_status force(const struct moe_host_attend *w, struct moe_err *err)
{
    const size_t n = (size_t)w->a.n * w->config.top_k;
    for (size_t i = 0; i < n; i++)
        if (w->job.forced[i] >= w->config.n_experts)
            return moe_fail(err, MOE_ERR_CHECK,
                            "kernel 'attend': forced expert %u, the model has %" PRIu32,
                            (unsigned)w->job.forced[i], w->config.n_experts);
    memcpy(w->a.expert, w->job.forced, n * sizeof *w->a.expert);
    memcpy(w->a.weight, w->job.forced_weight, n * sizeof *w->a.weight);
    return MOE_OK;
}

static void fill_box(const struct moe_host_attend *w)
{
    const struct moe_route_box *box = &w->job.box;
    const size_t tk = (size_t)w->a.n * w->config.top_k, te = (size_t)w->a.n * w->config.n_experts;
    memcpy(box->expert, w->a.expert, tk * sizeof *box->expert);
    memcpy(box->weight, w->a.weight, tk * sizeof *box->weight);
    if (box->score)
        memcpy(box->score, w->a.score, te * sizeof *box->score);
    if (box->ahead && w->next_router.data)
        memcpy(box->ahead, w->a.ahead, te * sizeof *box->ahead);
}

enum moe_status moe_host_attend_run(const struct moe_host_kernels *k,
                                    const struct moe_host_attend *w, struct moe_err *err)
{
    enum moe_status s = check_attend(k, w, err);
    if (s)
        return s;
    const struct moe_dense dense = {.config = &w->config,
                                    .layer = &w->layer,
                                    .next_router = w->next_router.data ? &w->next_router : NULL,
                                    .pool = k->pool,
                                    .keys = w->job.keys,
                                    .values = w->job.values,
                                    .context = w->job.context,
                                    .a = &w->a};
    moe_dense_attend(&dense);
    if (!w->job.forced)
        moe_dense_choose(&dense);
    else if ((s = force(w, err)))
        return s;
    moe_dense_group(&w->config, &w->a);
    moe_dense_gather(&dense);
    fill_box(w);
    return MOE_OK;
}

enum moe_status moe_host_expert_run(const struct moe_host_kernels *k,
                                    const struct moe_host_expert *w, struct moe_err *err)
{
    const struct moe_expert_weights *e = &w->weights;
    const size_t d = e->w2.rows, h = e->w1.rows, row = w->job.row, n = w->job.n_tokens;
    const uint64_t f = sizeof(float);
    const struct use use[] = {
        ON_DEVICE("w1", e->w1.data, moe_matrix_bytes(&e->w1)),
        ON_DEVICE("w3", e->w3.data, moe_matrix_bytes(&e->w3)),
        ON_DEVICE("w2", e->w2.data, moe_matrix_bytes(&e->w2)),
        ON_DEVICE("ffn_x", w->a.ffn_x, (row + n) * d * f),
        ON_DEVICE("ffn_h", w->a.ffn_h, (row + n) * h * f),
        ON_DEVICE("ffn_y", w->a.ffn_y, (row + n) * d * f),
    };
    enum moe_status s = check_uses(k, "expert", use, sizeof use / sizeof *use, err);
    if (s || n == 0)
        return s;
    const struct moe_ffn_job job = {.w1 = e->w1,
                                    .w3 = e->w3,
                                    .w2 = e->w2,
                                    .n_tokens = w->job.n_tokens,
                                    .x = w->a.ffn_x + row * d,
                                    .h = w->a.ffn_h + row * h,
                                    .y = w->a.ffn_y + row * d};
    moe_pool_experts(k->pool, &job, 1);
    return MOE_OK;
}

enum moe_status moe_host_combine_run(const struct moe_host_kernels *k,
                                     const struct moe_host_combine *w, struct moe_err *err)
{
    const struct moe_activations *a = &w->a;
    const uint64_t n = a->n, d = w->config.d_model, tk = n * w->config.top_k, f = sizeof(float);
    const struct use use[] = {
        ON_DEVICE("x", a->x, n * d * f),          ON_DEVICE("out", a->out, n * d * f),
        ON_DEVICE("weight", a->weight, tk * f),   ON_DEVICE("row", a->row, tk * sizeof *a->row),
        ON_DEVICE("ffn_y", a->ffn_y, tk * d * f),
    };
    enum moe_status s = check_uses(k, "combine", use, sizeof use / sizeof *use, err);
    if (s || n == 0)
        return s;
    const struct moe_dense dense = {.config = &w->config, .pool = k->pool, .a = a};
    moe_dense_combine(&dense);
    return MOE_OK;
}

enum moe_status moe_host_head_run(const struct moe_host_kernels *k, const struct moe_host_head *w,
                                  struct moe_err *err)
{
    const struct moe_activations *a = &w->a;
    const uint64_t d = w->config.d_model, v = w->head.rows, f = sizeof(float);
    if (a->n == 0)
        return moe_fail(err, MOE_ERR_CHECK, "kernel 'head': a pass of 0 tokens");
    const struct use use[] = {
        ON_DEVICE("x", a->x, a->n * d * f),
        ON_DEVICE("u", a->u, a->n * d * f),
        ON_DEVICE("scale", w->norm.scale, d * f),
        ON_DEVICE("shift", w->norm.shift, optional(w->norm.shift, d)),
        ON_DEVICE("head", w->head.data, moe_matrix_bytes(&w->head)),
        ON_DEVICE("bias", w->job.bias, optional(w->job.bias, v)),
        ON_DEVICE("logits", w->job.logits, v * f),
    };
    enum moe_status s = check_uses(k, "head", use, sizeof use / sizeof *use, err);
    if (s)
        return s;
    const struct moe_dense dense = {.config = &w->config, .pool = k->pool, .a = a};
    moe_dense_head(&dense, &w->norm, &w->head, w->job.bias, w->job.logits);
    return MOE_OK;
}
