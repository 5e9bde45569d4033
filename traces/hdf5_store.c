#include "traces/hdf5_schema.h"

#include <stdlib.h>
#include <string.h>

/* Creation list of a chunked, compressed dataset that can grow in its first extent. */
static hid_t chunked(int rank, const hsize_t *chunk, bool compress)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, false); /* same trace, same bytes */
    H5Pset_chunk(plist, rank, chunk);
    if (compress) {
        H5Pset_shuffle(plist);
        H5Pset_deflate(plist, MOE_H5_DEFLATE);
    }
    return plist;
}

/* Room for the chunk being filled and its neighbour; whole chunks leave the cache first. */
static hid_t cached(size_t chunk_bytes)
{
    hid_t plist = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(plist, 521, 2 * chunk_bytes, 1.0);
    return plist;
}

static hid_t create_growing(hid_t file, const char *name, hid_t type, int rank,
                            const hsize_t *chunk, bool compress)
{
    hsize_t extent[3] = {0, chunk[1], chunk[2]}, max[3] = {H5S_UNLIMITED, chunk[1], chunk[2]};
    size_t bytes = H5Tget_size(type);
    for (int i = 0; i < rank; i++)
        bytes *= (size_t)chunk[i];
    hid_t space = H5Screate_simple(rank, extent, max);
    hid_t plist = chunked(rank, chunk, compress), access = cached(bytes);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, access);
    if (set >= 0) { /* otherwise closing these would make HDF5 forget the cause */
        H5Pclose(access);
        H5Pclose(plist);
        H5Sclose(space);
    }
    return set;
}

static hid_t create_column(hid_t file, const struct moe_h5_column *c,
                           const struct moe_trace_info *info, bool narrow)
{
    enum moe_h5_kind kind = narrow ? MOE_H5_U8 : c->kind;
    uint64_t row = moe_h5_row(c, info), rows = MOE_H5_CHUNK_TOKENS;
    uint32_t last = c->shape == MOE_H5_TLE ? info->n_experts : info->top_k;
    if (c->shape != MOE_H5_T)
        rows = MOE_H5_CHUNK_BYTES / (row * moe_h5_size(kind));
    hsize_t chunk[3] = {rows ? rows : 1, info->n_layers, last};
    return create_growing(file, c->name, moe_h5_file_type(kind), c->shape == MOE_H5_T ? 1 : 3,
                          chunk, true);
}

static hid_t create_list(hid_t file, int i)
{
    bool text = i == MOE_H5_LABEL || i == MOE_H5_CATEGORY;
    hsize_t chunk[3] = {MOE_H5_CHUNK_SEQUENCES, 0, 0};
    hid_t type = text ? moe_h5_string_type(MOE_H5_LABEL_MAX + 1) : H5Tcopy(H5T_STD_U64LE);
    hid_t set = create_growing(file, moe_h5_lists[i], type, 1, chunk, true);
    if (set >= 0)
        H5Tclose(type);
    return set;
}

static bool create_group(hid_t file, const char *name)
{
    hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(plist, false);
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (group >= 0)
        H5Pclose(plist);
    return group >= 0 && H5Gclose(group) >= 0;
}

static hid_t create_file(const char *path)
{
    hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_obj_track_times(fcpl, false);
    /* Checksums on all metadata, and the compact index of chunks; read by HDF5 1.10 and later. */
    H5Pset_libver_bounds(fapl, H5F_LIBVER_V110, H5F_LIBVER_V110);
    hid_t file = H5Fcreate(path, H5F_ACC_EXCL, fcpl, fapl);
    if (file >= 0) {
        H5Pclose(fcpl);
        H5Pclose(fapl);
    }
    return file;
}

static bool create_all(struct moe_h5_file *f, const struct moe_trace_info *info, unsigned parts)
{
    static const char *const groups[] = {"model", "provenance", "sequences", "tokens", "routes"};
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof groups / sizeof *groups; i++)
        ok = create_group(f->file, groups[i]);
    if (ok && (parts & MOE_HAS_LOG))
        ok = create_group(f->file, "log");
    for (int i = 0; ok && i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        if ((c->part & parts) == c->part)
            ok = (f->column[i] =
                      create_column(f->file, c, info, i == MOE_H5_EXPERT && f->narrow)) >= 0;
    }
    for (int i = 0; ok && i < MOE_H5_LISTS; i++)
        ok = (f->list[i] = create_list(f->file, i)) >= 0;
    return ok;
}

enum moe_status moe_h5_create(const char *path, const struct moe_trace_info *info, unsigned parts,
                              struct moe_h5_file *f, struct moe_err *err)
{
    struct moe_h5_file x = MOE_H5_FILE_NONE;
    x.narrow = info->n_experts <= UINT8_MAX;
    if ((x.file = create_file(path)) < 0)
        return moe_h5_fail(err, MOE_ERR_IO);
    enum moe_status status = MOE_OK;
    if (!create_all(&x, info, parts))
        status = moe_h5_fail(err, MOE_ERR_IO);
    if (!status)
        status = moe_h5_write_info(x.file, info, err);
    if (status)
        moe_h5_abandon(&x);
    else
        *f = x;
    return status;
}

/* Grows a dataset to n rows. */
static bool grow(hid_t dataset, uint64_t n)
{
    hsize_t extent[3] = {0};
    hid_t space = H5Dget_space(dataset);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    const bool fits = rank >= 1 && rank <= 3;
    if (fits && H5Sget_simple_extent_dims(space, extent, NULL) < 0)
        return false; /* closing the space would make HDF5 forget the cause */
    if (rank >= 0)
        H5Sclose(space);
    if (!fits)
        return false;
    extent[0] = n;
    return H5Dset_extent(dataset, extent) >= 0;
}

/* Expert ids as bytes, a slice at a time. */
static enum moe_status write_narrow(hid_t set, const moe_expert *e, uint64_t row, uint64_t at,
                                    uint64_t n, struct moe_err *err)
{
    enum { SLICE = 64 << 10 };
    uint64_t step = SLICE / row ? SLICE / row : 1;
    uint8_t *bytes = malloc(step * row);
    enum moe_status status = bytes ? MOE_OK : moe_fail_memory(err, "expert ids");
    for (uint64_t t = 0; !status && t < n; t += step) {
        uint64_t rows = n - t < step ? n - t : step;
        for (uint64_t i = 0; i < rows * row; i++)
            bytes[i] = (uint8_t)e[t * row + i]; /* 0xffff, absent, becomes 0xff */
        status = moe_h5_write_rows(set, H5T_NATIVE_UINT8, at + t, rows, bytes, err);
    }
    free(bytes);
    return status;
}

enum moe_status moe_h5_append_tokens(struct moe_h5_file *f, const struct moe_trace_info *info,
                                     uint64_t at, const struct moe_tokens *tokens,
                                     struct moe_err *err)
{
    const uint64_t n = tokens->n_tokens;
    enum moe_status status = MOE_OK;
    for (int i = 0; !status && n > 0 && i < MOE_H5_COLUMNS; i++) {
        const struct moe_h5_column *c = &moe_h5_columns[i];
        if (f->column[i] < 0)
            continue;
        const void *rows = moe_h5_at(c, info, tokens, 0);
        if (!grow(f->column[i], at + n))
            status = moe_h5_fail(err, MOE_ERR_IO);
        else if (i == MOE_H5_EXPERT && f->narrow)
            status = write_narrow(f->column[i], rows, moe_h5_row(c, info), at, n, err);
        else
            status = moe_h5_write_rows(f->column[i], moe_h5_memory_type(c->kind), at, n, rows, err);
    }
    return status;
}

/* texts: rows of MOE_H5_LABEL_MAX + 1 bytes; labels are not longer. */
static void fill_list(enum moe_h5_list list, const struct moe_sequence *s, uint64_t n,
                      uint64_t *numbers, char *texts)
{
    for (uint64_t i = 0; i < n; i++) {
        switch (list) {
        case MOE_H5_N_TOKENS:
            numbers[i] = s[i].n_tokens;
            break;
        case MOE_H5_TEXT_HASH:
            numbers[i] = s[i].text_hash;
            break;
        case MOE_H5_LABEL:
            memcpy(texts + i * (MOE_H5_LABEL_MAX + 1), s[i].label, strlen(s[i].label));
            break;
        case MOE_H5_CATEGORY:
            memcpy(texts + i * (MOE_H5_LABEL_MAX + 1), s[i].category, strlen(s[i].category));
            break;
        case MOE_H5_LISTS:
            break;
        }
    }
}

enum moe_status moe_h5_append_sequences(struct moe_h5_file *f, uint64_t at,
                                        const struct moe_sequence *sequences, uint64_t n,
                                        struct moe_err *err)
{
    enum { BATCH = 4 * MOE_H5_CHUNK_SEQUENCES };
    uint64_t batch = n < BATCH ? n : BATCH;
    uint64_t *numbers = malloc(batch ? batch * sizeof *numbers : 1);
    char *texts = malloc(batch ? batch * (MOE_H5_LABEL_MAX + 1) : 1);
    hid_t text = moe_h5_string_type(MOE_H5_LABEL_MAX + 1);
    enum moe_status status = numbers && texts ? MOE_OK : moe_fail_memory(err, "sequences");
    for (int i = 0; !status && n > 0 && i < MOE_H5_LISTS; i++) {
        bool is_text = i == MOE_H5_LABEL || i == MOE_H5_CATEGORY;
        const void *from = is_text ? (const void *)texts : numbers;
        if (!grow(f->list[i], at + n))
            status = moe_h5_fail(err, MOE_ERR_IO);
        for (uint64_t k = 0; !status && k < n; k += batch) {
            uint64_t rows = n - k < batch ? n - k : batch;
            memset(texts, 0, batch * (MOE_H5_LABEL_MAX + 1));
            fill_list((enum moe_h5_list)i, sequences + k, rows, numbers, texts);
            status = moe_h5_write_rows(f->list[i], is_text ? text : H5T_NATIVE_UINT64, at + k, rows,
                                       from, err);
        }
    }
    H5Tclose(text);
    free(texts);
    free(numbers);
    return status;
}
