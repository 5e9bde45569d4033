/* The vector type of a kernel set, and how rows of weights lie in memory: the basis of
 * exec/kernels_quant.h and exec/kernels_tile.h. A set defines its vector (TILE_LANES and the other
 * macros, types and functions of the first part below) before it includes them; otherwise the
 * vector is portable C. */
#ifndef MOELAB_EXEC_KERNELS_VECTOR_H
#define MOELAB_EXEC_KERNELS_VECTOR_H

#include "exec/kernels.h"

#include <string.h>

#ifdef __clang__
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 8")
#endif

/* A set's TILE_KEEP(v) forces v into a register: otherwise gcc loads it from memory again for every
 * use, which costs a third of the speed. */
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

/* Shifting exponent and mantissa into place and multiplying by 2^112 is exact for normal and
 * subnormal numbers; for infinity and NaN the exponent is set to all ones again. */
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

/* The 32 weights of a Q4 block: its 16 bytes hold those of columns 0 to 15 in their low four bits,
 * the others in their high four. */
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

/* What vf_q4 needs for a block beside its bytes: TILE_Q4_FACTORS floats, `stride` apart. Computed
 * for TILE_LANES blocks at once, whose factors are neighbours. A set that needs more than the scale
 * defines its own. */
#ifndef TILE_Q4_FACTORS
enum { TILE_Q4_FACTORS = 1 };

TILE_INLINE void vf_q4_factors(vf scale, float *to, size_t stride)
{
    (void)stride;
    vf_store(to, scale);
}
#endif

/* Up to TILE_TOKENS tokens, weights go straight from memory into registers. With more, TILE_ROWS
 * rows x TILE_COLS columns are first converted to float32: a panel, of 16 KiB or less. Panels add
 * to the accumulators of a block of rows and tokens, so small that these stay in the second-level
 * cache together with the block's weights and the tokens' columns. */
enum {
    TILE_TOKENS = 3,
    TILE_COLS = 512,
    TILE_BLOCK_ROWS = 32,
    TILE_BLOCK_TOKENS = 48,
    TILE_FEW_TOKENS = 16, /* up to so many, a block has only TILE_ROWS rows, so that memory is read
                             along whole rows */
    TILE_LINE_BYTES = 64,
    TILE_KEYS = TILE_ROWS / 2, /* attention: keys at once, with four accumulators each */
    TILE_VALUES = 8,           /* attention: vectors of the output at once */
    TILE_AHEAD_BYTES = 1024, /* prefetch distance in a row; measured: half or double is no better */
};

/* Bytes of one weight of a type that is not quantized. */
TILE_INLINE uint32_t tile_weight_bytes(enum moe_dtype dtype)
{
    return dtype == MOE_F32 ? 4 : 2;
}

TILE_INLINE bool tile_quantized(enum moe_dtype dtype)
{
    return dtype == MOE_Q8 || dtype == MOE_Q4;
}

/* Where the weight of column d lies in its row, in bytes; d is a multiple of MOE_QUANT_BLOCK if
 * quantized. With d = all columns it is where the scales begin. */
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

/* Prefetches into the second-level cache: rows a multiple of 4 KiB apart map to the same set of the
 * first-level cache, where eight of them evict one another before they are used (measured on Zen 4,
 * whose first level has eight ways: 1.2 to 1.4 times as fast). Computed on integers, as the address
 * may lie beyond the matrix, where a prefetch does nothing. */
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

/* The first n < TILE_LANES weights of a vector, followed by zeros; nothing beyond them is read. */
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

/* A matrix from some row on, as the loops of the kernels use it. */
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
