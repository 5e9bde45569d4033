/* Compares a device's kernels with exec/dense.h on one layer of a small random model of either
 * architecture. The device gets the tokens in several passes, the CPU in one. */
#ifndef MOELAB_TESTS_DEVICE_KERNELS_H
#define MOELAB_TESTS_DEVICE_KERNELS_H

#include "exec/dense.h"
#include "exec/quantize.h"
#include "exec/router.h"
#include "tests/unit/device_contract.h"

#include <math.h>

enum { SMALL_EXPERTS = 12 };

/* One layer, the router behind it, and the head. */
struct small {
    struct moe_llm_config c;
    struct moe_llm_layer layer;
    struct moe_expert_weights experts[SMALL_EXPERTS];
    struct moe_matrix next_router, head;
    struct moe_norm norm;
    float *head_bias;
    uint32_t tokens, context, chunk;
};

/* Called for each array of a model or of activations; `field` is the address of its pointer. The
 * visitor allocates it: on the host, where it also fills it, or on the device. */
struct visitor {
    void (*visit)(struct visitor *visitor, void *field, enum moe_dtype dtype, size_t items);
    struct moe_device *device; /* NULL: host memory */
    struct moe_rng *rng;
    void *made[128];
    size_t n;
};

static inline uint32_t between(struct moe_rng *rng, uint32_t low, uint32_t high)
{
    return low + (uint32_t)moe_rng_below(rng, high - low + 1);
}

/* A shape that no vector width divides, unless the device requires a multiple. About every second
 * one has rows of whole blocks, as Q8 and Q4 need them. */
static inline struct small small_shape(struct moe_rng *rng, enum moe_arch arch, uint32_t multiple)
{
    const bool phi = arch == MOE_ARCH_PHIMOE;
    struct small m = {.c.arch = arch};
    struct moe_llm_config *c = &m.c;
    c->qk_norm = moe_arch_info(arch)->qk_norm;
    c->renormalise = moe_arch_info(arch)->renormalises || between(rng, 0, 1);
    c->n_layers = 2;
    c->n_experts = between(rng, 2, SMALL_EXPERTS);
    c->top_k = phi ? 2 : between(rng, 1, c->n_experts < 4 ? c->n_experts : 4);
    const uint32_t step = between(rng, 0, 1) ? MOE_QUANT_BLOCK : multiple;
    c->d_model = step * between(rng, 1, step > 1 ? 5 : 70);
    c->d_ffn = step * between(rng, 1, step > 1 ? 5 : 70);
    c->n_kv_heads = between(rng, 1, 3);
    c->n_heads = c->n_kv_heads * between(rng, 1, 4);
    c->head_dim = (multiple > 1 ? multiple : 2) * between(rng, 1, multiple > 1 ? 2 : 9);
    c->n_vocab = between(rng, 1, 90);
    c->norm_eps = 1e-5f;
    c->router_jitter = phi ? 0.01f : 0;
    m.tokens = between(rng, 1, 45);
    m.context = m.tokens + between(rng, 0, 5);
    m.chunk = between(rng, 1, m.tokens);
    c->max_context = m.context;
    c->sliding_window = between(rng, 0, 1) ? between(rng, 1, m.tokens + 3) : 0;
    c->head_bias = phi;
    c->attention_bias = phi || (c->qk_norm && between(rng, 0, 1));
    return m;
}

/* Random weights between -0.5 and 0.5, rounded. */
static inline void fill_quantized(struct moe_rng *rng, const struct moe_matrix *w)
{
    float row[5 * MOE_QUANT_BLOCK * 12];
    ck_assert_uint_le(w->cols, sizeof row / sizeof *row);
    unsigned char *to = (unsigned char *)(uintptr_t)w->data;
    for (uint32_t r = 0; r < w->rows; r++, to += moe_dtype_row_bytes(w->dtype, w->cols)) {
        for (uint32_t c = 0; c < w->cols; c++)
            row[c] = (float)(moe_rng_unit(rng) - 0.5);
        ck_assert_uint_eq(moe_quantize_row(w->dtype, row, w->cols, to), w->cols);
    }
}

/* w->dtype and the shape are set already. */
static inline void visit_made(struct visitor *v, struct moe_matrix *w)
{
    v->visit(v, &w->data, w->dtype, (size_t)w->rows * w->cols);
    if (v->rng && !moe_dtype_plain(w->dtype))
        fill_quantized(v->rng, w);
}

static inline void visit_matrix(struct visitor *v, struct moe_matrix *w, uint32_t rows,
                                uint32_t cols)
{
    /* all types, or the plain ones */
    const uint32_t types = cols % MOE_QUANT_BLOCK == 0 ? MOE_N_DTYPES : MOE_Q8;
    if (v->rng)
        *w = (struct moe_matrix){
            .dtype = (enum moe_dtype)moe_rng_below(v->rng, types), .rows = rows, .cols = cols};
    visit_made(v, w);
}

static inline void visit_floats(struct visitor *v, bool there, float **field, size_t n)
{
    if (there)
        v->visit(v, field, MOE_F32, n);
}

static inline void visit_norm(struct visitor *v, const struct moe_llm_config *c,
                              struct moe_norm *norm)
{
    visit_floats(v, true, &norm->scale, c->d_model);
    visit_floats(v, c->arch == MOE_ARCH_PHIMOE, &norm->shift, c->d_model);
}

static inline void visit_weights(struct visitor *v, struct small *m)
{
    const struct moe_llm_config *c = &m->c;
    struct moe_llm_layer *l = &m->layer;
    const uint32_t d = c->d_model, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    l->experts = m->experts;
    visit_norm(v, c, &l->before_attention);
    visit_norm(v, c, &l->before_experts);
    visit_norm(v, c, &m->norm);
    visit_matrix(v, &l->q, q, d);
    visit_matrix(v, &l->k, kv, d);
    visit_matrix(v, &l->v, kv, d);
    visit_matrix(v, &l->o, d, q);
    visit_floats(v, c->attention_bias, &l->q_bias, q);
    visit_floats(v, c->attention_bias, &l->k_bias, kv);
    visit_floats(v, c->attention_bias, &l->v_bias, kv);
    visit_floats(v, c->attention_bias, &l->o_bias, d);
    visit_floats(v, c->qk_norm, &l->q_norm.scale, moe_llm_qk_width(c, c->n_heads));
    visit_floats(v, c->qk_norm, &l->k_norm.scale, moe_llm_qk_width(c, c->n_kv_heads));
    visit_matrix(v, &l->router, c->n_experts, d);
    visit_matrix(v, &m->next_router, c->n_experts, d);
    visit_matrix(v, &m->head, c->n_vocab, d);
    visit_floats(v, c->head_bias, &m->head_bias, c->n_vocab);
    for (uint32_t e = 0; e < c->n_experts; e++) {
        visit_matrix(v, &m->experts[e].w1, c->d_ffn, d);
        m->experts[e].w3.dtype = m->experts[e].w1.dtype; /* kernels read both together */
        m->experts[e].w3.rows = c->d_ffn;
        m->experts[e].w3.cols = d;
        visit_made(v, &m->experts[e].w3);
        visit_matrix(v, &m->experts[e].w2, d, c->d_ffn);
    }
}

/* Visits the activations of T tokens. */
static inline void visit_activations(struct visitor *v, const struct moe_llm_config *c,
                                     struct moe_activations *a, size_t t)
{
    const size_t d = c->d_model, e = c->n_experts, tk = t * c->top_k, hd = c->head_dim;
    float **const floats[] = {&a->x,     &a->u,     &a->cosine, &a->sine,  &a->q,     &a->k,
                              &a->v,     &a->out,   &a->score,  &a->ahead, &a->share, &a->attended,
                              &a->ffn_x, &a->ffn_h, &a->ffn_y,  &a->weight};
    const size_t q = t * c->n_heads * hd, kv = t * c->n_kv_heads * hd;
    const size_t items[] = {t * d,  t * d,         t * hd / 2, t * hd / 2, q,     kv,
                            kv,     t * d,         t * e,      t * e,      t * e, q,
                            tk * d, tk * c->d_ffn, tk * d,     tk};
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        v->visit(v, floats[i], MOE_F32, items[i]);
    v->visit(v, &a->soft, MOE_F32, 2 * t * c->n_heads);
    v->visit(v, &a->expert, MOE_BF16, tk); /* any type of 16 bits */
    v->visit(v, &a->count, MOE_F32, e);
    v->visit(v, &a->first, MOE_F32, e);
    v->visit(v, &a->row, MOE_F32, tk);
}

/* Random weights of a plain type between -0.5 and 0.5. */
static inline void fill_weights(struct moe_rng *rng, enum moe_dtype dtype, size_t n, void *to)
{
    for (size_t i = 0; i < n; i++) {
        const float value = (float)(moe_rng_unit(rng) - 0.5);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (dtype == MOE_F32)
            ((float *)to)[i] = value;
        else if (dtype == MOE_BF16)
            ((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
        else /* F16 of exponents -6 to -2 */
            ((uint16_t *)to)[i] = (uint16_t)((bits >> 16 & 0x8000) | (bits & 0x3ff) |
                                             (9 + moe_rng_below(rng, 5)) << 10);
    }
}

static inline void visit_new(struct visitor *v, void *field, enum moe_dtype dtype, size_t items)
{
    const size_t bytes = moe_dtype_row_bytes(dtype, items);
    void *p = v->device ? device_alloc(v->device, MOE_MEMORY_DEVICE, bytes) : calloc(1, bytes);
    ck_assert(p && v->n < sizeof v->made / sizeof *v->made);
    if (v->rng && moe_dtype_plain(dtype))
        fill_weights(v->rng, dtype, items, p);
    v->made[v->n++] = p;
    memcpy(field, &p, sizeof p);
}

/* Copies a host array to the device and makes the pointer point to the copy. */
static inline void visit_upload(struct visitor *v, void *field, enum moe_dtype dtype, size_t items)
{
    void *from;
    memcpy(&from, field, sizeof from);
    visit_new(v, field, dtype, items);
    device_send(v->device, v->made[v->n - 1], from, moe_dtype_row_bytes(dtype, items));
}

static inline void visitor_release(struct visitor *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->device)
            v->device->ops->release(v->device, MOE_MEMORY_DEVICE, v->made[i]);
        else
            free(v->made[i]);
}

/* The model, the activations of all tokens and the cache on the host, and what the device needs. */
struct kernels_rig {
    const struct device_case *of;
    struct small host, device;
    struct visitor on_host, on_device, scratch;
    struct moe_activations ref, a; /* ref: all tokens, host; a: one pass, on the device */
    float *x, *ref_keys, *ref_values, *keys, *values, *logits;
    struct moe_pool *pool;
    moe_expert *forced; /* [tokens, K], or NULL: the router's choice */
    float *forced_weight;
    struct moe_route_box box;
    uint64_t *words; /* pinned, for the box */
};

static inline struct moe_dense rig_dense(const struct kernels_rig *r)
{
    return (struct moe_dense){.config = &r->host.c,
                              .layer = &r->host.layer,
                              .next_router = &r->host.next_router,
                              .pool = r->pool,
                              .keys = r->ref_keys,
                              .values = r->ref_values,
                              .context = r->host.context,
                              .a = &r->ref};
}

/* Draws K different experts and their weights for every token, independently of the router. */
static inline void rig_force(struct kernels_rig *r, struct moe_rng *rng)
{
    const uint32_t k = r->host.c.top_k, e = r->host.c.n_experts;
    r->scratch.visit(&r->scratch, &r->forced, MOE_BF16, (size_t)r->host.tokens * k);
    r->scratch.visit(&r->scratch, &r->forced_weight, MOE_F32, (size_t)r->host.tokens * k);
    for (uint32_t t = 0; t < r->host.tokens; t++) {
        const uint32_t first = between(rng, 0, e - 1);
        for (uint32_t i = 0; i < k; i++) {
            r->forced[t * k + i] = (moe_expert)((first + i) % e);
            r->forced_weight[t * k + i] = (float)moe_rng_unit(rng);
        }
    }
}

static inline void rig_new(struct kernels_rig *r, const struct device_case *of, uint64_t seed,
                           bool forced)
{
    struct moe_rng rng;
    moe_rng_init(&rng, seed);
    *r = (struct kernels_rig){.of = of,
                              .host = small_shape(&rng, (enum moe_arch)(seed % 4), of->multiple)};
    const struct moe_llm_config *c = &r->host.c;
    const size_t n = r->host.tokens, half = c->head_dim / 2;
    const size_t cache = (size_t)c->n_kv_heads * r->host.context * c->head_dim;
    r->on_host = (struct visitor){.visit = visit_new, .rng = &rng};
    r->scratch = (struct visitor){.visit = visit_new};
    r->on_device = (struct visitor){.visit = visit_upload, .device = of->device};
    visit_weights(&r->on_host, &r->host);
    r->device = r->host;
    visit_weights(&r->on_device, &r->device);
    visit_activations(&r->scratch, c, &r->ref, n);
    r->on_host.visit(&r->on_host, &r->x, MOE_F32, n * c->d_model);
    visit_floats(&r->scratch, true, &r->ref_keys, cache);
    visit_floats(&r->scratch, true, &r->ref_values, cache);
    r->on_device.visit = visit_new;
    visit_activations(&r->on_device, c, &r->a, r->host.chunk);
    visit_floats(&r->on_device, true, &r->keys, cache);
    visit_floats(&r->on_device, true, &r->values, cache);
    visit_floats(&r->on_device, true, &r->logits, c->n_vocab);
    for (size_t i = 0; i < n * half; i++) {
        r->ref.cosine[i] = (float)cos((double)i);
        r->ref.sine[i] = (float)sin((double)i);
    }
    memcpy(r->ref.x, r->x, n * c->d_model * sizeof *r->x);
    if (forced)
        rig_force(r, &rng);
    const struct moe_pool_options pool = {.threads = 1, .kernels = of->kernels};
    ck_assert_int_eq(moe_pool_new(&r->pool, &pool, NULL), MOE_OK);
}

static inline void rig_free(struct kernels_rig *r)
{
    r->of->device->ops->release(r->of->device, MOE_MEMORY_PINNED, r->words);
    visitor_release(&r->on_device);
    visitor_release(&r->on_host);
    visitor_release(&r->scratch);
    moe_pool_free(r->pool);
}

static inline void rig_box(struct kernels_rig *r, bool scores)
{
    const struct moe_llm_config *c = &r->host.c;
    const size_t tk = (size_t)r->host.chunk * c->top_k, te = (size_t)r->host.chunk * c->n_experts;
    r->words = device_alloc(r->of->device, MOE_MEMORY_PINNED, (1 + tk + tk + te + te) * 8);
    r->box = (struct moe_route_box){.flag = r->words,
                                    .expert = (moe_expert *)(r->words + 1),
                                    .weight = (float *)(r->words + 1 + tk)};
    *r->words = 0;
    if (scores) {
        r->box.score = (float *)(r->words + 1 + 2 * tk);
        r->box.ahead = (float *)(r->words + 1 + 2 * tk + te);
    }
}

/* The whole layer on the CPU, in one pass. */
static inline void rig_reference(struct kernels_rig *r)
{
    const struct moe_dense dense = rig_dense(r);
    const struct moe_llm_config *c = &r->host.c;
    const size_t n = (size_t)r->host.tokens * c->top_k;
    r->ref.n = r->host.tokens;
    moe_dense_attend(&dense);
    moe_dense_choose(&dense);
    if (r->forced) {
        memcpy(r->ref.expert, r->forced, n * sizeof *r->forced);
        memcpy(r->ref.weight, r->forced_weight, n * sizeof *r->forced_weight);
    }
    moe_dense_group(c, &r->ref);
    moe_dense_gather(&dense);
    for (uint32_t e = 0; e < c->n_experts; e++) {
        const struct moe_ffn_job job =
            moe_dense_expert(c, &r->host.experts[e], &r->ref, (moe_expert)e);
        moe_pool_experts(r->pool, &job, 1);
    }
    moe_dense_combine(&dense);
}

static inline void near(const struct kernels_rig *r, const char *what, const float *got,
                        const float *want, size_t n)
{
    double most = 0, worst = 0;
    if (r->of->tolerance <= 0) {
        ck_assert_msg(memcmp(got, want, n * sizeof *got) == 0, "%s: other bits", what);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        ck_assert_msg(isfinite(got[i]), "%s: not finite", what);
    }
    ck_assert_msg(worst <= r->of->tolerance * most, "%s: off by %g of %g", what, worst, most);
}

/* Checks that the chosen experts are the forced ones or, if none are, follow from the scores that
 * the device itself computed. */
static inline void rig_check_routes(const struct kernels_rig *r, size_t at)
{
    const struct moe_llm_config *c = &r->host.c;
    const size_t k = c->top_k, e = c->n_experts, n = r->a.n;
    float weight[SMALL_EXPERTS], scratch[SMALL_EXPERTS];
    moe_expert expert[SMALL_EXPERTS];
    if (r->box.score) {
        near(r, "score", r->box.score, r->ref.score + at * e, n * e);
        near(r, "ahead", r->box.ahead, r->ref.ahead + at * e, n * e);
    }
    for (size_t t = 0; t < n && (r->forced || r->box.score); t++) {
        if (r->forced) {
            memcpy(expert, r->forced + (at + t) * k, k * sizeof *expert);
            memcpy(weight, r->forced_weight + (at + t) * k, k * sizeof *weight);
        } else {
            moe_router_choose(c, r->box.score + t * e, expert, weight, scratch);
        }
        ck_assert(memcmp(expert, r->box.expert + t * k, k * sizeof *expert) == 0);
        near(r, "weight", r->box.weight + t * k, weight, k);
    }
}

/* Checks that the device groups tokens by expert as the host does with the routes in the box. */
static inline void rig_check_groups(const struct kernels_rig *r, uint32_t *count, uint32_t *first)
{
    const struct moe_llm_config *c = &r->host.c;
    const size_t tk = (size_t)r->a.n * c->top_k;
    uint32_t got[SMALL_EXPERTS], *row = calloc(2 * tk, sizeof *row);
    ck_assert_ptr_nonnull(row);
    const struct moe_activations mine = {
        .n = r->a.n, .expert = r->box.expert, .count = count, .first = first, .row = row};
    moe_dense_group(c, &mine);
    device_fetch(r->of->device, got, r->a.count, c->n_experts * sizeof *got);
    ck_assert(memcmp(got, count, c->n_experts * sizeof *got) == 0);
    device_fetch(r->of->device, got, r->a.first, c->n_experts * sizeof *got);
    ck_assert(memcmp(got, first, c->n_experts * sizeof *got) == 0);
    device_fetch(r->of->device, row + tk, r->a.row, tk * sizeof *row);
    ck_assert(memcmp(row + tk, row, tk * sizeof *row) == 0);
    free(row);
}

/* Runs tokens [at, at + n) as one pass on the device and compares routes and groups with the
 * reference. */
static inline void rig_pass(struct kernels_rig *r, uint32_t at, uint32_t n)
{
    struct moe_device *device = r->of->device;
    const struct moe_llm_config *c = &r->host.c;
    const size_t d = c->d_model, half = c->head_dim / 2, k = c->top_k, f = sizeof(float);
    uint32_t count[SMALL_EXPERTS], first[SMALL_EXPERTS];
    struct visitor pass = {.visit = visit_upload, .device = device};
    struct moe_err err = {0};
    moe_expert *forced = r->forced ? r->forced + at * k : NULL;
    float *weight = r->forced ? r->forced_weight + at * k : NULL;
    if (forced) {
        visit_upload(&pass, &forced, MOE_BF16, n * k);
        visit_upload(&pass, &weight, MOE_F32, n * k);
    }
    r->a.n = n;
    r->a.length = at;
    device_send(device, r->a.x, r->x + at * d, n * d * f);
    device_send(device, r->a.cosine, r->ref.cosine + at * half, n * half * f);
    device_send(device, r->a.sine, r->ref.sine + at * half, n * half * f);
    r->box.ticket++;
    {
        /* The device must read these structs during the call: they are overwritten after it. */
        struct moe_llm_config config = *c;
        struct moe_llm_layer layer = r->device.layer;
        struct moe_matrix next = r->device.next_router;
        struct moe_activations a = r->a;
        const struct moe_attend_job job = {.config = &config,
                                           .layer = &layer,
                                           .next_router = &next,
                                           .keys = r->keys,
                                           .values = r->values,
                                           .context = r->host.context,
                                           .a = &a,
                                           .forced = forced,
                                           .forced_weight = weight,
                                           .box = r->box};
        device->ops->attend(device, &job);
        memset(&config, 0xff, sizeof config);
        memset(&layer, 0xff, sizeof layer);
        memset(&next, 0xff, sizeof next);
        memset(&a, 0xff, sizeof a);
    }
    enum moe_status s = device->ops->routes_wait(device, &r->box, &err);
    ck_assert_msg(s == MOE_OK, "%s", err.text);
    rig_check_routes(r, at);
    rig_check_groups(r, count, first);
    for (uint32_t e = 0; e < c->n_experts; e++) {
        const struct moe_expert_job job = {
            .weights = &r->device.experts[e], .row = first[e], .n_tokens = count[e], .a = &r->a};
        if (count[e])
            device->ops->expert(device, &job);
    }
    device->ops->combine(device, &(struct moe_combine_job){.config = c, .a = &r->a});
    device_finish(device, MOE_STREAM_COMPUTE);
    visitor_release(&pass);
}

/* Compares the results of the pass, unless the router's own choice may have differed from the
 * reference's because of rounding. */
static inline void rig_check_pass(struct kernels_rig *r, uint32_t at, uint32_t n)
{
    struct moe_device *device = r->of->device;
    const struct moe_llm_config *c = &r->host.c;
    const size_t d = c->d_model, v = c->n_vocab;
    const struct moe_dense dense = rig_dense(r);
    float *got = calloc(n * d + 2 * v, sizeof *got), *logits = got + n * d, *want = logits + v;
    ck_assert_ptr_nonnull(got);
    const struct moe_head_job job = {.config = c,
                                     .norm = &r->device.norm,
                                     .head = &r->device.head,
                                     .bias = r->device.head_bias,
                                     .a = &r->a,
                                     .logits = r->logits};
    device->ops->head(device, &job);
    device_fetch(device, got, r->a.x, n * d * sizeof *got);
    device_fetch(device, logits, r->logits, v * sizeof *got);
    if (r->forced || r->of->tolerance <= 0) {
        near(r, "x", got, r->ref.x + at * d, n * d);
        r->ref.n = at + n;
        moe_dense_head(&dense, &r->host.norm, &r->host.head, r->host.head_bias, want);
        near(r, "logits", logits, want, v);
    }
    free(got);
}

/* Tests the model drawn from the seed; its architecture is seed mod 4. */
static inline void contract_kernels(const struct device_case *c, uint64_t seed, bool forced)
{
    struct kernels_rig r;
    struct moe_rng rng;
    rig_new(&r, c, seed, forced);
    moe_rng_init(&rng, seed + 1);
    rig_box(&r, seed % 3 != 0);
    rig_reference(&r);
    for (uint32_t at = 0, n; at < r.host.tokens; at += n) {
        const uint32_t left = r.host.tokens - at;
        n = between(&rng, 1, left < r.host.chunk ? left : r.host.chunk);
        rig_pass(&r, at, n);
        rig_check_pass(&r, at, n);
    }
    rig_free(&r);
}

#endif
