#include "exec/resident.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, BLOCKS_A_LAYER = 13, OTHER_BLOCKS = 40 };

enum { PIECES = MOE_ACTIVATION_ARRAYS + 3 };
static void list_pieces(struct moe_resident *r, const struct moe_llm_config *c, uint64_t t,
                        struct moe_array piece[PIECES])
{
    const uint64_t tk = t * c->top_k;
    struct moe_array *more = piece + MOE_ACTIVATION_ARRAYS;
    moe_activations_list(&r->a, c, t, true, piece);
    more[0] = (struct moe_array){&r->forced, c->n_layers * tk, sizeof *r->forced};
    more[1] = (struct moe_array){&r->forced_weight, c->n_layers * tk, sizeof(float)};
    more[2] = (struct moe_array){&r->logits, c->n_vocab, sizeof(float)};
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t kv_bytes(const struct moe_llm_config *c, uint32_t context)
{
    return (uint64_t)c->n_layers * c->n_kv_heads * context * c->head_dim * sizeof(float);
}

static uint64_t matrix_bytes(const struct moe_matrix *m)
{
    return m->data ? moe_matrix_bytes(m) : 0;
}

static uint64_t vector_bytes(const float *v, uint32_t n)
{
    return v ? aligned(n * sizeof *v) : 0;
}

static uint64_t norm_bytes(const struct moe_norm *norm, uint32_t d_model)
{
    return vector_bytes(norm->scale, d_model) + vector_bytes(norm->shift, d_model);
}

static uint64_t layer_bytes(const struct moe_llm_layer *l, const struct moe_llm_config *c)
{
    return norm_bytes(&l->before_attention, c->d_model) +
           norm_bytes(&l->before_experts, c->d_model) +
           norm_bytes(&l->q_norm, moe_llm_qk_width(c, c->n_heads)) +
           norm_bytes(&l->k_norm, moe_llm_qk_width(c, c->n_kv_heads)) +
           aligned(matrix_bytes(&l->q)) + aligned(matrix_bytes(&l->k)) +
           aligned(matrix_bytes(&l->v)) + aligned(matrix_bytes(&l->o)) +
           aligned(matrix_bytes(&l->router)) + vector_bytes(l->q_bias, l->q.rows) +
           vector_bytes(l->k_bias, l->k.rows) + vector_bytes(l->v_bias, l->v.rows) +
           vector_bytes(l->o_bias, l->o.rows);
}

uint64_t moe_resident_bytes(const struct moe_llm *llm, const struct moe_resident_options *options)
{
    const struct moe_llm_config *c = &llm->config;
    struct moe_resident r = {0};
    struct moe_array piece[PIECES];
    uint64_t bytes = norm_bytes(&llm->final_norm, c->d_model) + aligned(matrix_bytes(&llm->head)) +
                     vector_bytes(llm->head_bias, c->n_vocab) +
                     2 * aligned(kv_bytes(c, options->context)) +
                     aligned(options->n_staging * options->expert_bytes);
    for (uint32_t l = 0; l < c->n_layers; l++)
        bytes += layer_bytes(&llm->layers[l], c);
    list_pieces(&r, c, options->chunk, piece);
    for (size_t i = 0; i < PIECES; i++)
        bytes += aligned(piece[i].items * piece[i].item_bytes);
    return bytes;
}

static enum moe_status allocate(struct moe_resident *r, uint64_t bytes, void *out, const char *what,
                                struct moe_err *err)
{
    void *memory = NULL;
    if (bytes == 0)
        return MOE_OK;
    enum moe_status s = r->device->ops->alloc(r->device, MOE_MEMORY_DEVICE, bytes, &memory, err);
    if (s)
        return moe_fail_prefix(err, "%s", what);
    r->blocks[r->n_blocks++] = memory;
    memcpy(out, &memory, sizeof memory);
    return MOE_OK;
}

static enum moe_status upload(struct moe_resident *r, const void *from, uint64_t bytes, void *out,
                              const char *what, struct moe_err *err)
{
    void *to = NULL;
    if (!from)
        return MOE_OK;
    enum moe_status s = allocate(r, bytes, &to, what, err);
    if (s)
        return s;
    r->device->ops->copy(r->device, MOE_STREAM_UP, to, from, bytes, MOE_MEMORY_PAGEABLE);
    r->dense_bytes += bytes;
    memcpy(out, &to, sizeof to);
    return MOE_OK;
}

static enum moe_status upload_matrix(struct moe_resident *r, const struct moe_matrix *from,
                                     struct moe_matrix *to, struct moe_err *err)
{
    void *data = NULL;
    enum moe_status s = upload(r, from->data, matrix_bytes(from), &data, "dense weights", err);
    *to = *from;
    to->data = data;
    return s;
}

static enum moe_status upload_vector(struct moe_resident *r, const float *from, uint32_t n,
                                     float **to, struct moe_err *err)
{
    return upload(r, from, n * sizeof *from, to, "norms and biases", err);
}

static enum moe_status upload_norm(struct moe_resident *r, const struct moe_norm *from, uint32_t n,
                                   struct moe_norm *to, struct moe_err *err)
{
    enum moe_status s = upload_vector(r, from->scale, n, &to->scale, err);
    return s ? s : upload_vector(r, from->shift, n, &to->shift, err);
}

static enum moe_status upload_layer(struct moe_resident *r, const struct moe_llm_layer *from,
                                    const struct moe_llm_config *c, struct moe_llm_layer *to,
                                    struct moe_err *err)
{
    const struct {
        const struct moe_norm *from;
        struct moe_norm *to;
        uint32_t n;
    } norm[] = {{&from->before_attention, &to->before_attention, c->d_model},
                {&from->before_experts, &to->before_experts, c->d_model},
                {&from->q_norm, &to->q_norm, moe_llm_qk_width(c, c->n_heads)},
                {&from->k_norm, &to->k_norm, moe_llm_qk_width(c, c->n_kv_heads)}};
    const struct {
        const struct moe_matrix *from;
        struct moe_matrix *to;
    } matrix[] = {{&from->q, &to->q},
                  {&from->k, &to->k},
                  {&from->v, &to->v},
                  {&from->o, &to->o},
                  {&from->router, &to->router}};
    const struct {
        const float *from;
        float **to;
        uint32_t n;
    } bias[] = {{from->q_bias, &to->q_bias, from->q.rows},
                {from->k_bias, &to->k_bias, from->k.rows},
                {from->v_bias, &to->v_bias, from->v.rows},
                {from->o_bias, &to->o_bias, from->o.rows}};
    enum moe_status s = MOE_OK;
    for (size_t i = 0; i < sizeof norm / sizeof *norm && !s; i++)
        s = upload_norm(r, norm[i].from, norm[i].n, norm[i].to, err);
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix && !s; i++)
        s = upload_matrix(r, matrix[i].from, matrix[i].to, err);
    for (size_t i = 0; i < sizeof bias / sizeof *bias && !s; i++)
        s = upload_vector(r, bias[i].from, bias[i].n, bias[i].to, err);
    return s;
}

static enum moe_status upload_weights(struct moe_resident *r, const struct moe_llm *llm,
                                      struct moe_err *err)
{
    const uint32_t d = llm->config.d_model;
    enum moe_status s = upload_norm(r, &llm->final_norm, d, &r->final_norm, err);
    if (!s)
        s = upload_matrix(r, &llm->head, &r->head, err);
    if (!s)
        s = upload_vector(r, llm->head_bias, llm->config.n_vocab, &r->head_bias, err);
    for (uint32_t l = 0; l < llm->config.n_layers && !s; l++)
        s = upload_layer(r, &llm->layers[l], &llm->config, &r->layers[l], err);
    return s;
}

static enum moe_status allocate_rest(struct moe_resident *r, const struct moe_llm_config *c,
                                     const struct moe_resident_options *o, struct moe_err *err)
{
    struct moe_array piece[PIECES];
    const uint64_t kv = kv_bytes(c, o->context);
    enum moe_status s = allocate(r, kv, &r->keys, "the KV cache", err);
    if (!s)
        s = allocate(r, kv, &r->values, "the KV cache", err);
    r->other_bytes = 2 * kv;
    list_pieces(r, c, o->chunk, piece);
    for (size_t i = 0; i < PIECES && !s; i++) {
        const uint64_t bytes = piece[i].items * piece[i].item_bytes;
        s = allocate(r, bytes, piece[i].at, "the activations", err);
        r->other_bytes += bytes;
    }
    r->expert_bytes = o->expert_bytes;
    r->cache_bytes = (uint64_t)(o->n_slots + o->n_staging) * o->expert_bytes;
    if (!s)
        s = allocate(r, o->n_slots * o->expert_bytes, &r->slots, "the slots of the cache", err);
    if (!s)
        s = allocate(r, o->n_staging * o->expert_bytes, &r->staging, "staging buffers", err);
    return s;
}

/* Waits until the weights have been copied. */
static enum moe_status settle(struct moe_device *device, struct moe_err *err)
{
    struct moe_event *event;
    enum moe_status s = device->ops->event_new(device, &event, err);
    if (s)
        return s;
    device->ops->record(device, MOE_STREAM_UP, event);
    s = device->ops->sync(device, event, err);
    device->ops->event_free(device, event);
    return s;
}

enum moe_status moe_resident_new(struct moe_resident **out, struct moe_device *device,
                                 const struct moe_llm *llm,
                                 const struct moe_resident_options *options, struct moe_err *err)
{
    const struct moe_llm_config *c = &llm->config;
    struct moe_resident *r = calloc(1, sizeof *r);
    if (!r)
        return moe_fail_memory(err, "the model on the device");
    r->device = device;
    r->context = options->context;
    r->chunk = options->chunk;
    r->layers = calloc(c->n_layers, sizeof *r->layers);
    r->blocks = calloc((size_t)c->n_layers * BLOCKS_A_LAYER + OTHER_BLOCKS, sizeof *r->blocks);
    enum moe_status s =
        r->layers && r->blocks ? MOE_OK : moe_fail_memory(err, "the model on the device");
    if (!s)
        s = allocate_rest(r, c, options, err);
    if (!s)
        s = upload_weights(r, llm, err);
    if (!s)
        s = settle(device, err);
    if (s)
        moe_resident_free(r);
    else
        *out = r;
    return s;
}

void moe_resident_free(struct moe_resident *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_blocks; i++)
        r->device->ops->release(r->device, MOE_MEMORY_DEVICE, r->blocks[i]);
    free(r->blocks);
    free(r->layers);
    free(r);
}
