/* Weights of blocks with a scale (Q8, Q4; exec/dtype.h) for exec/kernels_tile.h. A weight becomes
 * number * scale in float32, exactly, and then counts as a float32 weight does: the same bits. */
#ifndef MOELAB_EXEC_KERNELS_QUANT_H
#define MOELAB_EXEC_KERNELS_QUANT_H

#include "exec/kernels_vector.h"

enum {
    TILE_QUANT_VECTORS = MOE_QUANT_BLOCK / TILE_LANES, /* of a block */
    TILE_SCALES = TILE_COLS / MOE_QUANT_BLOCK,         /* of a panel: whole vectors of them */
    TILE_QUANT_AHEAD = 1024, /* bytes, in a row's numbers; measured on Zen 4: half is slower */
    TILE_SCALES_AHEAD = TILE_LINE_BYTES / 2 * MOE_QUANT_BLOCK, /* columns: a line of scales */
};

/* What to add to addresses to prefetch: bytes from a number and from a scale. */
struct tile_ahead {
    size_t numbers, scales;
};

/* One block's weights, its numbers at p. */
TILE_INLINE void tile_block_weights(enum moe_dtype dtype, const uint8_t *p, float scale, vf *v)
{
    if (dtype == MOE_Q8) {
        const vf factor = vf_set(scale);
        TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS; i++) v[i] =
            vf_mul(vf_q8(p + (size_t)i * TILE_LANES), factor);
        return;
    }
    const vf factor = vf_q4_scale(scale);
    TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS / 2; i++)
    {
        const vq q = vq_load(p + (size_t)i * TILE_LANES);
        v[i] = vf_q4_low(q, factor);
        v[TILE_QUANT_VECTORS / 2 + i] = vf_q4_high(q, factor);
    }
}

/* The scales of row r from column c on, n columns: to[TILE_SCALES]. */
TILE_INLINE void tile_scales(enum moe_dtype dtype, const struct tile_rows *w, uint32_t r,
                             uint32_t c, uint32_t n, size_t ahead, float *to)
{
    const uint8_t *from =
        w->data + r * w->row_bytes + tile_offset(dtype, w->cols) + tile_scale_bytes(dtype, c);
    const uint32_t count = n / MOE_QUANT_BLOCK;
    tile_prefetch(from, ahead);
    for (uint32_t i = 0; i < count; i += TILE_LANES) {
        const uint8_t *p = from + i * sizeof(uint16_t);
        vf_store(to + i,
                 count - i >= TILE_LANES ? vf_f16(p) : tile_weights_tail(MOE_F16, p, count - i));
    }
}

/* As tile_few of kernels_tile.h. */
TILE_INLINE void tile_few_blocks_as(enum moe_dtype dtype, const struct tile_rows *w, uint32_t rows,
                                    struct tile_ahead wrap, const float *x, uint32_t tokens,
                                    float *out)
{
    const uint32_t cols = w->cols, ahead = TILE_QUANT_AHEAD * (dtype == MOE_Q8 ? 1 : 2);
    const uint8_t *row[TILE_ROWS];
    float scale[TILE_ROWS][TILE_SCALES];
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
            tile_scales(dtype, w, r, c, n, far, scale[r]);
        for (uint32_t d = 0; d < n; d += MOE_QUANT_BLOCK) {
            const size_t distance = TILE_QUANT_AHEAD + (c + d + ahead >= cols ? wrap.numbers : 0);
            const size_t at = tile_offset(dtype, c + d);
            TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
            {
                vf v[TILE_QUANT_VECTORS];
                tile_prefetch(row[r] + at, distance);
                tile_block_weights(dtype, row[r] + at, scale[r][d / MOE_QUANT_BLOCK], v);
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

TILE_INLINE void tile_few_blocks_tokens(enum moe_dtype dtype, const struct tile_rows *w,
                                        uint32_t rows, struct tile_ahead wrap, const float *x,
                                        uint32_t tokens, float *out)
{
    if (rows == 1)
        for (uint32_t t = 0; t < tokens; t++)
            tile_few_blocks_as(dtype, w, 1, wrap, x + (size_t)t * w->cols, 1, out + t);
    else if (tokens == 1)
        tile_few_blocks_as(dtype, w, TILE_ROWS, wrap, x, 1, out);
    else if (tokens == 2)
        tile_few_blocks_as(dtype, w, TILE_ROWS, wrap, x, 2, out);
    else
        tile_few_blocks_as(dtype, w, TILE_ROWS, wrap, x, 3, out);
}

/* As tile_few_rows of kernels_tile.h. */
static TILE_TARGET void tile_few_blocks(const struct tile_rows *w, uint32_t rows,
                                        const uint8_t *next, const float *x, uint32_t tokens,
                                        float *out)
{
    const size_t numbers = tile_offset(w->dtype, w->cols), scales = w->row_bytes - numbers;
    const size_t down = (uintptr_t)next - (uintptr_t)w->data;
    struct tile_ahead wrap = {down - numbers, down - scales};
    if (!next)
        wrap = (struct tile_ahead){(size_t)0 - TILE_QUANT_AHEAD, (size_t)0 - TILE_LINE_BYTES};
    if (w->dtype == MOE_Q8)
        tile_few_blocks_tokens(MOE_Q8, w, rows, wrap, x, tokens, out);
    else
        tile_few_blocks_tokens(MOE_Q4, w, rows, wrap, x, tokens, out);
}

TILE_INLINE void tile_convert_blocks_as(enum moe_dtype dtype, const struct tile_rows *w,
                                        uint32_t rows, uint32_t c, uint32_t n,
                                        struct tile_ahead ahead, float *panel)
{
    float scale[TILE_SCALES];
    for (uint32_t r = 0; r < rows; r++, panel += TILE_COLS) {
        const uint8_t *row = w->data + r * w->row_bytes + tile_offset(dtype, c);
        tile_scales(dtype, w, r, c, n, ahead.scales, scale);
        for (uint32_t d = 0; d < n; d += MOE_QUANT_BLOCK) {
            const uint8_t *p = row + tile_offset(dtype, d);
            vf v[TILE_QUANT_VECTORS];
            tile_prefetch(p, ahead.numbers);
            tile_block_weights(dtype, p, scale[d / MOE_QUANT_BLOCK], v);
            TILE_UNROLL for (uint32_t i = 0; i < TILE_QUANT_VECTORS; i++)
                vf_store(panel + d + (size_t)i * TILE_LANES, v[i]);
        }
    }
}

/* Many tokens: rows x n weights from column c on as float32. */
static TILE_TARGET void tile_convert_blocks(const struct tile_rows *w, uint32_t rows, uint32_t c,
                                            uint32_t n, struct tile_ahead ahead, float *panel)
{
    if (w->dtype == MOE_Q8)
        tile_convert_blocks_as(MOE_Q8, w, rows, c, n, ahead, panel);
    else
        tile_convert_blocks_as(MOE_Q4, w, rows, c, n, ahead, panel);
}

#endif
