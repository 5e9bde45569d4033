#include "exec/synthetic.h"

#include "base/progress.h"
#include "base/rng.h"
#include "base/units.h"
#include "exec/expert_store.h"
#include "exec/memory_limits.h"
#include "exec/pinned.h"
#include "exec/pool.h"
#include "exec/quantize.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in Mixtral's config.json, except for the context, whose KV cache takes memory. */
#define NORM_EPS   1e-5F
#define ROPE_THETA 1e6
enum { CONTEXT = 4096 };

enum { ALIGNMENT = 256, CHUNK = 1 << 18 /* weights that a thread makes at a time */ };

struct moe_synthetic {
    struct moe_llm llm;
    struct moe_expert_layout layout;
    uint32_t buffers;
    struct moe_pinned pinned;           /* the buffers */
    struct moe_expert_weights *experts; /* [L, E] */
    char *dense;                        /* attention and router of all layers, embedding, head */
    float *ones;                        /* [D], every norm */
    struct moe_pool *pool;
    uint64_t seed;
};

static bool dtype_of_bits(double bits, enum moe_dtype *out)
{
    static const enum moe_dtype types[] = {MOE_BF16, MOE_Q8, MOE_Q4};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct moe_dtype_info *info = moe_dtype_info(types[i]);
        if (bits == 8.0 * info->bytes / info->block) {
            *out = types[i];
            return true;
        }
    }
    return false;
}

enum moe_status moe_synthetic_expert_type(const struct moe_model *shape, enum moe_dtype *out,
                                          struct moe_err *err)
{
    enum moe_dtype dtype;
    if (!dtype_of_bits(shape->expert_weight_bits, &dtype))
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "model '%s' has expert weights of %g bits, and those made in memory have "
                        "16 (BF16), 8.5 (Q8) or 4.5 (Q4): choose a shape of these",
                        shape->name, shape->expert_weight_bits);
    const uint32_t block = moe_dtype_info(dtype)->block;
    if (shape->d_model % block || shape->d_ffn % block)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "model '%s' has experts of %" PRIu64 " x %" PRIu64
                        ", no multiples of the %" PRIu32 " weights that share a scale in %s",
                        shape->name, shape->d_model, shape->d_ffn, block,
                        moe_dtype_info(dtype)->name);
    *out = dtype;
    return MOE_OK;
}

static enum moe_status check_weights(const struct moe_model *shape, struct moe_err *err)
{
    enum { DENSE_BITS = 16 };
    if (shape->dense_ffn)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "model '%s' has a dense FFN of width %" PRIu64
                        " beside its experts, which moelab does not run: choose a shape without",
                        shape->name, shape->dense_ffn);
    if (shape->dense_layers || shape->kv_lora_rank)
        return moe_fail(
            err, MOE_ERR_UNSUPPORTED,
            "model '%s' has %s, which moelab simulates and does not run: choose a shape "
            "without",
            shape->name,
            shape->dense_layers ? "layers without experts" : "multi-head latent attention");
    if (shape->head_dim % 2 || shape->head_dim > MOE_HEAD_DIM_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "model '%s' has heads of width %" PRIu64
                        ", and moelab runs even ones up to "
                        "%d",
                        shape->name, shape->head_dim, MOE_HEAD_DIM_MAX);
    if (shape->dense_weight_bits != DENSE_BITS)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "model '%s' has dense weights of %g bits, and those made in memory have 16 "
                        "(BF16): choose a shape of these",
                        shape->name, shape->dense_weight_bits);
    return MOE_OK;
}

static enum moe_status check(const struct moe_model *shape,
                             const struct moe_synthetic_options *options, struct moe_err *err)
{
    uint64_t layers = options->layers ? options->layers : shape->n_layers;
    if (layers > shape->n_layers)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%" PRIu64 " layers exceed the %" PRIu64 " of model '%s'", layers,
                        shape->n_layers, shape->name);
    if (options->buffers > layers * shape->n_experts)
        return moe_fail(err, MOE_ERR_USAGE,
                        "%u expert buffers exceed the %" PRIu64 " experts in %" PRIu64
                        " layers of model '%s'",
                        (unsigned)options->buffers, layers * shape->n_experts, layers, shape->name);
    return check_weights(shape, err);
}

static void set_config(struct moe_llm *llm, const struct moe_model *shape, uint32_t layers)
{
    llm->config = (struct moe_llm_config){
        .arch = MOE_ARCH_MIXTRAL,
        .n_layers = layers ? layers : (uint32_t)shape->n_layers,
        .n_experts = (uint32_t)shape->n_experts,
        .top_k = (uint32_t)shape->top_k,
        .d_model = (uint32_t)shape->d_model,
        .d_ffn = (uint32_t)shape->d_ffn,
        .n_heads = (uint32_t)shape->n_heads,
        .n_kv_heads = (uint32_t)shape->n_kv_heads,
        .head_dim = (uint32_t)shape->head_dim,
        .n_vocab = (uint32_t)shape->n_vocab,
        .max_context = CONTEXT,
        .norm_eps = NORM_EPS,
        .renormalise = true,
        .rope_theta = ROPE_THETA,
        .bos = -1,
    };
    snprintf(llm->config.architecture, sizeof llm->config.architecture, "synthetic, Mixtral-like");
    snprintf(llm->name, sizeof llm->name, "SYNTHETIC %s (Mixtral-like)", shape->name);
}

static struct moe_matrix matrix_of(enum moe_dtype dtype, uint64_t rows, uint64_t cols)
{
    return (struct moe_matrix){NULL, dtype, (uint32_t)rows, (uint32_t)cols};
}

static enum moe_status make_layers(struct moe_synthetic *s, enum moe_dtype dtype,
                                   struct moe_err *err)
{
    const struct moe_llm_config *c = &s->llm.config;
    const struct moe_matrix up = matrix_of(dtype, c->d_ffn, c->d_model);
    const struct moe_matrix down = matrix_of(dtype, c->d_model, c->d_ffn);
    s->llm.layers = calloc(c->n_layers, sizeof *s->llm.layers);
    s->experts = calloc((size_t)c->n_layers * c->n_experts, sizeof *s->experts);
    if (!s->llm.layers || !s->experts)
        return moe_fail_memory(err, "the layers of a synthetic model");
    for (size_t i = 0; i < (size_t)c->n_layers * c->n_experts; i++)
        s->experts[i] = (struct moe_expert_weights){up, up, down};
    for (size_t l = 0; l < c->n_layers; l++)
        s->llm.layers[l].experts = s->experts + l * c->n_experts;
    return moe_expert_layout_of(&s->llm, &s->layout, err);
}

/* Weights of one matrix. Element i is a function of seed and i alone: the same for any number of
 * threads. */
struct fill {
    uint16_t *to;
    uint64_t n, seed;
    float amplitude;
};

/* A uniform value in [-1, 1) from 16 bits, times the amplitude, rounded to BF16. The smallest that
 * is not zero, amplitude / 32768, is far from subnormal numbers. */
static uint16_t weight_of(int16_t bits, float amplitude)
{
    float x = (float)bits / 32768.0F * amplitude;
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    return (uint16_t)((word + 0x8000) >> 16);
}

/* In blocks, so that the compiler vectorises the conversion. */
static void fill_chunk(void *context, uint32_t chunk)
{
    enum { WORDS = 64, PER_WORD = 4, BLOCK = WORDS * PER_WORD };
    const struct fill *f = context;
    uint64_t from = (uint64_t)chunk * CHUNK, end = from + CHUNK < f->n ? from + CHUNK : f->n;
    uint64_t word[WORDS];
    int16_t bits[BLOCK];
    uint16_t weight[BLOCK];
    if (moe_interrupted())
        return;
    for (uint64_t i = from, n; i < end; i += n) {
        n = end - i < BLOCK ? end - i : BLOCK;
        for (uint64_t k = 0; k < WORDS; k++)
            word[k] = moe_mix64(f->seed + i + k * PER_WORD);
        memcpy(bits, word, sizeof bits);
        for (size_t k = 0; k < BLOCK; k++)
            weight[k] = weight_of(bits[k], f->amplitude);
        memcpy(f->to + i, weight, n * sizeof *weight);
    }
}

/* The same of Q8 or Q4, row by row. */
struct fill_rows {
    char *to;
    uint64_t row_bytes, seed;
    uint32_t rows, numbers, scales; /* of a row: bytes of numbers, a multiple of 8; scales */
    uint32_t rows_a_chunk;
    uint16_t scale; /* binary16 */
};

/* Random bits give numbers from -128 to 127, or from -8 to 7, with mean -1/2; every second scale is
 * negative, so that the mean of the weights is 0. */
static void fill_rows_chunk(void *context, uint32_t chunk)
{
    enum { SIGN = 0x8000 };
    const struct fill_rows *f = context;
    const uint32_t from = chunk * f->rows_a_chunk;
    const uint32_t end = f->rows - from < f->rows_a_chunk ? f->rows : from + f->rows_a_chunk;
    for (uint32_t r = from; r < end && !moe_interrupted(); r++) {
        const uint64_t start = r * f->row_bytes;
        char *row = f->to + start;
        for (uint32_t i = 0; i < f->numbers; i += sizeof(uint64_t)) {
            const uint64_t word = moe_mix64(f->seed + start + i);
            memcpy(row + i, &word, sizeof word);
        }
        for (uint32_t b = 0; b < f->scales; b++) {
            const uint16_t scale = (r + b) % 2 ? f->scale ^ SIGN : f->scale;
            memcpy(row + f->numbers + b * sizeof scale, &scale, sizeof scale);
        }
    }
}

/* The scale with which numbers uniform over n_values values, from -n_values / 2 on, have this
 * variance. */
static uint16_t scale_of(uint32_t n_values, double variance)
{
    const double n = n_values;
    return moe_f16_of((float)sqrt(variance / ((n * n - 1) / 12 + 0.25)));
}

static void fill_quantized(struct moe_synthetic *s, const struct moe_matrix *m, void *to,
                           uint32_t fan_in)
{
    const uint32_t numbers = m->dtype == MOE_Q8 ? m->cols : m->cols / 2;
    const uint32_t rows = CHUNK / m->cols ? CHUNK / m->cols : 1;
    struct fill_rows f = {.to = to,
                          .row_bytes = moe_dtype_row_bytes(m->dtype, m->cols),
                          .seed = s->seed,
                          .rows = m->rows,
                          .numbers = numbers,
                          .scales = m->cols / MOE_QUANT_BLOCK,
                          .rows_a_chunk = rows,
                          .scale = scale_of(m->dtype == MOE_Q8 ? 256 : 16, 1.0 / fan_in)};
    moe_pool_each(s->pool, (m->rows - 1) / rows + 1, fill_rows_chunk, &f);
}

static void fill_plain(struct moe_synthetic *s, const struct moe_matrix *m, void *to,
                       uint32_t fan_in)
{
    struct fill f = {.to = to, .n = (uint64_t)m->rows * m->cols, .seed = s->seed};
    f.amplitude = sqrtf(3.0F / (float)fan_in);
    moe_pool_each(s->pool, (uint32_t)((f.n + CHUNK - 1) / CHUNK), fill_chunk, &f);
}

/* Fills a matrix with uniform values of variance 1 / fan_in, so that sums over fan_in inputs of
 * unit variance have unit variance. */
static enum moe_status fill_matrix(struct moe_synthetic *s, struct moe_matrix *m, void *to,
                                   uint32_t fan_in, struct moe_err *err)
{
    if (moe_dtype_plain(m->dtype))
        fill_plain(s, m, to, fan_in);
    else
        fill_quantized(s, m, to, fan_in);
    s->seed = moe_mix64(s->seed + 1); /* another one for the next matrix */
    m->data = to;
    return moe_interrupted() ? moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted") : MOE_OK;
}

static uint64_t aligned_bytes(const struct moe_matrix *m)
{
    return (moe_matrix_bytes(m) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static enum moe_status make_dense(struct moe_synthetic *s, struct moe_err *err)
{
    const struct moe_llm_config *c = &s->llm.config;
    const uint64_t q = (uint64_t)c->n_heads * c->head_dim;
    const uint64_t kv = (uint64_t)c->n_kv_heads * c->head_dim;
    struct moe_llm_layer *layer = &s->llm.layers[0];
    struct {
        struct moe_matrix *m;
        uint64_t rows, cols, fan_in; /* fan_in 1 for the embedding, whose rows are not summed */
    } parts[] = {
        {&layer->q, q, c->d_model, c->d_model},
        {&layer->k, kv, c->d_model, c->d_model},
        {&layer->v, kv, c->d_model, c->d_model},
        {&layer->o, c->d_model, q, q},
        {&layer->router, c->n_experts, c->d_model, c->d_model},
        {&s->llm.embedding, c->n_vocab, c->d_model, 1},
        {&s->llm.head, c->n_vocab, c->d_model, c->d_model},
    };
    const size_t n = sizeof parts / sizeof *parts;
    enum moe_status status = MOE_OK;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        *parts[i].m = matrix_of(MOE_BF16, parts[i].rows, parts[i].cols);
        bytes += aligned_bytes(parts[i].m);
    }
    char *to = s->dense = aligned_alloc(ALIGNMENT, bytes);
    if (!to)
        return moe_fail(err, MOE_ERR_MEMORY,
                        "out of memory for the dense weights (%" PRIu64 " MiB)", bytes >> 20);
    for (size_t i = 0; i < n && !status; i++) {
        status = fill_matrix(s, parts[i].m, to, (uint32_t)parts[i].fan_in, err);
        to += aligned_bytes(parts[i].m);
    }
    return status;
}

/* Gives all layers norms of ones and the first layer's dense weights. */
static enum moe_status share_dense(struct moe_synthetic *s, struct moe_err *err)
{
    const struct moe_llm_config *c = &s->llm.config;
    s->ones = calloc(c->d_model, sizeof *s->ones);
    if (!s->ones)
        return moe_fail_memory(err, "norms");
    for (uint32_t d = 0; d < c->d_model; d++)
        s->ones[d] = 1;
    const struct moe_norm norm = {.scale = s->ones};
    s->llm.final_norm = norm;
    for (uint32_t l = 0; l < c->n_layers; l++) {
        struct moe_llm_layer *layer = &s->llm.layers[l];
        struct moe_expert_weights *experts = layer->experts;
        *layer = s->llm.layers[0];
        layer->experts = experts;
        layer->before_attention = layer->before_experts = norm;
    }
    return MOE_OK;
}

/* Sets the number of buffers, and checks that there is memory for them. */
static enum moe_status count_buffers(struct moe_synthetic *s, uint32_t asked, struct moe_err *err)
{
    const uint64_t n_experts = (uint64_t)s->llm.config.n_layers * s->llm.config.n_experts;
    struct moe_memory_limits limits;
    const char *which;
    char need[32], may[32];
    moe_memory_limits_read(&limits);
    uint64_t fit = moe_memory_pinnable(&limits, 0, &which) / 2 / s->layout.bytes;
    fit = fit < n_experts ? fit : n_experts;
    s->buffers = asked ? asked : fit ? (uint32_t)fit : 1;
    uint64_t room = moe_memory_pinnable(&limits, UINT64_MAX, &which);
    uint64_t bytes = s->buffers * s->layout.bytes;
    if (bytes <= room)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_MEMORY,
                    "%u expert buffers take %s, but %s may be pinned (%s): choose fewer",
                    (unsigned)s->buffers, moe_format_bytes(bytes, need, sizeof need),
                    moe_format_bytes(room, may, sizeof may), which);
}

static enum moe_status fill_buffer(struct moe_synthetic *s, uint32_t i, struct moe_err *err)
{
    char *at = moe_pinned_at(&s->pinned, i);
    struct moe_expert_weights x = moe_expert_layout_at(&s->layout, at);
    enum moe_status status = fill_matrix(s, &x.w1, at, x.w1.cols, err);
    if (!status)
        status = fill_matrix(s, &x.w3, at + s->layout.at_w3, x.w3.cols, err);
    if (!status)
        status = fill_matrix(s, &x.w2, at + s->layout.at_w2, x.w2.cols, err);
    return status;
}

static enum moe_status make_experts(struct moe_synthetic *s, struct moe_device *device,
                                    uint32_t asked, struct moe_err *err)
{
    const size_t n_experts = (size_t)s->llm.config.n_layers * s->llm.config.n_experts;
    enum moe_status status = count_buffers(s, asked, err);
    if (status)
        return status;
    const uint32_t n = s->buffers;
    status = moe_pinned_alloc(&s->pinned, device, n, s->layout.bytes, err);
    if (status == MOE_ERR_MEMORY)
        return moe_fail_prefix(err, "%u expert buffers (choose fewer)", (unsigned)n);
    for (uint32_t i = 0; i < n && !status; i++)
        status = fill_buffer(s, i, err);
    for (size_t i = 0; i < n_experts && !status; i++)
        s->experts[i] = moe_expert_layout_at(&s->layout, moe_pinned_at(&s->pinned, i % n));
    s->llm.pinned_on = device;
    return status;
}

static enum moe_status build(struct moe_synthetic *s, const struct moe_model *shape,
                             struct moe_device *device, const struct moe_synthetic_options *options,
                             struct moe_err *err)
{
    const struct moe_pool_options pool = {0};
    enum moe_dtype dtype;
    enum moe_status status = check(shape, options, err);
    if (!status)
        status = moe_synthetic_expert_type(shape, &dtype, err);
    if (status)
        return status;
    s->seed = moe_mix64(options->seed);
    set_config(&s->llm, shape, options->layers);
    status = make_layers(s, dtype, err);
    if (!status)
        status = moe_pool_new(&s->pool, &pool, err);
    if (!status)
        status = make_dense(s, err);
    if (!status)
        status = share_dense(s, err);
    if (!status)
        status = make_experts(s, device, options->buffers, err);
    moe_pool_free(s->pool);
    s->pool = NULL;
    return status;
}

enum moe_status moe_synthetic_new(struct moe_synthetic **out, const struct moe_model *shape,
                                  struct moe_device *device,
                                  const struct moe_synthetic_options *options, struct moe_err *err)
{
    struct moe_synthetic *s = calloc(1, sizeof *s);
    if (!s)
        return moe_fail_memory(err, "a synthetic model");
    enum moe_status status = build(s, shape, device, options, err);
    if (status)
        moe_synthetic_free(s);
    else
        *out = s;
    return status;
}

void moe_synthetic_free(struct moe_synthetic *s)
{
    if (!s)
        return;
    moe_pinned_release(&s->pinned);
    free(s->dense);
    free(s->ones);
    free(s->experts);
    free(s->llm.layers);
    free(s);
}

const struct moe_llm *moe_synthetic_llm(const struct moe_synthetic *s)
{
    return &s->llm;
}

uint32_t moe_synthetic_buffers(const struct moe_synthetic *s)
{
    return s->buffers;
}
