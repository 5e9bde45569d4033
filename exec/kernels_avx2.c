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

TILE_INLINE void vf_q8(const uint8_t *p, vf v[4])
{
    for (size_t i = 0; i < 4; i++)
        v[i] =
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8 * i))));
}

/* Puts each half byte into the mantissa of a float instead of converting it: the low one becomes
 * 2^15 + low, the high one 2^11 + high. One fused multiply-add then gives (half - 8) * scale, as
 * that float times scale less (2^15 + 8) or (2^11 + 8) times scale. Exact, as no term needs more
 * than 24 bits; 15 vector operations a block, with those that use the weights, where converting
 * takes 22. */
enum { TILE_Q4_FACTORS = 3 };
#define TILE_Q4_FACTORS TILE_Q4_FACTORS

TILE_INLINE void vf_q4_factors(vf scale, float *to, size_t stride)
{
    vf_store(to, scale);
    vf_store(to + stride, vf_mul(scale, vf_set(-0x1.001p15f)));
    vf_store(to + 2 * stride, vf_mul(scale, vf_set(-0x1.01p11f)));
}

TILE_INLINE void vf_q4(const uint8_t *p, const float *factor, size_t stride, vf v[4])
{
    /* each byte as the upper half of a word; 0 to 3 and 8 to 11, so that the two unpacked vectors
     * have the columns 0 to 7 and 8 to 15 */
    const __m256i order =
        _mm256_setr_epi8(-1, 0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1, 4, -1, 5, -1,
                         6, -1, 7, -1, 12, -1, 13, -1, 14, -1, 15);
    const __m256i exponents = _mm256_set1_epi16(0x4700);
    const __m256i low = _mm256_set1_epi32(0x47000f00), high = _mm256_set1_epi32(0x4500f000);
    const vf scale = vf_set(factor[0]);
    const vf less_low = vf_set(factor[stride]), less_high = vf_set(factor[2 * stride]);
    const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
    const __m256i words = _mm256_shuffle_epi8(bytes, order);
    const __m256i q[2] = {_mm256_unpacklo_epi16(words, exponents),
                          _mm256_unpackhi_epi16(words, exponents)};
    for (int i = 0; i < 2; i++) {
        v[i] = vf_fma(_mm256_castsi256_ps(_mm256_and_si256(q[i], low)), scale, less_low);
        v[2 + i] = vf_fma(_mm256_castsi256_ps(_mm256_and_si256(q[i], high)), scale, less_high);
    }
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
