#include "exec/quantize_model.h"

#include "base/progress.h"
#include "exec/json.h"
#include "exec/model_folder.h"
#include "exec/quantize.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
    AT_ONCE = 4 << 20,        /* bytes that are quantized and written at once */
    BUFFER = 1 << 20,         /* of a file, as tensors of small models are small */
    SERIAL_WEIGHTS = 1 << 16, /* fewer are quantized sooner than another thread is awake */
    HEADER_STEP = 8, /* a file's data begin at a multiple of it, as in other programs' files */
};

/* Where a matrix that is quantized begins, and its new type. */
struct place {
    const void *at;
    enum moe_dtype type;
};

struct job {
    const struct moe_quantize *what;
    struct place *place; /* [n_places] by ascending address */
    size_t n_places;
    uint32_t threads;
    float *weights; /* [threads, the longest row] */
    char *rows;     /* those that are written at once */
    char *buffer;   /* of the file that is written */
    struct moe_model_folder folder;
    struct moe_progress progress;
    uint64_t done; /* bytes of tensors read */
    struct moe_quantized result;
};

static int by_address(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return ((uintptr_t)x->at > (uintptr_t)y->at) - ((uintptr_t)x->at < (uintptr_t)y->at);
}

static void add_place(struct job *job, const struct moe_matrix *m, enum moe_dtype type)
{
    if (!moe_dtype_plain(type))
        job->place[job->n_places++] = (struct place){m->data, type};
}

/* Finds the tensors to quantize by their addresses in the opened model, whatever the architecture
 * calls them. */
static enum moe_status find_places(struct job *job, struct moe_err *err)
{
    const struct moe_llm *llm = job->what->llm;
    const struct moe_llm_config *c = &llm->config;
    const enum moe_dtype experts = job->what->experts, dense = job->what->dense;
    job->place = calloc((size_t)c->n_layers * (c->n_experts * 3 + 4) + 1, sizeof *job->place);
    if (!job->place)
        return moe_fail_memory(err, "the places of matrices");
    for (uint32_t l = 0; l < c->n_layers; l++) {
        const struct moe_llm_layer *layer = &llm->layers[l];
        const struct moe_matrix *attention[] = {&layer->q, &layer->k, &layer->v, &layer->o};
        for (size_t i = 0; i < sizeof attention / sizeof *attention; i++)
            add_place(job, attention[i], dense);
        for (uint32_t e = 0; e < c->n_experts; e++) {
            add_place(job, &layer->experts[e].w1, experts);
            add_place(job, &layer->experts[e].w3, experts);
            add_place(job, &layer->experts[e].w2, experts);
        }
    }
    if (!c->tied_head)
        add_place(job, &llm->head, dense);
    qsort(job->place, job->n_places, sizeof *job->place, by_address);
    return MOE_OK;
}

/* The place of a matrix that begins in the tensor; NULL: the tensor is copied. */
static const struct place *place_in(const struct job *job, const struct moe_tensor *t)
{
    size_t low = 0, high = job->n_places; /* the first that begins at or behind it */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if ((uintptr_t)job->place[middle].at < (uintptr_t)t->data)
            low = middle + 1;
        else
            high = middle;
    }
    const bool in = low < job->n_places &&
                    (uintptr_t)job->place[low].at - (uintptr_t)t->data < (uintptr_t)t->bytes;
    return in ? &job->place[low] : NULL;
}

static uint64_t row_weights(const struct moe_tensor *t)
{
    return t->dim[t->n_dims - 1];
}

static uint64_t rows_of(const struct moe_tensor *t)
{
    return t->bytes / moe_dtype_row_bytes(t->dtype, row_weights(t));
}

static uint64_t bytes_after(const struct job *job, const struct moe_tensor *t)
{
    const struct place *p = place_in(job, t);
    return p ? rows_of(t) * moe_dtype_row_bytes(p->type, row_weights(t)) : t->bytes;
}

static void count(struct job *job)
{
    for (uint64_t i = 0; i < moe_weights_n(job->what->llm->weights); i++) {
        const struct moe_tensor *t = moe_weights_at(job->what->llm->weights, i);
        const uint64_t n = t->computable ? t->bytes / moe_dtype_info(t->dtype)->bytes : 0;
        job->result.bytes_before += t->bytes;
        job->result.bytes_after += bytes_after(job, t);
        job->result.weights += n;
        job->result.quantized_weights += place_in(job, t) ? n : 0;
    }
}

static enum moe_status check_model(const struct job *job, struct moe_err *err)
{
    const struct moe_llm_config *c = &job->what->llm->config;
    if (!moe_dtype_plain(c->experts))
        return moe_fail(err, MOE_ERR_INPUT,
                        "'%.300s' already has experts of %s; take the model that it was made from",
                        job->what->from, moe_dtype_info(c->experts)->name);
    if (moe_llm_config_rows(c, job->what->experts, job->what->dense, err) != MOE_OK)
        return moe_fail_prefix(err, "'%.300s'", job->what->from);
    return MOE_OK;
}

static enum moe_status make_room(struct job *job, struct moe_err *err)
{
    const struct moe_llm_config *c = &job->what->llm->config;
    const size_t heads = (size_t)c->n_heads * c->head_dim;
    const size_t most = c->d_model > c->d_ffn ? c->d_model : c->d_ffn;
    const size_t longest = most > heads ? most : heads;
    const size_t row = longest * sizeof(float); /* more than a quantized one */
    job->threads = job->what->threads ? job->what->threads : (uint32_t)omp_get_max_threads();
    job->weights = calloc(job->threads * longest, sizeof *job->weights);
    job->rows = malloc(row > AT_ONCE ? row : AT_ONCE);
    job->buffer = malloc(BUFFER);
    if (!job->weights || !job->rows || !job->buffer)
        return moe_fail_memory(err, "rows of weights");
    return MOE_OK;
}

/* In the order of the data, so that files are read from front to back. */
static int by_place(const void *a, const void *b)
{
    const struct moe_tensor *const *x = a, *const *y = b;
    if ((*x)->data != (*y)->data)
        return (uintptr_t)(*x)->data < (uintptr_t)(*y)->data ? -1 : 1;
    if ((*x)->bytes != (*y)->bytes)
        return (*x)->bytes < (*y)->bytes ? -1 : 1; /* empty ones first */
    return strcmp((*x)->name, (*y)->name);
}

static enum moe_status add_to_header(const struct job *job, json_t *header,
                                     const struct moe_tensor *t, uint64_t *at, struct moe_err *err)
{
    const struct place *p = place_in(job, t);
    const uint64_t begin = *at, row = p ? row_weights(t) : 0;
    json_t *shape = json_array();
    bool bad = false;
    *at += bytes_after(job, t);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        const uint64_t dim =
            p && i == t->n_dims - 1 ? moe_dtype_row_bytes(p->type, row) : t->dim[i];
        bad = bad || json_array_append_new(shape, json_integer((json_int_t)dim)) != 0;
    }
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", p ? "U8" : t->dtype_name, "shape",
                              shape, "data_offsets", (json_int_t)begin, (json_int_t)*at);
    if (bad || json_object_set_new(header, t->name, entry) != 0)
        return moe_fail_memory(err, "a header");
    return MOE_OK;
}

/* The header of the file to be made, its length before it; the caller frees. */
static enum moe_status make_header(const struct job *job, const struct moe_safetensors *file,
                                   const struct moe_tensor *const *tensor, char **out, size_t *size,
                                   struct moe_err *err)
{
    const char *metadata = moe_safetensors_metadata(file);
    json_t *header = json_object();
    uint64_t at = 0;
    enum moe_status s = header ? MOE_OK : moe_fail_memory(err, "a header");
    if (!s && metadata &&
        json_object_set_new(header, "__metadata__", json_loads(metadata, 0, NULL)) != 0)
        s = moe_fail_memory(err, "a header");
    for (uint64_t i = 0; !s && i < moe_safetensors_n(file); i++)
        s = add_to_header(job, header, tensor[i], &at, err);
    char *text = s ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (s)
        return s;
    const size_t n = text ? strlen(text) : 0;
    const size_t padded = (n + HEADER_STEP - 1) / HEADER_STEP * HEADER_STEP;
    *out = text ? malloc(8 + padded) : NULL;
    if (!*out) {
        free(text);
        return moe_fail_memory(err, "a header");
    }
    for (int i = 0; i < 8; i++)
        (*out)[i] = (char)(padded >> 8 * i);
    memcpy(*out + 8, text, n);
    memset(*out + 8 + n, ' ', padded - n);
    *size = 8 + padded;
    free(text);
    return MOE_OK;
}

/* Writes to the file; a full disk is noticed here, not an hour later. The end of the file reports
 * the reason. */
static enum moe_status put(const void *data, size_t bytes, struct moe_output *file,
                           struct moe_err *err)
{
    if (moe_interrupted())
        return moe_fail(err, MOE_ERR_INTERRUPTED, "interrupted");
    fwrite(data, 1, bytes, file->stream);
    return MOE_OK;
}

static void progressed(struct job *job, const struct moe_safetensors *file, uint64_t bytes)
{
    moe_safetensors_peek(file, false); /* what was read need not stay in memory */
    job->done += bytes;
    moe_progress_update(&job->progress, job->done);
}

static enum moe_status copy_tensor(struct job *job, const struct moe_safetensors *file,
                                   const struct moe_tensor *t, struct moe_output *to,
                                   struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint64_t at = 0; !s && at < t->bytes && !ferror(to->stream); at += AT_ONCE) {
        const uint64_t n = t->bytes - at < AT_ONCE ? t->bytes - at : AT_ONCE;
        s = put((const char *)t->data + at, (size_t)n, to, err);
        progressed(job, file, n);
    }
    return s;
}

static enum moe_status fail_weight(const struct job *job, const struct moe_tensor *t, uint64_t row,
                                   size_t at, struct moe_err *err)
{
    float x[MOE_QUANT_BLOCK];
    const struct moe_dtype_info *type = moe_dtype_info(t->dtype);
    const uint64_t weight = row * row_weights(t) + at;
    type->to_f32((const char *)t->data + weight * type->bytes, 1, x);
    return moe_fail(err, MOE_ERR_INPUT, "'%.200s': weight %" PRIu64 " of tensor '%.150s' %s",
                    job->what->from, weight, t->name,
                    isnan(x[0])       ? "is NaN, but must be finite"
                    : !isfinite(x[0]) ? "is infinite, but must be finite"
                                      : "begins a block whose scale would exceed 65504");
}

/* Rows first to first + n of a tensor, into job->rows. */
static enum moe_status quantize_rows(struct job *job, const struct moe_tensor *t,
                                     enum moe_dtype type, uint64_t first, uint64_t n,
                                     struct moe_err *err)
{
    const size_t cols = (size_t)row_weights(t);
    const uint64_t from_bytes = moe_dtype_row_bytes(t->dtype, cols);
    const uint64_t to_bytes = moe_dtype_row_bytes(type, cols);
    const char *from = (const char *)t->data + first * from_bytes;
    uint64_t bad = n; /* the first row that cannot be quantized */
    size_t bad_at = 0;
    moe_matrix_fetch(&(struct moe_matrix){from, t->dtype, (uint32_t)n, (uint32_t)cols});
#pragma omp parallel for schedule(static)                                                          \
    num_threads((int)job->threads) if (n * cols >= SERIAL_WEIGHTS)
    for (uint64_t r = 0; r < n; r++) {
        float *weights = job->weights + (size_t)omp_get_thread_num() * cols;
        moe_dtype_info(t->dtype)->to_f32(from + r * from_bytes, cols, weights);
        const size_t at = moe_quantize_row(type, weights, cols, job->rows + r * to_bytes);
        if (at < cols) {
#pragma omp critical(moe_quantize)
            if (r < bad) {
                bad = r;
                bad_at = at;
            }
        }
    }
    return bad < n ? fail_weight(job, t, first + bad, bad_at, err) : MOE_OK;
}

static enum moe_status quantize_tensor(struct job *job, const struct moe_safetensors *file,
                                       const struct moe_tensor *t, enum moe_dtype type,
                                       struct moe_output *to, struct moe_err *err)
{
    const uint64_t to_bytes = moe_dtype_row_bytes(type, row_weights(t));
    const uint64_t rows = rows_of(t), at_once = to_bytes < AT_ONCE ? AT_ONCE / to_bytes : 1;
    enum moe_status s = MOE_OK;
    for (uint64_t r = 0; !s && r < rows && !ferror(to->stream); r += at_once) {
        const uint64_t n = rows - r < at_once ? rows - r : at_once;
        s = quantize_rows(job, t, type, r, n, err);
        if (!s)
            s = put(job->rows, (size_t)(n * to_bytes), to, err);
        progressed(job, file, n * moe_dtype_row_bytes(t->dtype, row_weights(t)));
    }
    return s;
}

static enum moe_status write_tensors(struct job *job, const struct moe_safetensors *file,
                                     const struct moe_tensor *const *tensor, struct moe_output *to,
                                     struct moe_err *err)
{
    char *header;
    size_t size;
    enum moe_status s = make_header(job, file, tensor, &header, &size, err);
    if (s)
        return s;
    s = put(header, size, to, err);
    free(header);
    for (uint64_t i = 0; !s && i < moe_safetensors_n(file) && !ferror(to->stream); i++) {
        const struct place *p = place_in(job, tensor[i]);
        s = p ? quantize_tensor(job, file, tensor[i], p->type, to, err)
              : copy_tensor(job, file, tensor[i], to, err);
    }
    return s;
}

static enum moe_status write_file(struct job *job, const struct moe_safetensors *file,
                                  struct moe_err *err)
{
    const uint64_t n = moe_safetensors_n(file);
    const char *path = moe_safetensors_path(file), *slash = strrchr(path, '/');
    const struct moe_tensor **tensor = calloc(n + 1, sizeof *tensor);
    struct moe_output to;
    if (!tensor)
        return moe_fail_memory(err, "the order of tensors");
    for (uint64_t i = 0; i < n; i++)
        tensor[i] = moe_safetensors_at(file, i);
    qsort(tensor, n, sizeof *tensor, by_place);
    enum moe_status s = moe_model_folder_create(&job->folder, slash ? slash + 1 : path, &to, err);
    if (!s) {
        setvbuf(to.stream, job->buffer, _IOFBF, BUFFER);
        s = moe_output_end(&to, write_tensors(job, file, tensor, &to, err), err);
    }
    free(tensor);
    return s;
}

/* Small files first, so that one that cannot be read is reported before the work. config.json last:
 * without it the folder is not a model. */
static enum moe_status write_files(struct job *job, struct moe_err *err)
{
    const struct moe_weights *weights = job->what->llm->weights;
    const char *from = job->what->from;
    enum moe_status s = moe_model_folder_room(&job->folder, job->result.bytes_after, err);
    if (!s)
        s = moe_model_folder_copy(&job->folder, from, err);
    if (!s && moe_weights_indexed(weights))
        s = moe_model_folder_index(&job->folder, from, job->result.bytes_after, err);
    for (size_t f = 0; !s && f < moe_weights_n_files(weights); f++)
        s = write_file(job, moe_weights_file(weights, f), err);
    return s ? s
             : moe_model_folder_config(&job->folder, from, job->what->experts, job->what->dense,
                                       err);
}

static enum moe_status run(struct job *job, struct moe_err *err)
{
    enum moe_status s = check_model(job, err);
    if (!s)
        s = find_places(job, err);
    if (!s)
        s = make_room(job, err);
    if (s)
        return s;
    count(job);
    s = moe_model_folder_begin(&job->folder, job->what->out, job->what->from, err);
    if (s)
        return s;
    moe_progress_begin(&job->progress, "quantizing", "bytes", job->result.bytes_before);
    s = write_files(job, err);
    moe_progress_end(&job->progress);
    return moe_model_folder_end(&job->folder, s, err);
}

enum moe_status moe_quantize_model(const struct moe_quantize *what, struct moe_quantized *out,
                                   struct moe_err *err)
{
    struct job job = {.what = what};
    enum moe_status s = run(&job, err);
    if (!s)
        *out = job.result;
    free(job.place);
    free(job.weights);
    free(job.rows);
    free(job.buffer);
    return s;
}
