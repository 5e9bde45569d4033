#include "exec/safetensors.h"

#include "base/units.h"
#include "exec/json.h"
#include "exec/mapped_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 8,             /* of the header's length */
    MAX_HEADER_BYTES = 100000000, /* the format's own limit */
};

struct moe_safetensors {
    struct moe_tensor *tensor; /* [n], by name */
    uint64_t n;
    char *names;    /* of all tensors, one after the other */
    char *metadata; /* JSON, or NULL */
    char *path;     /* or the name given instead */
    void *map;      /* NULL: parsed from the caller's memory */
    size_t map_bytes;
};

/* Every type of the format: a file may also hold tensors that moelab cannot compute with. Source:
 * huggingface/safetensors, safetensors/src/tensor.rs, Dtype. */
static const struct {
    const char *name;
    uint32_t bits;
} types[] = {
    {"F32", 32},        {"BF16", 16},       {"F16", 16},    {"F64", 64},    {"I64", 64},
    {"I32", 32},        {"I16", 16},        {"I8", 8},      {"U64", 64},    {"U32", 32},
    {"U16", 16},        {"U8", 8},          {"BOOL", 8},    {"C64", 64},    {"F8_E4M3", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E8M0", 8}, {"F8_E5M2", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6},     {"F4", 4},
};

static enum moe_status read_type(const json_t *entry, struct moe_tensor *tensor, uint32_t *bits,
                                 struct moe_err *err)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name)
        return moe_fail(err, MOE_ERR_INPUT, "no dtype");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) != 0)
            continue;
        snprintf(tensor->dtype_name, sizeof tensor->dtype_name, "%s", name);
        tensor->computable = moe_dtype_find(name, &tensor->dtype) && moe_dtype_plain(tensor->dtype);
        *bits = types[i].bits;
        return MOE_OK;
    }
    return moe_fail(err, MOE_ERR_INPUT, "unknown dtype '%.40s'", name);
}

static enum moe_status read_shape(const json_t *entry, struct moe_tensor *tensor,
                                  struct moe_err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return moe_fail(err, MOE_ERR_INPUT, "no shape");
    size_t n = json_array_size(shape);
    if (n > MOE_TENSOR_DIMS_MAX)
        return moe_fail(err, MOE_ERR_INPUT, "%zu dimensions exceed the limit of %d", n,
                        MOE_TENSOR_DIMS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        enum moe_status s = moe_json_u64(json_array_get(shape, i), "dimension", 0,
                                         MOE_JSON_WHOLE_MAX, &tensor->dim[i], err);
        if (s)
            return s;
    }
    tensor->n_dims = (uint32_t)n;
    return MOE_OK;
}

/* The number of bytes that follows from shape and type. */
static enum moe_status shape_bytes(const struct moe_tensor *tensor, uint32_t bits, uint64_t *out,
                                   struct moe_err *err)
{
    uint64_t total = bits;
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (tensor->dim[i] == 0)
            total = 0; /* also where the other dimensions alone would overflow */
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (!moe_mul_u64(total, tensor->dim[i], &total))
            return moe_fail(err, MOE_ERR_INPUT, "the product of its dimensions overflows");
    if (total % 8)
        return moe_fail(err, MOE_ERR_INPUT, "%" PRIu64 " bits are not whole bytes", total);
    *out = total / 8;
    return MOE_OK;
}

/* Reads data_offsets: where the tensor lies within the data_bytes behind the header. */
static enum moe_status read_place(const json_t *entry, const char *data, uint64_t data_bytes,
                                  struct moe_tensor *tensor, struct moe_err *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t at[2];
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return moe_fail(err, MOE_ERR_INPUT, "no data_offsets [begin, end]");
    for (size_t i = 0; i < 2; i++) {
        enum moe_status s = moe_json_u64(json_array_get(offsets, i), "data offset", 0,
                                         MOE_JSON_WHOLE_MAX, &at[i], err);
        if (s)
            return s;
    }
    if (at[0] > at[1])
        return moe_fail(err, MOE_ERR_INPUT, "data_offsets [%" PRIu64 ", %" PRIu64 "] run backwards",
                        at[0], at[1]);
    if (at[1] > data_bytes)
        return moe_fail(err, MOE_ERR_INPUT,
                        "data_offsets [%" PRIu64 ", %" PRIu64 "] exceed the %" PRIu64
                        " bytes of data in the file",
                        at[0], at[1], data_bytes);
    tensor->data = data + at[0];
    tensor->bytes = at[1] - at[0];
    return MOE_OK;
}

static enum moe_status read_tensor(const json_t *entry, const char *data, uint64_t data_bytes,
                                   struct moe_tensor *out, struct moe_err *err)
{
    struct moe_tensor tensor = {.name = out->name};
    uint32_t bits;
    uint64_t bytes;
    enum moe_status s = MOE_OK;
    if (!json_is_object(entry))
        s = moe_fail(err, MOE_ERR_INPUT, "not an object");
    if (!s)
        s = read_type(entry, &tensor, &bits, err);
    if (!s)
        s = read_shape(entry, &tensor, err);
    if (!s)
        s = shape_bytes(&tensor, bits, &bytes, err);
    if (!s)
        s = read_place(entry, data, data_bytes, &tensor, err);
    if (!s && bytes != tensor.bytes)
        s = moe_fail(err, MOE_ERR_INPUT,
                     "data_offsets hold %" PRIu64 " bytes, its shape and dtype %s need %" PRIu64,
                     tensor.bytes, tensor.dtype_name, bytes);
    if (s)
        return moe_fail_prefix(err, "tensor '%.120s'", out->name);
    *out = tensor;
    return MOE_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct moe_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int by_name(const void *a, const void *b)
{
    const struct moe_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Leaves the tensors in order of name. */
static enum moe_status check_overlaps(struct moe_tensor *tensor, uint64_t n, struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    const struct moe_tensor *last = NULL; /* the last one that is not empty */
    qsort(tensor, n, sizeof *tensor, by_place);
    for (uint64_t i = 0; i < n && !s; i++) {
        const struct moe_tensor *t = &tensor[i];
        if (last && t->bytes && (uintptr_t)t->data - (uintptr_t)last->data < (uintptr_t)last->bytes)
            s = moe_fail(err, MOE_ERR_INPUT, "tensors '%.80s' and '%.80s' overlap", last->name,
                         t->name);
        if (t->bytes)
            last = t;
    }
    qsort(tensor, n, sizeof *tensor, by_name);
    return s;
}

/* Keeps "__metadata__", which is not used here, for moe_safetensors_metadata. */
static enum moe_status take_metadata(struct moe_safetensors *file, const json_t *header,
                                     struct moe_err *err)
{
    const json_t *metadata = json_object_get(header, "__metadata__");
    if (!json_is_object(metadata))
        return MOE_OK;
    file->metadata = json_dumps(metadata, JSON_COMPACT);
    return file->metadata ? MOE_OK : moe_fail_memory(err, "a safetensors header");
}

/* Allocates the tensors and the text of their names, and copies the names. */
static enum moe_status take_names(struct moe_safetensors *file, json_t *header, struct moe_err *err)
{
    const char *name;
    json_t *entry;
    size_t bytes = 0;
    json_object_foreach(header, name, entry)
    {
        bytes += strlen(name) + 1;
    }
    file->tensor = calloc(json_object_size(header) + 1, sizeof *file->tensor);
    file->names = malloc(bytes + 1);
    if (!file->tensor || !file->names)
        return moe_fail_memory(err, "a safetensors header");
    char *at = file->names;
    json_object_foreach(header, name, entry)
    {
        size_t length = strlen(name) + 1;
        if (strcmp(name, "__metadata__") == 0)
            continue;
        file->tensor[file->n++].name = memcpy(at, name, length);
        at += length;
    }
    return MOE_OK;
}

static enum moe_status read_header(struct moe_safetensors *file, json_t *header, const char *data,
                                   uint64_t data_bytes, struct moe_err *err)
{
    enum moe_status s = take_names(file, header, err);
    if (!s)
        s = take_metadata(file, header, err);
    for (uint64_t i = 0; i < file->n && !s; i++) {
        const json_t *entry = json_object_get(header, file->tensor[i].name);
        s = read_tensor(entry, data, data_bytes, &file->tensor[i], err);
    }
    return s ? s : check_overlaps(file->tensor, file->n, err);
}

/* Reads the header's length and checks that the header lies inside the file. */
static enum moe_status header_length(const unsigned char *data, uint64_t size, uint64_t *out,
                                     struct moe_err *err)
{
    static const char pointer[] = "version https://git-lfs";
    if (size < LENGTH_BYTES)
        return moe_fail(err, MOE_ERR_INPUT, "%" PRIu64 " bytes are too few for a header", size);
    if (size >= sizeof pointer && memcmp(data, pointer, sizeof pointer - 1) == 0)
        return moe_fail(err, MOE_ERR_INPUT, "a Git LFS pointer, not the weights themselves");
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | data[i];
    if (length > MAX_HEADER_BYTES)
        return moe_fail(err, MOE_ERR_INPUT, "header of %" PRIu64 " bytes exceeds the limit of %d",
                        length, MAX_HEADER_BYTES);
    if (length > size - LENGTH_BYTES)
        return moe_fail(err, MOE_ERR_INPUT,
                        "truncated: header of %" PRIu64 " bytes in a file of %" PRIu64, length,
                        size);
    *out = length;
    return MOE_OK;
}

static enum moe_status parse(struct moe_safetensors *file, const char *data, uint64_t size,
                             struct moe_err *err)
{
    uint64_t length;
    json_t *header;
    enum moe_status s = header_length((const unsigned char *)data, size, &length, err);
    if (s)
        return s;
    s = moe_json_parse(data + LENGTH_BYTES, length, &header, err);
    if (s)
        return moe_fail_prefix(err, "header");
    uint64_t begin = LENGTH_BYTES + length;
    s = read_header(file, header, data + begin, size - begin, err);
    json_decref(header);
    return s;
}

enum moe_status moe_safetensors_parse(struct moe_safetensors **out, const char *name,
                                      const void *data, uint64_t size, struct moe_err *err)
{
    struct moe_safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return moe_fail_memory(err, name);
    file->path = strdup(name);
    enum moe_status s = file->path ? parse(file, data, size, err) : moe_fail_memory(err, name);
    if (s) {
        moe_safetensors_close(file);
        return moe_fail_prefix(err, "'%.200s'", name);
    }
    *out = file;
    return MOE_OK;
}

static enum moe_status fail_open(const char *path, struct moe_err *err)
{
    return moe_fail(err, errno == ENOMEM ? MOE_ERR_MEMORY : MOE_ERR_IO, "cannot open '%.300s': %s",
                    path, strerror(errno));
}

/* No madvise: experts are read as a whole, again and again. MADV_RANDOM would turn off the kernel's
 * read-ahead, MADV_SEQUENTIAL would drop pages that the next token needs. */
static enum moe_status map_file(const char *path, void **map, size_t *bytes, struct moe_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_open(path, err);
    enum moe_status s = MOE_OK;
    if (fstat(fd, &st) != 0)
        s = fail_open(path, err);
    else if (!S_ISREG(st.st_mode))
        s = moe_fail(err, MOE_ERR_IO, "cannot open '%.300s': not a regular file", path);
    else if (st.st_size == 0)
        s = moe_fail(err, MOE_ERR_INPUT, "'%.200s': empty file", path);
    if (!s) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            s = fail_open(path, err);
        } else {
            *map = at;
            *bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    return s;
}

static void unmap(void *map, size_t bytes)
{
    moe_mapped_files_remove(map);
    munmap(map, bytes);
}

enum moe_status moe_safetensors_open(struct moe_safetensors **out, const char *path,
                                     struct moe_err *err)
{
    void *map;
    size_t bytes;
    struct moe_safetensors *file;
    enum moe_status s = map_file(path, &map, &bytes, err);
    if (s)
        return s;
    moe_mapped_files_add(map, bytes, path);
    s = moe_safetensors_parse(&file, path, map, bytes, err);
    if (s) {
        unmap(map, bytes);
        return s;
    }
    file->map = map;
    file->map_bytes = bytes;
    *out = file;
    return MOE_OK;
}

void moe_safetensors_close(struct moe_safetensors *file)
{
    if (!file)
        return;
    if (file->map)
        unmap(file->map, file->map_bytes);
    free(file->tensor);
    free(file->names);
    free(file->metadata);
    free(file->path);
    free(file);
}

void moe_safetensors_peek(const struct moe_safetensors *file, bool begin)
{
    if (!file->map)
        return;
    (void)madvise(file->map, file->map_bytes, begin ? MADV_RANDOM : MADV_NORMAL);
    if (!begin)
        (void)madvise(file->map, file->map_bytes, MADV_DONTNEED);
}

const char *moe_safetensors_path(const struct moe_safetensors *file)
{
    return file->path;
}

const char *moe_safetensors_metadata(const struct moe_safetensors *file)
{
    return file->metadata;
}

uint64_t moe_safetensors_n(const struct moe_safetensors *file)
{
    return file->n;
}

const struct moe_tensor *moe_safetensors_at(const struct moe_safetensors *file, uint64_t i)
{
    return &file->tensor[i];
}

const struct moe_tensor *moe_safetensors_find(const struct moe_safetensors *file, const char *name)
{
    struct moe_tensor key = {.name = name};
    return bsearch(&key, file->tensor, file->n, sizeof *file->tensor, by_name);
}

static enum moe_status check_tensor(const struct moe_safetensors *file,
                                    const struct moe_tensor *tensor, struct moe_err *err)
{
    enum { AT_ONCE = 1024 };
    float x[AT_ONCE];
    const struct moe_dtype_info *type = moe_dtype_info(tensor->dtype);
    const uint64_t n = tensor->bytes / type->bytes * type->block;
    for (uint64_t at = 0; at < n; at += AT_ONCE) {
        const size_t some = n - at < AT_ONCE ? (size_t)(n - at) : AT_ONCE;
        type->to_f32((const char *)tensor->data + at / type->block * type->bytes, some, x);
        for (size_t i = 0; i < some; i++)
            if (!isfinite(x[i]))
                return moe_fail(err, MOE_ERR_INPUT,
                                "'%.200s': weight %" PRIu64
                                " of tensor '%.150s' is %s, but must be finite",
                                file->path, at + i, tensor->name, isnan(x[i]) ? "NaN" : "infinite");
    }
    return MOE_OK;
}

enum moe_status moe_safetensors_check_finite(const struct moe_safetensors *file,
                                             struct moe_err *err)
{
    enum moe_status s = MOE_OK;
    for (uint64_t i = 0; !s && i < file->n; i++)
        if (file->tensor[i].computable)
            s = check_tensor(file, &file->tensor[i], err);
    return s;
}
