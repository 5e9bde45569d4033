#include "exec/bench_rig.h"

#include "base/rng.h"
#include "exec/rope.h"

#include <stdlib.h>

enum { LAYERS = 2, BUFFERS = 2, SEED = 1 };

static const struct moe_device_ops *ops_of(const struct moe_bench_rig *r)
{
    return r->device->ops;
}

static enum moe_status finish(struct moe_bench_rig *r, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (int i = 0; i < MOE_N_STREAMS && !s; i++) {
        ops_of(r)->record(r->device, (enum moe_stream)i, r->end);
        s = ops_of(r)->sync(r->device, r->end, err);
    }
    return s;
}

static enum moe_status pin(struct moe_bench_rig *r, uint64_t bytes, void **out, struct moe_err *err)
{
    enum moe_status s = ops_of(r)->alloc(r->device, MOE_MEMORY_PINNED, bytes, out, err);
    return s ? moe_fail_prefix(err, "the benchmark") : MOE_OK;
}

static enum moe_status pin_all(struct moe_bench_rig *r, struct moe_err *err)
{
    const struct moe_llm_config *c = &r->llm->config;
    const uint64_t rows = (uint64_t)r->resident->chunk * c->top_k;
    void *memory[5] = {0};
    const uint64_t bytes[5] = {r->layout.bytes, (rows * c->d_model + c->head_dim) * sizeof(float),
                               c->top_k * sizeof(moe_expert), c->top_k * sizeof(float),
                               sizeof(uint64_t)};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; i < 5 && !s; i++)
        s = pin(r, bytes[i], &memory[i], err);
    r->landing = memory[0];
    r->input = memory[1];
    r->box = (struct moe_route_box){
        .expert = memory[2], .weight = memory[3], .flag = memory[4], .ticket = 0};
    if (s)
        return s;
    *r->box.flag = 0;
    r->pageable = malloc(r->layout.bytes);
    return r->pageable ? MOE_OK : moe_fail_memory(err, "the benchmark");
}

/* Small numbers for every row, then the angles of the last position. */
static void fill_input(struct moe_bench_rig *r)
{
    const struct moe_llm_config *c = &r->llm->config;
    const size_t n = (size_t)r->resident->chunk * c->top_k * c->d_model;
    struct moe_rope rope;
    struct moe_rng rng;
    moe_rng_init(&rng, SEED);
    for (size_t i = 0; i < n; i++)
        r->input[i] = (float)(moe_rng_unit(&rng) * 2 - 1);
    moe_rope_init(&rope, c);
    moe_rope_angles(&rope, false, r->resident->context - 1, r->input + n,
                    r->input + n + c->head_dim / 2);
}

/* Copies the input to the activations that the kernels read. */
static void send_input(struct moe_bench_rig *r)
{
    const struct moe_llm_config *c = &r->llm->config;
    const struct moe_activations *a = &r->resident->a;
    const uint64_t row = c->d_model * sizeof(float), half = c->head_dim / 2 * sizeof(float);
    const float *angles = r->input + (size_t)r->resident->chunk * c->top_k * c->d_model;
    ops_of(r)->copy(r->device, MOE_STREAM_UP, a->x, r->input, row, MOE_MEMORY_PINNED);
    ops_of(r)->copy(r->device, MOE_STREAM_UP, a->cosine, angles, half, MOE_MEMORY_PINNED);
    ops_of(r)->copy(r->device, MOE_STREAM_UP, a->sine, angles + c->head_dim / 2, half,
                    MOE_MEMORY_PINNED);
    ops_of(r)->copy(r->device, MOE_STREAM_UP, a->ffn_x, r->input,
                    (uint64_t)r->resident->chunk * c->top_k * row, MOE_MEMORY_PINNED);
}

static const unsigned char *expert_at(const struct moe_bench_rig *r, uint32_t buffer)
{
    const uint32_t e = r->llm->config.n_experts;
    return r->llm->layers[buffer / e].experts[buffer % e].w1.data;
}

/* Fills every slot with weights, the KV cache with small numbers, and the rows that combine reads.
 */
static enum moe_status fill(struct moe_bench_rig *r, struct moe_err *err)
{
    const struct moe_resident *x = r->resident;
    const struct moe_llm_config *c = &r->llm->config;
    const uint64_t kv =
        (uint64_t)c->n_layers * c->n_kv_heads * x->context * c->head_dim * sizeof(float);
    for (uint32_t i = 0; i < r->n_slots; i++)
        moe_bench_rig_up(r, r->layout.bytes, MOE_MEMORY_PINNED);
    const uint64_t input = (uint64_t)x->chunk * c->top_k * c->d_model * sizeof(float);
    fill_input(r);
    for (uint64_t at = 0; at < kv; at += input) {
        const uint64_t n = kv - at < input ? kv - at : input;
        float *const caches[] = {x->keys, x->values};
        for (int i = 0; i < 2; i++)
            ops_of(r)->copy(r->device, MOE_STREAM_UP, (unsigned char *)caches[i] + at, r->input, n,
                            MOE_MEMORY_PINNED);
    }
    moe_expert_layout_read(&r->layout, &r->llm->layers[0].experts[0], 0, r->layout.bytes,
                           r->pageable);
    enum moe_status s = moe_bench_rig_calm(r, err);
    if (s)
        return s;
    moe_bench_rig_attend(r); /* with the expert, writes the rows that combine adds */
    moe_bench_rig_expert(r, r->layout.w1.dtype, r->resident->chunk);
    return finish(r, err);
}

enum moe_status moe_bench_rig_init(struct moe_bench_rig *r, const struct moe_device_bench *bench,
                                   struct moe_err *err)
{
    const struct moe_synthetic_options options = {
        .layers = bench->model->n_layers < LAYERS ? 1 : LAYERS, .buffers = BUFFERS, .seed = SEED};
    *r = (struct moe_bench_rig){.device = bench->device, .n_buffers = BUFFERS};
    enum moe_status s =
        moe_synthetic_new(&r->synthetic, bench->model, bench->device, &options, err);
    if (s)
        return s;
    r->llm = moe_synthetic_llm(r->synthetic);
    s = moe_expert_layout_of(r->llm, &r->layout, err);
    if (s)
        return s;
    const uint64_t wanted = (bench->walk_bytes + r->layout.bytes - 1) / r->layout.bytes;
    r->n_slots = wanted < 2 ? 2 : wanted < 1 << 20 ? (uint32_t)wanted : 1 << 20;
    const struct moe_resident_options resident = {.context = bench->context,
                                                  .chunk = bench->max_tokens,
                                                  .n_slots = r->n_slots,
                                                  .expert_bytes = r->layout.bytes};
    s = moe_resident_new(&r->resident, bench->device, r->llm, &resident, err);
    if (!s)
        s = pin_all(r, err);
    if (!s)
        s = ops_of(r)->event_new(r->device, &r->start, err);
    if (!s)
        s = ops_of(r)->event_new(r->device, &r->end, err);
    if (s)
        return s;
    r->token = r->resident->a;
    r->token.n = 1;
    r->token.length = bench->context - 1;
    return fill(r, err);
}

void moe_bench_rig_release(struct moe_bench_rig *r)
{
    if (r->end)
        (void)finish(r, NULL); /* after an error work may still run */
    if (r->start)
        ops_of(r)->event_free(r->device, r->start);
    if (r->end)
        ops_of(r)->event_free(r->device, r->end);
    void *const pinned[] = {r->landing, r->input, r->box.expert, r->box.weight, r->box.flag};
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        ops_of(r)->release(r->device, MOE_MEMORY_PINNED, pinned[i]);
    free(r->pageable);
    moe_resident_free(r->resident);
    moe_synthetic_free(r->synthetic);
}

enum moe_status moe_bench_rig_calm(struct moe_bench_rig *r, struct moe_err *err)
{
    enum moe_status s = finish(r, err);
    if (s)
        return s;
    send_input(r);
    return finish(r, err);
}

uint64_t moe_bench_rig_half(const struct moe_bench_rig *r)
{
    return r->n_slots / 2 * r->layout.bytes;
}

/* The matrices of the expert at `slot`, with their bytes read as weights of `dtype`. */
static struct moe_expert_weights expert_as(const struct moe_bench_rig *r, enum moe_dtype dtype,
                                           const void *slot)
{
    struct moe_expert_weights x = moe_expert_layout_at(&r->layout, slot);
    x.w1.dtype = x.w3.dtype = x.w2.dtype = dtype;
    return x;
}

uint64_t moe_bench_rig_expert_bytes(const struct moe_bench_rig *r, enum moe_dtype dtype)
{
    const struct moe_expert_weights x = expert_as(r, dtype, r->pageable);
    return moe_matrix_bytes(&x.w1) + moe_matrix_bytes(&x.w3) + moe_matrix_bytes(&x.w2);
}

double moe_bench_rig_expert_weights(const struct moe_bench_rig *r)
{
    return 3.0 * r->layout.w1.rows * r->layout.w1.cols;
}

bool moe_bench_rig_retypes(const struct moe_bench_rig *r)
{
    const struct moe_matrix *w1 = &r->layout.w1;
    return w1->dtype == MOE_BF16 && w1->cols % MOE_QUANT_BLOCK == 0 &&
           w1->rows % MOE_QUANT_BLOCK == 0;
}

uint64_t moe_bench_rig_attend_bytes(const struct moe_bench_rig *r)
{
    const struct moe_llm_config *c = &r->llm->config;
    const struct moe_llm_layer *l = &r->resident->layers[0];
    const uint64_t kv = (uint64_t)c->n_kv_heads * r->resident->context * c->head_dim;
    return moe_matrix_bytes(&l->q) + moe_matrix_bytes(&l->k) + moe_matrix_bytes(&l->v) +
           moe_matrix_bytes(&l->o) + moe_matrix_bytes(&l->router) + 2 * kv * sizeof(float);
}

static unsigned char *next_slot(struct moe_bench_rig *r)
{
    r->slot = (r->slot + 1) % r->n_slots;
    return r->resident->slots + r->slot * r->layout.bytes;
}

void moe_bench_rig_up(struct moe_bench_rig *r, uint64_t bytes, enum moe_memory host)
{
    r->buffer = (r->buffer + 1) % r->n_buffers;
    ops_of(r)->copy(r->device, MOE_STREAM_EXPERTS, next_slot(r),
                    host == MOE_MEMORY_PINNED ? expert_at(r, r->buffer) : r->pageable, bytes, host);
}

void moe_bench_rig_down(struct moe_bench_rig *r, uint64_t bytes)
{
    ops_of(r)->copy(r->device, MOE_STREAM_DOWN, r->landing, next_slot(r), bytes, MOE_MEMORY_PINNED);
}

void moe_bench_rig_within(struct moe_bench_rig *r)
{
    const uint64_t half = moe_bench_rig_half(r);
    ops_of(r)->copy(r->device, MOE_STREAM_COMPUTE, r->resident->slots, r->resident->slots + half,
                    half, MOE_MEMORY_DEVICE);
}

void moe_bench_rig_expert(struct moe_bench_rig *r, enum moe_dtype dtype, uint32_t n_tokens)
{
    const struct moe_expert_weights weights = expert_as(r, dtype, next_slot(r));
    const struct moe_expert_job job = {
        .weights = &weights, .row = 0, .n_tokens = n_tokens, .a = &r->resident->a};
    ops_of(r)->expert(r->device, &job);
}

void moe_bench_rig_attend(struct moe_bench_rig *r)
{
    const struct moe_llm_config *c = &r->llm->config;
    const struct moe_resident *x = r->resident;
    r->layer = (r->layer + 1) % c->n_layers;
    const size_t cache = (size_t)r->layer * c->n_kv_heads * x->context * c->head_dim;
    r->box.ticket++;
    const struct moe_attend_job job = {.config = c,
                                       .layer = &x->layers[r->layer],
                                       .keys = x->keys + cache,
                                       .values = x->values + cache,
                                       .context = x->context,
                                       .a = &r->token,
                                       .box = r->box};
    ops_of(r)->attend(r->device, &job);
}

void moe_bench_rig_head(struct moe_bench_rig *r)
{
    const struct moe_resident *x = r->resident;
    const struct moe_head_job job = {.config = &r->llm->config,
                                     .norm = &x->final_norm,
                                     .head = &x->head,
                                     .bias = x->head_bias,
                                     .a = &r->token,
                                     .logits = x->logits};
    ops_of(r)->head(r->device, &job);
}

void moe_bench_rig_combine(struct moe_bench_rig *r)
{
    const struct moe_combine_job job = {.config = &r->llm->config, .a = &r->token};
    ops_of(r)->combine(r->device, &job);
}
