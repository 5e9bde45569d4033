/* Uncompressed zip files (np.savez): the entries and where their bytes lie. */
#ifndef MOELAB_TRACES_ZIP_H
#define MOELAB_TRACES_ZIP_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_zip_entry {
    char name[128];
    const char *data; /* within the parsed buffer */
    size_t size;
};

/* Lists the files of a zip in memory, in natural order of their names (a2 before a10); *out is
 * freed by the caller. Every CRC is checked. Errors: MOE_ERR_INPUT (also for entries that overlap),
 * MOE_ERR_UNSUPPORTED (compressed, encrypted, over 4 GiB or several disks). */
enum moe_status moe_zip_list(const char *name, const char *data, size_t size,
                             struct moe_zip_entry **out, size_t *n, struct moe_err *err);

#endif
