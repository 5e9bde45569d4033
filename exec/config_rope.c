#include "exec/config_rope.h"

#include "exec/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The object that describes scaling, under either of its names; *name is the one used. */
static enum moe_status find_rope(const json_t *root, const json_t **rope, const char **name,
                                 struct moe_err *err)
{
    const json_t *scaling = moe_json_get(root, "rope_scaling");
    const json_t *parameters = moe_json_get(root, "rope_parameters");
    if (scaling && parameters)
        return moe_fail(err, MOE_ERR_INPUT, "both rope_scaling and rope_parameters");
    *rope = scaling ? scaling : parameters;
    *name = scaling ? "rope_scaling" : "rope_parameters";
    if (*rope && !json_is_object(*rope))
        return moe_fail(err, MOE_ERR_INPUT, "%s is not an object", *name);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)*rope, key, value)
    {
        if (json_is_object(value))
            return moe_fail(err, MOE_ERR_UNSUPPORTED, "%s of its own for '%.40s' is not supported",
                            *name, key);
    }
    return MOE_OK;
}

/* A number that may be given in either object; if in both, it must be the same. */
static enum moe_status number_of(const json_t *rope, const json_t *root, const char *key,
                                 double min, double max, double *out, struct moe_err *err)
{
    const json_t *place[2] = {moe_json_get(rope, key), moe_json_get(root, key)};
    double value[2];
    for (int i = 0; i < 2; i++) {
        enum moe_status s =
            place[i] ? moe_json_f64(place[i], key, min, max, &value[i], err) : MOE_OK;
        if (s)
            return s;
    }
    if (place[0] && place[1] && value[0] != value[1])
        return moe_fail(err, MOE_ERR_INPUT, "%s is given twice, as %.9g and %.9g", key, value[0],
                        value[1]);
    if (place[0] || place[1])
        *out = place[0] ? value[0] : value[1];
    return MOE_OK;
}

static enum moe_status type_of(const json_t *rope, enum moe_arch arch, bool *longrope,
                               struct moe_err *err)
{
    const json_t *type = moe_json_get(rope, "rope_type");
    const char *known = arch == MOE_ARCH_PHIMOE ? "default and longrope are" : "default is";
    if (!type)
        type = moe_json_get(rope, "type");
    const char *text = type ? json_string_value(type) : "default";
    if (!text)
        return moe_fail(err, MOE_ERR_INPUT, "rope_type is not a string");
    *longrope = arch == MOE_ARCH_PHIMOE && strcmp(text, "longrope") == 0;
    if (!*longrope && strcmp(text, "default") != 0)
        return moe_json_refuse(type, "rope_type", known, err);
    return MOE_OK;
}

static enum moe_status factors_of(const json_t *rope, const char *key, uint32_t n, float *out,
                                  struct moe_err *err)
{
    const json_t *list = moe_json_get(rope, key);
    char what[40];
    if (!json_is_array(list))
        return moe_fail(err, MOE_ERR_INPUT, "missing list %s", key);
    if (json_array_size(list) != n)
        return moe_fail(err, MOE_ERR_INPUT, "%s has %zu factors, not head_dim / 2 = %" PRIu32, key,
                        json_array_size(list), n);
    for (uint32_t i = 0; i < n; i++) {
        double factor;
        snprintf(what, sizeof what, "%s[%" PRIu32 "]", key, i);
        enum moe_status s = moe_json_f64(json_array_get(list, i), what, 1e-3, 1e6, &factor, err);
        if (s)
            return s;
        out[i] = (float)factor;
    }
    return MOE_OK;
}

/* transformers requires both scales for PhiMoE, and then ignores factor and attention_factor. */
static enum moe_status mscale_of(const json_t *rope, const char *key, float *out,
                                 struct moe_err *err)
{
    const json_t *value = moe_json_get(rope, key);
    double scale;
    if (!value)
        return moe_fail(err, MOE_ERR_INPUT, "missing key %s", key);
    enum moe_status s = moe_json_f64(value, key, 1e-3, 1e3, &scale, err);
    if (!s)
        *out = (float)scale;
    return s;
}

static enum moe_status original_of(const json_t *rope, const json_t *root, uint32_t *out,
                                   struct moe_err *err)
{
    static const char key[] = "original_max_position_embeddings";
    double length = 0;
    uint64_t whole;
    enum moe_status s = number_of(rope, root, key, 1, MOE_CONTEXT_MAX, &length, err);
    if (s)
        return s;
    if (length == 0)
        return moe_fail(err, MOE_ERR_INPUT, "missing key %s", key);
    const json_t *value = moe_json_get(rope, key);
    s = moe_json_u64(value ? value : moe_json_get(root, key), key, 1, MOE_CONTEXT_MAX, &whole, err);
    if (!s)
        *out = (uint32_t)whole;
    return s;
}

static enum moe_status read_longrope(const json_t *rope, const json_t *root,
                                     struct moe_llm_config *config, struct moe_err *err)
{
    uint32_t n = config->head_dim / 2;
    enum moe_status s = original_of(rope, root, &config->original_context, err);
    if (!s)
        s = factors_of(rope, "short_factor", n, config->short_factor, err);
    if (!s)
        s = factors_of(rope, "long_factor", n, config->long_factor, err);
    if (!s)
        s = mscale_of(rope, "short_mscale", &config->short_mscale, err);
    if (!s)
        s = mscale_of(rope, "long_mscale", &config->long_mscale, err);
    return s ? moe_fail_prefix(err, "longrope") : MOE_OK;
}

enum moe_status moe_config_rope(const json_t *root, struct moe_llm_config *config,
                                struct moe_err *err)
{
    const json_t *rope;
    const char *name;
    double rotated = 1;
    enum moe_status s = find_rope(root, &rope, &name, err);
    if (s)
        return s;
    config->rope_theta = moe_arch_info(config->arch)->rope_theta;
    s = type_of(rope, config->arch, &config->longrope, err);
    if (!s)
        s = number_of(rope, root, "rope_theta", 1, 1e12, &config->rope_theta, err);
    if (!s)
        s = number_of(rope, root, "partial_rotary_factor", 0, 1, &rotated, err);
    if (!s && rotated != 1)
        s = moe_fail(err, MOE_ERR_UNSUPPORTED, "partial_rotary_factor %g is not supported (1 is)",
                     rotated);
    if (!s && config->longrope)
        s = read_longrope(rope, root, config, err);
    return s;
}
