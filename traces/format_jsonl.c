/* JSON lines: an optional first line {"moelab_trace": 1, ...} with everything that is true of the
 * whole trace, then one object a token and, before a sequence's first token, {"sequence": i,
 * "label": ...}. The text is parsed twice: once for shape and counts, once to fill. */
#include "base/units.h"
#include "traces/build.h"
#include "traces/formats.h"
#include "traces/jsonl.h"
#include "traces/trace.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sequences ---- */

static const char *const sequence_keys[] = {"sequence", "label", "category", "text_hash"};

/* The sequence a line belongs to: the one under way or, starting it, the next. */
static enum moe_status enter_sequence(struct moe_jsonl *p, const json_t *object,
                                      struct moe_err *err)
{
    int64_t sequence = 0;
    enum moe_status status =
        moe_jsonl_integer(p, object, "sequence", 0, UINT32_MAX - 1,
                          p->n_sequences ? (int64_t)p->n_sequences - 1 : 0, &sequence, err);
    if (status != MOE_OK)
        return status;
    if (p->n_sequences && (uint64_t)sequence == p->n_sequences - 1)
        return MOE_OK;
    if ((uint64_t)sequence != p->n_sequences)
        return moe_jsonl_fail(
            p, err,
            "sequence %" PRId64 " where %" PRIu64
            " is expected: lines of a sequence must be together, numbered 0, 1, 2, ...",
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

static enum moe_status parse_sequence(struct moe_jsonl *p, const json_t *object,
                                      struct moe_err *err)
{
    const char *label = "", *category = "", *hash = "0";
    enum moe_status status = moe_jsonl_keys(p, object, sequence_keys, 4, err);
    if (status == MOE_OK)
        status = enter_sequence(p, object, err);
    if (status == MOE_OK && p->open)
        status = moe_jsonl_fail(p, err, "line of a sequence comes after its first token");
    if (status == MOE_OK)
        status = moe_jsonl_text(p, object, "label", &label, err);
    if (status == MOE_OK)
        status = moe_jsonl_text(p, object, "category", &category, err);
    if (status == MOE_OK)
        status = moe_jsonl_text(p, object, "text_hash", &hash, err);
    if (status == MOE_OK &&
        (strspn(hash, "0123456789abcdef") != strlen(hash) || !*hash || strlen(hash) > 16))
        status = moe_jsonl_fail(p, err, "text_hash is not up to 16 hexadecimal digits");
    if (status != MOE_OK || !p->trace)
        return status;
    struct moe_sequence *s = &p->trace->sequences[p->n_sequences - 1];
    s->text_hash = strtoull(hash, NULL, 16);
    status = replace_text(&s->label, label, err);
    return status == MOE_OK ? replace_text(&s->category, category, err) : status;
}

/* ---- tokens ---- */

static const char *const token_keys[] = {
    "sequence", "position", "phase",     "step",      "token", "layers",       "experts",
    "weights",  "scores",   "lookahead", "residency", "bytes", "batch_request"};

/* One number of a row of a layer; k is its place in the row. */
typedef enum moe_status store_fn(struct moe_jsonl *p, const json_t *value, uint32_t l, size_t k,
                                 struct moe_err *err);

static uint64_t entry(const struct moe_jsonl *p, uint32_t l, size_t k)
{
    return (p->n_tokens * p->trace->info.n_layers + l) * p->trace->info.top_k + k;
}

static enum moe_status store_expert(struct moe_jsonl *p, const json_t *value, uint32_t l, size_t k,
                                    struct moe_err *err)
{
    int64_t id = json_integer_value(value);
    uint64_t told = p->trace ? p->trace->info.n_experts : p->n_experts;
    int64_t most = (int64_t)(told ? told : MOE_MAX_EXPERTS) - 1;
    if (!json_is_integer(value))
        return moe_jsonl_fail(p, err, "layer %" PRIu32 ": an expert is not a whole number", l);
    if (id < 0 || id > most)
        return moe_jsonl_fail(
            p, err, "layer %" PRIu32 ": expert %" PRId64 " is outside 0..%" PRId64, l, id, most);
    if ((uint64_t)id >= p->used_experts)
        p->used_experts = (uint64_t)id + 1;
    if (p->trace)
        p->trace->tokens.expert[entry(p, l, k)] = (moe_expert)id;
    return MOE_OK;
}

static enum moe_status get_float(const struct moe_jsonl *p, const json_t *value, uint32_t l,
                                 float *out, struct moe_err *err)
{
    double number = json_number_value(value);
    if (json_is_null(value)) {
        *out = NAN;
        return MOE_OK;
    }
    if (!json_is_number(value) || !isfinite((float)number))
        return moe_jsonl_fail(p, err, "layer %" PRIu32 ": a weight or score is not a finite number",
                              l);
    *out = (float)number;
    return MOE_OK;
}

static enum moe_status store_weight(struct moe_jsonl *p, const json_t *value, uint32_t l, size_t k,
                                    struct moe_err *err)
{
    return get_float(p, value, l, &p->trace->tokens.weight[entry(p, l, k)], err);
}

static enum moe_status store_score(struct moe_jsonl *p, const json_t *value, uint32_t l, size_t k,
                                   struct moe_err *err)
{
    const struct moe_trace_info *info = &p->trace->info;
    uint64_t at = (p->n_tokens * info->n_layers + l) * info->n_experts + k;
    return get_float(p, value, l, &p->trace->tokens.score[at], err);
}

static enum moe_status store_lookahead(struct moe_jsonl *p, const json_t *value, uint32_t l,
                                       size_t k, struct moe_err *err)
{
    const struct moe_trace_info *info = &p->trace->info;
    uint64_t at = (p->n_tokens * info->n_layers + l) * info->n_experts + k;
    return get_float(p, value, l, &p->trace->tokens.lookahead[at], err);
}

static enum moe_status store_residency(struct moe_jsonl *p, const json_t *value, uint32_t l,
                                       size_t k, struct moe_err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > 255)
        return moe_jsonl_fail(p, err, "layer %" PRIu32 ": residency is outside 0..255", l);
    p->trace->tokens.log_residency[entry(p, l, k)] = (uint8_t)json_integer_value(value);
    return MOE_OK;
}

static enum moe_status store_bytes(struct moe_jsonl *p, const json_t *value, uint32_t l, size_t k,
                                   struct moe_err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return moe_jsonl_fail(p, err, "layer %" PRIu32 ": bytes is not a size", l);
    p->trace->tokens.log_bytes[entry(p, l, k)] = (uint64_t)json_integer_value(value);
    return MOE_OK;
}

/* Stores a list with one row or null a layer. Rows have at most `most` items; with `exact` exactly
 * that many; with `routes` as many as that list's rows. */
static enum moe_status walk(struct moe_jsonl *p, const json_t *layers, const char *key, size_t most,
                            bool exact, const json_t *routes, store_fn *store, struct moe_err *err)
{
    size_t l, k;
    const json_t *row, *value;
    size_t limit = p->trace ? p->trace->info.n_layers : MOE_MAX_LAYERS;
    if (!json_is_array(layers))
        return moe_jsonl_fail(p, err, "%s is not a list of layers", key);
    if (json_array_size(layers) > limit || (p->trace && json_array_size(layers) != limit))
        return moe_jsonl_fail(p, err, "%s has %zu layer%s, not %zu", key, json_array_size(layers),
                              moe_plural(json_array_size(layers)), limit);
    json_array_foreach(layers, l, row)
    {
        size_t n = json_array_size(row);
        size_t wanted = routes ? json_array_size(json_array_get(routes, l)) : n;
        if (!json_is_null(row) && (!json_is_array(row) || n > most || (exact && n != most)))
            return moe_jsonl_fail(p, err, "%s of layer %zu is not a list of %s%zu value%s", key, l,
                                  exact ? "" : "up to ", most, moe_plural(most));
        if (n != wanted)
            return moe_jsonl_fail(p, err, "%s of layer %zu has %zu value%s for %zu expert%s", key,
                                  l, n, moe_plural(n), wanted, moe_plural(wanted));
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

enum { LIST_RESIDENCY = 1 << 3, LIST_BYTES = 1 << 4 }; /* places in the table below */

/* The optional lists; in the first pass only which of them there are. */
static enum moe_status parse_lists(struct moe_jsonl *p, const json_t *object, const json_t *routes,
                                   struct moe_err *err)
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
        if (!list || json_is_null(list)) {
            if (p->trace && (p->lists & 1u << i) && !lists[i].scores)
                return moe_jsonl_fail(p, err, "%s is missing: other tokens have it", lists[i].key);
            continue;
        }
        p->lists |= 1u << i;
        if (p->has_header && !(p->parts & lists[i].part))
            return moe_jsonl_fail(p, err, "%s is not among the parts that the first line names",
                                  lists[i].key);
        p->parts |= lists[i].part;
        if (!p->trace)
            continue;
        const struct moe_trace_info *info = &p->trace->info;
        enum moe_status status =
            walk(p, list, lists[i].key, lists[i].scores ? info->n_experts : info->top_k,
                 lists[i].scores, lists[i].scores ? NULL : routes, lists[i].store, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

static enum moe_status get_phase(const struct moe_jsonl *p, const json_t *object,
                                 enum moe_phase *out, struct moe_err *err)
{
    const json_t *value = json_object_get(object, "phase");
    const char *word = json_string_value(value);
    *out = MOE_DECODE;
    if (!value || (word && strcmp(word, "decode") == 0) ||
        (json_is_integer(value) && json_integer_value(value) == MOE_DECODE))
        return MOE_OK;
    if (!(word && strcmp(word, "prefill") == 0) &&
        !(json_is_integer(value) && json_integer_value(value) == MOE_PREFILL))
        return moe_jsonl_fail(p, err, "phase is neither prefill (0) nor decode (1)");
    *out = MOE_PREFILL;
    return MOE_OK;
}

/* The batch request. If only some lines have one, it is 0 for the others. */
static enum moe_status parse_request(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    const json_t *value = json_object_get(object, "batch_request");
    int64_t request = 0;
    if (!value || json_is_null(value))
        return MOE_OK;
    if (p->has_header && !(p->parts & MOE_HAS_REQUEST))
        return moe_jsonl_fail(
            p, err, "batch_request: 'requests' is not among the parts that the first line names");
    enum moe_status status =
        moe_jsonl_integer(p, object, "batch_request", 0, UINT32_MAX, 0, &request, err);
    p->parts |= MOE_HAS_REQUEST;
    if (status == MOE_OK && p->trace)
        p->trace->tokens.request[p->n_tokens] = (uint32_t)request;
    return status;
}

/* Without "step", neighbouring prefill tokens are one forward pass and each decode token is one. */
static enum moe_status parse_place(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    enum moe_phase phase = MOE_DECODE;
    int64_t position = -1, token = -1;
    enum moe_status status = get_phase(p, object, &phase, err);
    bool same = phase == MOE_PREFILL && p->phase == MOE_PREFILL;
    int64_t due = !p->open ? 0 : p->step + !same;
    if (status == MOE_OK)
        status = moe_jsonl_integer(p, object, "position", -1, INT32_MAX, -1, &position, err);
    if (status == MOE_OK)
        status = moe_jsonl_integer(p, object, "token", -1, INT32_MAX, -1, &token, err);
    if (status == MOE_OK)
        status = moe_jsonl_integer(p, object, "step", p->open ? p->step : 0, UINT32_MAX, due,
                                   &p->step, err);
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

static enum moe_status parse_token(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    const json_t *layers = json_object_get(object, "layers");
    const json_t *experts = json_object_get(object, "experts");
    size_t most = p->trace ? p->trace->info.top_k : p->top_k ? p->top_k : MOE_MAX_TOP_K;
    if (!layers == !experts)
        return moe_jsonl_fail(p, err, "one of 'layers' and 'experts' is needed");
    layers = layers ? layers : experts;
    enum moe_status status =
        moe_jsonl_keys(p, object, token_keys, sizeof token_keys / sizeof *token_keys, err);
    if (status == MOE_OK)
        status = enter_sequence(p, object, err);
    if (status == MOE_OK)
        status = parse_place(p, object, err);
    if (status == MOE_OK)
        status = parse_request(p, object, err);
    if (status == MOE_OK)
        status = walk(p, layers, "layers", most, false, NULL, store_expert, err);
    if (status == MOE_OK)
        status = parse_lists(p, object, layers, err);
    if (status != MOE_OK)
        return status;
    size_t n = json_array_size(layers);
    if (n > p->used_layers)
        p->used_layers = n;
    p->n_tokens++;
    return MOE_OK;
}

/* ---- lines ---- */

static enum moe_status parse_object(struct moe_jsonl *p, const json_t *object, struct moe_err *err)
{
    if (!json_is_object(object))
        return moe_jsonl_fail(p, err, "line is not a JSON object");
    if (json_object_get(object, "moelab_trace"))
        return moe_jsonl_header(p, object, err);
    bool token = json_object_get(object, "layers") || json_object_get(object, "experts");
    bool sequence = json_object_get(object, "label") || json_object_get(object, "category") ||
                    json_object_get(object, "text_hash");
    return sequence && !token ? parse_sequence(p, object, err) : parse_token(p, object, err);
}

static enum moe_status parse_line(struct moe_jsonl *p, const char *text, size_t n,
                                  struct moe_err *err)
{
    json_error_t error;
    size_t blank = 0;
    while (blank < n && strchr(" \t\r", text[blank]) && text[blank])
        blank++;
    if (blank == n)
        return MOE_OK;
    json_t *object = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return moe_jsonl_fail(p, err, "column %d: %s (each line is one JSON object)", error.column,
                              error.text);
    enum moe_status status = parse_object(p, object, err);
    json_decref(object);
    return status;
}

/* Both passes; the progress shows them as the halves of the file. */
static enum moe_status parse_lines(struct moe_jsonl *p, const struct moe_blob *file,
                                   const struct moe_import_options *options, struct moe_err *err)
{
    p->next = file->data;
    p->end = file->data + file->size;
    p->line = p->n_tokens = p->n_sequences = 0;
    p->open = false;
    if (file->size >= 3 && memcmp(file->data, "\xef\xbb\xbf", 3) == 0)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': file starts with a byte order mark: save it as UTF-8 without one",
                        p->name);
    while (p->next < p->end) {
        const char *stop = memchr(p->next, '\n', (size_t)(p->end - p->next));
        const char *text = p->next;
        p->line++;
        p->next = stop ? stop + 1 : p->end;
        enum moe_status status = parse_line(p, text, (size_t)((stop ? stop : p->end) - text), err);
        uint64_t done = (uint64_t)(p->next - file->data) / 2 + (p->trace ? file->size / 2 : 0);
        if (status == MOE_OK && p->line % 256 == 0)
            status = moe_import_tick(options, done, file->size, err);
        if (status != MOE_OK)
            return status;
    }
    return MOE_OK;
}

static enum moe_status settle_shape(const struct moe_jsonl *p, const struct moe_blob *file,
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

/* What the user says takes precedence over what the file says. */
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
    struct moe_jsonl p = {.name = name};
    struct moe_trace trace;
    moe_import_start(&trace, "jsonl", options, size, moe_hash_bytes(MOE_HASH_SEED, data, size));
    enum moe_status status = parse_lines(&p, &file, options, err);
    if (status == MOE_OK && p.n_tokens == 0)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': no tokens", name);
    if (status == MOE_OK && (p.lists & LIST_RESIDENCY) && !(p.lists & LIST_BYTES))
        status = moe_fail(err, MOE_ERR_INPUT,
                          "'%s': 'residency' needs 'bytes', which tell hits (0) from misses", name);
    if (status == MOE_OK)
        status = settle_shape(&p, &file, options, &trace, err);
    p.trace = &trace;
    if (status == MOE_OK)
        status = parse_lines(&p, &file, options, err);
    if (status == MOE_OK && !p.has_header) {
        trace.info.rows_in_order = moe_import_single_passes(&trace.tokens);
        snprintf(trace.info.dialect, sizeof trace.info.dialect, "format=jsonl");
    }
    if (status == MOE_OK) {
        apply_options(&trace.info, options);
        moe_ignored_note(&p.ignored, "keys", &trace.info);
    }
    return moe_import_finish(&trace, name, status, out, err);
}

enum moe_status moe_jsonl_import(const char *path, const struct moe_import_options *options,
                                 struct moe_trace *out, struct moe_err *err)
{
    return moe_import_file(path, moe_jsonl_parse, options, out, err);
}
