/* Quantized weights (Q8, Q4: blocks with a scale; exec/dtype.h) for exec/kernels_tile.h. A weight
 * becomes number * scale in float32, which is exact, and is then treated like a float32 weight: the
 * results have the same bits. */
#ifndef MOELAB_EXEC_KERNELS_QUANT_H
#define MOELAB_EXEC_KERNELS_QUANT_H

#include "exec/kernels_vector.h"

enum {
    TILE_QUANT_VECTORS = MOE_QUANT_BLOCK / TILE_LANES, /* vectors of a block */
    TILE_SCALES = TILE_COLS / MOE_QUANT_BLOCK,         /* scales of a panel's row: whole vectors */
    /* Prefetch distances in a row: bytes of numbers (measured on Zen 4: half is slower), and
       columns, those whose scales fill a line. */
    TILE_QUANT_AHEAD = 1024,
    TILE_SCALES_AHEAD = TILE_LINE_BYTES / 2 * MOE_QUANT_BLOCK,
};

/* Prefetch distances in bytes, from the address of a row's numbers and of its scales. */
struct tile_ahead {
    size_t numbers, scales;
};

/* The factors of a row's blocks in one panel, as vf_q4_factors writes them; Q8 uses only the first
 * row, which holds the scales. */
typedef float tile_factors[TILE_Q4_FACTORS][TILE_SCALES];

/* The weights of the block whose numbers lie at p and whose factors are in the column at `factor`.
 */
TILE_INLINE void tile_block_weights(enum moe_dtype dtype, const uint8_t *p, const float *factor,
                                    vf *v)
{
    if (dtype == MOE_Q4) {
        vf_q4(p, factor, TILE_SCALES, v);
        return;
    }
    const vf scale = vf_set(*factor);
    vf_q8(p, v);
    TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS; i++) v[i] = vf_mul(v[i], scale);
}

/* The factors of row r for n columns from c on. */
TILE_INLINE void tile_factors_of(enum moe_dtype dtype, const struct tile_rows *w, uint32_t r,
                                 uint32_t c, uint32_t n, size_t ahead, tile_factors to)
{
    const uint8_t *from =
        w->data + r * w->row_bytes + tile_offset(dtype, w->cols) + tile_scale_bytes(dtype, c);
    const uint32_t count = n / MOE_QUANT_BLOCK;
    tile_prefetch(from, ahead);
    for (uint32_t i = 0; i < count; i += TILE_LANES) {
        const uint8_t *p = from + i * sizeof(uint16_t);
        const vf scale =
            count - i >= TILE_LANES ? vf_f16(p) : tile_weights_tail(MOE_F16, p, count - i);
        if (dtype == MOE_Q4)
            vf_q4_factors(scale, to[0] + i, TILE_SCALES);
        else
            vf_store(to[0] + i, scale);
    }
}

/* As tile_few_dot of kernels_tile.h. */
TILE_INLINE void tile_few_quant_dot(enum moe_dtype dtype, const struct tile_rows *w, uint32_t rows,
                                    struct tile_ahead wrap, const float *x, uint32_t tokens,
                                    float *out)
{
    const uint32_t cols = w->cols, ahead = TILE_QUANT_AHEAD * (dtype == MOE_Q8 ? 1 : 2);
    const uint8_t *row[TILE_ROWS];
    tile_factors factor[TILE_ROWS];
    vf acc[TILE_ROWS][TILE_TOKENS];
    TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
    {
        row[r] = w->data + r * w->row_bytes;
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) acc[r][t] = vf_zero();
    }
    for (uint32_t c = 0; c < cols; c += TILE_COLS) {
        const uint32_t n = tile_min(cols - c, TILE_COLS);
        const size_t far = tile_scale_bytes(dtype, TILE_SCALES_AHEAD) +
                           (c + TILE_SCALES_AHEAD >= cols ? wrap.scales : 0);
        for (uint32_t r = 0; r < rows; r++)
            tile_factors_of(dtype, w, r, c, n, far, factor[r]);
        for (uint32_t d = 0; d < n; d += MOE_QUANT_BLOCK) {
            const size_t distance = TILE_QUANT_AHEAD + (c + d + ahead >= cols ? wrap.numbers : 0);
            const size_t at = tile_offset(dtype, c + d);
            TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
            {
                vf v[TILE_QUANT_VECTORS];
                tile_prefetch(row[r] + at, distance);
                tile_block_weights(dtype, row[r] + at, factor[r][0] + d / MOE_QUANT_BLOCK, v);
                TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS; i++)
                    TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) acc[r][t] =
                        vf_fma(v[i], vf_load(x + (size_t)t * cols + c + d + (size_t)i * TILE_LANES),
                               acc[r][t]);
            }
        }
    }
    TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) out[r * TILE_TOKENS + t] =
            vf_sum(acc[r][t]);
}

/* As tile_few_unrolled; a single row takes its tokens one by one. */
TILE_INLINE void tile_few_quant_unrolled(enum moe_dtype dtype, const struct tile_rows *w,
                                         uint32_t rows, struct tile_ahead wrap, const float *x,
                                         uint32_t tokens, float *out)
{
    if (rows == 1)
        for (uint32_t t = 0; t < tokens; t++)
            tile_few_quant_dot(dtype, w, 1, wrap, x + (size_t)t * w->cols, 1, out + t);
    else if (tokens == 1)
        tile_few_quant_dot(dtype, w, TILE_ROWS, wrap, x, 1, out);
    else if (tokens == 2)
        tile_few_quant_dot(dtype, w, TILE_ROWS, wrap, x, 2, out);
    else
        tile_few_quant_dot(dtype, w, TILE_ROWS, wrap, x, 3, out);
}

/* As tile_few_rows of kernels_tile.h. */
static TILE_TARGET void tile_few_quant_rows(const struct tile_rows *w, uint32_t rows,
                                            const uint8_t *next, const float *x, uint32_t tokens,
                                            float *out)
{
    const size_t numbers = tile_offset(w->dtype, w->cols), scales = w->row_bytes - numbers;
    const size_t down = (uintptr_t)next - (uintptr_t)w->data;
    struct tile_ahead wrap = {down - numbers, down - scales};
    if (!next)
        wrap = (struct tile_ahead){(size_t)0 - TILE_QUANT_AHEAD, (size_t)0 - TILE_LINE_BYTES};
    if (w->dtype == MOE_Q8)
        tile_few_quant_unrolled(MOE_Q8, w, rows, wrap, x, tokens, out);
    else
        tile_few_quant_unrolled(MOE_Q4, w, rows, wrap, x, tokens, out);
}

TILE_INLINE void tile_convert_blocks_as(enum moe_dtype dtype, const struct tile_rows *w,
                                        uint32_t rows, uint32_t c, uint32_t n,
                                        struct tile_ahead ahead, float *panel)
{
    tile_factors factor;
    for (uint32_t r = 0; r < rows; r++, panel += TILE_COLS) {
        const uint8_t *row = w->data + r * w->row_bytes + tile_offset(dtype, c);
        tile_factors_of(dtype, w, r, c, n, ahead.scales, factor);
        for (uint32_t d = 0; d < n; d += MOE_QUANT_BLOCK) {
            const uint8_t *p = row + tile_offset(dtype, d);
            vf v[TILE_QUANT_VECTORS];
            tile_prefetch(p, ahead.numbers);
            tile_block_weights(dtype, p, factor[0] + d / MOE_QUANT_BLOCK, v);
            TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS; i++)
                vf_store(panel + d + (size_t)i * TILE_LANES, v[i]);
        }
    }
}

/* Many tokens: converts rows x n weights from column c on to float32 in the panel. */
static TILE_TARGET void tile_convert_blocks(const struct tile_rows *w, uint32_t rows, uint32_t c,
                                            uint32_t n, struct tile_ahead ahead, float *panel)
{
    if (w->dtype == MOE_Q8)
        tile_convert_blocks_as(MOE_Q8, w, rows, c, n, ahead, panel);
    else
        tile_convert_blocks_as(MOE_Q4, w, rows, c, n, ahead, panel);
}

#endif
