/* The first line of moelab's own JSON lines, and how members of an object are read. */
#include "base/units.h"
#include "traces/build.h"
#include "traces/csv.h"
#include "traces/jsonl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum moe_status moe_jsonl_fail(const struct moe_jsonl *p, struct moe_err *err, const char *format,
                               ...)
{
    struct moe_csv place = {.name = p->name, .line = p->line};
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return moe_csv_fail(&place, err, "%s", text);
}

/* ---- members of objects ---- */

/* Whole number in [min, max]; absent or null: fallback. */
enum moe_status moe_jsonl_integer(const struct moe_jsonl *p, const json_t *object, const char *key,
                                  int64_t min, int64_t max, int64_t fallback, int64_t *out,
                                  struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return MOE_OK;
    if (!json_is_integer(value))
        return moe_jsonl_fail(p, err, "%s is not a whole number", key);
    *out = json_integer_value(value);
    if (*out < min || *out > max)
        return moe_jsonl_fail(p, err, "%s %" PRId64 " is outside %" PRId64 "..%" PRId64, key, *out,
                              min, max);
    return MOE_OK;
}

enum moe_status moe_jsonl_text(const struct moe_jsonl *p, const json_t *object, const char *key,
                               const char **out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return MOE_OK;
    if (!json_is_string(value))
        return moe_jsonl_fail(p, err, "%s is not a string", key);
    *out = json_string_value(value);
    return MOE_OK;
}

static bool is_known(const char *key, const char *const *known, size_t n)
{
    size_t i = 0;
    while (i < n && strcmp(key, known[i]) != 0)
        i++;
    return i < n;
}

enum moe_status moe_jsonl_keys(struct moe_jsonl *p, const json_t *object, const char *const *known,
                               size_t n, struct moe_err *err)
{
    bool present[32];
    const char *key;
    json_t *value;
    /* "layers" and "experts" are synonyms: one of them is enough. */
    bool routes = json_object_get(object, "layers") || json_object_get(object, "experts");
    for (size_t i = 0; i < n; i++)
        present[i] = json_object_get(object, known[i]) ||
                     (routes && (!strcmp(known[i], "layers") || !strcmp(known[i], "experts")));
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (is_known(key, known, n))
            continue;
        const char *meant = moe_ignored_take(&p->ignored, key, strlen(key), known, present, n);
        if (meant)
            return moe_jsonl_fail(p, err, "unknown key '%s' (did you mean '%s'?)", key, meant);
    }
    return MOE_OK;
}

/* Only moelab writes the first line: an unknown key in it is an error. */
static enum moe_status header_only_known(const struct moe_jsonl *p, const json_t *object,
                                         const char *const *known, size_t n, struct moe_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (is_known(key, known, n))
            continue;
        const char *near = moe_nearest_name(key, known, n);
        return near ? moe_jsonl_fail(p, err, "unknown key '%s' (did you mean '%s'?)", key, near)
                    : moe_jsonl_fail(p, err, "unknown key '%s'", key);
    }
    return MOE_OK;
}

/* ---- the header line ---- */

static const struct {
    const char *name;
    unsigned part;
} part_names[] = {{"weights", MOE_HAS_WEIGHT},
                  {"scores", MOE_HAS_SCORE},
                  {"lookahead", MOE_HAS_LOOKAHEAD},
                  {"log", MOE_HAS_LOG},
                  {"requests", MOE_HAS_REQUEST}};

static const char *const header_keys[] = {
    "moelab_trace", "model",         "n_layers", "n_experts", "top_k", "expert_bytes",
    "dense_bytes",  "synthetic",     "source",   "licence",   "tool",  "created",
    "note",         "rows_in_order", "header",   "dialect",   "parts",
};

static enum moe_status header_parts(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    const json_t *parts = json_object_get(object, "parts"), *part;
    size_t i;
    if (parts && !json_is_array(parts))
        return moe_jsonl_fail(p, err, "parts is not a list");
    json_array_foreach(parts, i, part)
    {
        const size_t n = sizeof part_names / sizeof *part_names;
        size_t k = 0;
        const char *word = json_is_string(part) ? json_string_value(part) : "";
        while (k < n && strcmp(word, part_names[k].name) != 0)
            k++;
        if (k == n)
            return moe_jsonl_fail(
                p, err, "part '%s' is not weights, scores, lookahead, log or requests", word);
        p->parts |= part_names[k].part;
    }
    return MOE_OK;
}

static enum moe_status header_shape(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    const struct {
        const char *key;
        int64_t max;
        uint64_t *to;
    } members[] = {{"n_layers", MOE_MAX_LAYERS, &p->n_layers},
                   {"n_experts", MOE_MAX_EXPERTS, &p->n_experts},
                   {"top_k", MOE_MAX_TOP_K, &p->top_k}};
    for (size_t i = 0; i < 3; i++) {
        int64_t value = 0;
        enum moe_status status =
            moe_jsonl_integer(p, object, members[i].key, 1, members[i].max, 0, &value, err);
        if (status != MOE_OK)
            return status;
        *members[i].to = (uint64_t)value;
    }
    return MOE_OK;
}

static enum moe_status header_sizes(const struct moe_jsonl *p, const json_t *object,
                                    const char *key, uint64_t **out, struct moe_err *err)
{
    const json_t *list = json_object_get(object, key), *item;
    uint32_t n = p->trace->info.n_layers;
    size_t i;
    if (!list || json_is_null(list))
        return MOE_OK;
    if (!json_is_array(list) || json_array_size(list) != n)
        return moe_jsonl_fail(p, err, "%s is not a list of %" PRIu32 " size%s", key, n,
                              moe_plural(n));
    free(*out);
    *out = calloc(n, sizeof **out);
    if (!*out)
        return moe_fail_memory(err, key);
    json_array_foreach(list, i, item)
    {
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return moe_jsonl_fail(p, err, "%s of layer %zu is not a size", key, i);
        (*out)[i] = (uint64_t)json_integer_value(item);
    }
    return MOE_OK;
}

static enum moe_status header_texts(const struct moe_jsonl *p, const json_t *object,
                                    struct moe_err *err)
{
    struct moe_trace_info *info = &p->trace->info;
    const struct {
        const char *key;
        char *to;
    } members[] = {{"model", info->model},     {"source", info->source},
                   {"licence", info->licence}, {"tool", info->tool},
                   {"created", info->created}, {"note", info->note},
                   {"dialect", info->dialect}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const char *text = NULL;
        enum moe_status status = moe_jsonl_text(p, object, members[i].key, &text, err);
        if (status != MOE_OK)
            return status;
        if (!text)
            continue;
        if (strlen(text) >= MOE_TEXT_MAX)
            return moe_jsonl_fail(p, err, "%s of %zu bytes exceeds %d", members[i].key,
                                  strlen(text), MOE_TEXT_MAX - 1);
        snprintf(members[i].to, MOE_TEXT_MAX, "%s", text);
    }
    const char *header = NULL;
    enum moe_status status = moe_jsonl_text(p, object, "header", &header, err);
    if (status == MOE_OK && header)
        status = moe_import_header(p->trace, p->name, header, strlen(header), err);
    return status;
}

static enum moe_status header_flag(const struct moe_jsonl *p, const json_t *object, const char *key,
                                   bool *out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_boolean(value))
        return moe_jsonl_fail(p, err, "%s is neither true nor false", key);
    *out = json_is_true(value);
    return MOE_OK;
}

enum moe_status moe_jsonl_header(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    int64_t version = 0;
    if (p->line != 1)
        return moe_jsonl_fail(p, err, "moelab_trace is allowed on the first line only");
    enum moe_status status =
        header_only_known(p, object, header_keys, sizeof header_keys / sizeof *header_keys, err);
    if (status == MOE_OK)
        status = moe_jsonl_integer(p, object, "moelab_trace", 1, 1, 0, &version, err);
    if (status == MOE_OK)
        status = header_shape(p, object, err);
    if (status == MOE_OK)
        status = header_parts(p, object, err);
    p->has_header = true;
    if (status != MOE_OK || !p->trace)
        return status;
    struct moe_trace_info *info = &p->trace->info;
    status = header_sizes(p, object, "expert_bytes", &info->expert_bytes, err);
    if (status == MOE_OK)
        status = header_sizes(p, object, "dense_bytes", &info->dense_bytes, err);
    if (status == MOE_OK)
        status = header_texts(p, object, err);
    if (status == MOE_OK)
        status = header_flag(p, object, "synthetic", &info->synthetic, err);
    if (status == MOE_OK)
        status = header_flag(p, object, "rows_in_order", &info->rows_in_order, err);
    return status;
}
