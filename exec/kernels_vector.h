/* The vectors of a kernel set and how rows of weights lie: what exec/kernels_quant.h and
 * exec/kernels_tile.h are written in. A set defines the vector (macros and functions below) before
 * it includes them; without definitions it is portable C. */
#ifndef MOELAB_EXEC_KERNELS_VECTOR_H
#define MOELAB_EXEC_KERNELS_VECTOR_H

#include "exec/kernels.h"

#include <string.h>

#ifdef __clang__
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 8")
#endif

/* A set's TILE_KEEP(v) holds v in a register: gcc reads it again from memory for every use, which
 * costs a third of the speed. */
#ifndef TILE_LANES
enum { TILE_LANES = 4, TILE_ROWS = 4 };
#define TILE_TARGET  __attribute__((unused))
#define TILE_INLINE  static inline __attribute__((always_inline, unused))
#define TILE_KEEP(v) (void)(v)
typedef float vf __attribute__((vector_size(16)));

TILE_INLINE vf vf_zero(void)
{
    return (vf){0};
}

TILE_INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

TILE_INLINE void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

TILE_INLINE vf vf_set(float s)
{
    return (vf){s, s, s, s};
}

TILE_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return c + a * b;
}

TILE_INLINE vf vf_add(vf a, vf b)
{
    return a + b;
}

TILE_INLINE vf vf_mul(vf a, vf b)
{
    return a * b;
}

TILE_INLINE float vf_sum(vf v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

typedef uint32_t vu __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint16_t vh __attribute__((vector_size(8)));
typedef uint8_t vb __attribute__((vector_size(4)));
typedef int8_t vs __attribute__((vector_size(4)));

TILE_INLINE vu vu_load16(const void *p)
{
    vh h;
    memcpy(&h, p, sizeof h);
    return __builtin_convertvector(h, vu);
}

TILE_INLINE vf vf_bf16(const void *p)
{
    return (vf)(vu_load16(p) << 16);
}

/* Moving exponent and mantissa up and scaling by 2^112 is exact for normal and subnormal numbers;
 * an exponent of all ones has to stay one. */
TILE_INLINE vf vf_f16(const void *p)
{
    const vu h = vu_load16(p), magnitude = (h & 0x7fff) << 13;
    const vu special = (vu)(magnitude >= 0x0f800000) & 0x7f800000;
    return (vf)((vu)((vf)magnitude * 0x1p112f) | special | (h & 0x8000) << 16);
}

/* The 32 numbers of a Q8 block. */
TILE_INLINE void vf_q8(const uint8_t *p, vf v[8])
{
    for (size_t i = 0; i < 8; i++) {
        vs q;
        memcpy(&q, p + 4 * i, sizeof q);
        v[i] = __builtin_convertvector(q, vf);
    }
}

/* What vf_q4 needs of a block beside its bytes: TILE_Q4_FACTORS floats, `stride` apart. Written for
 * TILE_LANES blocks at once, which are neighbours in each row. */
enum { TILE_Q4_FACTORS = 1 };

TILE_INLINE void vf_q4_factors(vf scale, float *to, size_t stride)
{
    (void)stride;
    vf_store(to, scale);
}

/* The 32 weights of a Q4 block: its 16 bytes have those of columns 0 to 15 in their low halves. */
TILE_INLINE void vf_q4(const uint8_t *p, const float *factor, size_t stride, vf v[8])
{
    (void)stride;
    for (size_t i = 0; i < 4; i++) {
        vb bytes;
        memcpy(&bytes, p + 4 * i, sizeof bytes);
        const vu q = __builtin_convertvector(bytes, vu);
        v[i] = __builtin_convertvector((vi)(q & 15) - 8, vf) * *factor;
        v[4 + i] = __builtin_convertvector((vi)(q >> 4) - 8, vf) * *factor;
    }
}
#endif

/* Columns of a panel: TILE_ROWS rows of it in float32 are 16 KiB or less. A block is what shares
 * accumulators between panels: rows and tokens chosen so that they stay in the second-level cache,
 * where the tokens' columns and the weights of the block have to be as well. */
enum {
    TILE_TOKENS = 3,
    TILE_COLS = 512,
    TILE_BLOCK_ROWS = 32,
    TILE_BLOCK_TOKENS = 48,
    TILE_FEW_TOKENS = 16, /* up to here rows are read whole, for the sake of memory */
    TILE_LINE_BYTES = 64,
    TILE_KEYS = TILE_ROWS / 2, /* of attention: four accumulators each */
    TILE_VALUES = 8,           /* vectors of its output at once */
    TILE_AHEAD_BYTES = 1024, /* prefetch distance in a row; measured: half or double is no better */
};

/* Of a plain type. */
TILE_INLINE uint32_t tile_weight_bytes(enum moe_dtype dtype)
{
    return dtype == MOE_F32 ? 4 : 2;
}

TILE_INLINE bool tile_quantized(enum moe_dtype dtype)
{
    return dtype == MOE_Q8 || dtype == MOE_Q4;
}

/* Where the number of column d, a multiple of a block, lies in its row; of all columns: how many
 * bytes they are, behind which the scales lie. */
TILE_INLINE size_t tile_offset(enum moe_dtype dtype, size_t d)
{
    return dtype == MOE_Q8 ? d : dtype == MOE_Q4 ? d / 2 : d * tile_weight_bytes(dtype);
}

/* Bytes of the scales of d columns. */
TILE_INLINE size_t tile_scale_bytes(enum moe_dtype dtype, size_t d)
{
    return tile_quantized(dtype) ? d / MOE_QUANT_BLOCK * sizeof(uint16_t) : 0;
}

TILE_INLINE uint32_t tile_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Into the second-level cache: rows that lie a multiple of 4 KiB apart share the same few lines of
 * the first, where eight of them put each other out before they are used (Zen 4, whose first has
 * eight ways: 1.2 to 1.4 times as fast). Integers: the address may lie beyond the matrix, where
 * this does nothing. */
TILE_INLINE void tile_prefetch(const void *p, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)p + ahead), 0, // NOLINT(performance-no-int-to-ptr)
                       2);
}

TILE_INLINE vf tile_weights(enum moe_dtype dtype, const void *p)
{
    if (dtype == MOE_BF16)
        return vf_bf16(p);
    return dtype == MOE_F16 ? vf_f16(p) : vf_load(p);
}

/* The first n < TILE_LANES of a vector, zeros behind them; nothing beyond is touched. */
TILE_INLINE vf tile_weights_tail(enum moe_dtype dtype, const void *p, uint32_t n)
{
    float buffer[TILE_LANES] = {0};
    memcpy(buffer, p, (size_t)n * tile_weight_bytes(dtype));
    return tile_weights(dtype, buffer);
}

TILE_INLINE vf tile_load_tail(const float *p, uint32_t n)
{
    float buffer[TILE_LANES] = {0};
    memcpy(buffer, p, n * sizeof *p);
    return vf_load(buffer);
}

TILE_INLINE vf tile_load_some(const float *p, uint32_t n)
{
    return n == TILE_LANES ? vf_load(p) : tile_load_tail(p, n);
}

/* One matrix as the loops below see it, from row r on. */
struct tile_rows {
    enum moe_dtype dtype;
    const uint8_t *data;
    size_t row_bytes;
    uint32_t cols;
};

TILE_INLINE struct tile_rows tile_rows_of(const struct moe_matrix *w, uint32_t r)
{
    const size_t row_bytes = tile_offset(w->dtype, w->cols) + tile_scale_bytes(w->dtype, w->cols);
    return (struct tile_rows){w->dtype, (const uint8_t *)w->data + r * row_bytes, row_bytes,
                              w->cols};
}

#endif
