/* A layer with its experts and a head, of random values, and two sets of arrays to compute it with:
 * for the CPU and for the kernels. */
#ifndef MOELAB_TESTS_CUDA_WORLD_H
#define MOELAB_TESTS_CUDA_WORLD_H

#include "base/rng.h"
#include "exec/cuda/kernels.h"
#include "exec/dense.h"
#include "tests/unit/run_suite.h"

#include <stdlib.h>
#include <string.h>

struct shape {
    enum moe_arch arch;
    enum moe_dtype dtype;
    uint32_t d, f, experts, top_k, heads, kv_heads, head_dim, window, vocab, context, chunk;
    bool bias;       /* attention and head have a bias, norms a shift; no weights renormalised */
    uint32_t offset; /* weights and vectors begin this many items (Q8, Q4: scales) after an
                        aligned address */
};

enum { ARRAYS_MAX = 1 << 14 };

/* What the CPU and the kernels each have of their own. */
struct side {
    struct moe_activations a;
    float *keys, *values, *logits;
    struct moe_route_box box;
    uint64_t flag;
};

struct world {
    struct shape shape;
    struct moe_llm_config config;
    struct moe_llm_layer layer;
    struct moe_matrix next_router, head;
    struct moe_norm final_norm;
    float *head_bias;
    struct side cpu, gpu;
    struct moe_rng rng;
    void *memory[ARRAYS_MAX];
    size_t n_arrays;
};

/* Allocates an array that begins `offset` items after an aligned address, filled with NaN. */
static inline void *world_array(struct world *w, size_t items, size_t item_bytes)
{
    const size_t skip = w->shape.offset * item_bytes;
    ck_assert(w->n_arrays < ARRAYS_MAX);
    char *p = NULL;
    ck_assert_int_eq(posix_memalign((void **)&p, 64, items * item_bytes + skip + 1), 0);
    memset(p, 0xff, items * item_bytes + skip); /* NaN */
    w->memory[w->n_arrays++] = p;
    return p + skip;
}

static inline float world_draw(struct world *w, float size)
{
    return (float)(moe_rng_unit(&w->rng) * 2 - 1) * size;
}

static inline float *world_vector(struct world *w, size_t n, float centre, float size)
{
    float *v = world_array(w, n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = centre + world_draw(w, size);
    return v;
}

/* Random numbers with scales of either sign, some of them subnormal, so small that weights stay
 * below 0.25. */
static inline struct moe_matrix world_quantized(struct world *w, uint32_t rows, uint32_t cols)
{
    const enum moe_dtype dtype = w->shape.dtype;
    const size_t n_scales = cols / MOE_QUANT_BLOCK, bytes = moe_dtype_row_bytes(dtype, cols);
    unsigned char *const data = world_array(w, rows * bytes / 2, 2);
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *const row = data + r * bytes, *const scales = row + bytes - 2 * n_scales;
        for (unsigned char *p = row; p < scales; p++)
            *p = (unsigned char)moe_rng_below(&w->rng, 256);
        for (size_t b = 0; b < n_scales; b++) {
            const uint64_t draw = moe_rng_next(&w->rng), exponents = dtype == MOE_Q8 ? 6 : 10;
            const uint16_t scale = (uint16_t)((draw & 0x83ff) | (draw >> 20) % exponents << 10);
            memcpy(scales + 2 * b, &scale, sizeof scale);
        }
    }
    return (struct moe_matrix){data, dtype, rows, cols};
}

/* A matrix of the shape's type, or F32 if rows are no multiple of its blocks. */
static inline struct moe_matrix world_matrix(struct world *w, uint32_t rows, uint32_t cols)
{
    const bool fits = cols % moe_dtype_info(w->shape.dtype)->block == 0;
    const enum moe_dtype dtype = fits ? w->shape.dtype : MOE_F32;
    if (!moe_dtype_plain(dtype))
        return world_quantized(w, rows, cols);
    const size_t n = (size_t)rows * cols, bytes = moe_dtype_info(dtype)->bytes;
    char *data = world_array(w, n, bytes);
    for (size_t i = 0; i < n; i++) {
        const float v = world_draw(w, 0.25f);
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        /* A half of magnitude 2^-13 .. 2^-2, or a subnormal one. */
        const uint64_t r = moe_rng_next(&w->rng);
        const uint16_t f16 = (uint16_t)((r & 0x83ff) | (r >> 20) % 13 << 10);
        const uint16_t half = dtype == MOE_BF16 ? (uint16_t)(bits >> 16) : f16;
        memcpy(data + i * bytes, dtype == MOE_F32 ? (const void *)&v : (const void *)&half, bytes);
    }
    return (struct moe_matrix){data, dtype, rows, cols};
}

static inline struct moe_norm world_norm(struct world *w)
{
    struct moe_norm norm = {.scale = world_vector(w, w->shape.d, 1, 0.5f)};
    if (w->shape.bias)
        norm.shift = world_vector(w, w->shape.d, 0, 0.3f);
    return norm;
}

static inline void world_side(struct world *w, struct side *s)
{
    const struct shape *z = &w->shape;
    const size_t t = z->chunk, tk = t * z->top_k, f = sizeof(float);
    const size_t cache = (size_t)z->kv_heads * z->context * z->head_dim;
    s->a = (struct moe_activations){
        .x = world_array(w, t * z->d, f),
        .u = world_array(w, t * z->d, f),
        .cosine = world_array(w, t * z->head_dim / 2, f),
        .sine = world_array(w, t * z->head_dim / 2, f),
        .q = world_array(w, t * z->heads * z->head_dim, f),
        .k = world_array(w, t * z->kv_heads * z->head_dim, f),
        .v = world_array(w, t * z->kv_heads * z->head_dim, f),
        .attended = world_array(w, t * z->heads * z->head_dim, f),
        .soft = world_array(w, t * z->heads, sizeof *s->a.soft),
        .out = world_array(w, t * z->d, f),
        .score = world_array(w, t * z->experts, f),
        .ahead = world_array(w, t * z->experts, f),
        .share = world_array(w, t * z->experts, f),
        .expert = world_array(w, tk, sizeof(moe_expert)),
        .weight = world_array(w, tk, f),
        .count = world_array(w, z->experts, sizeof(uint32_t)),
        .first = world_array(w, z->experts, sizeof(uint32_t)),
        .row = world_array(w, tk, sizeof(uint32_t)),
        .ffn_x = world_array(w, tk * z->d, f),
        .ffn_h = world_array(w, tk * z->f, f),
        .ffn_y = world_array(w, tk * z->d, f),
    };
    s->keys = world_array(w, cache, f);
    s->values = world_array(w, cache, f);
    s->logits = world_array(w, z->vocab, f);
    s->box = (struct moe_route_box){.expert = world_array(w, tk, sizeof(moe_expert)),
                                    .weight = world_array(w, tk, f),
                                    .score = world_array(w, t * z->experts, f),
                                    .ahead = world_array(w, t * z->experts, f),
                                    .flag = &s->flag};
}

static inline void world_config(struct world *w)
{
    const struct shape *z = &w->shape;
    w->config = (struct moe_llm_config){.arch = z->arch,
                                        .n_layers = 2,
                                        .n_experts = z->experts,
                                        .top_k = z->top_k,
                                        .d_model = z->d,
                                        .d_ffn = z->f,
                                        .n_heads = z->heads,
                                        .n_kv_heads = z->kv_heads,
                                        .head_dim = z->head_dim,
                                        .n_vocab = z->vocab,
                                        .sliding_window = z->window,
                                        .qk_norm = moe_arch_info(z->arch)->qk_norm,
                                        .renormalise = !z->bias,
                                        .norm_eps = 1e-5f,
                                        .router_jitter = 0.01f};
}

static inline void world_new(struct world *w, const struct shape *z, uint64_t seed)
{
    const uint32_t q = z->heads * z->head_dim, kv = z->kv_heads * z->head_dim;
    memset(w, 0, sizeof *w);
    w->shape = *z;
    moe_rng_init(&w->rng, seed);
    world_config(w);
    w->layer = (struct moe_llm_layer){.before_attention = world_norm(w),
                                      .before_experts = world_norm(w),
                                      .q = world_matrix(w, q, z->d),
                                      .k = world_matrix(w, kv, z->d),
                                      .v = world_matrix(w, kv, z->d),
                                      .o = world_matrix(w, z->d, q),
                                      .router = world_matrix(w, z->experts, z->d)};
    if (w->config.qk_norm) {
        const struct moe_llm_config *c = &w->config;
        w->layer.q_norm.scale = world_vector(w, moe_llm_qk_width(c, c->n_heads), 1, 0.5f);
        w->layer.k_norm.scale = world_vector(w, moe_llm_qk_width(c, c->n_kv_heads), 1, 0.5f);
    }
    if (z->bias) {
        w->layer.q_bias = world_vector(w, q, 0, 1);
        w->layer.k_bias = world_vector(w, kv, 0, 1);
        w->layer.v_bias = world_vector(w, kv, 0, 1);
        w->layer.o_bias = world_vector(w, z->d, 0, 1);
        w->head_bias = world_vector(w, z->vocab, 0, 1);
    }
    w->layer.experts = world_array(w, z->experts, sizeof *w->layer.experts);
    for (uint32_t e = 0; e < z->experts; e++) {
        const struct moe_matrix w1 = world_matrix(w, z->f, z->d), w3 = world_matrix(w, z->f, z->d);
        w->layer.experts[e] = (struct moe_expert_weights){w1, w3, world_matrix(w, z->d, z->f)};
    }
    w->next_router = world_matrix(w, z->experts, z->d);
    w->head = world_matrix(w, z->vocab, z->d);
    w->final_norm = world_norm(w);
    world_side(w, &w->cpu);
    world_side(w, &w->gpu);
}

static inline void world_free(struct world *w)
{
    for (size_t i = 0; i < w->n_arrays; i++)
        free(w->memory[i]);
}

/* Gives both sides the same n new tokens, which follow `length` others. */
static inline void world_tokens(struct world *w, uint32_t length, uint32_t n)
{
    const struct shape *z = &w->shape;
    struct side *const sides[] = {&w->cpu, &w->gpu};
    const size_t half = (size_t)n * (z->head_dim / 2);
    for (size_t i = 0; i < (size_t)n * z->d; i++)
        w->cpu.a.x[i] = w->gpu.a.x[i] = world_draw(w, 1);
    for (size_t i = 0; i < half; i++) {
        w->cpu.a.cosine[i] = w->gpu.a.cosine[i] = world_draw(w, 1);
        w->cpu.a.sine[i] = w->gpu.a.sine[i] = world_draw(w, 1);
    }
    for (int i = 0; i < 2; i++) {
        sides[i]->a.n = n;
        sides[i]->a.length = length;
    }
}

#endif
