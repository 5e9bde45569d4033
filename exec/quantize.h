/* Rows of float32 weights as Q8 or Q4 (exec/dtype.h): round to nearest, a scale for every 32.
 * Source: the rules of GGUF's Q8_0 and Q4_0 (ggml/src/ggml-quants.c, quantize_row_q8_0_ref and
 * quantize_row_q4_0_ref), but numbers are rounded with the scale as it is stored. */
#ifndef MOELAB_EXEC_QUANTIZE_H
#define MOELAB_EXEC_QUANTIZE_H

#include "exec/dtype.h"

/* row: moe_dtype_row_bytes(dtype, n) bytes at any address; dtype: MOE_Q8 or MOE_Q4; n a multiple of
 * MOE_QUANT_BLOCK. Q8: scale = largest magnitude / 127, so that errors are at most half a scale.
 * Q4: scale = the block's weight farthest from 0 (the first of equals) / -8, so that this weight is
 * represented exactly; errors are at most half a scale, except for weights of the opposite sign
 * beyond 7.5 scales. Scales are rounded to binary16 (a block of weights below 4e-6 becomes zeros).
 * Returns n; or the index of the first weight that is not finite or whose block has a scale beyond
 * binary16's 65504, with the row undefined. */
size_t moe_quantize_row(enum moe_dtype dtype, const float *from, size_t n, void *row);

/* A binary16 number's bits, rounded to nearest even; beyond 65504 infinite. */
uint16_t moe_f16_of(float x);

#endif
