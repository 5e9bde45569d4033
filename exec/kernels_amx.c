/* BF16 weights by products of tiles (AMX): 16 rows x 32 columns of weights as they lie in memory,
 * times 32 columns x 16 tokens. An activation is split into a sum of three BF16 terms, which keep
 * all 24 bits of its mantissa. One tile accumulates 16 rows x 16 tokens: the three terms of 32
 * columns, the highest first, then the next columns. Each element depends on its row and token
 * alone, so tiles may be stored to memory and loaded again between columns. (Subnormal numbers
 * count as zero.) Other weight types use the functions of the AVX-512 set. */
#include "exec/kernels.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define TARGET                                                                                     \
    __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE static inline TARGET __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* Compilers do not know that tile instructions read memory. */
#define WRITTEN() __asm__ volatile("" ::: "memory")

enum {
    SIDE = 16, /* rows and tokens of a tile */
    STEP = 32, /* columns of a tile of weights */
    TERMS = 3,
    LINE = 64,               /* bytes of a tile's row */
    FEW_TILES = 2,           /* up to so many tiles of tokens, speed is limited by memory: */
    FEW_ROWS = SIDE,         /* weights are taken from where they lie, so many rows at once */
    MANY_ROWS = 2 * SIDE,    /* with more tokens, from a copy, as rows collide in the caches */
    BLOCK_TOKENS = 8 * SIDE, /* tokens for which weights are read once */
    BLOCK_SUMS = 512 * BLOCK_TOKENS, /* sums of a block: with few tokens more rows, since
                                        activations are split anew for each block */
    PIECE_STEPS = 16,                /* steps after which accumulators are stored to memory */
    PIECE = PIECE_STEPS * STEP,
    SPLIT_WORDS = BLOCK_TOKENS * PIECE_STEPS * SIDE * TERMS,
    AHEAD_STEPS = 8, /* prefetch distance; measured: twice as far is slower */
};

/* On the stack: 0.7 MB. */
struct block {
    /* [tile of tokens][step][term][pair of columns][token]; tokens of the last dimension: pitch */
    uint32_t x[SPLIT_WORDS];
    float sum[BLOCK_SUMS];                   /* [row][token], rows `width` apart */
    uint16_t panel[MANY_ROWS][PIECE + STEP]; /* weights at an edge, zeros beyond it */
    uint32_t tokens, tiles, pitch, max_steps, width;
} __attribute__((aligned(LINE)));

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles 0 to 3 hold sums; the next one (few tokens) or two (many) hold weights; the rest, tokens.
 */
INLINE void configure(const struct block *b)
{
    struct tile_config c = {.palette = 1};
    const uint32_t first_x = b->tiles <= FEW_TILES ? 5 : 6;
    for (uint32_t i = 0; i < 8; i++) {
        c.rows[i] = SIDE;
        c.row_bytes[i] = (uint16_t)(i < 4 || i >= first_x ? b->pitch * sizeof(float) : LINE);
    }
    WRITTEN();
    _tile_loadconfig(&c);
}

INLINE __m512 rest(__m512 x, __m256i high)
{
    const __m512 f = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    /* The remainder is 0 where the high term is NaN or infinite. */
    return _mm512_maskz_sub_ps((__mmask16)~_mm512_fpclass_ps_mask(f, 0x99), x, f);
}

/* Splits n <= STEP activations of token t, followed by zeros; nothing beyond them is read. */
INLINE void split(const float *x, uint32_t n, __m512i term[TERMS][SIDE], uint32_t t)
{
    const uint32_t mask = n == STEP ? 0xffffffff : (1u << n) - 1;
    __m512 a = _mm512_maskz_loadu_ps((__mmask16)mask, x);
    __m512 b = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + (n > 16 ? 16 : 0));
    UNROLL for (uint32_t i = 0; i < TERMS; i++)
    {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
        term[i][t] = both;
        a = rest(a, _mm512_castsi512_si256(both));
        b = rest(b, _mm512_extracti64x4_epi64(both, 1));
    }
}

/* to[i * pitch + t] = from[t][i]. */
INLINE void transpose(const __m512i from[SIDE], uint32_t *to, uint32_t pitch)
{
    __m512i a[SIDE], b[SIDE];
    UNROLL for (uint32_t i = 0; i < SIDE; i += 2)
    {
        a[i] = _mm512_unpacklo_epi32(from[i], from[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(from[i], from[i + 1]);
    }
    UNROLL for (uint32_t i = 0; i < SIDE; i += 4) UNROLL for (uint32_t k = 0; k < 2; k++)
    {
        b[i + 2 * k] = _mm512_unpacklo_epi64(a[i + k], a[i + k + 2]);
        b[i + 2 * k + 1] = _mm512_unpackhi_epi64(a[i + k], a[i + k + 2]);
    }
    UNROLL for (uint32_t i = 0; i < SIDE; i += 8) UNROLL for (uint32_t k = 0; k < 4; k++)
    {
        a[i + k] = _mm512_shuffle_i32x4(b[i + k], b[i + k + 4], 0x88);
        a[i + k + 4] = _mm512_shuffle_i32x4(b[i + k], b[i + k + 4], 0xdd);
    }
    const __mmask16 mask = (__mmask16)((1u << pitch) - 1);
    UNROLL for (uint32_t k = 0; k < 8; k++)
    {
        const uint32_t row = k % 4 + k / 4 * 4;
        _mm512_mask_storeu_epi32(to + (size_t)row * pitch, mask,
                                 _mm512_shuffle_i32x4(a[k], a[k + 8], 0x88));
        _mm512_mask_storeu_epi32(to + (size_t)(row + 8) * pitch, mask,
                                 _mm512_shuffle_i32x4(a[k], a[k + 8], 0xdd));
    }
}

INLINE uint32_t *x_at(struct block *b, uint32_t tile, uint32_t step)
{
    return b->x + (size_t)(tile * b->max_steps + step) * TERMS * SIDE * b->pitch;
}

/* Prefetches into the second-level cache: 16 rows that lie a power of two apart do not fit into the
 * first. Computed on integers, as the address may lie beyond the matrix, where a prefetch does
 * nothing. */
INLINE void prefetch_far(const void *from, size_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)from + bytes), // NOLINT(performance-no-int-to-ptr)
                       0, 2);
}

INLINE void prefetch_near(const void *from, size_t row_bytes)
{
    UNROLL for (uint32_t r = 0; r < FEW_ROWS; r++) // NOLINTNEXTLINE(performance-no-int-to-ptr)
        __builtin_prefetch((const void *)((uintptr_t)from + r * row_bytes));
}

/* Splits columns [c, c + n) of the block's tokens; meanwhile the first weights, at w, are
 * prefetched. */
static TARGET void split_tokens(struct block *b, const float *x, uint32_t cols, uint32_t c,
                                uint32_t n, const uint16_t *w)
{
    for (uint32_t tile = 0; tile < b->tiles; tile++)
        for (uint32_t d = 0; d < n; d += STEP) {
            __m512i term[TERMS][SIDE];
            uint32_t *to = x_at(b, tile, d / STEP);
            for (uint32_t r = 0; r < FEW_ROWS && tile == 0; r++)
                prefetch_far(w + d, (size_t)r * cols * sizeof *w);
            for (uint32_t t = 0; t < (b->pitch == 1 ? 1 : SIDE); t++)
                if (tile * SIDE + t < b->tokens)
                    split(x + (size_t)(tile * SIDE + t) * cols + c + d, n - d < STEP ? n - d : STEP,
                          term, t);
                else
                    term[0][t] = term[1][t] = term[2][t] = _mm512_setzero_si512();
            for (uint32_t i = 0; i < TERMS; i++)
                if (b->pitch == 1)
                    _mm512_storeu_si512(to + (size_t)i * SIDE, term[i][0]);
                else
                    transpose(term[i], to + (size_t)i * SIDE * b->pitch, b->pitch);
        }
    WRITTEN();
}

/* Weights of a group of rows, in memory or in the panel. */
struct piece {
    const uint16_t *w;
    size_t row_bytes;
    uint32_t steps, first_step; /* of the split columns */
    const uint16_t *next;       /* weights to prefetch, read after these; NULL: none */
    size_t next_bytes;          /* of a row of them */
};

/* Tiles 0 to n - 1 from a, b, c, d. */
INLINE void load_sums(uint32_t n, size_t pitch, const float *a, const float *b, const float *c,
                      const float *d)
{
    _tile_loadd(0, a, pitch);
    if (n > 1)
        _tile_loadd(1, b, pitch);
    if (n > 2)
        _tile_loadd(2, c, pitch);
    if (n > 3)
        _tile_loadd(3, d, pitch);
}

INLINE void store_sums(uint32_t n, size_t pitch, float *a, float *b, float *c, float *d)
{
    _tile_stored(0, a, pitch);
    if (n > 1)
        _tile_stored(1, b, pitch);
    if (n > 2)
        _tile_stored(2, c, pitch);
    if (n > 3)
        _tile_stored(3, d, pitch);
}

/* FEW_ROWS rows, straight from memory, times all tokens: `tiles` <= FEW_TILES tiles, a constant. */
INLINE void multiply_few(struct block *b, const struct piece *p, uint32_t tiles, float *sum)
{
    const size_t pitch = b->pitch * sizeof(float), term = (size_t)SIDE * b->pitch;
    const size_t apart = (size_t)b->max_steps * TERMS * term; /* tiles of tokens */
    const uint32_t *x = x_at(b, 0, p->first_step);
    const uint8_t *w = (const uint8_t *)p->w;
    load_sums(tiles, b->width * sizeof(float), sum, sum + SIDE, NULL, NULL);
    for (uint32_t s = 0; s < p->steps; s++, w += LINE) {
        if (s + AHEAD_STEPS < p->steps)
            prefetch_near(w + (size_t)AHEAD_STEPS * LINE, p->row_bytes);
        else if (p->next)
            prefetch_near(p->next + (size_t)(s + AHEAD_STEPS - p->steps) * STEP, p->next_bytes);
        _tile_loadd(4, w, p->row_bytes);
        UNROLL for (uint32_t i = 0; i < TERMS; i++, x += term)
        {
            _tile_loadd(5, x, pitch);
            _tile_dpbf16ps(0, 4, 5);
            if (tiles > 1) {
                _tile_loadd(6, x + apart, pitch);
                _tile_dpbf16ps(1, 4, 6);
            }
        }
    }
    store_sums(tiles, b->width * sizeof(float), sum, sum + SIDE, NULL, NULL);
}

/* MANY_ROWS rows times one or two tiles of tokens from `tile` on; `two` is a constant. */
INLINE void multiply_many(struct block *b, const struct piece *p, uint32_t tile, bool two,
                          float *sum)
{
    const uint32_t *x0 = x_at(b, tile, p->first_step);
    const uint32_t *x1 = x_at(b, tile + two, p->first_step);
    const uint8_t *w = (const uint8_t *)p->w;
    const size_t term = (size_t)SIDE * SIDE;
    float *upper = sum + (size_t)tile * SIDE, *lower = upper + (size_t)SIDE * b->width;
    /* Each call prefetches an equal share of the next weights: bursts would delay the loads of
     * tiles. */
    const uint32_t share = MANY_ROWS / ((b->tiles + 1) / 2);
    const size_t skip = (size_t)(tile / 2 * share) * p->next_bytes;
    load_sums(two ? 4 : 2, b->width * sizeof(float), upper, lower, upper + SIDE, lower + SIDE);
    for (uint32_t s = 0; s < p->steps; s++, w += LINE) {
        for (uint32_t r = 0; p->next && r < share; r++)
            prefetch_far(p->next, skip + r * p->next_bytes + (size_t)s * LINE);
        _tile_loadd(4, w, p->row_bytes);
        _tile_loadd(5, w + SIDE * p->row_bytes, p->row_bytes);
        for (uint32_t i = 0; i < TERMS; i++, x0 += term, x1 += term) {
            _tile_loadd(6, x0, LINE);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 5, 6);
            if (two) {
                _tile_loadd(7, x1, LINE);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    store_sums(two ? 4 : 2, b->width * sizeof(float), upper, lower, upper + SIDE, lower + SIDE);
}

INLINE const uint16_t *weight_at(const struct moe_matrix *m, uint32_t row, uint32_t column)
{
    return (const uint16_t *)m->data + (size_t)row * m->cols + column;
}

/* Copies the piece's weights into the panel, with zeros up to whole tiles. */
static TARGET void pack(struct block *b, struct piece *p, uint32_t group, uint32_t rows, uint32_t n)
{
    for (uint32_t r = 0; r < group; r++) {
        const uint32_t have = r < rows ? n : 0;
        if (have)
            memcpy(b->panel[r], (const uint8_t *)p->w + r * p->row_bytes, have * sizeof *p->w);
        memset(b->panel[r] + have, 0, (p->steps * STEP - have) * sizeof *p->w);
    }
    p->w = b->panel[0];
    p->row_bytes = sizeof b->panel[0];
    WRITTEN();
}

/* Multiplies a piece by all tokens of the block. */
static TARGET void add_piece(struct block *b, const struct piece *p, float *sum)
{
    if (b->tiles == 1)
        multiply_few(b, p, 1, sum);
    else if (b->tiles == 2)
        multiply_few(b, p, 2, sum);
    for (uint32_t tile = 0; b->tiles > FEW_TILES && tile < b->tiles; tile += 2)
        if (tile + 1 < b->tiles)
            multiply_many(b, p, tile, true, sum);
        else
            multiply_many(b, p, tile, false, sum);
}

/* Adds columns [c, c + n) of `rows` <= group rows from r on. next: see struct piece. */
static TARGET void add_group(struct block *b, const struct moe_matrix *m, uint32_t r, uint32_t rows,
                             uint32_t c, uint32_t n, const uint16_t *next, float *sum)
{
    const uint32_t group = b->tiles <= FEW_TILES ? FEW_ROWS : MANY_ROWS;
    const bool whole = rows == group && n % STEP == 0 && b->tiles <= FEW_TILES;
    const uint32_t step = whole ? n : PIECE;
    for (uint32_t d = 0; d < n; d += step) {
        const uint32_t width = n - d < step ? n - d : step;
        struct piece p = {.w = weight_at(m, r, c + d),
                          .row_bytes = (size_t)m->cols * sizeof(uint16_t),
                          .steps = (width + STEP - 1) / STEP,
                          .first_step = d / STEP,
                          .next = next,
                          .next_bytes = (size_t)m->cols * sizeof(uint16_t)};
        if (!whole)
            pack(b, &p, group, rows, width);
        add_piece(b, &p, sum);
    }
}

/* Computes b->sum for rows [r, r + rows) of each of n_w matrices of one shape, and up to
 * BLOCK_TOKENS tokens. Returns the distance between the sums of two matrices in b->sum. */
static TARGET size_t block_sums(struct block *b, const struct moe_matrix *const w[], uint32_t n_w,
                                uint32_t r, uint32_t rows, const float *x, uint32_t tokens)
{
    const uint32_t cols = w[0]->cols;
    b->tokens = tokens;
    b->tiles = (tokens + SIDE - 1) / SIDE;
    b->width = b->tiles * SIDE;
    b->pitch = tokens < SIDE ? tokens : SIDE;
    b->max_steps = SPLIT_WORDS / (b->tiles * SIDE * b->pitch * TERMS);
    const uint32_t group = b->tiles <= FEW_TILES ? FEW_ROWS : MANY_ROWS;
    const uint32_t step = b->tiles <= FEW_TILES ? b->max_steps * STEP : PIECE;
    const uint32_t padded = (rows + group - 1) / group * group;
    memset(b->sum, 0, (size_t)n_w * padded * b->width * sizeof *b->sum);
    configure(b);
    for (uint32_t c = 0; c < cols; c += step) {
        const uint32_t n = cols - c < step ? cols - c : step;
        split_tokens(b, x, cols, c, n, weight_at(w[0], r, c));
        for (uint32_t k = 0; k < n_w; k++)
            for (uint32_t i = 0; i < rows; i += group) {
                const uint16_t *next = i + group < rows ? weight_at(w[k], r + i + group, c)
                                       : k + 1 < n_w    ? weight_at(w[k + 1], r, c)
                                       : c + n < cols   ? weight_at(w[0], r, c + n)
                                                        : NULL;
                add_group(b, w[k], r + i, rows - i < group ? rows - i : group, c, n, next,
                          b->sum + ((size_t)k * padded + i) * b->width);
            }
    }
    _tile_release();
    return (size_t)padded * b->width;
}

/* How many rows of each of n_w matrices a block has room for. */
INLINE uint32_t block_rows(uint32_t n_tokens, uint32_t n_w)
{
    const uint32_t tokens = n_tokens < BLOCK_TOKENS ? n_tokens : BLOCK_TOKENS;
    return BLOCK_SUMS / ((tokens + SIDE - 1) / SIDE * SIDE * n_w) / MANY_ROWS * MANY_ROWS;
}

/* Stores the sums to y[t * ldy + i]; with gate, silu(sum) times the sum of `up`, which lies that
 * many elements behind. In groups of SIDE rows, as rows lie far apart. */
INLINE void put(const struct block *b, uint32_t rows, bool gate, size_t up, float *y, size_t ldy)
{
    for (uint32_t first = 0; first < rows; first += SIDE)
        for (uint32_t t = 0; t < b->tokens; t++)
            for (uint32_t i = first; i < rows && i < first + SIDE; i++) {
                const float *from = b->sum + (size_t)i * b->width + t;
                // NOLINTNEXTLINE(clang-analyzer-core.*): tile instructions wrote them
                y[t * ldy + i] = gate ? moe_silu(from[0]) * from[up] : from[0];
            }
}

static TARGET void dot(const struct moe_matrix *w, uint32_t r0, uint32_t r1, const float *x,
                       uint32_t n_tokens, float *y, size_t ldy)
{
    if (w->dtype != MOE_BF16) {
        moe_kernels_avx512.dot(w, r0, r1, x, n_tokens, y, ldy);
        return;
    }
    struct block b;
    const uint32_t step = block_rows(n_tokens, 1);
    for (uint32_t r = r0; r < r1; r += step)
        for (uint32_t t = 0; t < n_tokens; t += BLOCK_TOKENS) {
            const uint32_t rows = r1 - r < step ? r1 - r : step;
            const uint32_t tokens = n_tokens - t < BLOCK_TOKENS ? n_tokens - t : BLOCK_TOKENS;
            block_sums(&b, &w, 1, r, rows, x + (size_t)t * w->cols, tokens);
            put(&b, rows, false, 0, y + t * ldy + r, ldy);
        }
}

static TARGET void gate_up(const struct moe_matrix *gate, const struct moe_matrix *up, uint32_t r0,
                           uint32_t r1, const float *x, uint32_t n_tokens, float *h, size_t ldh)
{
    if (gate->dtype != MOE_BF16 || up->dtype != MOE_BF16) {
        moe_kernels_avx512.gate_up(gate, up, r0, r1, x, n_tokens, h, ldh);
        return;
    }
    const struct moe_matrix *const w[] = {gate, up};
    struct block b;
    const uint32_t step = block_rows(n_tokens, 2);
    for (uint32_t r = r0; r < r1; r += step)
        for (uint32_t t = 0; t < n_tokens; t += BLOCK_TOKENS) {
            const uint32_t rows = r1 - r < step ? r1 - r : step;
            const uint32_t tokens = n_tokens - t < BLOCK_TOKENS ? n_tokens - t : BLOCK_TOKENS;
            const size_t second = block_sums(&b, w, 2, r, rows, x + (size_t)t * gate->cols, tokens);
            put(&b, rows, true, second, h + t * ldh + r, ldh);
        }
}

/* On Linux a process has to request the state of the tiles. */
static bool tiles_granted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

static bool usable(void)
{
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;
    return moe_kernels_avx512.usable() && __builtin_cpu_supports("avx512bf16") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE) &&
           tiles_granted();
}

static void attend(const float *q, const float *keys, const float *values, uint32_t n, uint32_t hd,
                   struct moe_softmax *softmax, float *y)
{
    moe_kernels_avx512.attend(q, keys, values, n, hd, softmax, y);
}

const struct moe_kernels moe_kernels_amx = {
    .name = "amx",
    .summary = "AMX BF16 and AVX-512 BF16",
    .usable = usable,
    .many_rows = BLOCK_SUMS / BLOCK_TOKENS,
    .dot = dot,
    .gate_up = gate_up,
    .attend = attend,
};
#endif
