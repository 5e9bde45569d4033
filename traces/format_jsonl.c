/* JSON lines: an optional first line {"moelab_trace": 1, ...} with everything that is true of the
 * whole trace, then one object a token and, before a sequence's first token, {"sequence": i,
 * "label": ...}. The text is parsed twice: once for shape and counts, once to fill. */
#include "base/units.h"
#include "traces/build.h"
#include "traces/csv.h"
#include "traces/formats.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    const char *name, *next, *end;
    uint64_t line;
    struct moe_trace *trace; /* NULL in the first pass */
    bool has_header, any_step;
    uint64_t n_layers, n_experts, top_k; /* told by the header; 0: not told */
    uint64_t used_layers, used_top_k, used_experts;
    uint64_t n_tokens, n_sequences;
    unsigned parts;
    /* the token before */
    uint32_t sequence;
    int64_t step;
    enum moe_phase phase;
    bool open; /* the sequence under way has tokens */
};

static enum moe_status fail(const struct parser *p, struct moe_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum moe_status fail(const struct parser *p, struct moe_err *err, const char *format, ...)
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
static enum moe_status get_integer(const struct parser *p, const json_t *object, const char *key,
                                   int64_t min, int64_t max, int64_t fallback, int64_t *out,
                                   struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return MOE_OK;
    if (!json_is_integer(value))
        return fail(p, err, "%s is not a whole number", key);
    *out = json_integer_value(value);
    if (*out < min || *out > max)
        return fail(p, err, "%s %" PRId64 " is outside %" PRId64 "..%" PRId64, key, *out, min, max);
    return MOE_OK;
}

static enum moe_status get_text(const struct parser *p, const json_t *object, const char *key,
                                const char **out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return MOE_OK;
    if (!json_is_string(value))
        return fail(p, err, "%s is not a string", key);
    *out = json_string_value(value);
    return MOE_OK;
}

static enum moe_status check_keys(const struct parser *p, const json_t *object,
                                  const char *const *known, size_t n, struct moe_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (i < n && strcmp(key, known[i]) != 0)
            i++;
        if (i < n)
            continue;
        const char *near = moe_nearest_name(key, known, n);
        return near ? fail(p, err, "unknown key '%s' (did you mean '%s'?)", key, near)
                    : fail(p, err, "unknown key '%s'", key);
    }
    return MOE_OK;
}

/* ---- the header line ---- */

static const char *const part_names[] = {"weights", "scores", "lookahead", "log"};

static const char *const header_keys[] = {
    "moelab_trace", "model",         "n_layers", "n_experts", "top_k", "expert_bytes",
    "dense_bytes",  "synthetic",     "source",   "licence",   "tool",  "created",
    "note",         "rows_in_order", "header",   "dialect",   "parts",
};

static enum moe_status header_parts(struct parser *p, const json_t *object, struct moe_err *err)
{
    const json_t *parts = json_object_get(object, "parts"), *part;
    size_t i;
    if (parts && !json_is_array(parts))
        return fail(p, err, "parts is not a list");
    json_array_foreach(parts, i, part)
    {
        size_t bit = 0;
        const char *word = json_is_string(part) ? json_string_value(part) : "";
        while (bit < 4 && strcmp(word, part_names[bit]) != 0)
            bit++;
        if (bit == 4)
            return fail(p, err, "part '%s' is not weights, scores, lookahead or log", word);
        p->parts |= 1u << bit;
    }
    return MOE_OK;
}

static enum moe_status header_shape(struct parser *p, const json_t *object, struct moe_err *err)
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
            get_integer(p, object, members[i].key, 1, members[i].max, 0, &value, err);
        if (status != MOE_OK)
            return status;
        *members[i].to = (uint64_t)value;
    }
    return MOE_OK;
}

static enum moe_status header_sizes(const struct parser *p, const json_t *object, const char *key,
                                    uint64_t **out, struct moe_err *err)
{
    const json_t *list = json_object_get(object, key), *item;
    uint32_t n = p->trace->info.n_layers;
    size_t i;
    if (!list || json_is_null(list))
        return MOE_OK;
    if (!json_is_array(list) || json_array_size(list) != n)
        return fail(p, err, "%s is not a list of %" PRIu32 " sizes", key, n);
    free(*out);
    *out = calloc(n, sizeof **out);
    if (!*out)
        return moe_fail_memory(err, key);
    json_array_foreach(list, i, item)
    {
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return fail(p, err, "%s of layer %zu is not a size", key, i);
        (*out)[i] = (uint64_t)json_integer_value(item);
    }
    return MOE_OK;
}

static enum moe_status header_texts(const struct parser *p, const json_t *object,
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
        enum moe_status status = get_text(p, object, members[i].key, &text, err);
        if (status != MOE_OK)
            return status;
        if (!text)
            continue;
        if (strlen(text) >= MOE_TEXT_MAX)
            return fail(p, err, "%s of %zu bytes exceeds %d", members[i].key, strlen(text),
                        MOE_TEXT_MAX - 1);
        snprintf(members[i].to, MOE_TEXT_MAX, "%s", text);
    }
    const char *header = NULL;
    enum moe_status status = get_text(p, object, "header", &header, err);
    if (status == MOE_OK && header)
        status = moe_import_header(p->trace, p->name, header, strlen(header), err);
    return status;
}

static enum moe_status header_flag(const struct parser *p, const json_t *object, const char *key,
                                   bool *out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_boolean(value))
        return fail(p, err, "%s is neither true nor false", key);
    *out = value && json_is_true(value);
    return MOE_OK;
}

static enum moe_status parse_header(struct parser *p, const json_t *object, struct moe_err *err)
{
    int64_t version = 0;
    if (p->line != 1)
        return fail(p, err, "moelab_trace stands on the first line only");
    enum moe_status status =
        check_keys(p, object, header_keys, sizeof header_keys / sizeof *header_keys, err);
    if (status == MOE_OK)
        status = get_integer(p, object, "moelab_trace", 1, 1, 0, &version, err);
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

/* ---- sequences ---- */

static const char *const sequence_keys[] = {"sequence", "label", "category", "text_hash"};

/* The sequence a line belongs to: the one under way or, starting it, the next. */
static enum moe_status enter_sequence(struct parser *p, const json_t *object, struct moe_err *err)
{
    int64_t sequence = 0;
    enum moe_status status =
        get_integer(p, object, "sequence", 0, UINT32_MAX - 1,
                    p->n_sequences ? (int64_t)p->n_sequences - 1 : 0, &sequence, err);
    if (status != MOE_OK)
        return status;
    if (p->n_sequences && (uint64_t)sequence == p->n_sequences - 1)
        return MOE_OK;
    if ((uint64_t)sequence != p->n_sequences)
        return fail(p, err,
                    "sequence %" PRId64 " where %" PRIu64 " is due: they are numbered without gaps",
                    sequence, p->n_sequences);
    p->n_sequences++;
    p->open = false;
    return MOE_OK;
}

static enum moe_status replace_text(char **to, const char *text, struct moe_err *err)
{
    char *copy = strdup(text);
    if (!copy)
        return moe_fail_memory(err, "a label");
    free(*to);
    *to = copy;
    return MOE_OK;
}

static enum moe_status parse_sequence(struct parser *p, const json_t *object, struct moe_err *err)
{
    const char *label = "", *category = "", *hash = "0";
    enum moe_status status = check_keys(p, object, sequence_keys, 4, err);
    if (status == MOE_OK)
        status = enter_sequence(p, object, err);
    if (status == MOE_OK && p->open)
        status = fail(p, err, "line of a sequence stands after its first token");
    if (status == MOE_OK)
        status = get_text(p, object, "label", &label, err);
    if (status == MOE_OK)
        status = get_text(p, object, "category", &category, err);
    if (status == MOE_OK)
        status = get_text(p, object, "text_hash", &hash, err);
    if (status == MOE_OK &&
        (strspn(hash, "0123456789abcdef") != strlen(hash) || !*hash || strlen(hash) > 16))
        status = fail(p, err, "text_hash is not up to 16 hexadecimal digits");
    if (status != MOE_OK || !p->trace)
        return status;
    struct moe_sequence *s = &p->trace->sequences[p->n_sequences - 1];
    s->text_hash = strtoull(hash, NULL, 16);
    status = replace_text(&s->label, label, err);
    return status == MOE_OK ? replace_text(&s->category, category, err) : status;
}

/* ---- tokens ---- */

static const char *const token_keys[] = {"sequence", "position",  "phase",     "step",
                                         "token",    "layers",    "experts",   "weights",
                                         "scores",   "lookahead", "residency", "bytes"};

/* One number of a row of a layer; k is its place in the row. */
typedef enum moe_status store_fn(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                 struct moe_err *err);

static uint64_t entry(const struct parser *p, uint32_t l, size_t k)
{
    return (p->n_tokens * p->trace->info.n_layers + l) * p->trace->info.top_k + k;
}

static enum moe_status store_expert(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                    struct moe_err *err)
{
    int64_t id = json_integer_value(value);
    uint64_t told = p->trace ? p->trace->info.n_experts : p->n_experts;
    int64_t most = (int64_t)(told ? told : MOE_MAX_EXPERTS) - 1;
    if (!json_is_integer(value))
        return fail(p, err, "layer %" PRIu32 ": an expert is not a whole number", l);
    if (id < 0 || id > most)
        return fail(p, err, "layer %" PRIu32 ": expert %" PRId64 " is outside 0..%" PRId64, l, id,
                    most);
    if ((uint64_t)id >= p->used_experts)
        p->used_experts = (uint64_t)id + 1;
    if (p->trace)
        p->trace->tokens.expert[entry(p, l, k)] = (moe_expert)id;
    return MOE_OK;
}

static enum moe_status get_float(const struct parser *p, const json_t *value, uint32_t l,
                                 float *out, struct moe_err *err)
{
    double number = json_number_value(value);
    if (json_is_null(value)) {
        *out = NAN;
        return MOE_OK;
    }
    if (!json_is_number(value) || !isfinite((float)number))
        return fail(p, err, "layer %" PRIu32 ": a weight or score is not a finite number", l);
    *out = (float)number;
    return MOE_OK;
}

static enum moe_status store_weight(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                    struct moe_err *err)
{
    return get_float(p, value, l, &p->trace->tokens.weight[entry(p, l, k)], err);
}

static enum moe_status store_score(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                   struct moe_err *err)
{
    const struct moe_trace_info *info = &p->trace->info;
    uint64_t at = (p->n_tokens * info->n_layers + l) * info->n_experts + k;
    return get_float(p, value, l, &p->trace->tokens.score[at], err);
}

static enum moe_status store_lookahead(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                       struct moe_err *err)
{
    const struct moe_trace_info *info = &p->trace->info;
    uint64_t at = (p->n_tokens * info->n_layers + l) * info->n_experts + k;
    return get_float(p, value, l, &p->trace->tokens.lookahead[at], err);
}

static enum moe_status store_residency(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                       struct moe_err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > 255)
        return fail(p, err, "layer %" PRIu32 ": residency is outside 0..255", l);
    p->trace->tokens.log_residency[entry(p, l, k)] = (uint8_t)json_integer_value(value);
    return MOE_OK;
}

static enum moe_status store_bytes(struct parser *p, const json_t *value, uint32_t l, size_t k,
                                   struct moe_err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fail(p, err, "layer %" PRIu32 ": bytes is not a size", l);
    p->trace->tokens.log_bytes[entry(p, l, k)] = (uint64_t)json_integer_value(value);
    return MOE_OK;
}

/* Walks over a list with one row or null a layer. Rows may have at most `most` items, and exactly
 * that many where `exact`. */
static enum moe_status walk(struct parser *p, const json_t *layers, const char *key, size_t most,
                            bool exact, store_fn *store, struct moe_err *err)
{
    size_t l, k;
    const json_t *row, *value;
    size_t limit = p->trace ? p->trace->info.n_layers : MOE_MAX_LAYERS;
    if (!json_is_array(layers))
        return fail(p, err, "%s is not a list of layers", key);
    if (json_array_size(layers) > limit || (p->trace && json_array_size(layers) != limit))
        return fail(p, err, "%s has %zu layers, not %zu", key, json_array_size(layers), limit);
    json_array_foreach(layers, l, row)
    {
        size_t n = json_array_size(row);
        if (json_is_null(row))
            continue;
        if (!json_is_array(row) || n > most || (exact && n != most))
            return fail(p, err, "%s of layer %zu is not a list of %s%zu values", key, l,
                        exact ? "" : "up to ", most);
        if (p->used_top_k < n && store == store_expert)
            p->used_top_k = n;
        json_array_foreach(row, k, value)
        {
            enum moe_status status = store(p, value, (uint32_t)l, k, err);
            if (status != MOE_OK)
                return status;
        }
    }
    return MOE_OK;
}

/* The optional lists; in the first pass only which of them there are. */
static enum moe_status parse_lists(struct parser *p, const json_t *object, struct moe_err *err)
{
    static const struct {
        const char *key;
        unsigned part;
        bool scores;
        store_fn *store;
    } lists[] = {
        {"weights", MOE_HAS_WEIGHT, false, store_weight},
        {"scores", MOE_HAS_SCORE, true, store_score},
        {"lookahead", MOE_HAS_LOOKAHEAD, true, store_lookahead},
        {"residency", MOE_HAS_LOG, false, store_residency},
        {"bytes", MOE_HAS_LOG, false, store_bytes},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(object, lists[i].key);
        if (!list || json_is_null(list))
            continue;
        if (p->has_header && !(p->parts & lists[i].part))
            return fail(p, err, "%s: the first line's parts do not name it", lists[i].key);
        p->parts |= lists[i].part;
        if (!p->trace)
            continue;
        const struct moe_trace_info *info = &p->trace->info;
        enum moe_status status =
            walk(p, list, lists[i].key, lists[i].scores ? info->n_experts : info->top_k,
                 lists[i].scores, lists[i].store, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

static enum moe_status get_phase(const struct parser *p, const json_t *object, enum moe_phase *out,
                                 struct moe_err *err)
{
    const json_t *value = json_object_get(object, "phase");
    const char *word = json_string_value(value);
    *out = MOE_DECODE;
    if (!value || (word && strcmp(word, "decode") == 0) ||
        (json_is_integer(value) && json_integer_value(value) == MOE_DECODE))
        return MOE_OK;
    if (!(word && strcmp(word, "prefill") == 0) &&
        !(json_is_integer(value) && json_integer_value(value) == MOE_PREFILL))
        return fail(p, err, "phase is neither prefill (0) nor decode (1)");
    *out = MOE_PREFILL;
    return MOE_OK;
}

/* Without "step", neighbouring prefill tokens are one forward pass and each decode token is one. */
static enum moe_status parse_place(struct parser *p, const json_t *object, struct moe_err *err)
{
    enum moe_phase phase = MOE_DECODE;
    int64_t position = -1, token = -1;
    enum moe_status status = get_phase(p, object, &phase, err);
    bool same = phase == MOE_PREFILL && p->phase == MOE_PREFILL;
    int64_t due = !p->open ? 0 : p->step + !same;
    if (status == MOE_OK)
        status = get_integer(p, object, "position", -1, INT32_MAX, -1, &position, err);
    if (status == MOE_OK)
        status = get_integer(p, object, "token", -1, INT32_MAX, -1, &token, err);
    if (status == MOE_OK)
        status =
            get_integer(p, object, "step", p->open ? p->step : 0, UINT32_MAX, due, &p->step, err);
    if (status != MOE_OK)
        return status;
    p->phase = phase;
    p->open = true;
    if (!p->trace)
        return MOE_OK;
    struct moe_tokens *x = &p->trace->tokens;
    x->sequence[p->n_tokens] = (uint32_t)(p->n_sequences - 1);
    x->step[p->n_tokens] = (uint32_t)p->step;
    x->position[p->n_tokens] = (int32_t)position;
    x->token_id[p->n_tokens] = (int32_t)token;
    x->phase[p->n_tokens] = (uint8_t)phase;
    return MOE_OK;
}

static enum moe_status parse_token(struct parser *p, const json_t *object, struct moe_err *err)
{
    const json_t *layers = json_object_get(object, "layers");
    const json_t *experts = json_object_get(object, "experts");
    size_t most = p->trace ? p->trace->info.top_k : p->top_k ? p->top_k : MOE_MAX_TOP_K;
    if (!layers == !experts)
        return fail(p, err, "one of 'layers' and 'experts' is needed");
    enum moe_status status =
        check_keys(p, object, token_keys, sizeof token_keys / sizeof *token_keys, err);
    if (status == MOE_OK)
        status = enter_sequence(p, object, err);
    if (status == MOE_OK)
        status = parse_place(p, object, err);
    if (status == MOE_OK)
        status = walk(p, layers ? layers : experts, "layers", most, false, store_expert, err);
    if (status == MOE_OK)
        status = parse_lists(p, object, err);
    if (status != MOE_OK)
        return status;
    size_t n = json_array_size(layers ? layers : experts);
    if (n > p->used_layers)
        p->used_layers = n;
    p->n_tokens++;
    return MOE_OK;
}

/* ---- lines ---- */

static enum moe_status parse_object(struct parser *p, const json_t *object, struct moe_err *err)
{
    if (!json_is_object(object))
        return fail(p, err, "line is not a JSON object");
    if (json_object_get(object, "moelab_trace"))
        return parse_header(p, object, err);
    bool token = json_object_get(object, "layers") || json_object_get(object, "experts");
    bool sequence = json_object_get(object, "label") || json_object_get(object, "category") ||
                    json_object_get(object, "text_hash");
    return sequence && !token ? parse_sequence(p, object, err) : parse_token(p, object, err);
}

static enum moe_status parse_line(struct parser *p, const char *text, size_t n, struct moe_err *err)
{
    json_error_t error;
    if (strspn(text, " \t\r") >= n)
        return MOE_OK; /* an empty line */
    json_t *object = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return fail(p, err, "column %d: %s", error.column, error.text);
    enum moe_status status = parse_object(p, object, err);
    json_decref(object);
    return status;
}

static enum moe_status parse_lines(struct parser *p, const struct moe_blob *file,
                                   struct moe_err *err)
{
    p->next = file->data;
    p->end = file->data + file->size;
    p->line = p->n_tokens = p->n_sequences = 0;
    p->open = false;
    while (p->next < p->end) {
        const char *stop = memchr(p->next, '\n', (size_t)(p->end - p->next));
        const char *text = p->next;
        p->line++;
        p->next = stop ? stop + 1 : p->end;
        enum moe_status status = parse_line(p, text, (size_t)((stop ? stop : p->end) - text), err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

static enum moe_status settle_shape(const struct parser *p, const struct moe_blob *file,
                                    const struct moe_import_options *options,
                                    struct moe_trace *trace, struct moe_err *err)
{
    trace->info.top_k = (uint32_t)(p->top_k ? p->top_k : p->used_top_k ? p->used_top_k : 1);
    enum moe_status status = moe_import_layers(trace, file->name, options,
                                               p->n_layers ? p->n_layers : p->used_layers, err);
    if (status == MOE_OK)
        status = moe_import_experts(trace, file->name, options, p->n_experts, p->used_experts, err);
    if (status == MOE_OK)
        status = moe_import_alloc(trace, file->name, p->n_tokens, p->n_sequences, p->parts,
                                  file->size, err);
    return status;
}

/* What the user said goes before what the file says. */
static void apply_options(struct moe_trace_info *info, const struct moe_import_options *options)
{
    if (options->model)
        snprintf(info->model, sizeof info->model, "%s", options->model->name);
    if (options->licence)
        snprintf(info->licence, sizeof info->licence, "%s", options->licence);
    if (options->source)
        snprintf(info->source, sizeof info->source, "%s", options->source);
}

enum moe_status moe_jsonl_parse(const char *name, const char *data, size_t size,
                                const struct moe_import_options *options, struct moe_trace *out,
                                struct moe_err *err)
{
    struct moe_blob file = {name, data, size};
    struct parser p = {.name = name};
    struct moe_trace trace;
    moe_import_start(&trace, "jsonl", options, size, moe_hash_bytes(MOE_HASH_SEED, data, size));
    enum moe_status status = parse_lines(&p, &file, err);
    if (status == MOE_OK && p.n_tokens == 0)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': no tokens", name);
    if (status == MOE_OK)
        status = settle_shape(&p, &file, options, &trace, err);
    p.trace = &trace;
    if (status == MOE_OK)
        status = parse_lines(&p, &file, err);
    if (status == MOE_OK && !p.has_header) {
        trace.info.rows_in_order = moe_import_single_passes(&trace.tokens);
        snprintf(trace.info.dialect, sizeof trace.info.dialect, "format=jsonl");
    }
    if (status == MOE_OK)
        apply_options(&trace.info, options);
    return moe_import_finish(&trace, name, status, out, err);
}

enum moe_status moe_jsonl_import(const char *path, const struct moe_import_options *options,
                                 struct moe_trace *out, struct moe_err *err)
{
    return moe_import_file(path, moe_jsonl_parse, options, out, err);
}
