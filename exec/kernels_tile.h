/* The arithmetic of one kernel set, written once for vectors of any width. A set defines the vector
 * (macros and functions of exec/kernels_vector.h) and includes this file; without definitions it is
 * portable C.
 *
 * Every output has one vector accumulator, which goes over the columns from first to last and is
 * summed across its lanes once at the end. The bits depend on that order alone, so they are the
 * same on both paths: the one for few tokens (tile_few_*: weights straight from memory) and the one
 * for many (tile_block: a panel of rows in float32, kept in the first-level cache for all tokens).
 */
#ifndef MOELAB_EXEC_KERNELS_TILE_H
#define MOELAB_EXEC_KERNELS_TILE_H

#include "exec/kernels_quant.h"

/* Few tokens: weights straight from memory. wrap: added to the prefetch distance near the end of a
 * row, so that it reaches the rows that are read next. */
TILE_INLINE void tile_few_dot(enum moe_dtype dtype, const struct tile_rows *w, uint32_t rows,
                              size_t wrap, const float *x, uint32_t tokens, float *out)
{
    const uint32_t size = tile_weight_bytes(dtype), line = TILE_LINE_BYTES / size;
    const uint32_t cols = w->cols, ahead = TILE_AHEAD_BYTES / size;
    uint32_t d = 0;
    vf acc[TILE_ROWS][TILE_TOKENS];
    TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) acc[r][t] = vf_zero();
    for (; d + line <= cols; d += line) {
        const size_t distance = TILE_AHEAD_BYTES + (d + ahead >= cols ? wrap : 0);
        const uint8_t *p = w->data + (size_t)d * size;
        TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
            tile_prefetch(p + r * w->row_bytes, distance);
        TILE_UNROLL for (uint32_t s = 0; s < line; s += TILE_LANES)
            TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
        {
            const vf v = tile_weights(dtype, p + r * w->row_bytes + (size_t)s * size);
            TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) acc[r][t] =
                vf_fma(v, vf_load(x + (size_t)t * cols + d + s), acc[r][t]);
        }
    }
    for (; d < cols; d += TILE_LANES) {
        const uint32_t n = tile_min(cols - d, TILE_LANES);
        TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
        {
            const vf v = tile_weights_tail(dtype, w->data + r * w->row_bytes + (size_t)d * size, n);
            TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) acc[r][t] =
                vf_fma(v, tile_load_tail(x + (size_t)t * cols + d, n), acc[r][t]);
        }
    }
    TILE_UNROLL for (uint32_t r = 0; r < rows; r++)
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) out[r * TILE_TOKENS + t] =
            vf_sum(acc[r][t]);
}

/* tile_few_dot with constant numbers of rows and tokens, for which its loops are unrolled. */
TILE_INLINE void tile_few_unrolled(enum moe_dtype dtype, const struct tile_rows *w, uint32_t rows,
                                   size_t wrap, const float *x, uint32_t tokens, float *out)
{
    if (rows == 1)
        tile_few_dot(dtype, w, 1, wrap, x, 1, out);
    else if (tokens == 1)
        tile_few_dot(dtype, w, TILE_ROWS, wrap, x, 1, out);
    else if (tokens == 2)
        tile_few_dot(dtype, w, TILE_ROWS, wrap, x, 2, out);
    else
        tile_few_dot(dtype, w, TILE_ROWS, wrap, x, 3, out);
}

/* out[rows][TILE_TOKENS] of 1 or TILE_ROWS rows from row r on. next: the rows that are read after
 * these, to prefetch; NULL: none. */
static TILE_TARGET void tile_few_rows(const struct moe_matrix *m, uint32_t r, uint32_t rows,
                                      const uint8_t *next, const float *x, uint32_t tokens,
                                      float *out)
{
    const struct tile_rows w = tile_rows_of(m, r);
    if (tile_quantized(w.dtype)) {
        tile_few_quant_rows(&w, rows, next, x, tokens, out);
        return;
    }
    const size_t wrap =
        next ? (uintptr_t)next - (uintptr_t)w.data - w.row_bytes : (size_t)0 - TILE_AHEAD_BYTES;
    /* A single row at the end: its tokens one by one, to save code for other combinations. */
    const uint32_t step = rows == 1 ? 1 : tokens;
    for (uint32_t t = 0; t < tokens; t += step) {
        const float *from = x + (size_t)t * w.cols;
        if (w.dtype == MOE_BF16)
            tile_few_unrolled(MOE_BF16, &w, rows, wrap, from, step, out + t);
        else if (w.dtype == MOE_F16)
            tile_few_unrolled(MOE_F16, &w, rows, wrap, from, step, out + t);
        else
            tile_few_unrolled(MOE_F32, &w, rows, wrap, from, step, out + t);
    }
}

/* The data of the rows from r on, as tile_few_rows takes it in `next`; NULL: there are none. */
TILE_INLINE const uint8_t *tile_next(const struct moe_matrix *w, uint32_t r, uint32_t r1)
{
    return r < r1 ? tile_rows_of(w, r).data : NULL;
}

TILE_INLINE uint32_t tile_few_step(uint32_t rows_left)
{
    return rows_left >= TILE_ROWS ? TILE_ROWS : 1;
}

/* Many tokens: converts rows x n weights from column c on to float32 in the panel; zeros fill the
 * last vector. */
TILE_INLINE void tile_convert_as(enum moe_dtype dtype, const struct tile_rows *w, uint32_t rows,
                                 uint32_t c, uint32_t n, size_t ahead, float *panel)
{
    const uint32_t size = tile_weight_bytes(dtype), line = TILE_LINE_BYTES / size;
    for (uint32_t r = 0; r < rows; r++, panel += TILE_COLS) {
        const uint8_t *row = w->data + r * w->row_bytes + (size_t)c * size;
        uint32_t d = 0;
        for (; d + line <= n; d += line) {
            tile_prefetch(row + (size_t)d * size, ahead);
            TILE_UNROLL for (uint32_t s = 0; s < line; s += TILE_LANES)
                vf_store(panel + d + s, tile_weights(dtype, row + (size_t)(d + s) * size));
        }
        for (; d < n; d += TILE_LANES)
            vf_store(panel + d,
                     tile_weights_tail(dtype, row + (size_t)d * size, tile_min(n - d, TILE_LANES)));
    }
}

/* The same for every type, with zeros in place of the rows that are missing. */
static TILE_TARGET void tile_convert(const struct tile_rows *w, uint32_t rows, uint32_t c,
                                     uint32_t n, struct tile_ahead ahead, float *panel)
{
    if (w->dtype == MOE_BF16)
        tile_convert_as(MOE_BF16, w, rows, c, n, ahead.numbers, panel);
    else if (w->dtype == MOE_F16)
        tile_convert_as(MOE_F16, w, rows, c, n, ahead.numbers, panel);
    else if (w->dtype == MOE_F32)
        tile_convert_as(MOE_F32, w, rows, c, n, ahead.numbers, panel);
    else
        tile_convert_blocks(w, rows, c, n, ahead, panel);
    for (uint32_t r = rows; r < TILE_ROWS; r++)
        memset(panel + (size_t)r * TILE_COLS, 0, TILE_COLS * sizeof *panel);
}

/* acc[tokens][TILE_ROWS] += panel x tokens over n columns, with all accumulators in registers;
 * tokens is a constant. */
TILE_INLINE void tile_multiply_by(const float *panel, uint32_t n, const float *x, size_t ldx,
                                  uint32_t tokens, vf *acc)
{
    vf a[TILE_TOKENS][TILE_ROWS], v[TILE_TOKENS];
    uint32_t d = 0;
    TILE_UNROLL for (uint32_t t = 0; t < tokens; t++)
        TILE_UNROLL for (uint32_t r = 0; r < TILE_ROWS; r++) a[t][r] = acc[t * TILE_ROWS + r];
    for (; d + TILE_LANES <= n; d += TILE_LANES) {
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) v[t] = vf_load(x + t * ldx + d);
        TILE_UNROLL for (uint32_t r = 0; r < TILE_ROWS; r++)
        {
            vf w = vf_load(panel + (size_t)r * TILE_COLS + d);
            TILE_KEEP(w);
            TILE_UNROLL for (uint32_t t = 0; t < tokens; t++) a[t][r] = vf_fma(w, v[t], a[t][r]);
        }
    }
    if (d < n)
        TILE_UNROLL for (uint32_t t = 0; t < tokens; t++)
        {
            v[t] = tile_load_tail(x + t * ldx + d, n - d);
            TILE_UNROLL for (uint32_t r = 0; r < TILE_ROWS; r++) a[t][r] =
                vf_fma(vf_load(panel + (size_t)r * TILE_COLS + d), v[t], a[t][r]);
        }
    TILE_UNROLL for (uint32_t t = 0; t < tokens; t++)
        TILE_UNROLL for (uint32_t r = 0; r < TILE_ROWS; r++) acc[t * TILE_ROWS + r] = a[t][r];
}

static TILE_TARGET void tile_multiply(const float *panel, uint32_t n, const float *x, size_t ldx,
                                      uint32_t n_tokens, vf *acc)
{
    uint32_t t = 0;
    for (; t + TILE_TOKENS <= n_tokens; t += TILE_TOKENS)
        tile_multiply_by(panel, n, x + t * ldx, ldx, TILE_TOKENS, acc + (size_t)t * TILE_ROWS);
    if (n_tokens - t == 2)
        tile_multiply_by(panel, n, x + t * ldx, ldx, 2, acc + (size_t)t * TILE_ROWS);
    else if (n_tokens - t == 1)
        tile_multiply_by(panel, n, x + t * ldx, ldx, 1, acc + (size_t)t * TILE_ROWS);
}

/* Distance from a panel of a block to the panel that is read two panels later, to prefetch it. The
 * order is: all row groups of some columns, then the next columns; after the last column, the rows
 * behind this block. */
TILE_INLINE struct tile_ahead tile_panel_ahead(const struct tile_rows *w, uint32_t groups,
                                               uint32_t g, uint32_t c)
{
    const uint32_t next = g + 2;
    const size_t all = (size_t)groups * TILE_ROWS * w->row_bytes;
    const size_t down = ((size_t)(next % groups) - g) * TILE_ROWS * w->row_bytes;
    const size_t along = (size_t)(next / groups) * TILE_COLS;
    const bool next_block = c + along >= w->cols;
    return (struct tile_ahead){down + tile_offset(w->dtype, along) +
                                   (next_block ? all - tile_offset(w->dtype, w->cols) : 0),
                               down + tile_scale_bytes(w->dtype, along) +
                                   (next_block ? all - tile_scale_bytes(w->dtype, w->cols) : 0)};
}

/* Many tokens: y[t * ldy + i] of row r + i, for i < rows <= TILE_BLOCK_ROWS and t < tokens <=
 * TILE_BLOCK_TOKENS. */
static TILE_TARGET void tile_block(const struct moe_matrix *m, uint32_t r, uint32_t rows,
                                   const float *x, uint32_t tokens, float *y, size_t ldy)
{
    vf acc[TILE_BLOCK_ROWS * TILE_BLOCK_TOKENS];
    float panel[TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));
    const uint32_t groups = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const uint32_t stride = tokens * TILE_ROWS;
    for (uint32_t i = 0; i < groups * stride; i++)
        acc[i] = vf_zero();
    for (uint32_t c = 0; c < m->cols; c += TILE_COLS) {
        const uint32_t n = tile_min(m->cols - c, TILE_COLS);
        for (uint32_t g = 0; g < groups; g++) {
            const struct tile_rows w = tile_rows_of(m, r + g * TILE_ROWS);
            tile_convert(&w, tile_min(rows - g * TILE_ROWS, TILE_ROWS), c, n,
                         tile_panel_ahead(&w, groups, g, c), panel);
            tile_multiply(panel, n, x + c, m->cols, tokens, acc + (size_t)g * stride);
        }
    }
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t t = 0; t < tokens; t++)
            y[t * ldy + i] = vf_sum(acc[i / TILE_ROWS * stride + t * TILE_ROWS + i % TILE_ROWS]);
}

TILE_INLINE uint32_t tile_block_rows(uint32_t n_tokens)
{
    return n_tokens <= TILE_FEW_TOKENS ? TILE_ROWS : TILE_BLOCK_ROWS;
}

static TILE_TARGET void tile_dot(const struct moe_matrix *w, uint32_t r0, uint32_t r1,
                                 const float *x, uint32_t n_tokens, float *y, size_t ldy)
{
    if (n_tokens <= TILE_TOKENS) {
        float sum[TILE_ROWS * TILE_TOKENS];
        for (uint32_t r = r0, rows; r < r1; r += rows) {
            rows = tile_few_step(r1 - r);
            tile_few_rows(w, r, rows, tile_next(w, r + rows, r1), x, n_tokens, sum);
            for (uint32_t i = 0; i < rows * n_tokens; i++)
                y[i % n_tokens * ldy + r + i / n_tokens] =
                    sum[i / n_tokens * TILE_TOKENS + i % n_tokens];
        }
        return;
    }
    const uint32_t step = tile_block_rows(n_tokens);
    for (uint32_t r = r0; r < r1; r += step)
        for (uint32_t t = 0; t < n_tokens; t += TILE_BLOCK_TOKENS)
            tile_block(w, r, tile_min(r1 - r, step), x + (size_t)t * w->cols,
                       tile_min(n_tokens - t, TILE_BLOCK_TOKENS), y + t * ldy + r, ldy);
}

static TILE_TARGET void tile_gate_up_few(const struct moe_matrix *gate, const struct moe_matrix *up,
                                         uint32_t r0, uint32_t r1, const float *x,
                                         uint32_t n_tokens, float *h, size_t ldh)
{
    float g[TILE_ROWS * TILE_TOKENS], u[TILE_ROWS * TILE_TOKENS];
    for (uint32_t r = r0, rows; r < r1; r += rows) {
        rows = tile_few_step(r1 - r);
        tile_few_rows(gate, r, rows, tile_next(up, r, r1), x, n_tokens, g);
        tile_few_rows(up, r, rows, tile_next(gate, r + rows, r1), x, n_tokens, u);
        for (uint32_t i = 0; i < rows * n_tokens; i++) {
            const uint32_t at = i / n_tokens * TILE_TOKENS + i % n_tokens;
            h[i % n_tokens * ldh + r + i / n_tokens] = moe_silu(g[at]) * u[at];
        }
    }
}

static TILE_TARGET void tile_gate_up(const struct moe_matrix *gate, const struct moe_matrix *up,
                                     uint32_t r0, uint32_t r1, const float *x, uint32_t n_tokens,
                                     float *h, size_t ldh)
{
    if (n_tokens <= TILE_TOKENS) {
        tile_gate_up_few(gate, up, r0, r1, x, n_tokens, h, ldh);
        return;
    }
    float u[TILE_BLOCK_TOKENS * TILE_BLOCK_ROWS];
    const uint32_t step = tile_block_rows(n_tokens);
    for (uint32_t r = r0; r < r1; r += step)
        for (uint32_t t = 0; t < n_tokens; t += TILE_BLOCK_TOKENS) {
            const uint32_t rows = tile_min(r1 - r, step);
            const uint32_t tokens = tile_min(n_tokens - t, TILE_BLOCK_TOKENS);
            const float *from = x + (size_t)t * gate->cols;
            float *to = h + t * ldh + r;
            tile_block(gate, r, rows, from, tokens, to, ldh);
            tile_block(up, r, rows, from, tokens, u, TILE_BLOCK_ROWS);
            for (uint32_t i = 0; i < tokens; i++)
                for (uint32_t j = 0; j < rows; j++)
                    to[i * ldh + j] = moe_silu(to[i * ldh + j]) * u[i * TILE_BLOCK_ROWS + j];
        }
}

/* score[k] = q . keys[k] for `rows` keys, with four accumulators each that are added at the end. */
TILE_INLINE void tile_scores(const float *q, const float *keys, uint32_t rows, uint32_t hd,
                             float *score)
{
    vf acc[TILE_KEYS][4];
    uint32_t d = 0;
    TILE_UNROLL for (uint32_t k = 0; k < rows; k++) TILE_UNROLL for (uint32_t i = 0; i < 4; i++)
        acc[k][i] = vf_zero();
    for (; d + 4 * TILE_LANES <= hd; d += 4 * TILE_LANES)
        TILE_UNROLL for (uint32_t i = 0; i < 4; i++)
        {
            const uint32_t at = d + i * TILE_LANES;
            const vf v = vf_load(q + at);
            TILE_UNROLL for (uint32_t k = 0; k < rows; k++) acc[k][i] =
                vf_fma(v, vf_load(keys + (size_t)k * hd + at), acc[k][i]);
        }
    for (; d < hd; d += TILE_LANES) {
        const uint32_t n = tile_min(hd - d, TILE_LANES);
        const vf v = tile_load_some(q + d, n);
        TILE_UNROLL for (uint32_t k = 0; k < rows; k++) acc[k][0] =
            vf_fma(v, tile_load_some(keys + (size_t)k * hd + d, n), acc[k][0]);
    }
    TILE_UNROLL for (uint32_t k = 0; k < rows; k++) score[k] =
        vf_sum(vf_add(vf_add(acc[k][0], acc[k][1]), vf_add(acc[k][2], acc[k][3])));
}

/* y = keep * y, then y += p[k] * values[k] key by key, for `vectors` whole vectors of y. */
TILE_INLINE void tile_add_values(const float *p, const float *values, uint32_t n, uint32_t hd,
                                 float keep, uint32_t vectors, float *y)
{
    vf acc[TILE_VALUES];
    TILE_UNROLL for (uint32_t i = 0; i < vectors; i++) acc[i] =
        vf_mul(vf_set(keep), vf_load(y + (size_t)i * TILE_LANES));
    for (uint32_t k = 0; k < n; k++) {
        const vf factor = vf_set(p[k]);
        TILE_UNROLL for (uint32_t i = 0; i < vectors; i++) acc[i] =
            vf_fma(factor, vf_load(values + (size_t)k * hd + (size_t)i * TILE_LANES), acc[i]);
    }
    TILE_UNROLL for (uint32_t i = 0; i < vectors; i++) vf_store(y + (size_t)i * TILE_LANES, acc[i]);
}

/* The same for the last n_last < TILE_LANES elements of y. */
TILE_INLINE void tile_add_values_tail(const float *p, const float *values, uint32_t n, uint32_t hd,
                                      float keep, uint32_t n_last, float *y)
{
    float buffer[TILE_LANES];
    vf acc = vf_mul(vf_set(keep), tile_load_tail(y, n_last));
    for (uint32_t k = 0; k < n; k++)
        acc = vf_fma(vf_set(p[k]), tile_load_tail(values + (size_t)k * hd, n_last), acc);
    vf_store(buffer, acc);
    memcpy(y, buffer, n_last * sizeof *y);
}

/* Takes n scores into the softmax and replaces each by exp(score - max). Returns the factor by
 * which sums over earlier keys have to be multiplied (0 when there were none). */
TILE_INLINE float tile_softmax(float *score, uint32_t n, struct moe_softmax *softmax)
{
    float top = softmax->max;
    for (uint32_t k = 0; k < n; k++)
        top = score[k] > top ? score[k] : top;
    const float keep = top > softmax->max ? moe_expf(softmax->max - top) : 1;
    float sum = softmax->sum * keep;
    for (uint32_t k = 0; k < n; k++)
        score[k] = moe_expf(score[k] - top);
    for (uint32_t k = 0; k < n; k++)
        sum += score[k];
    *softmax = (struct moe_softmax){top, sum};
    return keep;
}

static TILE_TARGET void tile_attend(const float *q, const float *keys, const float *values,
                                    uint32_t n, uint32_t hd, struct moe_softmax *softmax, float *y)
{
    float score[MOE_ATTENTION_KEYS];
    const float shrink = 1 / sqrtf((float)hd);
    uint32_t k = 0, d = 0;
    for (; k + TILE_KEYS <= n; k += TILE_KEYS)
        tile_scores(q, keys + (size_t)k * hd, TILE_KEYS, hd, score + k);
    for (; k < n; k++)
        tile_scores(q, keys + (size_t)k * hd, 1, hd, score + k);
    for (k = 0; k < n; k++)
        score[k] *= shrink;
    const float keep = tile_softmax(score, n, softmax);
    for (; d + TILE_VALUES * TILE_LANES <= hd; d += TILE_VALUES * TILE_LANES)
        tile_add_values(score, values + d, n, hd, keep, TILE_VALUES, y + d);
    for (; d + TILE_LANES <= hd; d += TILE_LANES)
        tile_add_values(score, values + d, n, hd, keep, 1, y + d);
    if (d < hd)
        tile_add_values_tail(score, values + d, n, hd, keep, hd - d, y + d);
}

#endif
