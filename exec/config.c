#include "exec/config.h"

#include "base/file.h"
#include "base/units.h"
#include "exec/config_rope.h"
#include "exec/json.h"
#include "traces/model.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_FILE_BYTES = 16 << 20,
    /* Far above any model; a matrix with any two of these as its sizes has fewer than 2^53 bytes.
     */
    MAX_D_MODEL = 1 << 20,
    MAX_D_FFN = 1 << 24,
    MAX_HEADS = 1 << 16,
    MAX_VOCAB = 1 << 26,
};

#define AT(member) offsetof(struct moe_llm_config, member)

/* Absent keys leave the defaults (set_defaults), except for required ones: transformers would use
 * the shape of a model that the file does not describe. */
struct whole_key {
    const char *name;
    size_t at;
    uint32_t min, max;
    bool required;
};

static const struct whole_key whole_keys[] = {
    {"hidden_size", AT(d_model), 1, MAX_D_MODEL, true},
    {"num_hidden_layers", AT(n_layers), 1, MOE_MAX_LAYERS, true},
    {"num_attention_heads", AT(n_heads), 1, MAX_HEADS, true},
    {"num_key_value_heads", AT(n_kv_heads), 1, MAX_HEADS, false},
    {"head_dim", AT(head_dim), 2, MOE_HEAD_DIM_MAX, false},
    {"num_experts_per_tok", AT(top_k), 1, MOE_MAX_TOP_K, true},
    {"vocab_size", AT(n_vocab), 1, MAX_VOCAB, true},
    {"max_position_embeddings", AT(max_context), 1, MOE_CONTEXT_MAX, false},
    {"sliding_window", AT(sliding_window), 1, INT32_MAX, false},
};

static const struct real_key {
    const char *name;
    size_t at;
    double min, max;
} real_keys[] = {
    {"rms_norm_eps", AT(norm_eps), 0, 1},
    {"router_jitter_noise", AT(router_jitter), 0, 1},
};

static const struct flag_key {
    const char *name;
    size_t at;
} flag_keys[] = {
    {"tie_word_embeddings", AT(tied_head)},
    {"attention_bias", AT(attention_bias)},
    {"lm_head_bias", AT(head_bias)},
    {"norm_topk_prob", AT(renormalise)},
};

static const struct {
    const char *name;
    enum moe_arch arch;
    /* With sliding_window W a token attends to W + more_keys keys. Microsoft's own code, which its
     * checkpoints name, gives flash_attn a window of W keys before the token's own (so 2047 means
     * 2048 keys in all), and its eager mask agrees; transformers counts the token's own key. */
    uint32_t more_keys;
} architectures[] = {
    {"MixtralForCausalLM", MOE_ARCH_MIXTRAL, 0}, {"PhiMoEForCausalLM", MOE_ARCH_PHIMOE, 1},
    {"PhimoeForCausalLM", MOE_ARCH_PHIMOE, 0},   {"Qwen3MoeForCausalLM", MOE_ARCH_QWEN3_MOE, 0},
    {"OlmoeForCausalLM", MOE_ARCH_OLMOE, 0},
};

static enum moe_status read_architecture(const json_t *root, struct moe_llm_config *config,
                                         uint32_t *more_keys, struct moe_err *err)
{
    const json_t *first = json_array_get(json_object_get(root, "architectures"), 0);
    const char *name = json_string_value(first);
    if (!name)
        return moe_fail(err, MOE_ERR_INPUT, "missing key architectures");
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        if (strcmp(architectures[i].name, name) != 0)
            continue;
        config->arch = architectures[i].arch;
        *more_keys = architectures[i].more_keys;
        snprintf(config->architecture, sizeof config->architecture, "%s", name);
        return MOE_OK;
    }
    return moe_json_refuse(first, "architecture",
                           "MixtralForCausalLM, PhiMoEForCausalLM, PhimoeForCausalLM, "
                           "Qwen3MoeForCausalLM and OlmoeForCausalLM are",
                           err);
}

/* Those of transformers' configuration classes. */
static void set_defaults(struct moe_llm_config *config)
{
    const struct moe_arch_info *info = moe_arch_info(config->arch);
    config->n_kv_heads = info->kv_heads;
    config->max_context = info->max_context;
    config->norm_eps = info->norm_eps;
    config->router_jitter = 0.01F;
    config->qk_norm = info->qk_norm;
}

/* The key of the number of experts. Where it is num_experts, transformers 5 writes the other one
 * for some models, and reads both. */
static const char *experts_key(const json_t *root, const struct moe_llm_config *config)
{
    static const char other[] = "num_local_experts";
    const char *key = moe_arch_info(config->arch)->experts_key;
    return moe_json_get(root, key) || !moe_json_get(root, other) ? key : other;
}

static bool is_read(const char *name, const struct moe_llm_config *config)
{
    const struct moe_arch_info *info = moe_arch_info(config->arch);
    for (size_t i = 0; i < sizeof whole_keys / sizeof *whole_keys; i++)
        if (strcmp(whole_keys[i].name, name) == 0)
            return true;
    return strcmp(name, info->experts_key) == 0 || strcmp(name, info->ffn_key) == 0;
}

/* The error for a missing key; suggests the most similar of the file's unknown keys that has a
 * number, which may be misspelt, or another architecture's. */
static enum moe_status fail_missing(const json_t *root, const char *key,
                                    const struct moe_llm_config *config, struct moe_err *err)
{
    const char **names = calloc(json_object_size(root) + 1, sizeof *names), *name;
    json_t *value;
    size_t n = 0;
    if (!names)
        return moe_fail_memory(err, "config.json");
    json_object_foreach((json_t *)root, name, value)
    {
        if (json_is_real(value) && !is_read(name, config))
            names[n++] = name;
    }
    const char *near = moe_nearest_name(key, names, n);
    enum moe_status s =
        near ? moe_fail(err, MOE_ERR_INPUT, "missing key %s, is it '%.40s'?", key, near)
             : moe_fail(err, MOE_ERR_INPUT, "missing key %s", key);
    free(names);
    return s;
}

static enum moe_status read_whole(const json_t *root, const struct whole_key *key,
                                  struct moe_llm_config *config, struct moe_err *err)
{
    const json_t *value = moe_json_get(root, key->name);
    uint64_t x;
    if (!value)
        return key->required ? fail_missing(root, key->name, config, err) : MOE_OK;
    enum moe_status s = moe_json_u64(value, key->name, key->min, key->max, &x, err);
    if (!s)
        *(uint32_t *)((char *)config + key->at) = (uint32_t)x;
    return s;
}

static enum moe_status read_real(const json_t *root, const struct real_key *key,
                                 struct moe_llm_config *config, struct moe_err *err)
{
    const json_t *value = moe_json_get(root, key->name);
    double x;
    if (!value)
        return MOE_OK;
    enum moe_status s = moe_json_f64(value, key->name, key->min, key->max, &x, err);
    if (!s)
        *(float *)((char *)config + key->at) = (float)x;
    return s;
}

static enum moe_status read_flag(const json_t *root, const struct flag_key *key,
                                 struct moe_llm_config *config, struct moe_err *err)
{
    const json_t *value = moe_json_get(root, key->name);
    if (value && !json_is_boolean(value))
        return moe_fail(err, MOE_ERR_INPUT, "%s is neither true nor false", key->name);
    *(bool *)((char *)config + key->at) = json_is_true(value);
    return MOE_OK;
}

static enum moe_status read_keys(const json_t *root, struct moe_llm_config *config,
                                 struct moe_err *err)
{
    const struct whole_key named[] = {
        {experts_key(root, config), AT(n_experts), 1, MOE_MAX_EXPERTS, true},
        {moe_arch_info(config->arch)->ffn_key, AT(d_ffn), 1, MAX_D_FFN, true},
    };
    enum moe_status s = MOE_OK;
    for (size_t i = 0; !s && i < sizeof named / sizeof *named; i++)
        s = read_whole(root, &named[i], config, err);
    for (size_t i = 0; !s && i < sizeof whole_keys / sizeof *whole_keys; i++)
        s = read_whole(root, &whole_keys[i], config, err);
    for (size_t i = 0; !s && i < sizeof real_keys / sizeof *real_keys; i++)
        s = read_real(root, &real_keys[i], config, err);
    for (size_t i = 0; !s && i < sizeof flag_keys / sizeof *flag_keys; i++)
        s = read_flag(root, &flag_keys[i], config, err);
    return s;
}

/* Is the value absent, null, false, 0 or empty, so that it asks for nothing? */
static bool asks_for_nothing(const json_t *value)
{
    return !value || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* Reads quantization_config with quant_method moelab. Unknown keys are refused, as they could
 * change the meaning of the weights' bytes. */
static enum moe_status read_quantized(const char *key, const json_t *value,
                                      struct moe_llm_config *config, struct moe_err *err)
{
    const char *text = json_string_value(value);
    const bool experts = strcmp(key, "experts") == 0;
    enum moe_dtype *type = experts ? &config->experts : &config->dense;
    char full[80];
    snprintf(full, sizeof full, "quantization_config.%.50s", key);
    if (strcmp(key, "quant_method") == 0)
        return MOE_OK;
    if (!experts && strcmp(key, "dense") != 0)
        return moe_json_refuse(value, full, "quant_method, experts and dense are", err);
    if (!text || !moe_dtype_find(text, type) || moe_dtype_plain(*type))
        return moe_json_refuse(value, full, "Q8 and Q4 are", err);
    return MOE_OK;
}

static enum moe_status read_quantization(const json_t *root, struct moe_llm_config *config,
                                         struct moe_err *err)
{
    json_t *object = json_object_get(root, "quantization_config"), *value;
    const char *key, *method = json_string_value(json_object_get(object, "quant_method"));
    if (json_is_null(object) || asks_for_nothing(object))
        return MOE_OK;
    if (!method || strcmp(method, "moelab") != 0)
        return moe_json_refuse(object, "quantization_config",
                               "take the model's folder with weights in BF16, F16 or F32; moelab "
                               "quantize makes experts of 8 or 4 bits of it",
                               err);
    if (!json_object_get(object, "experts"))
        return moe_fail(err, MOE_ERR_INPUT, "missing key quantization_config.experts");
    json_object_foreach(object, key, value)
    {
        enum moe_status s = read_quantized(key, value, config, err);
        if (s)
            return s;
    }
    return MOE_OK;
}

/* Keys that ask, unless they are null, false, 0 or empty, for what moelab does not do. */
static const struct refused_key {
    const char *key, *instead; /* %s: the architecture */
    uint32_t archs;            /* bits */
} refused_keys[] = {
    {"pruned_heads", "leave it out", UINT32_MAX},
    {"is_encoder_decoder", "leave it out", UINT32_MAX},
    {"add_cross_attention", "leave it out", UINT32_MAX},
    {"attention_bias", "%s has none", 1U << MOE_ARCH_MIXTRAL},
    {"lm_head_bias", "%s has none", ~(1U << MOE_ARCH_PHIMOE)},
    {"use_sliding_window", "false is", 1U << MOE_ARCH_QWEN3_MOE},
    {"mlp_only_layers", "[] is: every layer has experts", 1U << MOE_ARCH_QWEN3_MOE},
    {"sliding_window", "%s has none", 1U << MOE_ARCH_OLMOE},
    {"clip_qkv", "null is", 1U << MOE_ARCH_OLMOE},
};

static enum moe_status refuse_keys(const json_t *root, const struct moe_llm_config *config,
                                   struct moe_err *err)
{
    for (size_t i = 0; i < sizeof refused_keys / sizeof *refused_keys; i++) {
        const struct refused_key *k = &refused_keys[i];
        const json_t *value = moe_json_get(root, k->key);
        char instead[128];
        if (!(k->archs >> config->arch & 1) || asks_for_nothing(value))
            continue;
        if (strncmp(k->instead, "%s", 2) == 0)
            snprintf(instead, sizeof instead, "%s%s", config->architecture, k->instead + 2);
        else
            snprintf(instead, sizeof instead, "%s", k->instead);
        return moe_json_refuse(value, k->key, instead, err);
    }
    return MOE_OK;
}

static enum moe_status refuse_unsupported(const json_t *root, const struct moe_llm_config *config,
                                          struct moe_err *err)
{
    const json_t *act = moe_json_get(root, "hidden_act");
    const json_t *step = moe_json_get(root, "decoder_sparse_step");
    const char *name = act ? json_string_value(act) : "silu";
    enum moe_status s = refuse_keys(root, config, err);
    if (s)
        return s;
    if (!name || strcmp(name, "silu") != 0)
        return moe_json_refuse(act, "hidden_act", "silu is", err);
    if (config->arch == MOE_ARCH_PHIMOE && config->top_k != 2)
        return moe_json_refuse(json_object_get(root, "num_experts_per_tok"), "num_experts_per_tok",
                               "SparseMixer takes 2", err);
    if (config->arch == MOE_ARCH_QWEN3_MOE && step && json_number_value(step) != 1)
        return moe_json_refuse(step, "decoder_sparse_step", "1 is: every layer has experts", err);
    return MOE_OK;
}

enum moe_status moe_llm_config_rows(const struct moe_llm_config *c, enum moe_dtype experts,
                                    enum moe_dtype dense, struct moe_err *err)
{
    const bool of_experts = !moe_dtype_plain(experts), of_dense = !moe_dtype_plain(dense);
    const struct {
        bool used;
        const char *what;
        uint32_t weights;
        const char *whose;
        enum moe_dtype type;
    } rows[] = {
        {of_experts, "hidden_size", c->d_model, "experts", experts},
        {of_experts, moe_arch_info(c->arch)->ffn_key, c->d_ffn, "experts", experts},
        {of_dense, "hidden_size", c->d_model, "dense weights", dense},
        {of_dense, "num_attention_heads x head_dim", c->n_heads * c->head_dim, "dense weights",
         dense},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].used && rows[i].weights % MOE_QUANT_BLOCK)
            return moe_fail(err, MOE_ERR_INPUT,
                            "%s %" PRIu32 " is not a multiple of %d, as %s of %s need it",
                            rows[i].what, rows[i].weights, MOE_QUANT_BLOCK, rows[i].whose,
                            moe_dtype_info(rows[i].type)->name);
    return MOE_OK;
}

/* Sets values that follow from other keys, and checks keys against each other. */
static enum moe_status settle(const json_t *root, struct moe_llm_config *c, struct moe_err *err)
{
    if (json_is_null(json_object_get(root, "num_key_value_heads")) || !c->n_kv_heads)
        c->n_kv_heads = c->n_heads;
    if (c->arch != MOE_ARCH_PHIMOE)
        c->router_jitter = 0; /* used in training only, if at all */
    if (c->arch == MOE_ARCH_QWEN3_MOE)
        c->sliding_window = 0; /* use_sliding_window is false */
    c->renormalise = c->renormalise || moe_arch_info(c->arch)->renormalises;
    if (c->n_heads % c->n_kv_heads)
        return moe_fail(err, MOE_ERR_INPUT,
                        "num_attention_heads %" PRIu32
                        " is not a multiple of num_key_value_heads %" PRIu32,
                        c->n_heads, c->n_kv_heads);
    if (c->top_k > c->n_experts)
        return moe_fail(err, MOE_ERR_INPUT, "num_experts_per_tok %" PRIu32 " exceeds %s %" PRIu32,
                        c->top_k, experts_key(root, c), c->n_experts);
    if (!c->head_dim && c->d_model % c->n_heads)
        return moe_fail(err, MOE_ERR_INPUT,
                        "hidden_size %" PRIu32 " is not a multiple of num_attention_heads %" PRIu32,
                        c->d_model, c->n_heads);
    if (!c->head_dim)
        c->head_dim = c->d_model / c->n_heads;
    if (c->head_dim % 2)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "head_dim %" PRIu32 " is odd", c->head_dim);
    if (c->head_dim > MOE_HEAD_DIM_MAX)
        return moe_fail(err, MOE_ERR_UNSUPPORTED, "head_dim %" PRIu32 " exceeds the limit of %d",
                        c->head_dim, MOE_HEAD_DIM_MAX);
    return moe_llm_config_rows(c, c->experts, c->dense, err);
}

/* Reads the id of a token of the vocabulary, called `what` in messages. */
static enum moe_status read_token(const json_t *value, const char *what, uint32_t n_vocab,
                                  int32_t *out, struct moe_err *err)
{
    uint64_t token;
    enum moe_status s = moe_json_u64(value, what, 0, n_vocab - 1, &token, err);
    if (!s)
        *out = (int32_t)token;
    return s;
}

/* Reads one token or a list of them. */
static enum moe_status read_eos(const json_t *value, struct moe_llm_config *config,
                                struct moe_err *err)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    enum moe_status s = MOE_OK;
    if (n > MOE_EOS_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "%zu tokens of eos_token_id exceed the limit of %d", n,
                        MOE_EOS_MAX);
    for (size_t i = 0; i < n && !s; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        s = read_token(item, "eos_token_id", config->n_vocab, &config->eos[i], err);
    }
    config->n_eos = (uint32_t)n;
    return s;
}

/* bos_token_id and eos_token_id of either file; an absent key changes nothing. */
static enum moe_status read_tokens(const json_t *root, struct moe_llm_config *config,
                                   struct moe_err *err)
{
    const json_t *bos = moe_json_get(root, "bos_token_id");
    const json_t *eos = moe_json_get(root, "eos_token_id");
    enum moe_status s = MOE_OK;
    if (bos)
        s = read_token(bos, "bos_token_id", config->n_vocab, &config->bos, err);
    if (!s && eos)
        s = read_eos(eos, config, err);
    return s;
}

/* A configuration class's default for an absent key, if the vocabulary has it; -1: none. */
static int32_t default_token(const json_t *root, const char *key, int32_t token, uint32_t n_vocab)
{
    return !json_object_get(root, key) && token < (int64_t)n_vocab ? token : -1;
}

static void default_tokens(const json_t *root, struct moe_llm_config *config)
{
    const struct moe_arch_info *info = moe_arch_info(config->arch);
    config->bos = default_token(root, "bos_token_id", info->bos, config->n_vocab);
    config->eos[0] = default_token(root, "eos_token_id", info->eos, config->n_vocab);
    config->n_eos = config->eos[0] >= 0;
}

static enum moe_status read_config(const json_t *root, struct moe_llm_config *config,
                                   struct moe_err *err)
{
    uint32_t more_keys = 0;
    enum moe_status s = read_architecture(root, config, &more_keys, err);
    if (!s)
        set_defaults(config);
    if (!s)
        s = read_keys(root, config, err);
    if (!s && config->sliding_window)
        config->sliding_window += more_keys;
    if (!s)
        s = refuse_unsupported(root, config, err);
    if (!s)
        s = read_quantization(root, config, err);
    if (!s)
        s = settle(root, config, err);
    if (!s)
        s = moe_config_rope(root, config, err);
    if (s)
        return s;
    default_tokens(root, config);
    return read_tokens(root, config, err);
}

static enum moe_status read_text(const char *dir, const char *file, const char *text, size_t size,
                                 enum moe_status (*read)(const json_t *, struct moe_llm_config *,
                                                         struct moe_err *),
                                 struct moe_llm_config *config, struct moe_err *err)
{
    json_t *root;
    enum moe_status s = moe_json_parse(text, size, &root, err);
    if (!s) {
        s = read(root, config, err);
        json_decref(root);
    }
    return s ? moe_fail_prefix(err, "'%.200s/%s'", dir, file) : MOE_OK;
}

enum moe_status moe_llm_config_parse(const char *dir, const char *config, size_t config_size,
                                     const char *generation, size_t generation_size,
                                     struct moe_llm_config *out, struct moe_err *err)
{
    struct moe_llm_config c = {0};
    enum moe_status s = read_text(dir, "config.json", config, config_size, read_config, &c, err);
    if (!s && generation)
        s = read_text(dir, "generation_config.json", generation, generation_size, read_tokens, &c,
                      err);
    if (!s)
        *out = c;
    return s;
}

/* optional: *text becomes NULL if the file does not exist. */
static enum moe_status read_file(const char *dir, const char *name, bool optional, char **text,
                                 size_t *size, struct moe_err *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return moe_fail(err, MOE_ERR_IO, "path too long: '%.300s'", dir);
    *text = NULL;
    *size = 0;
    if (optional && access(path, F_OK) != 0)
        return MOE_OK;
    return moe_file_read(path, MAX_FILE_BYTES, text, size, err);
}

enum moe_status moe_llm_config_load(const char *dir, struct moe_llm_config *out,
                                    struct moe_err *err)
{
    struct stat st;
    char *config, *generation = NULL;
    size_t config_size, generation_size;
    if (stat(dir, &st) != 0)
        return moe_fail(err, MOE_ERR_IO, "cannot open model '%.300s': %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return moe_fail(err, MOE_ERR_IO, "cannot open model '%.300s': not a directory", dir);
    enum moe_status s = read_file(dir, "config.json", false, &config, &config_size, err);
    if (s)
        return s;
    s = read_file(dir, "generation_config.json", true, &generation, &generation_size, err);
    if (!s)
        s = moe_llm_config_parse(dir, config, config_size, generation, generation_size, out, err);
    free(config);
    free(generation);
    return s;
}
