/* vLLM's return_routed_experts: per request an integer array [tokens, layers, k] of the expert ids
 * of its prompt and its generated tokens. The last sampled token was never routed, so an array may
 * have one row less than the request has tokens. -1 marks what has no route. */
#include "base/file.h"
#include "base/units.h"
#include "traces/build.h"
#include "traces/formats.h"
#include "traces/npy.h"
#include "traces/sequences.h"
#include "traces/trace.h"
#include "traces/zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct request {
    struct moe_npy ids;
    char name[160]; /* for messages: FILE or FILE:ARRAY */
    char label[128];
};

struct batch {
    struct request *requests;
    size_t n;
    uint64_t n_tokens;
    struct moe_sequence_rows rows;
    bool has_rows;
};

static enum moe_status add_array(struct batch *b, struct request *r, const char *data, size_t size,
                                 struct moe_err *err)
{
    struct moe_npy *ids = &r->ids;
    const struct moe_npy *first = &b->requests[0].ids;
    enum moe_status status = moe_npy_parse(r->name, data, size, ids, err);
    if (status != MOE_OK)
        return status;
    if (ids->kind == 'f' || ids->n_dims != 3)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': not an integer array of 3 dimensions [tokens, layers, k]", r->name);
    if (ids->shape[0] < 1 || ids->shape[0] > UINT32_MAX || ids->shape[1] < 1 ||
        ids->shape[1] > MOE_MAX_LAYERS || ids->shape[2] < 1 || ids->shape[2] > MOE_MAX_TOP_K)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': shape %" PRIu64 " x %" PRIu64 " x %" PRIu64 " is outside 1..%" PRIu32
                        " x 1..%d x 1..%d",
                        r->name, ids->shape[0], ids->shape[1], ids->shape[2], UINT32_MAX,
                        MOE_MAX_LAYERS, MOE_MAX_TOP_K);
    if (ids->shape[1] != first->shape[1] || ids->shape[2] != first->shape[2])
        return moe_fail(err, MOE_ERR_INPUT, "'%s': layers and k differ from the first array",
                        r->name);
    b->n++;
    b->n_tokens += ids->shape[0];
    return MOE_OK;
}

static enum moe_status open_npz(struct batch *b, const struct moe_blob *file, struct moe_err *err)
{
    struct moe_zip_entry *entries = NULL;
    size_t n = 0;
    enum moe_status status = moe_zip_list(file->name, file->data, file->size, &entries, &n, err);
    if (status != MOE_OK)
        return status;
    b->requests = calloc(n ? n : 1, sizeof *b->requests);
    if (!b->requests)
        status = moe_fail_memory(err, "requests");
    else if (n == 0)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': no arrays", file->name);
    for (size_t i = 0; status == MOE_OK && i < n; i++) {
        struct request *r = &b->requests[i];
        size_t length = strlen(entries[i].name);
        bool npy = length > 4 && strcmp(entries[i].name + length - 4, ".npy") == 0;
        snprintf(r->name, sizeof r->name, "%.28s:%s", file->name, entries[i].name);
        snprintf(r->label, sizeof r->label, "%.*s", (int)(length - (npy ? 4 : 0)), entries[i].name);
        if (!moe_text_is_utf8(r->label, strlen(r->label)))
            status = moe_fail(err, MOE_ERR_INPUT, "'%s': name is not UTF-8", r->name);
        else
            status = add_array(b, r, entries[i].data, entries[i].size, err);
    }
    free(entries);
    return status;
}

static enum moe_status open_arrays(struct batch *b, const struct moe_blob *file,
                                   struct moe_err *err)
{
    if (file->size >= 4 && memcmp(file->data, "PK", 2) == 0)
        return open_npz(b, file, err);
    b->requests = calloc(1, sizeof *b->requests);
    if (!b->requests)
        return moe_fail_memory(err, "requests");
    snprintf(b->requests[0].name, sizeof b->requests[0].name, "%s", file->name);
    return add_array(b, &b->requests[0], file->data, file->size, err);
}

/* The rows of sequences.csv against the arrays. */
static enum moe_status match_rows(struct batch *b, const struct moe_blob *file,
                                  const struct moe_blob *sequences, struct moe_err *err)
{
    if (!sequences->data)
        return MOE_OK;
    enum moe_status status =
        moe_sequences_parse(sequences->name, sequences->data, sequences->size, true, &b->rows, err);
    if (status != MOE_OK)
        return status;
    b->has_rows = true;
    if (b->rows.n != b->n)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %" PRIu64 " sequences, '%s' has %zu arrays",
                        sequences->name, b->rows.n, file->name, b->n);
    for (size_t i = 0; i < b->n; i++) {
        const struct moe_sequence_row *row = &b->rows.row[i];
        uint64_t n = b->requests[i].ids.shape[0];
        if (b->rows.has_n_tokens && row->n_tokens != n && row->n_tokens != n + 1)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s':%" PRIu64 ": n_tokens %" PRIu64 ", but '%s' has %" PRIu64,
                            sequences->name, row->line, row->n_tokens, b->requests[i].name, n);
        if (row->n_prompt > n)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s':%" PRIu64 ": prompt of %" PRIu64 " tokens exceeds the %" PRIu64
                            " of '%s'",
                            sequences->name, row->line, row->n_prompt, n, b->requests[i].name);
    }
    return MOE_OK;
}

static enum moe_status check_ids(const struct request *r, int64_t most, uint64_t *n_used,
                                 struct moe_err *err)
{
    for (uint64_t i = 0; i < r->ids.n_items; i++) {
        int64_t id = moe_npy_integer(&r->ids, i);
        uint64_t row = r->ids.shape[1] * r->ids.shape[2];
        if (id > most || id < -1)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': token %" PRIu64 " layer %" PRIu64 ": expert %" PRId64
                            " is outside -1..%" PRId64,
                            r->name, i / row, i % row / r->ids.shape[2], id, most);
        if (id >= 0 && (uint64_t)id >= *n_used)
            *n_used = (uint64_t)id + 1;
    }
    return MOE_OK;
}

static enum moe_status settle_shape(const struct batch *b, const struct moe_blob *file,
                                    const struct moe_import_options *options,
                                    struct moe_trace *trace, struct moe_err *err)
{
    const struct moe_npy *ids = &b->requests[0].ids;
    uint64_t limit = options->model ? options->model->n_experts : options->n_experts, n_used = 0;
    int64_t most = (int64_t)(limit && limit < MOE_MAX_EXPERTS ? limit : MOE_MAX_EXPERTS) - 1;
    trace->info.top_k = (uint32_t)ids->shape[2];
    enum moe_status status = moe_import_layers(trace, file->name, options, ids->shape[1], err);
    for (size_t i = 0; status == MOE_OK && i < b->n; i++)
        status = check_ids(&b->requests[i], most, &n_used, err);
    if (status == MOE_OK)
        status = moe_import_experts(trace, file->name, options, 0, n_used, err);
    if (status == MOE_OK)
        status = moe_import_alloc(trace, file->name, b->n_tokens, b->n, 0, file->size, err);
    return status;
}

static enum moe_status fill_request(struct batch *b, size_t i, struct moe_trace *trace,
                                    uint64_t first, struct moe_err *err)
{
    const struct moe_npy *ids = &b->requests[i].ids;
    moe_expert *to = trace->tokens.expert + first * ids->shape[1] * ids->shape[2];
    for (uint64_t at = 0; at < ids->n_items; at++) {
        int64_t id = moe_npy_integer(ids, at);
        to[at] = id < 0 ? MOE_NO_EXPERT : (moe_expert)id;
    }
    /* The arrays start at the first token of the context. */
    if (b->has_rows && b->rows.row[i].first_position < 0)
        b->rows.row[i].first_position = 0;
    moe_sequences_apply(b->has_rows ? &b->rows : NULL, i, trace, first, ids->shape[0]);
    for (uint64_t t = 0; !b->has_rows && t < ids->shape[0] && t <= INT32_MAX; t++)
        trace->tokens.position[first + t] = (int32_t)t;
    if (trace->sequences[i].label[0])
        return MOE_OK;
    char *label = strdup(b->requests[i].label);
    if (!label)
        return moe_fail_memory(err, "a label");
    free(trace->sequences[i].label);
    trace->sequences[i].label = label;
    return MOE_OK;
}

static enum moe_status build(struct batch *b, const struct moe_blob *file,
                             const struct moe_import_options *options, struct moe_trace *trace,
                             struct moe_err *err)
{
    uint64_t first = 0;
    enum moe_status status = settle_shape(b, file, options, trace, err);
    for (size_t i = 0; status == MOE_OK && i < b->n; i++) {
        status = fill_request(b, i, trace, first, err);
        first += b->requests[i].ids.shape[0];
    }
    if (status != MOE_OK)
        return status;
    trace->info.rows_in_order = moe_import_single_passes(&trace->tokens);
    snprintf(trace->info.dialect, sizeof trace->info.dialect, "format=vllm");
    if (!b->rows.has_prompt)
        snprintf(trace->info.note, sizeof trace->info.note,
                 "prompt lengths not told: every token is called a decode token");
    return MOE_OK;
}

enum moe_status moe_vllm_parse(const struct moe_blob *arrays, const struct moe_blob *sequences,
                               const struct moe_import_options *options, struct moe_trace *out,
                               struct moe_err *err)
{
    struct batch b = {0};
    struct moe_trace trace;
    uint64_t hash = moe_hash_bytes(MOE_HASH_SEED, arrays->data, arrays->size), size = arrays->size;
    if (sequences->data) {
        hash = moe_hash_bytes(hash, sequences->data, sequences->size);
        size += sequences->size;
    }
    moe_import_start(&trace, "vllm", options, size, hash);
    snprintf(trace.info.tool, sizeof trace.info.tool, "vLLM");
    enum moe_status status = open_arrays(&b, arrays, err);
    if (status == MOE_OK)
        status = match_rows(&b, arrays, sequences, err);
    if (status == MOE_OK)
        status = build(&b, arrays, options, &trace, err);
    free(b.requests);
    moe_sequences_release(&b.rows);
    return moe_import_finish(&trace, arrays->name, status, out, err);
}

enum moe_status moe_vllm_import(const char *path, const struct moe_import_options *options,
                                struct moe_trace *out, struct moe_err *err)
{
    struct moe_blob arrays = {.name = path}, sequences = {.name = options->sequences};
    char *data = NULL, *csv = NULL;
    enum moe_status status = moe_file_read(path, MOE_IMPORT_MAX_BYTES, &data, &arrays.size, err);
    if (status == MOE_OK && sequences.name)
        status = moe_file_read(sequences.name, MOE_IMPORT_MAX_BYTES, &csv, &sequences.size, err);
    arrays.data = data;
    sequences.data = csv;
    if (status == MOE_OK)
        status = moe_vllm_parse(&arrays, &sequences, options, out, err);
    free(data);
    free(csv);
    return status;
}
