#include "traces/hdf5_schema.h"

#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the extents of a dataset must be; rows UINT64_MAX: any number. */
struct wanted {
    int rank;
    uint64_t rows, second, third;
};

static enum moe_status fail_set(struct moe_err *err, const char *name, const char *what)
{
    return moe_fail(err, MOE_ERR_INPUT, "dataset '%s' %s", name, what);
}

static enum moe_status fail_type(struct moe_err *err, const char *name, enum moe_h5_kind kind,
                                 bool expert)
{
    static const char *const words[] = {"u1", "u2", "u4", "i4", "u8", "f4"}; /* by kind */
    return moe_fail(err, MOE_ERR_INPUT, "dataset '%s' has the wrong type, not %s%s (NumPy)", name,
                    expert ? "u1 or " : "", words[kind]);
}

/* A dataset must lie in this very file: a link or an external part could name any other file. */
static enum moe_status open_dataset(hid_t file, const char *name, hid_t access, hid_t *out,
                                    struct moe_err *err)
{
    char group[32];
    H5L_info_t link;
    snprintf(group, sizeof group, "%.*s", (int)strcspn(name, "/"), name);
    if (H5Lexists(file, group, H5P_DEFAULT) <= 0 || H5Lexists(file, name, H5P_DEFAULT) <= 0)
        return fail_set(err, name, "is missing");
    if (H5Lget_info(file, group, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD ||
        H5Lget_info(file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return fail_set(err, name, "is a link to another place");
    *out = H5Dopen2(file, name, access);
    if (*out < 0) {
        enum moe_status status = moe_h5_fail(err, MOE_ERR_INPUT);
        return err ? moe_fail_prefix(err, "dataset '%s'", name) : status;
    }
    return MOE_OK;
}

static bool type_is(hid_t set, enum moe_h5_kind kind)
{
    hid_t type = H5Dget_type(set), want = moe_h5_file_type(kind);
    bool same = type >= 0 && H5Tget_class(type) == H5Tget_class(want) &&
                H5Tget_size(type) == H5Tget_size(want);
    if (same && H5Tget_class(type) == H5T_INTEGER)
        same = H5Tget_sign(type) == H5Tget_sign(want) &&
               H5Tget_precision(type) == H5Tget_precision(want);
    if (same && H5Tget_class(type) == H5T_FLOAT)
        same = H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0;
    if (type >= 0)
        H5Tclose(type);
    return same;
}

static bool is_text(hid_t set)
{
    hid_t type = H5Dget_type(set);
    bool text = moe_h5_is_text(type, MOE_H5_LABEL_MAX);
    if (type >= 0)
        H5Tclose(type);
    return text;
}

static size_t item_size(hid_t set)
{
    hid_t type = H5Dget_type(set);
    size_t size = type < 0 ? 0 : H5Tget_size(type);
    if (type >= 0)
        H5Tclose(type);
    return size;
}

static enum moe_status check_extent(hid_t set, const char *name, const struct wanted *want,
                                    hsize_t extent[3], struct moe_err *err)
{
    hid_t space = H5Dget_space(set);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank == want->rank)
        H5Sget_simple_extent_dims(space, extent, NULL);
    if (space >= 0)
        H5Sclose(space);
    if (rank != want->rank)
        return moe_fail(err, MOE_ERR_INPUT, "dataset '%s' has rank %d, not %d", name, rank,
                        want->rank);
    if (want->rows != UINT64_MAX && extent[0] != want->rows)
        return moe_fail(err, MOE_ERR_INPUT, "dataset '%s' has %" PRIu64 " rows, others %" PRIu64,
                        name, (uint64_t)extent[0], want->rows);
    if (rank == 3 && (extent[1] != want->second || extent[2] != want->third))
        return moe_fail(err, MOE_ERR_INPUT,
                        "dataset '%s' has rows of %" PRIu64 " x %" PRIu64 ", not %" PRIu64
                        " x %" PRIu64,
                        name, (uint64_t)extent[1], (uint64_t)extent[2], want->second, want->third);
    return MOE_OK;
}

static enum moe_status check_filters(hid_t plist, const char *name, struct moe_err *err)
{
    int n = H5Pget_nfilters(plist);
    for (int i = 0; i < n; i++) {
        unsigned flags, config;
        size_t values = 0;
        char label[64] = "";
        H5Z_filter_t id =
            H5Pget_filter2(plist, (unsigned)i, &flags, &values, NULL, sizeof label, label, &config);
        if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_SHUFFLE && id != H5Z_FILTER_FLETCHER32)
            return moe_fail(err, MOE_ERR_UNSUPPORTED,
                            "dataset '%s' uses filter %d '%s'; known are deflate, shuffle and "
                            "fletcher32",
                            name, (int)id, label);
    }
    return MOE_OK;
}

/* Every chunk that the extent promises must be there: an absent one reads as zeros. */
static enum moe_status check_chunks(hid_t set, hid_t plist, const char *name, int rank,
                                    const hsize_t *extent, size_t item, struct moe_err *err)
{
    hsize_t chunk[3] = {0}, present = 0;
    uint64_t bytes = item, promised = 1;
    if (H5Pget_chunk(plist, rank, chunk) != rank)
        return fail_set(err, name, "has chunks of another rank");
    for (int i = 0; i < rank; i++) {
        if (chunk[i] == 0 || !moe_mul_u64(bytes, chunk[i], &bytes) || bytes > MOE_H5_CHUNK_MAX)
            return moe_fail(err, MOE_ERR_UNSUPPORTED, "dataset '%s' has chunks of more than %d MiB",
                            name, MOE_H5_CHUNK_MAX >> 20);
        /* promised cannot overflow: it is at most the number of values, checked before */
        promised *= extent[i] / chunk[i] + (extent[i] % chunk[i] != 0);
    }
    hid_t space = H5Dget_space(set);
    bool ok = space >= 0 && (promised == 0 || H5Dget_num_chunks(set, space, &present) >= 0);
    if (space >= 0)
        H5Sclose(space);
    if (!ok)
        return fail_set(err, name, "has a damaged index of chunks");
    if (present != promised)
        return moe_fail(err, MOE_ERR_INPUT,
                        "dataset '%s' has %" PRIu64 " of the %" PRIu64 " chunks that its extent "
                        "promises",
                        name, (uint64_t)present, promised);
    return MOE_OK;
}

/* The data that the extent promises must be in the file; deflate cannot shrink beyond 1032:1. */
static enum moe_status check_storage(hid_t set, const char *name, int rank, const hsize_t *extent,
                                     size_t item, uint64_t file_bytes, struct moe_err *err)
{
    uint64_t bytes = item, possible;
    bool fits = true;
    for (int i = 0; i < rank; i++)
        fits = fits && moe_mul_u64(bytes, extent[i], &bytes);
    if (!moe_mul_u64(file_bytes, 1032, &possible))
        possible = UINT64_MAX;
    if (!fits || bytes > possible)
        return moe_fail(err, MOE_ERR_INPUT,
                        "dataset '%s' promises %" PRIu64 " rows, more than a file of %" PRIu64
                        " bytes can hold",
                        name, (uint64_t)extent[0], file_bytes);
    hid_t plist = H5Dget_create_plist(set);
    H5D_layout_t layout = plist < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plist);
    enum moe_status status = MOE_OK;
    if (layout == H5D_CHUNKED) {
        status = check_filters(plist, name, err);
        if (!status)
            status = check_chunks(set, plist, name, rank, extent, item, err);
    } else if ((layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) ||
               H5Pget_external_count(plist) != 0) {
        status = fail_set(err, name, "keeps its data outside the file");
    } else if (H5Dget_storage_size(set) < bytes) {
        status = moe_fail(err, MOE_ERR_INPUT,
                          "dataset '%s' has %" PRIu64 " of the %" PRIu64
                          " bytes that its extent promises",
                          name, (uint64_t)H5Dget_storage_size(set), bytes);
    }
    if (plist >= 0)
        H5Pclose(plist);
    return status;
}

/* Room for two rows of chunks, so that a forward reader inflates each chunk once. */
static void set_cache(hid_t file, const char *name, size_t item, hid_t access)
{
    hsize_t chunk[3] = {1, 1, 1}, extent[3] = {1, 1, 1};
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0)
        return;
    hid_t plist = H5Dget_create_plist(set), space = H5Dget_space(set);
    uint64_t bytes = 2 * item, slots = 2;
    if (H5Pget_layout(plist) == H5D_CHUNKED && H5Sget_simple_extent_ndims(space) <= 3 &&
        H5Pget_chunk(plist, 3, chunk) > 0 && H5Sget_simple_extent_dims(space, extent, NULL) > 0) {
        for (int i = 0; i < 3 && bytes <= MOE_H5_CHUNK_MAX; i++) {
            uint64_t across = i == 0 ? 1 : (extent[i] + chunk[i] - 1) / chunk[i];
            bytes *= chunk[i] * across;
            slots *= across;
        }
    }
    H5Sclose(space);
    H5Pclose(plist);
    H5Dclose(set);
    if (bytes > MOE_H5_CHUNK_MAX)
        bytes = MOE_H5_CHUNK_MAX;
    if (slots > 1000)
        slots = 1000;
    H5Pset_chunk_cache(access, 10 * (size_t)slots + 1, (size_t)bytes, 1.0);
}

static enum moe_status open_column(struct moe_h5_file *f, int i, const struct moe_trace_info *info,
                                   uint64_t file_bytes, uint64_t *rows, struct moe_err *err)
{
    const struct moe_h5_column *c = &moe_h5_columns[i];
    hsize_t extent[3] = {0};
    struct wanted want = {c->shape == MOE_H5_T ? 1 : 3, *rows, info->n_layers,
                          c->shape == MOE_H5_TLE ? info->n_experts : info->top_k};
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    enum moe_status status = open_dataset(f->file, c->name, H5P_DEFAULT, &f->column[i], err);
    if (!status && i == MOE_H5_EXPERT)
        f->narrow = type_is(f->column[i], MOE_H5_U8);
    enum moe_h5_kind kind = i == MOE_H5_EXPERT && f->narrow ? MOE_H5_U8 : c->kind;
    if (!status && !type_is(f->column[i], kind))
        status = fail_type(err, c->name, c->kind, i == MOE_H5_EXPERT);
    if (!status)
        status = check_extent(f->column[i], c->name, &want, extent, err);
    if (!status)
        status = check_storage(f->column[i], c->name, want.rank, extent, moe_h5_size(kind),
                               file_bytes, err);
    if (!status) { /* opened again, as the cache is chosen from what the checks saw */
        set_cache(f->file, c->name, moe_h5_size(kind), access);
        H5Dclose(f->column[i]);
        status = open_dataset(f->file, c->name, access, &f->column[i], err);
        *rows = extent[0];
    }
    H5Pclose(access);
    return status;
}

static bool link_exists(hid_t file, const char *group, const char *name)
{
    return H5Lexists(file, group, H5P_DEFAULT) > 0 && H5Lexists(file, name, H5P_DEFAULT) > 0;
}

static bool column_exists(hid_t file, const struct moe_h5_column *c)
{
    char group[32];
    snprintf(group, sizeof group, "%.*s", (int)strcspn(c->name, "/"), c->name);
    return link_exists(file, group, c->name);
}

static bool is_integer(hid_t set)
{
    hid_t type = H5Dget_type(set);
    bool integer = type >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) <= 8;
    if (type >= 0)
        H5Tclose(type);
    return integer;
}

static enum moe_status read_integers(hid_t set, const char *name, uint32_t n, uint64_t file_bytes,
                                     uint64_t **out, struct moe_err *err)
{
    const struct wanted want = {1, UINT64_MAX, 0, 0};
    hsize_t extent[3] = {0};
    enum moe_status status = check_extent(set, name, &want, extent, err);
    bool ok = !status && extent[0] == n && is_integer(set);
    if (ok)
        status = check_storage(set, name, 1, extent, item_size(set), file_bytes, err);
    if (status)
        return status;
    uint64_t *values = ok ? malloc(n * sizeof *values) : NULL;
    if (ok && !values)
        return moe_fail_memory(err, name);
    if (!ok || H5Dread(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
        free(values);
        return moe_fail(err, MOE_ERR_INPUT, "dataset '%s' is not %u readable integers", name, n);
    }
    *out = values;
    return MOE_OK;
}

/* Dataset of one u64 a layer; *out stays NULL when the file has none. */
static enum moe_status read_per_layer(hid_t file, const char *name, uint32_t n, uint64_t file_bytes,
                                      uint64_t **out, struct moe_err *err)
{
    hid_t set;
    if (!link_exists(file, "model", name))
        return MOE_OK;
    enum moe_status status = open_dataset(file, name, H5P_DEFAULT, &set, err);
    if (status)
        return status;
    status = read_integers(set, name, n, file_bytes, out, err);
    H5Dclose(set);
    return status;
}

static enum moe_status read_description(hid_t file, uint64_t file_bytes,
                                        struct moe_trace_info *info, struct moe_err *err)
{
    enum moe_status status = moe_h5_read_info(file, info, err);
    if (!status)
        status = read_per_layer(file, "model/expert_bytes", info->n_layers, file_bytes,
                                &info->expert_bytes, err);
    if (!status)
        status = read_per_layer(file, "model/dense_bytes", info->n_layers, file_bytes,
                                &info->dense_bytes, err);
    return status;
}

static enum moe_status open_columns(struct moe_h5_file *f, const struct moe_trace_info *info,
                                    uint64_t file_bytes, uint64_t *rows, struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    *rows = UINT64_MAX;
    bool log = false;
    for (int i = 0; i < MOE_H5_COLUMNS; i++)
        log |= moe_h5_columns[i].part == MOE_HAS_LOG && column_exists(f->file, &moe_h5_columns[i]);
    for (int i = 0; !status && i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        bool needed = c->part == 0 || (c->part == MOE_HAS_LOG && log);
        if (needed || column_exists(f->file, c))
            status = open_column(f, i, info, file_bytes, rows, err);
    }
    if (!status && f->narrow && info->n_experts > UINT8_MAX)
        status = moe_fail(err, MOE_ERR_INPUT,
                          "dataset 'routes/expert' has one byte for each of %u experts; 255 marks "
                          "an absent entry",
                          info->n_experts);
    return status;
}

static enum moe_status open_lists(struct moe_h5_file *f, uint64_t file_bytes, uint64_t *rows,
                                  struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    *rows = UINT64_MAX;
    for (int i = 0; !status && i < MOE_H5_LISTS; i++) {
        const char *name = moe_h5_lists[i];
        bool text = i == MOE_H5_LABEL || i == MOE_H5_CATEGORY;
        struct wanted want = {1, *rows, 0, 0};
        hsize_t extent[3] = {0};
        if ((status = open_dataset(f->file, name, H5P_DEFAULT, &f->list[i], err)))
            return status;
        if (!(text ? is_text(f->list[i]) : type_is(f->list[i], MOE_H5_U64)))
            return text ? fail_set(err, name,
                                   "is not of strings of fixed length up to 255 bytes (h5py: "
                                   "dtype S)")
                        : fail_type(err, name, MOE_H5_U64, false);
        status = check_extent(f->list[i], name, &want, extent, err);
        if (!status)
            status =
                check_storage(f->list[i], name, 1, extent, item_size(f->list[i]), file_bytes, err);
        *rows = extent[0];
    }
    if (!status && *rows > UINT32_MAX)
        status = moe_fail(err, MOE_ERR_INPUT, "%" PRIu64 " sequences exceed %u", *rows, UINT32_MAX);
    return status;
}

/* The lengths of the sequences must add up to the tokens. */
static enum moe_status check_sum(const struct moe_h5_file *f, uint64_t n_tokens,
                                 uint64_t n_sequences, struct moe_err *err)
{
    enum { WINDOW = 4096 };
    uint64_t length[WINDOW], sum = 0;
    for (uint64_t at = 0; at < n_sequences; at += WINDOW) {
        uint64_t n = n_sequences - at < WINDOW ? n_sequences - at : WINDOW;
        enum moe_status status =
            moe_h5_read_rows(f->list[MOE_H5_N_TOKENS], H5T_NATIVE_UINT64, at, n, length, err);
        if (status)
            return err ? moe_fail_prefix(err, "dataset 'sequences/n_tokens'") : status;
        for (uint64_t i = 0; i < n; i++)
            if (!moe_add_u64(sum, length[i], &sum) || sum > n_tokens)
                return moe_fail(err, MOE_ERR_INPUT,
                                "sequence %" PRIu64 " of %" PRIu64
                                " tokens ends beyond the %" PRIu64 " tokens of the file",
                                at + i, length[i], n_tokens);
    }
    if (sum != n_tokens)
        return moe_fail(err, MOE_ERR_INPUT,
                        "sequences have %" PRIu64 " tokens together, the file has %" PRIu64, sum,
                        n_tokens);
    return MOE_OK;
}

static bool is_gzip(const char *path)
{
    char begin[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, begin, sizeof begin);
    if (fd >= 0)
        close(fd);
    return n > 0 && moe_is_gzip(begin, (size_t)n);
}

static enum moe_status open_file(const char *path, bool writable, hid_t *file, uint64_t *bytes,
                                 struct moe_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return moe_fail(err, MOE_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return moe_fail(err, MOE_ERR_IO, "cannot open '%s': %s", path,
                        S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    /* A writer that takes turns between two files may lock this one just now; the other then has
     * the name, so a second try meets it. */
    for (int attempt = 0; attempt < 3; attempt++) {
        *file = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, H5P_DEFAULT);
        if (*file >= 0)
            break;
        enum moe_status status = moe_h5_fail(err, MOE_ERR_INPUT);
        htri_t known = H5Fis_hdf5(path);
        if (known == 0)
            status = moe_fail(err, MOE_ERR_INPUT, "not an HDF5 file%s",
                              is_gzip(path) ? ", but compressed by gzip; gunzip it first" : "");
        if (attempt == 2 || known == 0)
            return err ? moe_fail_prefix(err, "cannot open '%s'", path) : status;
    }
    *bytes = (uint64_t)st.st_size;
    return MOE_OK;
}

enum moe_status moe_h5_open(const char *path, bool writable, struct moe_h5_file *f,
                            struct moe_trace_info *info, uint64_t *n_tokens, uint64_t *n_sequences,
                            struct moe_err *err)
{
    struct moe_h5_file x = MOE_H5_FILE_NONE;
    struct moe_trace_info found = {0};
    uint64_t bytes = 0, T = 0, S = 0;
    enum moe_status status = open_file(path, writable, &x.file, &bytes, err);
    if (status)
        return status;
    status = read_description(x.file, bytes, &found, err);
    if (!status)
        status = open_columns(&x, &found, bytes, &T, err);
    if (!status)
        status = open_lists(&x, bytes, &S, err);
    if (!status)
        status = check_sum(&x, T, S, err);
    if (status) {
        moe_h5_abandon(&x);
        moe_trace_info_release(&found);
        return err ? moe_fail_prefix(err, "'%s'", path) : status;
    }
    *f = x;
    *info = found;
    *n_tokens = T;
    *n_sequences = S;
    return MOE_OK;
}

unsigned moe_h5_parts(const struct moe_h5_file *f)
{
    unsigned parts = 0;
    for (int i = 0; i < MOE_H5_COLUMNS; i++)
        if (f->column[i] >= 0)
            parts |= moe_h5_columns[i].part;
    return parts;
}
