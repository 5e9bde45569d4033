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

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_SHOWN = 160 }; /* bytes of a path in a message */

struct request {
    struct moe_npy ids;
    char name[FILE_SHOWN + 140]; /* for messages: FILE or FILE:ARRAY */
    char label[128];
};

struct batch {
    struct request *requests;
    size_t n;
    uint64_t n_tokens;
    struct moe_sequence_rows rows;
    bool has_rows;
    struct moe_zip_entry *entries; /* of a npz, or NULL */
    size_t n_entries;
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

/* The label of a request: the name of its array or file without the ending. */
static enum moe_status set_label(struct request *r, const char *name, struct moe_err *err)
{
    size_t n = strlen(name);
    bool npy = n > 4 && strcmp(name + n - 4, ".npy") == 0;
    n -= npy ? 4 : 0;
    if (n >= sizeof r->label || !moe_text_is_utf8(name, n))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': name is not UTF-8 or has over %zu bytes",
                        r->name, sizeof r->label - 1);
    memcpy(r->label, name, n);
    r->label[n] = '\0';
    return MOE_OK;
}

static enum moe_status alloc_requests(struct batch *b, size_t n, struct moe_err *err)
{
    b->requests = calloc(n ? n : 1, sizeof *b->requests);
    return b->requests ? MOE_OK : moe_fail_memory(err, "requests");
}

/* Names a request by its file and its array ("": none). Of a long path only the end is shown. */
static void set_name(struct request *r, const char *file, const char *array)
{
    const size_t n = strlen(file);
    const bool cut = n > FILE_SHOWN;
    snprintf(r->name, sizeof r->name, "%s%s%s%s", cut ? "..." : "",
             cut ? file + n - FILE_SHOWN : file, *array ? ":" : "", array);
}

static enum moe_status open_npz(struct batch *b, const struct moe_blob *file, struct moe_err *err)
{
    enum moe_status status =
        moe_zip_list(file->name, file->data, file->size, &b->entries, &b->n_entries, err);
    if (status == MOE_OK && b->n_entries == 0)
        status = moe_fail(err, MOE_ERR_INPUT, "'%s': no arrays", file->name);
    if (status == MOE_OK)
        status = alloc_requests(b, b->n_entries, err);
    for (size_t i = 0; status == MOE_OK && i < b->n_entries; i++) {
        struct request *r = &b->requests[i];
        set_name(r, file->name, b->entries[i].name);
        status = set_label(r, b->entries[i].name, err);
        if (status == MOE_OK)
            status = add_array(b, r, b->entries[i].data, b->entries[i].size, err);
    }
    return status;
}

static enum moe_status open_arrays(struct batch *b, const struct moe_blob *files, size_t n,
                                   struct moe_err *err)
{
    if (n == 1 && files->size >= 4 && memcmp(files->data, "PK", 2) == 0)
        return open_npz(b, files, err);
    enum moe_status status = alloc_requests(b, n, err);
    for (size_t i = 0; status == MOE_OK && i < n; i++) {
        struct request *r = &b->requests[i];
        const char *slash = strrchr(files[i].name, '/');
        set_name(r, files[i].name, "");
        if (n > 1) /* one file is one request, whatever its name */
            status = set_label(r, slash ? slash + 1 : files[i].name, err);
        if (status == MOE_OK)
            status = add_array(b, r, files[i].data, files[i].size, err);
    }
    return status;
}

/* Checks the rows of sequences.csv against the arrays. */
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
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %" PRIu64 " sequence%s, '%s' has %zu array%s",
                        sequences->name, b->rows.n, moe_plural(b->rows.n), file->name, b->n,
                        moe_plural(b->n));
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
    moe_ignored_note(&b->rows.ignored, "columns", &trace->info);
    return MOE_OK;
}

enum moe_status moe_vllm_parse(const struct moe_blob *files, size_t n_files,
                               const struct moe_blob *sequences,
                               const struct moe_import_options *options, struct moe_trace *out,
                               struct moe_err *err)
{
    struct batch b = {0};
    struct moe_trace trace;
    struct moe_blob all = {.name = files->name};
    uint64_t hash = MOE_HASH_SEED;
    for (size_t i = 0; i < n_files; i++) {
        hash = moe_hash_bytes(hash, files[i].data, files[i].size);
        all.size += files[i].size;
    }
    if (sequences->data) {
        hash = moe_hash_bytes(hash, sequences->data, sequences->size);
        all.size += sequences->size;
    }
    moe_import_start(&trace, "vllm", options, all.size, hash);
    snprintf(trace.info.tool, sizeof trace.info.tool, "vLLM");
    enum moe_status status = open_arrays(&b, files, n_files, err);
    if (status == MOE_OK)
        status = match_rows(&b, files, sequences, err);
    if (status == MOE_OK)
        status = build(&b, &all, options, &trace, err);
    free(b.requests);
    moe_zip_release(b.entries, b.n_entries);
    moe_sequences_release(&b.rows);
    return moe_import_finish(&trace, files->name, status, out, err);
}

/* ---- files ---- */

struct folder {
    struct moe_blob *files; /* names and bytes are heap copies */
    size_t n, room;
};

static void release_folder(struct folder *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free((void *)(uintptr_t)f->files[i].name);
        free((void *)(uintptr_t)f->files[i].data);
    }
    free(f->files);
}

static enum moe_status add_file(struct folder *f, const char *folder, const char *name,
                                struct moe_err *err)
{
    if (f->n == f->room) {
        size_t wanted = f->room ? 2 * f->room : 16;
        struct moe_blob *grown = realloc(f->files, wanted * sizeof *grown);
        if (!grown)
            return moe_fail_memory(err, "a folder");
        f->files = grown;
        f->room = wanted;
    }
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (!path)
        return moe_fail_memory(err, "a folder");
    snprintf(path, size, "%s/%s", folder, name);
    f->files[f->n++] = (struct moe_blob){.name = path};
    return MOE_OK;
}

static int compare_files(const void *left, const void *right)
{
    return moe_natural_order(((const struct moe_blob *)left)->name,
                             ((const struct moe_blob *)right)->name);
}

/* The .npy files of a folder in natural order of their names. */
static enum moe_status list_folder(struct folder *f, const char *path, struct moe_err *err)
{
    DIR *folder = opendir(path);
    if (!folder)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    enum moe_status status = MOE_OK;
    for (struct dirent *e; status == MOE_OK && (e = readdir(folder));) {
        size_t n = strlen(e->d_name);
        if (e->d_name[0] != '.' && n > 4 && strcmp(e->d_name + n - 4, ".npy") == 0)
            status = add_file(f, path, e->d_name, err);
    }
    closedir(folder);
    if (status)
        return status;
    if (f->n == 0)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': folder has no .npy file", path);
    qsort(f->files, f->n, sizeof *f->files, compare_files);
    return MOE_OK;
}

static enum moe_status add_lone_file(struct folder *f, const char *path, struct moe_err *err)
{
    f->files = calloc(1, sizeof *f->files);
    char *name = strdup(path);
    if (!f->files || !name) {
        free(name);
        return moe_fail_memory(err, "a file name");
    }
    f->files[f->n++].name = name;
    return MOE_OK;
}

static enum moe_status read_blob(struct moe_blob *blob, struct moe_err *err)
{
    char *data = NULL;
    enum moe_status status =
        moe_input_read(blob->name, MOE_IMPORT_MAX_BYTES, &data, &blob->size, err);
    blob->data = data;
    return status;
}

enum moe_status moe_vllm_import(const char *path, const struct moe_import_options *options,
                                struct moe_trace *out, struct moe_err *err)
{
    struct folder f = {0};
    char inside[4096];
    struct moe_blob sequences = {.name = options->sequences};
    bool folder = moe_is_directory(path);
    enum moe_status status = folder ? list_folder(&f, path, err) : add_lone_file(&f, path, err);
    snprintf(inside, sizeof inside, "%s/sequences.csv", path);
    if (folder && !sequences.name && access(inside, F_OK) == 0)
        sequences.name = inside;
    for (size_t i = 0; status == MOE_OK && i < f.n; i++)
        status = read_blob(&f.files[i], err);
    if (status == MOE_OK && sequences.name)
        status = read_blob(&sequences, err);
    if (status == MOE_OK)
        status = moe_vllm_parse(f.files, f.n, &sequences, options, out, err);
    release_folder(&f);
    free((void *)(uintptr_t)sequences.data);
    return status;
}
