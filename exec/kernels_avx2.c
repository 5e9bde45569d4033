#include "exec/kernels.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

#define TILE_TARGET  __attribute__((target("avx2,fma,f16c")))
#define TILE_INLINE  static inline TILE_TARGET __attribute__((always_inline))
#define TILE_KEEP(v) __asm__("" : "+x"(v))

enum { TILE_LANES = 8, TILE_ROWS = 4 };
#define TILE_LANES TILE_LANES
typedef __m256 vf;
typedef __m256i vq;

TILE_INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}

TILE_INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

TILE_INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

TILE_INLINE vf vf_set(float s)
{
    return _mm256_set1_ps(s);
}

TILE_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

TILE_INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

TILE_INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

TILE_INLINE float vf_sum(vf v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

TILE_INLINE vf vf_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

TILE_INLINE vf vf_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

TILE_INLINE vf vf_q8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

TILE_INLINE vq vq_load(const void *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
}

TILE_INLINE vf vf_q4_scale(float scale)
{
    return _mm256_set1_ps(scale);
}

TILE_INLINE vf vf_q4_of(__m256i q, vf scale)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, _mm256_set1_epi32(8))), scale);
}

TILE_INLINE vf vf_q4_low(vq q, vf scale)
{
    return vf_q4_of(_mm256_and_si256(q, _mm256_set1_epi32(15)), scale);
}

TILE_INLINE vf vf_q4_high(vq q, vf scale)
{
    return vf_q4_of(_mm256_srli_epi32(q, 4), scale);
}

#include "exec/kernels_tile.h"

static bool usable(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

const struct moe_kernels moe_kernels_avx2 = {
    .name = "avx2",
    .summary = "AVX2, FMA, F16C",
    .usable = usable,
    .lanes = TILE_LANES,
    .fused = true,
    .many_rows = 32,
    .dot = tile_dot,
    .gate_up = tile_gate_up,
    .attend = tile_attend,
};
#endif
