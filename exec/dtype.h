/* Weight types: one small table.
 *
 * Q8 and Q4 hold a row of n weights, n a multiple of 32, as all its numbers and then its scales:
 *     Q8: int8 q[n], then binary16 scale[n / 32]; weight i is q[i] scale[i / 32]
 *     Q4: uint8 q[n / 2], then the scales; bytes 16 b to 16 b + 15 hold block b, its weights 0 to
 * 15 in their low four bits, 16 to 31 in their high four: weight = (four bits - 8) scale Both
 * products are exact in float32, so that kernels may multiply before or after they convert. The
 * blocks are those of GGUF's Q8_0 and Q4_0 (ggml/src/ggml-common.h) with the scales moved to the
 * row's end, so that vectors of weights lie as aligned as the row. exec/quantize.h makes them.
 */
#ifndef MOELAB_EXEC_DTYPE_H
#define MOELAB_EXEC_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum moe_dtype { MOE_F32, MOE_BF16, MOE_F16, MOE_Q8, MOE_Q4, MOE_N_DTYPES };

enum { MOE_QUANT_BLOCK = 32 }; /* weights that share a scale */

struct moe_dtype_info {
    const char *name; /* "F32", "BF16", "F16" as safetensors spells it; "Q8", "Q4" */
    uint32_t block;   /* weights of one block of a row; 1 for the plain types */
    uint32_t bytes;   /* of one block, its scale included */
    /* A row of n weights (n a multiple of block), anywhere in memory, as float32, exactly. */
    void (*to_f32)(const void *row, size_t n, float *to);
};

const struct moe_dtype_info *moe_dtype_info(enum moe_dtype dtype);

/* By its name; false: not a type that moelab computes with. */
bool moe_dtype_find(const char *name, enum moe_dtype *out);

/* Is a row just its weights, one after another, without blocks and scales? */
bool moe_dtype_plain(enum moe_dtype dtype);

/* Bytes of a row of n weights. */
uint64_t moe_dtype_row_bytes(enum moe_dtype dtype, uint64_t n);

#endif
