/* NumPy .npy arrays: little-endian integers and floats, C order, up to 4 dimensions.
 * Source of the layout: numpy.lib.format, versions 1.0 to 3.0. */
#ifndef MOELAB_TRACES_NPY_H
#define MOELAB_TRACES_NPY_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MOE_NPY_MAX_DIMS = 4 };

struct moe_npy {
    char kind;      /* 'u', 'i' or 'f' */
    unsigned width; /* bytes of an item: 1, 2, 4, 8 (f: 2, 4, 8) */
    unsigned n_dims;
    uint64_t shape[MOE_NPY_MAX_DIMS];
    uint64_t n_items;
    const unsigned char *items; /* not aligned; within the parsed buffer */
};

/* Checks a whole file in memory: magic, header, and that exactly the promised items follow.
 * Errors: MOE_ERR_INPUT; MOE_ERR_UNSUPPORTED for Fortran order, big-endian or another dtype. */
enum moe_status moe_npy_parse(const char *name, const void *data, size_t size, struct moe_npy *out,
                              struct moe_err *err);

/* Item i of an array of kind 'u' or 'i'; a u8 beyond 2^63-1 gives 2^63-1. */
int64_t moe_npy_integer(const struct moe_npy *array, uint64_t i);

/* Item i of an array of kind 'f'. */
double moe_npy_real(const struct moe_npy *array, uint64_t i);

/* Writes the header of a C-order array as NumPy does (version 1.0, padded to 64 bytes). */
void moe_npy_write_header(FILE *out, char kind, unsigned width, const uint64_t *shape,
                          unsigned n_dims);

/* Writes one integer or one real of 2, 4 or 8 bytes; a real is rounded to nearest even. */
void moe_npy_write_integer(FILE *out, unsigned width, int64_t value);
void moe_npy_write_real(FILE *out, unsigned width, double value);

#endif
