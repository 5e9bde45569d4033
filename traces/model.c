#include "traces/model.h"

#include "base/param.h"
#include "base/yaml.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

#define TEXT(member, words)                                                                        \
    {                                                                                              \
        .name = #member, .type = MOE_PARAM_STRING, .offset = offsetof(struct moe_model, member),   \
        .help = words, .size = sizeof((struct moe_model *)0)->member, .flags = MOE_PARAM_REQUIRED  \
    }
#define COUNT(member, low, high, words)                                                            \
    {                                                                                              \
        .name = #member, .type = MOE_PARAM_U64, .offset = offsetof(struct moe_model, member),      \
        .min = low, .max = high, .help = words, .flags = MOE_PARAM_REQUIRED                        \
    }
#define OPTION(member, high, words)                                                                \
    {                                                                                              \
        .name = #member, .type = MOE_PARAM_U64, .offset = offsetof(struct moe_model, member),      \
        .default_text = "0", .min = 0, .max = high, .help = words                                  \
    }
#define BITS(member, words)                                                                        \
    {                                                                                              \
        .name = #member, .type = MOE_PARAM_F64, .offset = offsetof(struct moe_model, member),      \
        .min = 1, .max = 64, .unit = "bit", .help = words, .flags = MOE_PARAM_REQUIRED             \
    }

/* The limits keep every byte count below 2^53, where double arithmetic is exact. */
static const struct moe_param params[] = {
    TEXT(name, "name of the model"),
    TEXT(source, "where the values come from"),
    COUNT(n_layers, 1, MOE_MAX_LAYERS, "layers with routed experts"),
    COUNT(n_experts, 1, MOE_MAX_EXPERTS, "routed experts of a layer"),
    COUNT(top_k, 1, MOE_MAX_TOP_K, "experts a token uses in a layer"),
    COUNT(d_model, 1, 65536, "width of the hidden state"),
    COUNT(d_ffn, 1, 1048576, "width of one expert"),
    COUNT(n_heads, 1, 1024, "query heads"),
    COUNT(n_kv_heads, 1, 1024, "key and value heads"),
    COUNT(head_dim, 1, 1024, "width of one head"),
    OPTION(kv_lora_rank, 65536,
           "multi-head latent attention: width of keys and values in the cache"),
    OPTION(q_lora_rank, 65536, "multi-head latent attention: width of compressed queries"),
    OPTION(qk_rope_head_dim, 1024, "multi-head latent attention: part of a head with position"),
    OPTION(v_head_dim, 1024, "multi-head latent attention: width of a value (0: head_dim)"),
    COUNT(n_vocab, 1, 16777216, "entries of the vocabulary"),
    COUNT(dense_ffn, 0, 1048576, "width of shared experts or a dense FFN beside the MoE; 0: none"),
    OPTION(dense_layers, MOE_MAX_LAYERS, "layers without experts, before the others"),
    OPTION(dense_layers_ffn, 1048576, "width of the FFN of each of them"),
    BITS(expert_weight_bits, "stored bits of one expert weight"),
    BITS(dense_weight_bits, "stored bits of one other weight"),
    {.name = "kv_bits",
     .type = MOE_PARAM_F64,
     .offset = offsetof(struct moe_model, kv_bits),
     .default_text = "16",
     .min = 1,
     .max = 64,
     .unit = "bit",
     .help = "stored bits of a key or value: a choice of the engine, not of the model"},
    {.name = NULL},
};

static enum moe_status check_relations(const struct moe_yaml *root, const struct moe_model *model,
                                       struct moe_err *err)
{
    if (model->top_k > model->n_experts)
        return moe_yaml_fail(
            moe_yaml_get(root, "top_k"), err, "top_k %llu exceeds the %llu experts of a layer",
            (unsigned long long)model->top_k, (unsigned long long)model->n_experts);
    if (model->n_heads % model->n_kv_heads != 0)
        return moe_yaml_fail(
            moe_yaml_get(root, "n_kv_heads"), err, "n_kv_heads %llu does not divide n_heads %llu",
            (unsigned long long)model->n_kv_heads, (unsigned long long)model->n_heads);
    if ((model->dense_layers == 0) != (model->dense_layers_ffn == 0))
        return moe_yaml_fail(
            moe_yaml_get(root, model->dense_layers ? "dense_layers" : "dense_layers_ffn"), err,
            "dense_layers %llu with dense_layers_ffn %llu: both must be 0, or neither",
            (unsigned long long)model->dense_layers, (unsigned long long)model->dense_layers_ffn);
    const char *latent = model->q_lora_rank        ? "q_lora_rank"
                         : model->qk_rope_head_dim ? "qk_rope_head_dim"
                         : model->v_head_dim       ? "v_head_dim"
                                                   : NULL;
    if (latent && model->kv_lora_rank == 0)
        return moe_yaml_fail(
            moe_yaml_get(root, latent), err,
            "%s belongs to multi-head latent attention, which needs kv_lora_rank > 0", latent);
    return MOE_OK;
}

static enum moe_status bind_model(const struct moe_yaml *root, struct moe_model *out,
                                  struct moe_err *err)
{
    if (root->kind != MOE_YAML_MAP)
        return moe_yaml_fail(root, err, "a model description is a mapping of keys to values");
    struct moe_model model = {0};
    moe_params_default(params, &model);
    enum moe_status status = moe_yaml_check_keys(root, params, NULL, 0, err);
    if (status == MOE_OK)
        status = moe_yaml_bind(root, params, &model, err);
    if (status == MOE_OK)
        status = check_relations(root, &model, err);
    if (status == MOE_OK)
        *out = model;
    return status;
}

enum moe_status moe_model_load(const char *path, struct moe_model *out, struct moe_err *err)
{
    struct moe_yaml *root = NULL;
    enum moe_status status = moe_yaml_load(path, &root, err);
    if (status != MOE_OK)
        return status;
    status = bind_model(root, out, err);
    moe_yaml_free(root);
    return status;
}

enum moe_status moe_model_parse(const char *name, const void *data, size_t size,
                                struct moe_model *out, struct moe_err *err)
{
    struct moe_yaml *root = NULL;
    enum moe_status status = moe_yaml_parse(name, data, size, &root, err);
    if (status != MOE_OK)
        return status;
    status = bind_model(root, out, err);
    moe_yaml_free(root);
    return status;
}

static uint64_t weight_bytes(uint64_t n_weights, double bits)
{
    return (uint64_t)ceil((double)n_weights * bits / 8);
}

uint64_t moe_model_expert_bytes(const struct moe_model *model)
{
    return weight_bytes(3 * model->d_model * model->d_ffn, model->expert_weight_bits);
}

/* Projections of queries, keys, values and output. */
static uint64_t attention_weights(const struct moe_model *m)
{
    const uint64_t heads = m->n_heads * m->head_dim, rank = m->kv_lora_rank;
    if (rank == 0)
        return 2 * m->d_model * (heads + m->n_kv_heads * m->head_dim);
    const uint64_t queries = heads + m->n_heads * m->qk_rope_head_dim;
    const uint64_t values = m->n_heads * (m->v_head_dim ? m->v_head_dim : m->head_dim);
    const uint64_t down = m->d_model * (rank + m->qk_rope_head_dim), up = rank * (heads + values);
    return (m->q_lora_rank ? m->q_lora_rank * (m->d_model + queries) : m->d_model * queries) +
           down + up + values * m->d_model;
}

/* Counted: attention's projections; the router; the dense FFN (gate, up, down). Not counted: norms
 * and biases (below 0.1 %), keys and values (moe_model_kv_bytes). */
uint64_t moe_model_dense_layer_bytes(const struct moe_model *model)
{
    uint64_t router = model->d_model * model->n_experts;
    uint64_t ffn = 3 * model->d_model * model->dense_ffn;
    return weight_bytes(attention_weights(model) + router + ffn, model->dense_weight_bits);
}

uint64_t moe_model_leading_layer_bytes(const struct moe_model *model)
{
    uint64_t ffn = 3 * model->d_model * model->dense_layers_ffn;
    return weight_bytes(attention_weights(model) + ffn, model->dense_weight_bits);
}

/* Not counted: the one row of the embedding that a token reads. */
uint64_t moe_model_head_bytes(const struct moe_model *model)
{
    return weight_bytes(model->d_model * model->n_vocab, model->dense_weight_bits);
}

uint64_t moe_model_kv_bytes(const struct moe_model *model, uint64_t n_tokens)
{
    const uint64_t each = model->kv_lora_rank ? model->kv_lora_rank + model->qk_rope_head_dim
                                              : 2 * model->n_kv_heads * model->head_dim;
    return (uint64_t)((double)(n_tokens * each) * model->kv_bits / 8);
}

uint64_t moe_model_kv_cache_bytes(const struct moe_model *model, uint64_t n_tokens)
{
    return (model->n_layers + model->dense_layers) * moe_model_kv_bytes(model, n_tokens);
}

enum moe_status moe_model_check_trace(const struct moe_model *model,
                                      const struct moe_trace_info *info, struct moe_err *err)
{
    if (info->n_layers == model->n_layers && info->n_experts == model->n_experts &&
        info->top_k <= model->top_k)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "trace of '%s' has %" PRIu32 " layer%s, %" PRIu32 " experts, top %" PRIu32
                    ", but model '%s' has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                    info->model, info->n_layers, moe_plural(info->n_layers), info->n_experts,
                    info->top_k, model->name, model->n_layers, model->n_experts, model->top_k);
}
