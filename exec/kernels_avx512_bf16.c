/* BF16 weights with the dot-product instruction for BF16 pairs, without converting them. An
 * activation is split into a sum of two BF16 terms, which keep 16 bits of its mantissa. Each output
 * has one accumulator for the high terms and one for the low ones. Other weight types use the
 * functions of the AVX-512 set. */
#include "exec/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE static inline TARGET __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum {
    STEP = 32, /* columns of one instruction */
    ROWS = 4,
    TOKENS = 3,
    COLS = 512,
    BLOCK_ROWS = 32,
    BLOCK_TOKENS = 24,
    AHEAD_BYTES = 2048, /* prefetch distance */
};

struct pair {
    __m512i high, low;
};

INLINE __m512 low_term(__m512 x, __m256i high)
{
    const __m512 f = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    /* The remainder is 0 where the high term is NaN or infinite. */
    return _mm512_maskz_sub_ps((__mmask16)~_mm512_fpclass_ps_mask(f, 0x99), x, f);
}

/* Splits n <= STEP activations, followed by zeros; nothing beyond them is read. */
INLINE struct pair split(const float *x, uint32_t n)
{
    const uint32_t mask = n == STEP ? 0xffffffff : (1u << n) - 1;
    const __m512 a = _mm512_maskz_loadu_ps((__mmask16)mask, x);
    const __m512 b = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + (n > 16 ? 16 : 0));
    struct pair p;
    p.high = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    p.low = (__m512i)_mm512_cvtne2ps_pbh(low_term(b, _mm512_extracti64x4_epi64(p.high, 1)),
                                         low_term(a, _mm512_castsi512_si256(p.high)));
    return p;
}

INLINE __m512i weights(const uint16_t *p, uint32_t n)
{
    return n == STEP ? _mm512_loadu_si512(p)
                     : _mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
}

INLINE __m512 dp(__m512 acc, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x);
}

INLINE float finish(__m512 high, __m512 low)
{
    return _mm512_reduce_add_ps(_mm512_add_ps(high, low));
}

/* Few tokens: out[rows][TOKENS], weights straight from memory, activations split on the way. wrap:
 * columns added to the prefetch distance near the end of a row, so that it reaches the rows that
 * are read next. */
INLINE void few_dot(const uint16_t *w, uint32_t cols, uint32_t rows, size_t wrap, const float *x,
                    uint32_t tokens, float *out)
{
    __m512 high[ROWS][TOKENS], low[ROWS][TOKENS];
    UNROLL for (uint32_t r = 0; r < rows; r++) UNROLL for (uint32_t t = 0; t < tokens; t++)
        high[r][t] = low[r][t] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < cols; d += STEP) {
        const uint32_t n = cols - d < STEP ? cols - d : STEP;
        const size_t ahead = AHEAD_BYTES / 2 + (d + AHEAD_BYTES / 2 >= cols ? wrap : 0);
        struct pair p[TOKENS];
        UNROLL for (uint32_t t = 0; t < tokens; t++) p[t] = split(x + (size_t)t * cols + d, n);
        UNROLL for (uint32_t r = 0; r < rows; r++)
        {
            const uint16_t *from = w + (size_t)r * cols + d;
            const __m512i v = weights(from, n);
            /* As tile_prefetch of kernels_vector.h. */
            const uintptr_t next = (uintptr_t)from + 2 * ahead;
            __builtin_prefetch((const void *)next, 0, 2); // NOLINT(performance-no-int-to-ptr)
            UNROLL for (uint32_t t = 0; t < tokens; t++)
            {
                high[r][t] = dp(high[r][t], v, p[t].high);
                low[r][t] = dp(low[r][t], v, p[t].low);
            }
        }
    }
    UNROLL for (uint32_t r = 0; r < rows; r++) UNROLL for (uint32_t t = 0; t < tokens; t++)
        out[r * TOKENS + t] = finish(high[r][t], low[r][t]);
}

/* Few tokens: out[rows][TOKENS] of 1 or ROWS rows from r on; last: no rows are read after these. */
static TARGET void few_rows(const struct moe_matrix *m, uint32_t r, uint32_t rows, bool last,
                            const float *x, uint32_t tokens, float *out)
{
    const uint16_t *w = (const uint16_t *)m->data + (size_t)r * m->cols;
    const size_t wrap = last ? (size_t)0 - AHEAD_BYTES / 2 : (size_t)(rows - 1) * m->cols;
    if (rows == 1)
        for (uint32_t t = 0; t < tokens; t++)
            few_dot(w, m->cols, 1, wrap, x + (size_t)t * m->cols, 1, out + t);
    else if (tokens == 1)
        few_dot(w, m->cols, ROWS, wrap, x, 1, out);
    else if (tokens == 2)
        few_dot(w, m->cols, ROWS, wrap, x, 2, out);
    else
        few_dot(w, m->cols, ROWS, wrap, x, 3, out);
}

/* Many tokens: accumulators of a block of rows and tokens, and COLS columns of its tokens, split.
 */
struct block {
    __m512 high[BLOCK_ROWS][BLOCK_TOKENS], low[BLOCK_ROWS][BLOCK_TOKENS];
    struct pair x[BLOCK_TOKENS][COLS / STEP];
};

/* Adds n columns at w to the accumulators of rows [r, r + rows) and tokens [t0, t0 + tokens). */
INLINE void multiply(struct block *b, const uint16_t *w, size_t ldw, uint32_t n, uint32_t r,
                     uint32_t rows, uint32_t t0, uint32_t tokens)
{
    __m512 high[ROWS][TOKENS], low[ROWS][TOKENS];
    UNROLL for (uint32_t i = 0; i < rows; i++) UNROLL for (uint32_t t = 0; t < tokens; t++)
    {
        high[i][t] = b->high[r + i][t0 + t];
        low[i][t] = b->low[r + i][t0 + t];
    }
    for (uint32_t d = 0; d < n; d += STEP) {
        UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            const __m512i v = weights(w + i * ldw + d, n - d < STEP ? n - d : STEP);
            UNROLL for (uint32_t t = 0; t < tokens; t++)
            {
                high[i][t] = dp(high[i][t], v, b->x[t0 + t][d / STEP].high);
                low[i][t] = dp(low[i][t], v, b->x[t0 + t][d / STEP].low);
            }
        }
    }
    UNROLL for (uint32_t i = 0; i < rows; i++) UNROLL for (uint32_t t = 0; t < tokens; t++)
    {
        b->high[r + i][t0 + t] = high[i][t];
        b->low[r + i][t0 + t] = low[i][t];
    }
}

static TARGET void multiply_rows(struct block *b, const uint16_t *w, size_t ldw, uint32_t n,
                                 uint32_t r, uint32_t rows, uint32_t n_tokens)
{
    uint32_t t = 0;
    if (rows == ROWS) {
        for (; t + TOKENS <= n_tokens; t += TOKENS)
            multiply(b, w, ldw, n, r, ROWS, t, TOKENS);
        for (; t < n_tokens; t++)
            multiply(b, w, ldw, n, r, ROWS, t, 1);
    }
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t k = t; k < n_tokens; k++)
            multiply(b, w + i * ldw, ldw, n, r + i, 1, k, 1);
}

static TARGET void block_sums(const struct moe_matrix *m, uint32_t r0, uint32_t rows,
                              const float *x, uint32_t n_tokens, float *y, size_t ldy)
{
    struct block b;
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t t = 0; t < n_tokens; t++)
            b.high[i][t] = b.low[i][t] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < m->cols; c += COLS) {
        const uint32_t n = m->cols - c < COLS ? m->cols - c : COLS;
        const uint16_t *w = (const uint16_t *)m->data + (size_t)r0 * m->cols + c;
        for (uint32_t t = 0; t < n_tokens; t++)
            for (uint32_t d = 0; d < n; d += STEP)
                b.x[t][d / STEP] =
                    split(x + (size_t)t * m->cols + c + d, n - d < STEP ? n - d : STEP);
        for (uint32_t i = 0; i < rows; i += ROWS)
            multiply_rows(&b, w + (size_t)i * m->cols, m->cols, n, i,
                          rows - i < ROWS ? rows - i : ROWS, n_tokens);
    }
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t t = 0; t < n_tokens; t++)
            y[t * ldy + i] = finish(b.high[i][t], b.low[i][t]);
}

/* sums[token][BLOCK_ROWS] of at most BLOCK_ROWS rows and BLOCK_TOKENS tokens. */
static TARGET void unit_sums(const struct moe_matrix *m, uint32_t r, uint32_t rows, bool last,
                             const float *x, uint32_t tokens, float *sums)
{
    if (tokens > TOKENS) {
        block_sums(m, r, rows, x, tokens, sums, BLOCK_ROWS);
        return;
    }
    float out[ROWS * TOKENS];
    for (uint32_t i = 0, step; i < rows; i += step) {
        step = rows - i >= ROWS ? ROWS : 1;
        few_rows(m, r + i, step, last && i + step >= rows, x, tokens, out);
        for (uint32_t k = 0; k < step * tokens; k++)
            sums[k % tokens * BLOCK_ROWS + i + k / tokens] = out[k / tokens * TOKENS + k % tokens];
    }
}

static TARGET void dot(const struct moe_matrix *w, uint32_t r0, uint32_t r1, const float *x,
                       uint32_t n_tokens, float *y, size_t ldy)
{
    if (w->dtype != MOE_BF16) {
        moe_kernels_avx512.dot(w, r0, r1, x, n_tokens, y, ldy);
        return;
    }
    float sums[BLOCK_TOKENS * BLOCK_ROWS];
    for (uint32_t r = r0; r < r1; r += BLOCK_ROWS)
        for (uint32_t t = 0; t < n_tokens; t += BLOCK_TOKENS) {
            const uint32_t rows = r1 - r < BLOCK_ROWS ? r1 - r : BLOCK_ROWS;
            const uint32_t tokens = n_tokens - t < BLOCK_TOKENS ? n_tokens - t : BLOCK_TOKENS;
            unit_sums(w, r, rows, r + rows >= r1, x + (size_t)t * w->cols, tokens, sums);
            for (uint32_t k = 0; k < tokens; k++)
                for (uint32_t i = 0; i < rows; i++)
                    y[(t + k) * ldy + r + i] = sums[k * BLOCK_ROWS + i];
        }
}

static TARGET void gate_up(const struct moe_matrix *gate, const struct moe_matrix *up, uint32_t r0,
                           uint32_t r1, const float *x, uint32_t n_tokens, float *h, size_t ldh)
{
    if (gate->dtype != MOE_BF16 || up->dtype != MOE_BF16) {
        moe_kernels_avx512.gate_up(gate, up, r0, r1, x, n_tokens, h, ldh);
        return;
    }
    float g[BLOCK_TOKENS * BLOCK_ROWS], u[BLOCK_TOKENS * BLOCK_ROWS];
    for (uint32_t r = r0; r < r1; r += BLOCK_ROWS)
        for (uint32_t t = 0; t < n_tokens; t += BLOCK_TOKENS) {
            const uint32_t rows = r1 - r < BLOCK_ROWS ? r1 - r : BLOCK_ROWS;
            const uint32_t tokens = n_tokens - t < BLOCK_TOKENS ? n_tokens - t : BLOCK_TOKENS;
            const float *from = x + (size_t)t * gate->cols;
            unit_sums(gate, r, rows, r + rows >= r1, from, tokens, g);
            unit_sums(up, r, rows, r + rows >= r1, from, tokens, u);
            for (uint32_t k = 0; k < tokens; k++)
                for (uint32_t i = 0; i < rows; i++)
                    h[(t + k) * ldh + r + i] =
                        moe_silu(g[k * BLOCK_ROWS + i]) * u[k * BLOCK_ROWS + i];
        }
}

static bool usable(void)
{
    return moe_kernels_avx512.usable() && __builtin_cpu_supports("avx512bf16");
}

static void attend(const float *q, const float *keys, const float *values, uint32_t n, uint32_t hd,
                   struct moe_softmax *softmax, float *y)
{
    moe_kernels_avx512.attend(q, keys, values, n, hd, softmax, y);
}

const struct moe_kernels moe_kernels_avx512_bf16 = {
    .name = "avx512-bf16",
    .summary = "AVX-512 BF16",
    .usable = usable,
    .many_rows = 32,
    .dot = dot,
    .gate_up = gate_up,
    .attend = attend,
};
#endif
