/* Zip files as NumPy writes them (np.savez, np.savez_compressed): the entries and their bytes. */
#ifndef MOELAB_TRACES_ZIP_H
#define MOELAB_TRACES_ZIP_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_zip_entry {
    char name[128];
    const char *data; /* within the parsed buffer, or owned */
    char *owned;      /* the bytes of a compressed entry, else NULL */
    size_t size;
};

/* Lists the files of a zip in memory, in natural order of their names (a2 before a10); *out is
 * released with moe_zip_release. Every CRC is checked. Errors: MOE_ERR_INPUT (also for entries that
 * overlap or promise more bytes than deflate can hold), MOE_ERR_UNSUPPORTED (another compression
 * than deflate, encrypted, over 4 GiB or several disks). */
enum moe_status moe_zip_list(const char *name, const char *data, size_t size,
                             struct moe_zip_entry **out, size_t *n, struct moe_err *err);
void moe_zip_release(struct moe_zip_entry *entries, size_t n);

/* -1, 0, 1: compares runs of digits as numbers and other bytes as they are; of names that then are
 * equal (a2, a02) the lesser string comes first. 0: the same name. */
int moe_natural_order(const char *a, const char *b);

#endif
