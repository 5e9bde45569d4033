#include "traces/hdf5_schema.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MEMBER(name) offsetof(struct moe_tokens, name)
const struct moe_h5_column moe_h5_columns[MOE_H5_COLUMNS] = {
    {"tokens/step", MOE_H5_U32, MOE_H5_T, 0, MEMBER(step)},
    {"tokens/position", MOE_H5_I32, MOE_H5_T, 0, MEMBER(position)},
    {"tokens/token_id", MOE_H5_I32, MOE_H5_T, 0, MEMBER(token_id)},
    {"tokens/phase", MOE_H5_U8, MOE_H5_T, 0, MEMBER(phase)},
    {"routes/expert", MOE_H5_U16, MOE_H5_TLK, 0, MEMBER(expert)},
    {"routes/weight", MOE_H5_F32, MOE_H5_TLK, MOE_HAS_WEIGHT, MEMBER(weight)},
    {"routes/score", MOE_H5_F32, MOE_H5_TLE, MOE_HAS_SCORE, MEMBER(score)},
    {"routes/lookahead", MOE_H5_F32, MOE_H5_TLE, MOE_HAS_LOOKAHEAD, MEMBER(lookahead)},
    {"log/residency", MOE_H5_U8, MOE_H5_TLK, MOE_HAS_LOG, MEMBER(log_residency)},
    {"log/loaded_bytes", MOE_H5_U64, MOE_H5_TLK, MOE_HAS_LOG, MEMBER(log_bytes)},
    {"tokens/request", MOE_H5_U32, MOE_H5_T, MOE_HAS_REQUEST, MEMBER(request)},
};

const char *const moe_h5_lists[MOE_H5_LISTS] = {
    "sequences/n_tokens",
    "sequences/text_hash",
    "sequences/label",
    "sequences/category",
};

#define TEXT(name) offsetof(struct moe_trace_info, name)
const struct moe_h5_text moe_h5_texts[MOE_H5_TEXTS] = {
    {"model", "name", TEXT(model), "unknown"},
    {"provenance", "source", TEXT(source), "unknown"},
    {"provenance", "licence", TEXT(licence), "unknown"},
    {"provenance", "tool", TEXT(tool), "unknown"},
    {"provenance", "created", TEXT(created), "unknown"},
    {"provenance", "note", TEXT(note), ""},
    {"provenance", "dialect", TEXT(dialect), ""},
};

size_t moe_h5_size(enum moe_h5_kind kind)
{
    static const size_t sizes[] = {1, 2, 4, 4, 8, 4};
    return sizes[kind];
}

hid_t moe_h5_memory_type(enum moe_h5_kind kind)
{
    const hid_t types[] = {H5T_NATIVE_UINT8, H5T_NATIVE_UINT16, H5T_NATIVE_UINT32,
                           H5T_NATIVE_INT32, H5T_NATIVE_UINT64, H5T_NATIVE_FLOAT};
    return types[kind];
}

hid_t moe_h5_file_type(enum moe_h5_kind kind)
{
    const hid_t types[] = {H5T_STD_U8LE,  H5T_STD_U16LE, H5T_STD_U32LE,
                           H5T_STD_I32LE, H5T_STD_U64LE, H5T_IEEE_F32LE};
    return types[kind];
}

uint64_t moe_h5_row(const struct moe_h5_column *column, const struct moe_trace_info *info)
{
    switch (column->shape) {
    case MOE_H5_TLK:
        return (uint64_t)info->n_layers * info->top_k;
    case MOE_H5_TLE:
        return (uint64_t)info->n_layers * info->n_experts;
    case MOE_H5_T:
        break;
    }
    return 1;
}

void *moe_h5_array(const struct moe_h5_column *column, const struct moe_tokens *tokens)
{
    void *array; /* copied as bytes: the member has a pointer type of its own */
    memcpy(&array, (const char *)tokens + column->member, sizeof array);
    return array;
}

void *moe_h5_at(const struct moe_h5_column *column, const struct moe_trace_info *info,
                const struct moe_tokens *tokens, uint64_t t)
{
    return (char *)moe_h5_array(column, tokens) +
           t * moe_h5_row(column, info) * moe_h5_size(column->kind);
}

void moe_h5_begin(void)
{
    /* A file that could not be closed (full disk) would be flushed again at exit, and complain. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

struct cause {
    char *buf;
    size_t size;
};

/* Keeps the deepest entry of the error stack; of that only the system's message, if there is one,
 * which HDF5 quotes after a fixed text. */
static herr_t note_cause(unsigned n, const H5E_error2_t *e, void *data)
{
    static const char mark[] = "error message = '";
    struct cause *c = data;
    if (n > 0 || !e->desc)
        return 0;
    const char *text = strstr(e->desc, mark);
    const char *end = text ? strchr(text + sizeof mark - 1, '\'') : NULL;
    if (end)
        snprintf(c->buf, c->size, "%.*s", (int)(end - text - (int)sizeof mark + 1),
                 text + sizeof mark - 1);
    else
        snprintf(c->buf, c->size, "%s", e->desc);
    return 0;
}

enum moe_status moe_h5_fail(struct moe_err *err, enum moe_status status)
{
    char text[256] = "the HDF5 library gives no cause";
    struct cause c = {text, sizeof text};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_cause, &c);
    return moe_fail(err, status, "%s", text);
}

hid_t moe_h5_string_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

bool moe_h5_is_text(hid_t type, size_t max)
{
    return type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
           H5Tget_size(type) <= max + (H5Tget_strpad(type) == H5T_STR_NULLTERM);
}

void moe_h5_trim(hid_t type, char *text)
{
    size_t n = H5Tget_size(type);
    text[H5Tget_strpad(type) == H5T_STR_NULLTERM ? n - 1 : n] = '\0';
    n = strlen(text);
    while (H5Tget_strpad(type) == H5T_STR_SPACEPAD && n > 0 && text[n - 1] == ' ')
        text[--n] = '\0';
}

enum moe_status moe_h5_close(struct moe_h5_file *f, struct moe_err *err)
{
    enum moe_status status = MOE_OK;
    hid_t ids[MOE_H5_COLUMNS + MOE_H5_LISTS + 1];
    memcpy(ids, f->column, sizeof f->column);
    memcpy(ids + MOE_H5_COLUMNS, f->list, sizeof f->list);
    ids[MOE_H5_COLUMNS + MOE_H5_LISTS] = f->file;
    for (int i = 0; i <= MOE_H5_COLUMNS + MOE_H5_LISTS; i++) {
        bool is_file = i == MOE_H5_COLUMNS + MOE_H5_LISTS;
        if (ids[i] >= 0 && (is_file ? H5Fclose(ids[i]) : H5Dclose(ids[i])) < 0 && !status)
            status = moe_h5_fail(err, MOE_ERR_IO);
    }
    *f = (struct moe_h5_file)MOE_H5_FILE_NONE;
    return status;
}

void moe_h5_abandon(struct moe_h5_file *f)
{
    struct moe_err ignored;
    moe_h5_close(f, &ignored);
}

/* Selects rows [first, first + n): returns the file space, or -1, and sets *memory to a space of
 * the same extent. */
static hid_t select_rows(hid_t dataset, uint64_t first, uint64_t n, hid_t *memory)
{
    hsize_t extent[3], start[3] = {first, 0, 0};
    hid_t space = H5Dget_space(dataset);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank >= 1 && rank <= 3 && H5Sget_simple_extent_dims(space, extent, NULL) == rank) {
        extent[0] = n;
        if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0 &&
            (*memory = H5Screate_simple(rank, extent, NULL)) >= 0)
            return space;
    }
    H5Sclose(space);
    return -1;
}

enum moe_status moe_h5_read_rows(hid_t dataset, hid_t type, uint64_t first, uint64_t n, void *to,
                                 struct moe_err *err)
{
    hid_t memory, space;
    if (n == 0)
        return MOE_OK;
    if ((space = select_rows(dataset, first, n, &memory)) < 0)
        return moe_fail(err, MOE_ERR_INPUT, "rows cannot be selected");
    enum moe_status status = MOE_OK;
    if (H5Dread(dataset, type, memory, space, H5P_DEFAULT, to) < 0)
        status = moe_h5_fail(err, MOE_ERR_INPUT);
    H5Sclose(memory);
    H5Sclose(space);
    return status;
}

enum moe_status moe_h5_write_rows(hid_t dataset, hid_t type, uint64_t first, uint64_t n,
                                  const void *from, struct moe_err *err)
{
    hid_t memory, space;
    if (n == 0)
        return MOE_OK;
    if ((space = select_rows(dataset, first, n, &memory)) < 0)
        return moe_fail(err, MOE_ERR_IO, "rows cannot be selected");
    enum moe_status status = MOE_OK;
    if (H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, from) < 0)
        status = moe_h5_fail(err, MOE_ERR_IO);
    H5Sclose(memory);
    H5Sclose(space);
    return status;
}
