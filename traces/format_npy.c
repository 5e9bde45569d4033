/* Routes as NumPy arrays: ids [T, L, K], weights of the same shape, and sequences.csv. */
#include "base/file.h"
#include "base/units.h"
#include "traces/build.h"
#include "traces/formats.h"
#include "traces/npy.h"
#include "traces/sequences.h"
#include "traces/trace.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- import ---- */

struct arrays {
    struct moe_npy ids, weights;
    bool has_weights, has_sequences;
    struct moe_sequence_rows sequences;
};

static enum moe_status check_ids(const struct moe_npy *ids, const char *name, struct moe_err *err)
{
    if (ids->kind == 'f')
        return moe_fail(err, MOE_ERR_INPUT, "'%s': ids are floats, not whole numbers", name);
    if (ids->n_dims != 3)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%s': ids have %u dimension%s, not 3 [tokens, layers, k]", name,
                        ids->n_dims, moe_plural(ids->n_dims));
    if (ids->shape[0] < 1 || ids->shape[0] > UINT32_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %" PRIu64 " tokens is outside 1..%" PRIu32, name,
                        ids->shape[0], UINT32_MAX);
    if (ids->shape[1] < 1 || ids->shape[1] > MOE_MAX_LAYERS)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': %" PRIu64 " layers is outside 1..%d", name,
                        ids->shape[1], MOE_MAX_LAYERS);
    if (ids->shape[2] < 1 || ids->shape[2] > MOE_MAX_TOP_K)
        return moe_fail(err, MOE_ERR_INPUT, "'%s': top-k %" PRIu64 " is outside 1..%d", name,
                        ids->shape[2], MOE_MAX_TOP_K);
    return MOE_OK;
}

static enum moe_status check_weights(const struct arrays *a, const char *name, struct moe_err *err)
{
    const struct moe_npy *w = &a->weights;
    if (w->kind != 'f' && !(w->kind == 'u' && w->width == 1))
        return moe_fail(err, MOE_ERR_INPUT, "'%s': weights are neither u1 nor f2, f4 or f8", name);
    for (unsigned d = 0; d < 3; d++)
        if (w->n_dims != 3 || w->shape[d] != a->ids.shape[d])
            return moe_fail(err, MOE_ERR_INPUT, "'%s': shape of weights differs from that of ids",
                            name);
    return MOE_OK;
}

static enum moe_status parse_arrays(struct arrays *a, const struct moe_blob *ids,
                                    const struct moe_blob *weights,
                                    const struct moe_blob *sequences, struct moe_err *err)
{
    enum moe_status status = moe_npy_parse(ids->name, ids->data, ids->size, &a->ids, err);
    if (status == MOE_OK)
        status = check_ids(&a->ids, ids->name, err);
    if (status != MOE_OK)
        return status;
    a->has_weights = weights->data != NULL;
    if (a->has_weights)
        status = moe_npy_parse(weights->name, weights->data, weights->size, &a->weights, err);
    if (status == MOE_OK && a->has_weights)
        status = check_weights(a, weights->name, err);
    if (status != MOE_OK || !sequences->data)
        return status;
    status = moe_sequences_parse(sequences->name, sequences->data, sequences->size, false,
                                 &a->sequences, err);
    a->has_sequences = status == MOE_OK;
    if (status == MOE_OK && a->sequences.n_tokens != a->ids.shape[0])
        status =
            moe_fail(err, MOE_ERR_INPUT, "'%s': n_tokens sum to %" PRIu64 ", '%s' has %" PRIu64,
                     sequences->name, a->sequences.n_tokens, ids->name, a->ids.shape[0]);
    return status;
}

/* Largest id + 1; an id no model can have fails with its place. */
static enum moe_status count_experts(const struct moe_npy *ids, const char *name,
                                     const struct moe_import_options *options, uint64_t *n_used,
                                     struct moe_err *err)
{
    uint64_t limit = options->model ? options->model->n_experts : options->n_experts;
    int64_t largest = -1,
            most = (int64_t)(limit && limit < MOE_MAX_EXPERTS ? limit : MOE_MAX_EXPERTS) - 1;
    uint64_t row = ids->shape[1] * ids->shape[2];
    for (uint64_t i = 0; i < ids->n_items; i++) {
        int64_t id = moe_npy_integer(ids, i);
        if (id > most)
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': token %" PRIu64 " layer %" PRIu64 ": expert %" PRId64
                            " is outside 0..%" PRId64,
                            name, i / row, i % row / ids->shape[2], id, most);
        if (id > largest)
            largest = id;
    }
    *n_used = (uint64_t)(largest + 1);
    return MOE_OK;
}

static void fill(const struct arrays *a, struct moe_tokens *x)
{
    for (uint64_t i = 0; i < a->ids.n_items; i++) {
        int64_t id = moe_npy_integer(&a->ids, i);
        if (id < 0)
            continue; /* absent */
        x->expert[i] = (moe_expert)id;
        if (!a->has_weights)
            continue;
        x->weight[i] = a->weights.kind == 'u' ? (float)moe_npy_integer(&a->weights, i) / 255.0f
                                              : (float)moe_npy_real(&a->weights, i);
    }
}

static enum moe_status keep_dialect(const struct arrays *a, struct moe_trace *trace,
                                    const char *name, struct moe_err *err)
{
    struct moe_trace_info *info = &trace->info;
    char weights[24] = "";
    if (a->has_weights)
        snprintf(weights, sizeof weights, " weights=%c%u", a->weights.kind, a->weights.width);
    snprintf(info->dialect, sizeof info->dialect, "format=npy ids=%c%u%s sequences=%s", a->ids.kind,
             a->ids.width, weights,
             !a->has_sequences                  ? "none"
             : a->sequences.eol == MOE_EOL_CRLF ? "crlf"
                                                : "lf");
    if (!a->has_sequences)
        return MOE_OK;
    moe_ignored_note(&a->sequences.ignored, "columns", info);
    return moe_import_header(trace, name, a->sequences.header, strlen(a->sequences.header), err);
}

static enum moe_status build(struct arrays *a, const struct moe_blob *ids,
                             const struct moe_import_options *options, uint64_t file_bytes,
                             struct moe_trace *trace, struct moe_err *err)
{
    uint64_t n_used = 0, n = a->has_sequences ? a->sequences.n : 1, first = 0;
    unsigned parts = a->has_weights ? MOE_HAS_WEIGHT : 0u;
    trace->info.top_k = (uint32_t)a->ids.shape[2];
    enum moe_status status = moe_import_layers(trace, ids->name, options, a->ids.shape[1], err);
    if (status == MOE_OK)
        status = count_experts(&a->ids, ids->name, options, &n_used, err);
    if (status == MOE_OK)
        status = moe_import_experts(trace, ids->name, options, 0, n_used, err);
    if (status == MOE_OK)
        status = moe_import_alloc(trace, ids->name, a->ids.shape[0], n, parts, file_bytes, err);
    if (status != MOE_OK)
        return status;
    fill(a, &trace->tokens);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t tokens = a->has_sequences ? a->sequences.row[i].n_tokens : a->ids.shape[0];
        moe_sequences_apply(a->has_sequences ? &a->sequences : NULL, i, trace, first, tokens);
        first += tokens;
    }
    trace->info.rows_in_order = moe_import_single_passes(&trace->tokens);
    return keep_dialect(a, trace, ids->name, err);
}

/* Checked before moe_import_finish, which would name the file of ids. */
static enum moe_status check_finite(const struct moe_trace *trace, const char *name,
                                    struct moe_err *err)
{
    const struct moe_tokens *x = &trace->tokens;
    const uint64_t k = trace->info.top_k, row = trace->info.n_layers * k;
    for (uint64_t i = 0; i < x->n_tokens * row; i++)
        if (x->expert[i] != MOE_NO_EXPERT && !isfinite(x->weight[i]))
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%s': token %" PRIu64 " layer %" PRIu64
                            ": weight %g of expert %u is not finite",
                            name, i / row, i % row / k,
                            isnan(x->weight[i]) ? (double)NAN : (double)x->weight[i], x->expert[i]);
    return MOE_OK;
}

enum moe_status moe_npy_routes_parse(const struct moe_blob *ids, const struct moe_blob *weights,
                                     const struct moe_blob *sequences,
                                     const struct moe_import_options *options,
                                     struct moe_trace *out, struct moe_err *err)
{
    struct arrays a = {0};
    struct moe_trace trace;
    const struct moe_blob *files[] = {ids, weights, sequences};
    uint64_t hash = MOE_HASH_SEED, size = 0;
    for (int i = 0; i < 3; i++) {
        hash = files[i]->data ? moe_hash_bytes(hash, files[i]->data, files[i]->size) : hash;
        size += files[i]->data ? files[i]->size : 0;
    }
    moe_import_start(&trace, "npy", options, size, hash);
    enum moe_status status = parse_arrays(&a, ids, weights, sequences, err);
    if (status == MOE_OK)
        status = build(&a, ids, options, size, &trace, err);
    if (status == MOE_OK && a.has_weights)
        status = check_finite(&trace, weights->name, err);
    moe_sequences_release(&a.sequences);
    return moe_import_finish(&trace, ids->name, status, out, err);
}

static enum moe_status read_blob(struct moe_blob *blob, char **data, struct moe_err *err)
{
    if (!blob->name)
        return MOE_OK;
    enum moe_status status =
        moe_input_read(blob->name, MOE_IMPORT_MAX_BYTES, data, &blob->size, err);
    blob->data = *data;
    return status;
}

static enum moe_status import_files(const char *const path[3],
                                    const struct moe_import_options *options, struct moe_trace *out,
                                    struct moe_err *err)
{
    struct moe_blob blob[3] = {{.name = path[0]}, {.name = path[1]}, {.name = path[2]}};
    char *data[3] = {NULL, NULL, NULL};
    enum moe_status status = MOE_OK;
    for (int i = 0; status == MOE_OK && i < 3; i++)
        status = read_blob(&blob[i], &data[i], err);
    if (status == MOE_OK)
        status = moe_npy_routes_parse(&blob[0], &blob[1], &blob[2], options, out, err);
    for (int i = 0; i < 3; i++)
        free(data[i]);
    return status;
}

static const char *const file_names[3] = {"ids.npy", "weights.npy", "sequences.csv"};

enum moe_status moe_npy_routes_import(const char *path, const struct moe_import_options *options,
                                      struct moe_trace *out, struct moe_err *err)
{
    char inside[3][4096];
    const char *files[3] = {path, options->weights, options->sequences};
    if (!moe_is_directory(path))
        return import_files(files, options, out, err);
    for (int i = 0; i < 3; i++) {
        if (strlen(path) + 16 > sizeof inside[i])
            return moe_fail(err, MOE_ERR_USAGE, "path of %zu bytes is too long", strlen(path));
        snprintf(inside[i], sizeof inside[i], "%s/%s", path, file_names[i]);
        bool wanted = i == 0 || (!files[i] && access(inside[i], F_OK) == 0);
        files[i] = wanted ? inside[i] : files[i];
    }
    return import_files(files, options, out, err);
}

/* ---- export ---- */

struct writer {
    const struct moe_trace *trace;
    char kind;
    unsigned width;
};

static bool has_absent(const struct moe_trace *trace)
{
    uint64_t n = trace->tokens.n_tokens * trace->info.n_layers * trace->info.top_k;
    for (uint64_t i = 0; i < n; i++)
        if (trace->tokens.expert[i] == MOE_NO_EXPERT)
            return true;
    return false;
}

/* The dtype of the import where it can hold the trace, else the smallest that can. */
static void choose_dtype(struct writer *w, const char *key, const char *fallback)
{
    size_t n = 0;
    const char *dialect = w->trace->info.dialect;
    const char *kept =
        moe_dialect_is(dialect, "format", "npy") ? moe_dialect_get(dialect, key, &n) : NULL;
    if (!kept || n != 2 || !strchr("uif", kept[0]) || !strchr("1248", kept[1]))
        kept = fallback;
    w->kind = kept[0];
    w->width = (unsigned)(kept[1] - '0');
}

static void choose_ids(struct writer *w)
{
    bool absent = has_absent(w->trace);
    uint32_t n = w->trace->info.n_experts;
    const char *smallest = !absent && n <= 256 ? "u1" : "i2";
    choose_dtype(w, "ids", smallest);
    bool holds = w->kind == 'i' ? w->width > 1 || n <= 128
                                : w->kind == 'u' && !absent && (w->width > 1 || n <= 256);
    if (!holds) {
        w->kind = smallest[0];
        w->width = (unsigned)(smallest[1] - '0');
    }
}

static bool weights_fit_u1(const struct moe_trace *trace)
{
    uint64_t n = trace->tokens.n_tokens * trace->info.n_layers * trace->info.top_k;
    for (uint64_t i = 0; i < n; i++) {
        float w = trace->tokens.weight[i];
        if (trace->tokens.expert[i] != MOE_NO_EXPERT &&
            !(w >= 0 && w <= 1 && roundf(w * 255.0f) / 255.0f == w))
            return false;
    }
    return true;
}

static void write_array(FILE *out, const struct writer *w, bool ids)
{
    const struct moe_trace_info *info = &w->trace->info;
    const struct moe_tokens *x = &w->trace->tokens;
    uint64_t shape[3] = {x->n_tokens, info->n_layers, info->top_k};
    moe_npy_write_header(out, w->kind, w->width, shape, 3);
    for (uint64_t i = 0; i < shape[0] * shape[1] * shape[2]; i++) {
        bool absent = x->expert[i] == MOE_NO_EXPERT;
        float weight = ids || absent ? 0.0f : x->weight[i];
        if (ids)
            moe_npy_write_integer(out, w->width, absent ? -1 : x->expert[i]);
        else if (w->kind == 'u')
            moe_npy_write_integer(out, 1, lroundf(weight * 255.0f));
        else
            moe_npy_write_real(out, w->width, (double)weight);
    }
}

static enum moe_status write_file(FILE *out, const struct moe_trace *trace, int which,
                                  struct moe_err *err)
{
    struct writer w = {.trace = trace};
    const struct moe_trace_info *info = &trace->info;
    bool ours = moe_dialect_is(info->dialect, "format", "npy");
    if (which == 2)
        return moe_sequences_write(out, trace, ours ? info->header : NULL,
                                   ours && moe_dialect_is(info->dialect, "sequences", "crlf"), err);
    if (which == 0)
        choose_ids(&w);
    else
        choose_dtype(&w, "weights", "f4");
    if (which == 1 && (w.kind == 'i' || (w.kind == 'u' && !weights_fit_u1(trace)) ||
                       (w.kind == 'f' && w.width == 1)))
        w = (struct writer){trace, 'f', 4};
    write_array(out, &w, which == 0);
    return MOE_OK;
}

static enum moe_status export_file(const struct moe_trace *trace, const char *folder, int which,
                                   struct moe_err *err)
{
    char path[4096];
    struct moe_output out;
    snprintf(path, sizeof path, "%s/%s", folder, file_names[which]);
    enum moe_status status = moe_output_create(&out, path, err);
    if (status != MOE_OK)
        return status;
    return moe_output_end(&out, write_file(out.stream, trace, which, err), err);
}

static enum moe_status export_files(const struct moe_trace *trace, const char *folder,
                                    struct moe_err *err)
{
    bool lone = moe_dialect_is(trace->info.dialect, "format", "npy") &&
                moe_dialect_is(trace->info.dialect, "sequences", "none");
    bool wanted[3] = {true, trace->tokens.weight != NULL, !lone};
    enum moe_status status = MOE_OK;
    for (int i = 0; status == MOE_OK && i < 3; i++)
        if (wanted[i])
            status = export_file(trace, folder, i, err);
    return status;
}

/* Removes the folder with all files in it, also the temporary ones of a process that was killed. */
static void remove_folder(const char *folder)
{
    char path[4000 + 258];
    DIR *stream = opendir(folder);
    for (struct dirent *e; stream && (e = readdir(stream));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (stream)
        closedir(stream);
    rmdir(folder);
}

enum moe_status moe_npy_routes_export(const struct moe_trace *trace, const char *path,
                                      struct moe_err *err)
{
    char folder[4000];
    struct stat st;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || n + 32 > sizeof folder)
        return moe_fail(err, MOE_ERR_USAGE, "path of %zu bytes is empty or too long", n);
    if (stat(path, &st) == 0)
        return moe_fail(err, MOE_ERR_IO, "cannot create folder '%s': it exists", path);
    snprintf(folder, sizeof folder, "%.*s.%ld.part", (int)n, path, (long)getpid());
    remove_folder(folder); /* of a killed process that had our process id */
    if (mkdir(folder, 0777) != 0)
        return moe_fail(err, MOE_ERR_IO, "cannot create folder '%s': %s", folder, strerror(errno));
    enum moe_status status = export_files(trace, folder, err);
    if (status == MOE_OK && rename(folder, path) != 0)
        status = moe_fail(err, MOE_ERR_IO, "cannot create folder '%s': %s", path, strerror(errno));
    if (status != MOE_OK)
        remove_folder(folder);
    return status;
}
