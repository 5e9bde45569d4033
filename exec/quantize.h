/* Rows of float32 weights as Q8 or Q4 (exec/dtype.h): round to nearest, a scale for every 32.
 * Source: the rules of GGUF's Q8_0 and Q4_0 (ggml/src/ggml-quants.c, quantize_row_q8_0_ref and
 * quantize_row_q4_0_ref), with numbers rounded by the scale as it is stored. */
#ifndef MOELAB_EXEC_QUANTIZE_H
#define MOELAB_EXEC_QUANTIZE_H

#include "exec/dtype.h"

/* row: moe_dtype_row_bytes(dtype, n) bytes anywhere; dtype: MOE_Q8 or MOE_Q4; n a multiple of
 * MOE_QUANT_BLOCK. Q8: scale = largest / 127, so that errors are at most half of it. Q4: scale =
 * that weight of the block that lies farthest from 0 (the first of equals) / -8, so that it is met
 * itself; errors are at most half a scale but for weights of the other sign beyond 7.5 scales.
 * Scales are rounded to binary16 (a block of weights below 4e-6 becomes zeros). Returns the index
 * of the first weight that is no finite number or whose block has a scale beyond binary16's 65504,
 * and leaves the row undefined; n: none is. */
size_t moe_quantize_row(enum moe_dtype dtype, const float *from, size_t n, void *row);

/* A binary16 number's bits, rounded to nearest even; beyond 65504 infinite. */
uint16_t moe_f16_of(float x);

#endif
