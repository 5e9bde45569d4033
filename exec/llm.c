#include "exec/llm.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tensor names. There are two spellings: that of published checkpoints (exec/arch.h), which every
 * version of transformers writes, and that of the modules of transformers 5, where the experts of a
 * layer are one tensor. */
#define FUSED_UP   "mlp.experts.gate_up_proj" /* [E, 2 F, D]: gates first, then ups */
#define FUSED_DOWN "mlp.experts.down_proj"    /* [E, D, F] */
#define EMBEDDING  "model.embed_tokens.weight"
#define HEAD       "lm_head.weight"

enum { NAME_MAX_BYTES = 160 };

/* Reads tensors of one layer (layer < 0: of the whole model) by the last part of their names. After
 * the first error, which is kept, the rest does nothing. */
struct reader {
    const struct moe_weights *weights;
    const char *dir; /* of the model, for messages */
    int64_t layer;
    enum moe_status status;
    struct moe_err *err;
    char name[NAME_MAX_BYTES];
};

static const char *full_name(struct reader *r, const char *part)
{
    if (r->layer < 0)
        snprintf(r->name, sizeof r->name, "%s", part);
    else
        snprintf(r->name, sizeof r->name, "model.layers.%lld.%s", (long long)r->layer, part);
    return r->name;
}

static bool has(struct reader *r, const char *part)
{
    return moe_weights_find(r->weights, full_name(r, part)) != NULL;
}

/* kind: as moe_weights_matrix takes it: the configured one of experts or dense weights; MOE_F32 for
 * what is never quantized. */
static void read_kind(struct reader *r, const char *part, enum moe_dtype kind, uint32_t rows,
                      uint32_t cols, struct moe_matrix *out)
{
    if (!r->status)
        r->status =
            moe_weights_matrix(r->weights, full_name(r, part), kind, rows, cols, out, r->err);
}

static void read_matrix(struct reader *r, const char *part, uint32_t rows, uint32_t cols,
                        struct moe_matrix *out)
{
    read_kind(r, part, MOE_F32, rows, cols, out);
}

/* Expert e's part of a tensor that holds all experts. */
static void read_slice(struct reader *r, const char *part, const struct moe_llm_config *c,
                       uint32_t e, uint32_t rows, uint32_t cols, struct moe_matrix *out)
{
    if (!r->status)
        r->status = moe_weights_slice(r->weights, full_name(r, part), c->experts, c->n_experts, e,
                                      rows, cols, out, r->err);
}

static void read_vector(struct reader *r, const char *part, uint32_t n, float **out)
{
    if (!r->status)
        r->status = moe_weights_vector(r->weights, full_name(r, part), n, out, r->err);
}

static void read_norm(struct reader *r, const struct moe_llm_config *c, const char *part,
                      struct moe_norm *out)
{
    char name[64];
    snprintf(name, sizeof name, "%s.weight", part);
    read_vector(r, name, c->d_model, &out->scale);
    snprintf(name, sizeof name, "%s.bias", part);
    if (moe_arch_info(c->arch)->layer_norm)
        read_vector(r, name, c->d_model, &out->shift);
}

static void read_attention(struct reader *r, const struct moe_llm_config *c,
                           struct moe_llm_layer *layer)
{
    uint32_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    read_kind(r, "self_attn.q_proj.weight", c->dense, q, c->d_model, &layer->q);
    read_kind(r, "self_attn.k_proj.weight", c->dense, kv, c->d_model, &layer->k);
    read_kind(r, "self_attn.v_proj.weight", c->dense, kv, c->d_model, &layer->v);
    read_kind(r, "self_attn.o_proj.weight", c->dense, c->d_model, q, &layer->o);
    if (c->qk_norm) {
        read_vector(r, "self_attn.q_norm.weight", moe_llm_qk_width(c, c->n_heads),
                    &layer->q_norm.scale);
        read_vector(r, "self_attn.k_norm.weight", moe_llm_qk_width(c, c->n_kv_heads),
                    &layer->k_norm.scale);
    }
    if (!c->attention_bias)
        return;
    read_vector(r, "self_attn.q_proj.bias", q, &layer->q_bias);
    read_vector(r, "self_attn.k_proj.bias", kv, &layer->k_bias);
    read_vector(r, "self_attn.v_proj.bias", kv, &layer->v_bias);
    read_vector(r, "self_attn.o_proj.bias", c->d_model, &layer->o_bias);
}

/* The matrix of expert e that the architecture calls `kind`. */
static void read_of_expert(struct reader *r, const struct moe_llm_config *c, uint32_t e,
                           const char *kind, uint32_t rows, uint32_t cols, struct moe_matrix *out)
{
    char name[80];
    snprintf(name, sizeof name, "%s.experts.%u.%s.weight", moe_arch_info(c->arch)->block,
             (unsigned)e, kind);
    read_kind(r, name, c->experts, rows, cols, out);
}

static void read_expert(struct reader *r, const struct moe_llm_config *c, uint32_t e,
                        struct moe_expert_weights *out)
{
    const struct moe_arch_info *info = moe_arch_info(c->arch);
    read_of_expert(r, c, e, info->gate, c->d_ffn, c->d_model, &out->w1);
    read_of_expert(r, c, e, info->up, c->d_ffn, c->d_model, &out->w3);
    if (!r->status && out->w1.dtype != out->w3.dtype) /* kernels read them side by side */
        r->status = moe_fail(r->err, MOE_ERR_UNSUPPORTED,
                             "'%.200s': tensor '%s' is %s, but %s beside it is %s", r->dir, r->name,
                             moe_dtype_info(out->w3.dtype)->name, info->gate,
                             moe_dtype_info(out->w1.dtype)->name);
    read_of_expert(r, c, e, info->down, c->d_model, c->d_ffn, &out->w2);
}

static void read_fused_expert(struct reader *r, const struct moe_llm_config *c, uint32_t e,
                              struct moe_expert_weights *out)
{
    struct moe_matrix both = {0};
    read_slice(r, FUSED_UP, c, e, 2 * c->d_ffn, c->d_model, &both);
    read_slice(r, FUSED_DOWN, c, e, c->d_model, c->d_ffn, &out->w2);
    if (r->status)
        return;
    both.rows = c->d_ffn;
    out->w1 = out->w3 = both;
    out->w3.data = (const char *)both.data + c->d_ffn * moe_dtype_row_bytes(both.dtype, c->d_model);
}

static void read_experts(struct reader *r, const struct moe_llm_config *c,
                         struct moe_llm_layer *layer)
{
    char router[64];
    snprintf(router, sizeof router, "%s.gate.weight", moe_arch_info(c->arch)->block);
    const bool fused = has(r, FUSED_UP) && (strncmp(router, "mlp.", 4) == 0 || !has(r, router));
    if (fused)
        snprintf(router, sizeof router, "%s",
                 has(r, "mlp.router.weight") ? "mlp.router.weight" : "mlp.gate.weight");
    read_matrix(r, router, c->n_experts, c->d_model, &layer->router);
    for (uint32_t e = 0; e < c->n_experts && !r->status; e++) {
        if (fused)
            read_fused_expert(r, c, e, &layer->experts[e]);
        else
            read_expert(r, c, e, &layer->experts[e]);
    }
}

static enum moe_status read_layer(struct moe_llm *llm, uint32_t l, const char *dir,
                                  struct moe_err *err)
{
    const struct moe_llm_config *c = &llm->config;
    struct moe_llm_layer *layer = &llm->layers[l];
    struct reader r = {.weights = llm->weights, .dir = dir, .layer = l, .err = err};
    layer->experts = calloc(c->n_experts, sizeof *layer->experts);
    if (!layer->experts)
        return moe_fail_memory(err, "a layer's experts");
    read_norm(&r, c, "input_layernorm", &layer->before_attention);
    read_attention(&r, c, layer);
    read_norm(&r, c, "post_attention_layernorm", &layer->before_experts);
    read_experts(&r, c, layer);
    return r.status;
}

static enum moe_status read_ends(struct moe_llm *llm, struct moe_err *err)
{
    const struct moe_llm_config *c = &llm->config;
    struct reader r = {.weights = llm->weights, .layer = -1, .err = err};
    read_matrix(&r, EMBEDDING, c->n_vocab, c->d_model, &llm->embedding);
    read_norm(&r, c, "model.norm", &llm->final_norm);
    if (!c->tied_head || has(&r, HEAD))
        read_kind(&r, HEAD, c->tied_head ? MOE_F32 : c->dense, c->n_vocab, c->d_model, &llm->head);
    if (c->head_bias)
        read_vector(&r, "lm_head.bias", c->n_vocab, &llm->head_bias);
    return r.status;
}

/* A tied head may also be stored. If it differs from the embedding, either config.json or the
 * weights are wrong: version 4 of transformers believes the former, version 5 the latter. */
static enum moe_status tie_head(struct moe_llm *llm, const char *dir, struct moe_err *err)
{
    const struct moe_matrix *head = &llm->head, *embedding = &llm->embedding;
    if (!llm->config.tied_head)
        return MOE_OK;
    if (head->data && (head->dtype != embedding->dtype ||
                       memcmp(head->data, embedding->data, moe_matrix_bytes(head)) != 0))
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%.200s': tensor '" HEAD "' differs from '" EMBEDDING
                        "', though tie_word_embeddings is true (false computes with both)",
                        dir);
    llm->head = *embedding;
    return MOE_OK;
}

/* Appends the type of what is quantized ("-q4"), unless the name has it. */
static void add_type(const char *before, enum moe_dtype dtype, char name[MOE_TEXT_MAX])
{
    char end[16];
    const size_t n = strlen(name);
    const char *type = moe_dtype_info(dtype)->name;
    snprintf(end, sizeof end, "%s%c%s", before, tolower((unsigned char)*type), type + 1);
    if (!moe_dtype_plain(dtype) && !strcasestr(name, end + 1))
        snprintf(name + n, MOE_TEXT_MAX - n, "%s", end);
}

/* The last part of the path, also for "." and "DIR/". The types of quantized weights are appended,
 * as recordings are simulated with the shape of that name, and that of Mixtral-8x7B has weights of
 * 16 bits. */
static void name_of(const char *dir, const struct moe_llm_config *c, char name[MOE_TEXT_MAX])
{
    enum { SUFFIX = sizeof "-q4-dense-q8" };
    char *whole = realpath(dir, NULL);
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    snprintf(name, MOE_TEXT_MAX - SUFFIX, "%.*s", MOE_TEXT_MAX - SUFFIX - 1,
             slash && slash[1] ? slash + 1 : dir);
    add_type("-", c->experts, name);
    add_type("-dense-", c->dense, name);
    free(whole);
}

static enum moe_status fill(struct moe_llm *llm, const char *dir, struct moe_err *err)
{
    enum moe_status s = moe_llm_config_load(dir, &llm->config, err);
    if (s || (s = moe_weights_open(&llm->weights, dir, err)))
        return s;
    name_of(dir, &llm->config, llm->name);
    llm->layers = calloc(llm->config.n_layers, sizeof *llm->layers);
    if (!llm->layers)
        return moe_fail_memory(err, "the model's layers");
    s = read_ends(llm, err);
    if (!s)
        s = tie_head(llm, dir, err);
    for (uint32_t l = 0; l < llm->config.n_layers && !s; l++)
        s = read_layer(llm, l, dir, err);
    return s;
}

enum moe_status moe_llm_open(struct moe_llm **out, const char *dir, struct moe_err *err)
{
    struct moe_llm *llm = calloc(1, sizeof *llm);
    if (!llm)
        return moe_fail_memory(err, "a model");
    enum moe_status s = fill(llm, dir, err);
    if (s) {
        moe_llm_close(llm);
        return s;
    }
    *out = llm;
    return MOE_OK;
}

static void release_norm(struct moe_norm *norm)
{
    free(norm->scale);
    free(norm->shift);
}

static void release_layer(struct moe_llm_layer *layer)
{
    release_norm(&layer->before_attention);
    release_norm(&layer->before_experts);
    release_norm(&layer->q_norm);
    release_norm(&layer->k_norm);
    free(layer->q_bias);
    free(layer->k_bias);
    free(layer->v_bias);
    free(layer->o_bias);
    free(layer->experts);
}

void moe_llm_close(struct moe_llm *llm)
{
    if (!llm)
        return;
    for (uint32_t l = 0; llm->layers && l < llm->config.n_layers; l++)
        release_layer(&llm->layers[l]);
    free(llm->layers);
    release_norm(&llm->final_norm);
    free(llm->head_bias);
    moe_weights_close(llm->weights);
    free(llm);
}

/* RoPE's frequencies, which old checkpoints store although every program computes them itself. */
static bool is_frequencies(const char *name)
{
    static const char end[] = ".rotary_emb.inv_freq";
    size_t n = strlen(name), m = sizeof end - 1;
    return n >= m && strcmp(name + n - m, end) == 0;
}

uint64_t moe_llm_unused(const struct moe_llm *llm, const char **first)
{
    uint64_t n = 0, stored = llm->weights ? moe_weights_n(llm->weights) : 0;
    *first = NULL;
    for (uint64_t i = 0; i < stored; i++) {
        const char *name = moe_weights_at(llm->weights, i)->name;
        if (moe_weights_taken(llm->weights, i) || is_frequencies(name))
            continue;
        *first = n++ ? *first : name;
    }
    return n;
}

uint64_t moe_llm_expert_bytes(const struct moe_llm *llm, uint32_t layer)
{
    const struct moe_expert_weights *e = &llm->layers[layer].experts[0];
    return moe_matrix_bytes(&e->w1) + moe_matrix_bytes(&e->w3) + moe_matrix_bytes(&e->w2);
}

static uint64_t made_dense_bytes(const struct moe_llm *llm, const struct moe_llm_layer *layer)
{
    uint64_t norms = 2 * sizeof(float) * (uint64_t)llm->config.d_model;
    return norms + moe_matrix_bytes(&layer->q) + moe_matrix_bytes(&layer->k) +
           moe_matrix_bytes(&layer->v) + moe_matrix_bytes(&layer->o) +
           moe_matrix_bytes(&layer->router);
}

uint64_t moe_llm_dense_bytes(const struct moe_llm *llm, uint32_t layer)
{
    if (!llm->weights)
        return made_dense_bytes(llm, &llm->layers[layer]);
    char prefix[48];
    int length = snprintf(prefix, sizeof prefix, "model.layers.%u.", (unsigned)layer);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < moe_weights_n(llm->weights); i++) {
        const struct moe_tensor *t = moe_weights_at(llm->weights, i);
        if (!strncmp(t->name, prefix, (size_t)length) && !strstr(t->name, ".experts."))
            bytes += t->bytes;
    }
    return bytes;
}
