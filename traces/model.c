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
    COUNT(n_vocab, 1, 16777216, "entries of the vocabulary"),
    COUNT(dense_ffn, 0, 1048576, "width of shared experts or a dense FFN beside the MoE; 0: none"),
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

/* Counted: projections of queries, keys, values and output; the router; the dense FFN (gate, up,
 * down). Not counted: norms and biases (below 0.1 %), keys and values (moe_model_kv_bytes). */
uint64_t moe_model_dense_layer_bytes(const struct moe_model *model)
{
    uint64_t queries = model->d_model * model->n_heads * model->head_dim;
    uint64_t keys = model->d_model * model->n_kv_heads * model->head_dim;
    uint64_t router = model->d_model * model->n_experts;
    uint64_t ffn = 3 * model->d_model * model->dense_ffn;
    return weight_bytes(2 * queries + 2 * keys + router + ffn, model->dense_weight_bits);
}

/* Not counted: the one row of the embedding that a token reads. */
uint64_t moe_model_head_bytes(const struct moe_model *model)
{
    return weight_bytes(model->d_model * model->n_vocab, model->dense_weight_bits);
}

uint64_t moe_model_kv_bytes(const struct moe_model *model, uint64_t n_tokens)
{
    const uint64_t values = 2 * n_tokens * model->n_kv_heads * model->head_dim;
    return (uint64_t)((double)values * model->kv_bits / 8);
}

enum moe_status moe_model_check_trace(const struct moe_model *model,
                                      const struct moe_trace_info *info, struct moe_err *err)
{
    if (info->n_layers == model->n_layers && info->n_experts == model->n_experts &&
        info->top_k <= model->top_k)
        return MOE_OK;
    return moe_fail(err, MOE_ERR_USAGE,
                    "trace of '%s' has %" PRIu32 " layers, %" PRIu32 " experts, top %" PRIu32
                    ", but model '%s' has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                    info->model, info->n_layers, info->n_experts, info->top_k, model->name,
                    model->n_layers, model->n_experts, model->top_k);
}
