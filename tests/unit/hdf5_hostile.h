/* A good trace file, and copies of it with one thing changed. */
#ifndef MOELAB_TESTS_HDF5_HOSTILE_H
#define MOELAB_TESTS_HDF5_HOSTILE_H

#include "tests/unit/hdf5_traces.h"

#include <hdf5.h>

static char folder[256], good[300], path[300];
static struct moe_trace trace;

enum { L = 2, E = 8, K = 2 };

/* Makes a fresh copy of the good file and opens it for changes. */
static inline hid_t open_copy(void)
{
    char command[700];
    snprintf(command, sizeof command, "cp '%s' '%s'", good, path);
    ck_assert_int_eq(system(command), 0);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    ck_assert_int_ge(file, 0);
    return file;
}

static inline void expect(enum moe_status want, const char *message)
{
    struct moe_err err;
    char text[600];
    enum moe_status status = read_all(path, &err);
    snprintf(text, sizeof text, message, path);
    ck_assert_str_eq(err.text, text);
    ck_assert_int_eq(status, want);
}

/* Closes the changed file and expects the reader to refuse it; "%s" in the message is its path. */
static inline void refuse(hid_t file, enum moe_status want, const char *message)
{
    ck_assert_int_ge(H5Fclose(file), 0);
    expect(want, message);
}

/* Replaces a dataset by one of this type and extent; contiguous unless plist says otherwise. */
static inline void replace(hid_t file, const char *name, hid_t type, int rank,
                           const hsize_t *extent, hid_t plist, const void *data)
{
    ck_assert_int_ge(H5Ldelete(file, name, H5P_DEFAULT), 0);
    hid_t space = H5Screate_simple(rank, extent, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    ck_assert_msg(set >= 0, "%s", name);
    if (data)
        ck_assert_int_ge(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), 0);
    H5Dclose(set);
    H5Sclose(space);
}

static inline hid_t sparse_list(int rank, const hsize_t *chunk)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, rank, chunk);
    H5Pset_deflate(plist, 1);
    return plist;
}

/* Writes the good file, or ends the program. */
static inline void make_good(void)
{
    struct moe_err err = {0};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    temporary_folder(folder, sizeof folder);
    snprintf(good, sizeof good, "%s/good.h5", folder);
    snprintf(path, sizeof path, "%s/x.h5", folder);
    trace = make_trace(L, E, K, 3, 9, ALL_PARTS, 1);
    if (moe_trace_save(good, &trace, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

#endif
