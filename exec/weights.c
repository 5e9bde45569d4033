#include "exec/weights.h"

#include "base/file.h"
#include "base/units.h"
#include "exec/weights_index.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MAX_INDEX_BYTES = 100000000,
    HASHED_BYTES = 4096, /* at a tensor's beginning, and at its end */
};

static const char index_name[] = MOE_WEIGHTS_INDEX;
static const char single_name[] = "model.safetensors";

struct taken {
    bool yes;
    enum moe_dtype type; /* the type as which it was taken; MOE_F32 until then */
};

struct moe_weights {
    char *dir;
    struct moe_safetensors **file; /* [n_files] */
    size_t n_files;
    bool indexed;
    const struct moe_tensor **tensor; /* [n] of all files, by name */
    struct taken *taken;              /* [n] */
    uint64_t n;
};

static enum moe_status path_of(const char *dir, const char *name, char path[PATH_MAX],
                               struct moe_err *err)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX)
        return moe_fail(err, MOE_ERR_IO, "path too long: '%.200s/%.100s'", dir, name);
    return MOE_OK;
}

static bool is_there(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return path_of(dir, name, path, NULL) == MOE_OK && access(path, F_OK) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int by_name(const void *a, const void *b)
{
    const struct moe_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum moe_status open_files(struct moe_weights *weights, const char *const *name, size_t n,
                                  struct moe_err *err)
{
    char path[PATH_MAX];
    enum moe_status s = MOE_OK;
    weights->file = calloc(n, sizeof *weights->file);
    if (!weights->file)
        return moe_fail_memory(err, "weight files");
    for (size_t i = 0; i < n && !s; i++) {
        if (!is_there(weights->dir, name[i]))
            return moe_fail(err, MOE_ERR_IO, "'%.200s': missing shard '%.120s', named in %s",
                            weights->dir, name[i], index_name);
        s = path_of(weights->dir, name[i], path, err);
        if (!s)
            s = moe_safetensors_open(&weights->file[i], path, err);
        if (!s)
            weights->n_files++;
    }
    return s;
}

/* The error for a tensor that two files hold; names the files. */
static enum moe_status fail_twice(const struct moe_weights *weights, const char *const *name,
                                  const char *tensor, struct moe_err *err)
{
    const char *holder[2] = {"", ""};
    for (size_t i = 0, k = 0; i < weights->n_files && k < 2; i++)
        if (moe_safetensors_find(weights->file[i], tensor))
            holder[k++] = name[i];
    return moe_fail(err, MOE_ERR_INPUT, "'%.150s': tensor '%.80s' in both '%.80s' and '%.80s'",
                    weights->dir, tensor, holder[0], holder[1]);
}

static enum moe_status merge(struct moe_weights *weights, const char *const *name,
                             struct moe_err *err)
{
    uint64_t total = 0;
    for (size_t f = 0; f < weights->n_files; f++)
        total += moe_safetensors_n(weights->file[f]);
    weights->tensor = calloc(total + 1, sizeof *weights->tensor);
    weights->taken = calloc(total + 1, sizeof *weights->taken);
    if (!weights->tensor || !weights->taken)
        return moe_fail_memory(err, "names of weights");
    for (size_t f = 0; f < weights->n_files; f++)
        for (uint64_t i = 0; i < moe_safetensors_n(weights->file[f]); i++)
            weights->tensor[weights->n++] = moe_safetensors_at(weights->file[f], i);
    qsort(weights->tensor, weights->n, sizeof *weights->tensor, by_name);
    for (uint64_t i = 1; i < weights->n; i++)
        if (by_name(&weights->tensor[i - 1], &weights->tensor[i]) == 0)
            return fail_twice(weights, name, weights->tensor[i]->name, err);
    return MOE_OK;
}

static enum moe_status check_entries(const struct moe_weights *weights,
                                     const struct moe_weights_index *index, struct moe_err *err)
{
    for (size_t i = 0; i < index->n; i++) {
        const struct moe_index_entry *e = &index->entry[i];
        if (!moe_safetensors_find(weights->file[e->shard], e->tensor))
            return moe_fail(err, MOE_ERR_INPUT,
                            "'%.150s': no tensor '%.100s' in shard '%.100s', where %s has it",
                            weights->dir, e->tensor, index->shard[e->shard], index_name);
    }
    return MOE_OK;
}

static enum moe_status open_sharded(struct moe_weights *weights, struct moe_err *err)
{
    char path[PATH_MAX], *text;
    size_t size;
    struct moe_weights_index index = {0};
    enum moe_status s = path_of(weights->dir, index_name, path, err);
    if (!s)
        s = moe_file_read(path, MAX_INDEX_BYTES, &text, &size, err);
    if (s)
        return s;
    s = moe_weights_index_parse(text, size, &index, err);
    free(text);
    if (s)
        s = moe_fail_prefix(err, "'%.300s'", path);
    if (!s)
        s = open_files(weights, index.shard, index.n_shards, err);
    if (!s)
        s = merge(weights, index.shard, err);
    if (!s)
        s = check_entries(weights, &index, err);
    moe_weights_index_release(&index);
    weights->indexed = true;
    return s;
}

static enum moe_status open_single(struct moe_weights *weights, const char *name,
                                   struct moe_err *err)
{
    enum moe_status s = open_files(weights, &name, 1, err);
    return s ? s : merge(weights, &name, err);
}

struct listing {
    char found[NAME_MAX + 1]; /* the last *.safetensors found */
    char other[NAME_MAX + 1]; /* the first file, by name, with weights in another format; or "" */
    int n_found;
};

static enum moe_status list_weights(const char *dir, struct listing *out, struct moe_err *err)
{
    static const char *const others[] = {".bin", ".pt", ".pth", ".gguf", ".ckpt", ".h5", ".npz"};
    DIR *stream = opendir(dir);
    if (!stream)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%.300s': %s", dir, strerror(errno));
    for (struct dirent *e; (e = readdir(stream));) {
        if (ends_with(e->d_name, ".safetensors") && e->d_name[0] != '.') {
            snprintf(out->found, sizeof out->found, "%s", e->d_name);
            out->n_found++;
        }
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            if (ends_with(e->d_name, others[i]) &&
                (!out->other[0] || strcmp(e->d_name, out->other) < 0))
                snprintf(out->other, sizeof out->other, "%s", e->d_name);
    }
    closedir(stream);
    return MOE_OK;
}

static enum moe_status open_only(struct moe_weights *weights, struct moe_err *err)
{
    struct listing list = {0};
    enum moe_status s = list_weights(weights->dir, &list, err);
    if (s)
        return s;
    if (list.n_found == 1)
        return open_single(weights, list.found, err);
    if (list.n_found > 1)
        return moe_fail(err, MOE_ERR_INPUT, "'%.200s': %d *.safetensors and no %s", weights->dir,
                        list.n_found, index_name);
    if (list.other[0])
        return moe_fail(err, MOE_ERR_IO,
                        "'%.200s': no *.safetensors (only safetensors are read; found '%.100s')",
                        weights->dir, list.other);
    return moe_fail(err, MOE_ERR_IO, "'%.200s': no *.safetensors", weights->dir);
}

enum moe_status moe_weights_open(struct moe_weights **out, const char *dir, struct moe_err *err)
{
    struct moe_weights *weights = calloc(1, sizeof *weights);
    if (weights)
        weights->dir = strdup(dir);
    if (!weights || !weights->dir) {
        moe_weights_close(weights);
        return moe_fail_memory(err, "weights");
    }
    enum moe_status s;
    if (is_there(dir, single_name))
        s = open_single(weights, single_name, err);
    else if (is_there(dir, index_name))
        s = open_sharded(weights, err);
    else
        s = open_only(weights, err);
    if (s)
        moe_weights_close(weights);
    else
        *out = weights;
    return s;
}

void moe_weights_close(struct moe_weights *weights)
{
    if (!weights)
        return;
    for (size_t i = 0; i < weights->n_files; i++)
        moe_safetensors_close(weights->file[i]);
    free(weights->file);
    free(weights->tensor);
    free(weights->taken);
    free(weights->dir);
    free(weights);
}

size_t moe_weights_n_files(const struct moe_weights *weights)
{
    return weights->n_files;
}

const struct moe_safetensors *moe_weights_file(const struct moe_weights *weights, size_t i)
{
    return weights->file[i];
}

bool moe_weights_indexed(const struct moe_weights *weights)
{
    return weights->indexed;
}

uint64_t moe_weights_n(const struct moe_weights *weights)
{
    return weights->n;
}

const struct moe_tensor *moe_weights_at(const struct moe_weights *weights, uint64_t i)
{
    return weights->tensor[i];
}

/* The tensor's entry in weights->tensor, or NULL. */
static const struct moe_tensor **place_of(const struct moe_weights *weights, const char *name)
{
    struct moe_tensor wanted = {.name = name};
    const struct moe_tensor *key = &wanted;
    return bsearch(&key, weights->tensor, weights->n, sizeof *weights->tensor, by_name);
}

const struct moe_tensor *moe_weights_find(const struct moe_weights *weights, const char *name)
{
    const struct moe_tensor **at = place_of(weights, name);
    return at ? *at : NULL;
}

bool moe_weights_taken(const struct moe_weights *weights, uint64_t i)
{
    return weights->taken[i].yes;
}

static const char *shape_text(const uint64_t *dim, uint32_t n, char *buf, size_t size)
{
    size_t used = 0;
    for (uint32_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRIu64, i ? ", " : "", dim[i]);
    if (n == 0)
        buf[0] = 0;
    return buf;
}

/* Checks that the tensor has a type that `kind` (exec/weights.h) allows. */
static enum moe_status check_type(const struct moe_weights *weights, const struct moe_tensor *t,
                                  enum moe_dtype kind, struct moe_err *err)
{
    const bool bytes = strcmp(t->dtype_name, "U8") == 0;
    if (moe_dtype_plain(kind) ? t->computable : bytes)
        return MOE_OK;
    if (moe_dtype_plain(kind))
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "'%.200s': tensor '%.120s' is of type %s, not F32, BF16 or F16%s",
                        weights->dir, t->name, t->dtype_name,
                        bytes ? ", and config.json names no Q8 or Q4 for it" : "");
    return moe_fail(
        err, MOE_ERR_INPUT,
        "'%.200s': tensor '%.120s' is of type %s, expected U8, as config.json says that it is %s",
        weights->dir, t->name, t->dtype_name, moe_dtype_info(kind)->name);
}

/* The tensor `name`, checked to have exactly the dimensions dim[0] .. dim[n - 1] (the last counted
 * in weights) and the kind; marks it as taken. */
static enum moe_status take(const struct moe_weights *weights, const char *name,
                            enum moe_dtype kind, const uint64_t *dim, uint32_t n,
                            const struct moe_tensor **out, struct moe_err *err)
{
    char is[200], expected[80], row[64] = "";
    const struct moe_tensor **at = place_of(weights, name), *t = at ? *at : NULL;
    uint64_t stored[MOE_TENSOR_DIMS_MAX];
    if (!t)
        return moe_fail(err, MOE_ERR_INPUT, "'%.200s': no tensor '%.120s'", weights->dir, name);
    enum moe_status s = check_type(weights, t, kind, err);
    if (s)
        return s;
    memcpy(stored, dim, n * sizeof *dim);
    if (!moe_dtype_plain(kind)) {
        stored[n - 1] = moe_dtype_row_bytes(kind, dim[n - 1]);
        snprintf(row, sizeof row, " (rows of %" PRIu64 " weights in %s)", dim[n - 1],
                 moe_dtype_info(kind)->name);
    }
    if (t->n_dims != n || memcmp(t->dim, stored, n * sizeof *dim) != 0)
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%.150s': tensor '%.100s' has shape [%s], expected [%s]%s", weights->dir,
                        name, shape_text(t->dim, t->n_dims, is, sizeof is),
                        shape_text(stored, n, expected, sizeof expected), row);
    weights->taken[at - weights->tensor] =
        (struct taken){true, moe_dtype_plain(kind) ? t->dtype : kind};
    *out = t;
    return MOE_OK;
}

enum moe_status moe_weights_matrix(const struct moe_weights *weights, const char *name,
                                   enum moe_dtype kind, uint32_t rows, uint32_t cols,
                                   struct moe_matrix *out, struct moe_err *err)
{
    const struct moe_tensor *t;
    enum moe_status s = take(weights, name, kind, (uint64_t[]){rows, cols}, 2, &t, err);
    if (!s)
        *out = (struct moe_matrix){t->data, moe_dtype_plain(kind) ? t->dtype : kind, rows, cols};
    return s;
}

enum moe_status moe_weights_slice(const struct moe_weights *weights, const char *name,
                                  enum moe_dtype kind, uint32_t n, uint32_t e, uint32_t rows,
                                  uint32_t cols, struct moe_matrix *out, struct moe_err *err)
{
    const struct moe_tensor *t;
    enum moe_status s = take(weights, name, kind, (uint64_t[]){n, rows, cols}, 3, &t, err);
    if (!s && e >= n)
        s = moe_fail(err, MOE_ERR_INPUT, "slice %" PRIu32 " exceeds the %" PRIu32 " of '%.120s'", e,
                     n, name);
    if (s)
        return s;
    const enum moe_dtype type = moe_dtype_plain(kind) ? t->dtype : kind;
    const uint64_t bytes = moe_dtype_row_bytes(type, cols) * rows;
    *out = (struct moe_matrix){(const char *)t->data + e * bytes, type, rows, cols};
    return MOE_OK;
}

enum moe_status moe_weights_vector(const struct moe_weights *weights, const char *name, uint32_t n,
                                   float **out, struct moe_err *err)
{
    const struct moe_tensor *t;
    enum moe_status s = take(weights, name, MOE_F32, (uint64_t[]){n}, 1, &t, err);
    if (s)
        return s;
    float *values = calloc((size_t)n + 1, sizeof *values);
    if (!values)
        return moe_fail_memory(err, name);
    moe_dtype_info(t->dtype)->to_f32(t->data, n, values);
    *out = values;
    return MOE_OK;
}

static uint64_t hash_u64(uint64_t hash, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    return moe_hash_bytes(hash, bytes, sizeof bytes);
}

static uint64_t hash_tensor(uint64_t hash, const struct moe_tensor *t)
{
    const char *data = t->data;
    size_t first = t->bytes < HASHED_BYTES ? (size_t)t->bytes : HASHED_BYTES;
    size_t last = t->bytes - first < HASHED_BYTES ? (size_t)t->bytes - first : HASHED_BYTES;
    hash = moe_hash_bytes(hash, t->name, strlen(t->name) + 1);
    hash = moe_hash_bytes(hash, t->dtype_name, strlen(t->dtype_name) + 1);
    hash = hash_u64(hash, t->n_dims);
    for (uint32_t i = 0; i < t->n_dims; i++)
        hash = hash_u64(hash, t->dim[i]);
    hash = moe_hash_bytes(hash, data, first);
    return moe_hash_bytes(hash, data + t->bytes - last, last);
}

uint64_t moe_weights_hash(const struct moe_weights *weights)
{
    uint64_t hash = MOE_HASH_SEED;
    for (size_t i = 0; i < weights->n_files; i++)
        moe_safetensors_peek(weights->file[i], true);
    for (uint64_t i = 0; i < weights->n; i++)
        hash = hash_tensor(hash, weights->tensor[i]);
    for (size_t i = 0; i < weights->n_files; i++)
        moe_safetensors_peek(weights->file[i], false);
    return hash;
}

uint64_t moe_matrix_bytes(const struct moe_matrix *matrix)
{
    return matrix->rows * moe_dtype_row_bytes(matrix->dtype, matrix->cols);
}

/* The whole pages that contain the matrix. */
static void *pages_of(const struct moe_matrix *matrix, size_t *bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)matrix->data;
    uintptr_t start = from - from % page;
    *bytes = from + moe_matrix_bytes(matrix) - start;
    return (void *)start;
}

void moe_matrix_fetch(const struct moe_matrix *matrix)
{
    size_t bytes;
    void *start = pages_of(matrix, &bytes);
    if (madvise(start, bytes, MADV_POPULATE_READ) != 0) /* Linux before 5.14 */
        (void)madvise(start, bytes, MADV_WILLNEED);
}

void moe_matrix_drop(const struct moe_matrix *matrix)
{
    size_t bytes;
    void *start = pages_of(matrix, &bytes);
    (void)madvise(start, bytes, MADV_DONTNEED);
}

/* Checks the scales of a Q8 or Q4 tensor, the last bytes of each row; its numbers are finite
 * anyway. */
static enum moe_status check_scales(const struct moe_weights *weights, const struct moe_tensor *t,
                                    enum moe_dtype type, struct moe_err *err)
{
    const uint64_t row_bytes = t->dim[t->n_dims - 1];
    const uint64_t blocks = row_bytes / moe_dtype_info(type)->bytes;
    for (uint64_t row = 0; row < t->bytes / row_bytes; row++) {
        const char *end = (const char *)t->data + (row + 1) * row_bytes;
        for (uint64_t b = 0; b < blocks; b++) {
            float scale;
            moe_dtype_info(MOE_F16)->to_f32(end - 2 * (blocks - b), 1, &scale);
            if (!isfinite(scale))
                return moe_fail(err, MOE_ERR_INPUT,
                                "'%.200s': scale %" PRIu64 " of row %" PRIu64
                                " of tensor '%.150s' is %s, but must be finite",
                                weights->dir, b, row, t->name, isnan(scale) ? "NaN" : "infinite");
        }
    }
    return MOE_OK;
}

enum moe_status moe_weights_check_finite(const struct moe_weights *weights, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (size_t f = 0; !s && f < weights->n_files; f++)
        s = moe_safetensors_check_finite(weights->file[f], err);
    for (uint64_t i = 0; !s && i < weights->n; i++)
        if (!moe_dtype_plain(weights->taken[i].type))
            s = check_scales(weights, weights->tensor[i], weights->taken[i].type, err);
    return s;
}
