/* Weight types: one small table. A new type (quantised ones come in blocks) is one row here and one
 * set of kernels in exec/kernels_*.c. */
#ifndef MOELAB_EXEC_DTYPE_H
#define MOELAB_EXEC_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moe_dtype { MOE_F32, MOE_BF16, MOE_F16, MOE_N_DTYPES };

struct moe_dtype_info {
    const char *name; /* as safetensors spells it: "F32", "BF16", "F16" */
    uint32_t block;   /* weights of one block of a row; 1 for the plain types */
    uint32_t bytes;   /* of one block */
    /* n weights from `from` (n a multiple of block) as float32, exactly. */
    void (*to_f32)(const void *from, size_t n, float *to);
};

const struct moe_dtype_info *moe_dtype_info(enum moe_dtype dtype);

/* By its safetensors name; false: not a type that moelab computes with. */
bool moe_dtype_find(const char *name, enum moe_dtype *out);

/* Bytes of a row of n weights. */
uint64_t moe_dtype_row_bytes(enum moe_dtype dtype, uint64_t n);

#endif
