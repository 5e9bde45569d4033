#include "exec/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Checked before parsing, as jansson recurses and its own limit is in the thousands. In invalid
 * JSON brackets may be counted wrongly; the parser then refuses it anyway. */
static bool is_too_deep(const char *text, size_t size)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{') && ++depth > MOE_JSON_DEPTH_MAX)
            return true;
        else if (!quoted && (c == ']' || c == '}') && depth)
            depth--;
    }
    return false;
}

enum moe_status moe_json_parse(const void *text, size_t size, json_t **out, struct moe_err *err)
{
    if (is_too_deep(text, size))
        return moe_fail(err, MOE_ERR_INPUT, "JSON nested deeper than %d", MOE_JSON_DEPTH_MAX);
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return moe_fail_memory(err, "JSON");
    if (!root)
        return moe_fail(err, MOE_ERR_INPUT, "not JSON: line %d: %s", error.line, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return moe_fail(err, MOE_ERR_INPUT, "not a JSON object");
    }
    *out = root;
    return MOE_OK;
}

const json_t *moe_json_get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

enum moe_status moe_json_u64(const json_t *value, const char *what, uint64_t min, uint64_t max,
                             uint64_t *out, struct moe_err *err)
{
    double x = json_real_value(value);
    if (!json_is_real(value))
        return moe_fail(err, MOE_ERR_INPUT, "%s is not a number", what);
    if (x != floor(x))
        return moe_fail(err, MOE_ERR_INPUT, "%s %.17g is not a whole number", what, x);
    if (!(x >= (double)min && x <= (double)max))
        return moe_fail(err, MOE_ERR_INPUT, "%s %.17g is outside %" PRIu64 "..%" PRIu64, what, x,
                        min, max);
    *out = (uint64_t)x;
    return MOE_OK;
}

enum moe_status moe_json_f64(const json_t *value, const char *what, double min, double max,
                             double *out, struct moe_err *err)
{
    double x = json_real_value(value);
    if (!json_is_real(value))
        return moe_fail(err, MOE_ERR_INPUT, "%s is not a number", what);
    if (!(x >= min && x <= max))
        return moe_fail(err, MOE_ERR_INPUT, "%s %.9g is outside %g..%g", what, x, min, max);
    *out = x;
    return MOE_OK;
}

/* Removes ".0" from whole numbers outside of strings, as parsing made every number a real. */
static void write_whole(char *text)
{
    char *out = text;
    bool quoted = false;
    for (const char *in = text; *in; in++) {
        quoted ^= *in == '"';
        if (quoted && *in == '\\')
            *out++ = *in++;
        else if (!quoted && in[0] == '.' && in[1] == '0' && (!in[2] || strchr(",]}", in[2])))
            in += 2;
        if (!*in)
            break;
        *out++ = *in;
    }
    *out = 0;
}

enum moe_status moe_json_refuse(const json_t *value, const char *key, const char *known,
                                struct moe_err *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    if (text)
        write_whole(text);
    enum moe_status s = moe_fail(err, MOE_ERR_UNSUPPORTED, "%s %.80s is not supported (%s)", key,
                                 text ? text : "", known);
    free(text);
    return s;
}
