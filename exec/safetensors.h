/* One safetensors file, mapped into memory and never copied. Nothing in the header is used before
 * every count, offset and shape was checked against the file and against each other.
 *
 * Format: u64 little-endian header size, JSON header {"name": {"dtype", "shape", "data_offsets"}},
 * data. Source: huggingface/safetensors, README. */
#ifndef MOELAB_EXEC_SAFETENSORS_H
#define MOELAB_EXEC_SAFETENSORS_H

#include "base/error.h"
#include "exec/dtype.h"

enum { MOE_TENSOR_DIMS_MAX = 8 };

struct moe_tensor {
    const char *name;
    bool computable;      /* false: a type that moelab has no kernels for (I64, F8_E4M3 ...) */
    enum moe_dtype dtype; /* valid when computable */
    char dtype_name[16];
    uint32_t n_dims;
    uint64_t dim[MOE_TENSOR_DIMS_MAX];
    const void *data; /* host memory of the mapping, at least 1-byte aligned; read only */
    uint64_t bytes;
};

struct moe_safetensors; /* opaque; immutable once open, so any thread may read it */

/* Maps the file. Errors: MOE_ERR_IO; MOE_ERR_INPUT "'x.safetensors': ..." for truncation, offsets
 * outside the file, overlaps, a size that is not shape x type, a header that is not JSON or nested
 * too deep; MOE_ERR_MEMORY. If another process cuts the file short while it is open, reading it
 * ends the program with a message (exec/mapped_files.h). */
enum moe_status moe_safetensors_open(struct moe_safetensors **out, const char *path,
                                     struct moe_err *err);

/* The same for a file's bytes in memory, which must outlive it; name: of the file, for messages. */
enum moe_status moe_safetensors_parse(struct moe_safetensors **out, const char *name,
                                      const void *data, uint64_t size, struct moe_err *err);
void moe_safetensors_close(struct moe_safetensors *file);

/* The path or name given to _open or _parse. */
const char *moe_safetensors_path(const struct moe_safetensors *file);

/* The header's "__metadata__", an object of texts, as JSON; NULL: none. */
const char *moe_safetensors_metadata(const struct moe_safetensors *file);

uint64_t moe_safetensors_n(const struct moe_safetensors *file);
const struct moe_tensor *moe_safetensors_at(const struct moe_safetensors *file, uint64_t i);

/* MOE_ERR_INPUT for the first weight, tensor by tensor, that is not finite, with the names of file
 * and tensor and its index. Reads the whole file. */
enum moe_status moe_safetensors_check_finite(const struct moe_safetensors *file,
                                             struct moe_err *err);
/* Called before and after reading a few bytes here and there. begin true: turns the kernel's
 * read-ahead off (for a model that is not in memory it would read gigabytes). begin false: turns it
 * on again and drops the mapped pages from the resident set; they are read again when used. */
void moe_safetensors_peek(const struct moe_safetensors *file, bool begin);

/* The tensor of that name, or NULL. O(log n). */
const struct moe_tensor *moe_safetensors_find(const struct moe_safetensors *file, const char *name);

#endif
