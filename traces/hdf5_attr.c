#include "traces/hdf5_schema.h"
#include "traces/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_attribute(hid_t file, const char *at, const char *name)
{
    return (strcmp(at, "/") == 0 || H5Lexists(file, at, H5P_DEFAULT) > 0) &&
           H5Aexists_by_name(file, at, name, H5P_DEFAULT) > 0;
}

/* Attribute `name` of object `at` ("/" or a group); -1 when there is none. */
static hid_t open_attribute(hid_t file, const char *at, const char *name)
{
    return has_attribute(file, at, name) ? H5Aopen_by_name(file, at, name, H5P_DEFAULT, H5P_DEFAULT)
                                         : -1;
}

static bool is_scalar(hid_t attribute)
{
    hid_t space = H5Aget_space(attribute);
    bool one = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0)
        H5Sclose(space);
    return one;
}

static bool read_integer_value(hid_t attribute, int64_t *out)
{
    hid_t type = H5Aget_type(attribute);
    bool ok = type >= 0 && H5Tget_class(type) == H5T_INTEGER && is_scalar(attribute) &&
              H5Aread(attribute, H5T_NATIVE_INT64, out) >= 0;
    if (type >= 0)
        H5Tclose(type);
    return ok;
}

static enum moe_status read_integer(hid_t file, const char *at, const char *name, int64_t min,
                                    int64_t max, int64_t *out, struct moe_err *err)
{
    hid_t attribute = open_attribute(file, at, name);
    if (attribute < 0)
        return moe_fail(err, MOE_ERR_INPUT, "no attribute '%s' in '%s'", name, at);
    int64_t value = 0;
    bool ok = read_integer_value(attribute, &value);
    H5Aclose(attribute);
    if (!ok)
        return moe_fail(err, MOE_ERR_INPUT, "attribute '%s' of '%s' is not one integer", name, at);
    if (value < min || value > max)
        return moe_fail(err, MOE_ERR_INPUT,
                        "attribute '%s' of '%s' is %" PRId64 ", outside %" PRId64 "..%" PRId64,
                        name, at, value, min, max);
    *out = value;
    return MOE_OK;
}

/* *out is heap text, or NULL when the attribute cannot be read. */
static enum moe_status read_string(hid_t attribute, hid_t type, char **out, struct moe_err *err)
{
    char *text = malloc(H5Tget_size(type) + 1);
    if (!text)
        return moe_fail_memory(err, "an attribute");
    if (H5Aread(attribute, type, text) < 0) {
        free(text);
        return MOE_OK;
    }
    moe_h5_trim(type, text);
    *out = text;
    return MOE_OK;
}

/* *out is heap text of at most max bytes, or NULL when there is no such attribute. */
static enum moe_status read_text(hid_t file, const char *at, const char *name, size_t max,
                                 char **out, struct moe_err *err)
{
    hid_t attribute = open_attribute(file, at, name);
    *out = NULL;
    if (attribute < 0)
        return MOE_OK;
    hid_t type = H5Aget_type(attribute);
    char *text = NULL;
    enum moe_status status = MOE_OK;
    if (moe_h5_is_text(type, max) && is_scalar(attribute))
        status = read_string(attribute, type, &text, err);
    if (type >= 0)
        H5Tclose(type);
    H5Aclose(attribute);
    if (status)
        return status;
    if (!text)
        return moe_fail(err, MOE_ERR_INPUT,
                        "attribute '%s' of '%s' is not one string of fixed length up to %zu "
                        "(h5py: numpy.bytes_)",
                        name, at, max);
    *out = text;
    return MOE_OK;
}

static enum moe_status read_texts(hid_t file, struct moe_trace_info *info, struct moe_err *err)
{
    for (int i = 0; i < MOE_H5_TEXTS; i++) {
        const struct moe_h5_text *t = &moe_h5_texts[i];
        char *text;
        enum moe_status status = read_text(file, t->group, t->name, MOE_TEXT_MAX - 1, &text, err);
        if (status)
            return status;
        snprintf((char *)info + t->member, MOE_TEXT_MAX, "%s", text ? text : t->if_missing);
        free(text);
    }
    return read_text(file, "provenance", "header", MOE_HEADER_MAX, &info->header, err);
}

/* Is this a trace, and of a version that this build knows? */
static enum moe_status read_identity(hid_t file, struct moe_err *err)
{
    char *format;
    int64_t version;
    enum moe_status status = read_text(file, "/", "format", MOE_TEXT_MAX - 1, &format, err);
    if (status)
        return status;
    bool ours = format && strcmp(format, MOE_H5_FORMAT) == 0;
    free(format);
    if (!ours)
        return moe_fail(err, MOE_ERR_INPUT,
                        "not a trace: root attribute 'format' is not '" MOE_H5_FORMAT "'");
    if ((status = read_integer(file, "/", "schema_version", 0, INT64_MAX, &version, err)))
        return status;
    if (version != MOE_H5_VERSION)
        return moe_fail(err, MOE_ERR_UNSUPPORTED,
                        "schema version %" PRId64 " is not the version %d of this program", version,
                        MOE_H5_VERSION);
    return MOE_OK;
}

/* A group must lie in this very file, as datasets must: a link could name any other. */
static enum moe_status check_group(hid_t file, const char *name, struct moe_err *err)
{
    H5L_info_t link;
    if (H5Lexists(file, name, H5P_DEFAULT) > 0 &&
        (H5Lget_info(file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD))
        return moe_fail(err, MOE_ERR_INPUT, "group '%s' is a link to another place", name);
    return MOE_OK;
}

static enum moe_status read_shape(hid_t file, struct moe_trace_info *info, struct moe_err *err)
{
    int64_t L, E, K, synthetic, in_order = 0;
    enum moe_status status = read_integer(file, "model", "n_layers", 1, MOE_MAX_LAYERS, &L, err);
    if (!status)
        status = read_integer(file, "model", "n_experts", 1, MOE_MAX_EXPERTS, &E, err);
    if (!status)
        status = read_integer(file, "model", "top_k", 1, MOE_MAX_TOP_K, &K, err);
    if (!status && K > E)
        status =
            moe_fail(err, MOE_ERR_INPUT, "top_k %" PRId64 " exceeds the %" PRId64 " experts", K, E);
    if (!status)
        status = read_integer(file, "/", "synthetic", 0, 1, &synthetic, err);
    if (!status && has_attribute(file, "provenance", "rows_in_order"))
        status = read_integer(file, "provenance", "rows_in_order", 0, 1, &in_order, err);
    if (status)
        return status;
    info->n_layers = (uint32_t)L;
    info->n_experts = (uint32_t)E;
    info->top_k = (uint32_t)K;
    info->synthetic = synthetic != 0;
    info->rows_in_order = in_order != 0;
    return MOE_OK;
}

enum moe_status moe_h5_read_info(hid_t file, struct moe_trace_info *info, struct moe_err *err)
{
    struct moe_trace_info x = {0};
    enum moe_status status = read_identity(file, err);
    if (!status)
        status = check_group(file, "model", err);
    if (!status)
        status = check_group(file, "provenance", err);
    if (!status)
        status = read_shape(file, &x, err);
    if (!status)
        status = read_texts(file, &x, err);
    if (status)
        moe_trace_info_release(&x);
    else
        *info = x;
    return status;
}

static bool write_attribute(hid_t file, const char *at, const char *name, hid_t file_type,
                            hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id =
        H5Acreate_by_name(file, at, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(space);
    if (id < 0)
        return false;
    bool ok = H5Awrite(id, memory_type, value) >= 0;
    return H5Aclose(id) >= 0 && ok;
}

static bool write_integer(hid_t file, const char *at, const char *name, uint32_t value)
{
    return write_attribute(file, at, name, H5T_STD_U32LE, H5T_NATIVE_UINT32, &value);
}

static bool write_text(hid_t file, const char *at, const char *name, const char *text)
{
    hid_t type = moe_h5_string_type(strlen(text) + 1);
    bool ok = write_attribute(file, at, name, type, type, text);
    if (ok) /* otherwise HDF5 would forget the cause */
        H5Tclose(type);
    return ok;
}

static bool write_per_layer(hid_t file, const char *name, const uint64_t *values, uint32_t n)
{
    if (!values)
        return true;
    hsize_t extent[1] = {n};
    hid_t space = H5Screate_simple(1, extent, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, false);
    hid_t set = H5Dcreate2(file, name, H5T_STD_U64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Pclose(plist);
    H5Sclose(space);
    if (set < 0)
        return false;
    bool ok = H5Dwrite(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    return H5Dclose(set) >= 0 && ok;
}

enum moe_status moe_h5_write_info(hid_t file, const struct moe_trace_info *info,
                                  struct moe_err *err)
{
    bool ok = write_text(file, "/", "format", MOE_H5_FORMAT) &&
              write_integer(file, "/", "schema_version", MOE_H5_VERSION) &&
              write_integer(file, "/", "synthetic", info->synthetic) &&
              write_integer(file, "model", "n_layers", info->n_layers) &&
              write_integer(file, "model", "n_experts", info->n_experts) &&
              write_integer(file, "model", "top_k", info->top_k) &&
              write_integer(file, "provenance", "rows_in_order", info->rows_in_order) &&
              write_per_layer(file, "model/expert_bytes", info->expert_bytes, info->n_layers) &&
              write_per_layer(file, "model/dense_bytes", info->dense_bytes, info->n_layers);
    for (int i = 0; ok && i < MOE_H5_TEXTS; i++)
        ok = write_text(file, moe_h5_texts[i].group, moe_h5_texts[i].name,
                        (const char *)info + moe_h5_texts[i].member);
    if (ok && info->header)
        ok = write_text(file, "provenance", "header", info->header);
    return ok ? MOE_OK : moe_h5_fail(err, MOE_ERR_IO);
}
