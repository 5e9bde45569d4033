#include "exec/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TILE_TARGET  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define TILE_INLINE  static inline TILE_TARGET __attribute__((always_inline))
#define TILE_KEEP(v) __asm__("" : "+v"(v))

enum { TILE_LANES = 16, TILE_ROWS = 8 };
#define TILE_LANES TILE_LANES
typedef __m512 vf;

TILE_INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

TILE_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

TILE_INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

TILE_INLINE vf vf_set(float s)
{
    return _mm512_set1_ps(s);
}

TILE_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

TILE_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

TILE_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

TILE_INLINE float vf_sum(vf v)
{
    /* By halves, written out: _mm512_reduce_add_ps leaves the order to the compiler. */
    const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

TILE_INLINE vf vf_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

TILE_INLINE vf vf_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

TILE_INLINE void vf_q8(const uint8_t *p, vf v[2])
{
    for (size_t i = 0; i < 2; i++)
        v[i] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p + i)));
}

/* The sixteen possible weights of a block are a table for vpermps, which looks at the low four bits
 * of an index only. */
TILE_INLINE void vf_q4(const uint8_t *p, const float *factor, size_t stride, vf v[2])
{
    (void)stride;
    const vf weights = _mm512_mul_ps(
        _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7), vf_set(*factor));
    const __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    v[0] = _mm512_permutexvar_ps(q, weights);
    v[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), weights);
}

#include "exec/kernels_tile.h"

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct moe_kernels moe_kernels_avx512 = {
    .name = "avx512",
    .summary = "AVX-512 F, BW, DQ, VL",
    .usable = usable,
    .lanes = TILE_LANES,
    .fused = true,
    .many_rows = 32,
    .dot = tile_dot,
    .gate_up = tile_gate_up,
    .attend = tile_attend,
};
#endif
