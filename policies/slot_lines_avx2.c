#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_BLOCK, LANES = 4, BYTES = 32, VECTORS = 2 };

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline double greatest(__m256d v)
{
    __m128d low = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(low, _mm_unpackhi_pd(low, low)));
}

AVX2 static inline __m256d stand_at(__m256d line, __m256d due, __m256d now)
{
    return _mm256_blendv_pd(_mm256_sub_pd(due, now), line, _mm256_cmp_pd(now, due, _CMP_GT_OQ));
}

AVX2 static uint64_t above(const double *stands, uint32_t first, uint32_t n, double least)
{
    const __m256d level = _mm256_set1_pd(least);
    uint32_t left = n > first ? n - first : 0;
    uint64_t found = 0;
    for (uint32_t i = 0; i < BLOCK && i < left; i += LANES) {
        __m256d high = _mm256_cmp_pd(_mm256_loadu_pd(stands + first + i), level, _CMP_GE_OQ);
        found |= (uint64_t)(uint32_t)_mm256_movemask_pd(high) << i;
    }
    return left < BLOCK ? found & (((uint64_t)1 << left) - 1) : found;
}

AVX2 static inline uint64_t find_pinned(const uint8_t *pinned, uint32_t n)
{
    uint64_t found = 0;
    uint32_t i = 0;
    for (; i + BYTES <= n; i += BYTES) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)(pinned + i));
        bytes = _mm256_cmpeq_epi8(bytes, _mm256_setzero_si256());
        found |= (uint64_t) ~(uint32_t)_mm256_movemask_epi8(bytes) << i;
    }
    for (; i < n; i++)
        found |= (uint64_t)(pinned[i] != 0) << i;
    return found;
}

/* The lowest bits bar the lanes. Maxima are of every other vector: none waits for the one before.
 */
AVX2 static uint64_t highest(const struct moe_lines *lines, uint32_t first, uint32_t n, double now,
                             const uint8_t *pinned, uint64_t barred, double *most)
{
    const __m256d time = _mm256_set1_pd(now), none = _mm256_set1_pd(-1);
    const __m256i lane = _mm256_set_epi64x(8, 4, 2, 1);
    __m256d high = none, other = none;
    __m256i bars =
        _mm256_set1_epi64x((long long)(pinned ? find_pinned(pinned + first, n) : barred));
    double stands[BLOCK];
    for (uint32_t i = 0; i < n; i += LANES) {
        uint32_t at = first + i;
        __m256i bar = _mm256_cmpeq_epi64(_mm256_and_si256(bars, lane), lane);
        __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(lines->last + at)), next = other;
        __m256d line = _mm256_mul_pd(age, _mm256_loadu_pd(lines->slope + at));
        __m256d v = stand_at(line, _mm256_loadu_pd(lines->due + at), time);
        v = _mm256_blendv_pd(v, none, _mm256_castsi256_pd(bar));
        _mm256_storeu_pd(stands + i, v);
        other = _mm256_max_pd(high, v);
        high = next;
        bars = _mm256_srli_epi64(bars, LANES);
    }
    *most = greatest(_mm256_max_pd(high, other));
    return above(stands, 0, n, *most * MOE_LINES_NEAR);
}

/* Each lane of each other vector is a part. */
AVX2 static void look_ahead(const struct moe_lines *lines, uint32_t n, double now, double later,
                            double *most, double part[MOE_LINES_PARTS])
{
    const __m256d time = _mm256_set1_pd(now), then = _mm256_set1_pd(later);
    __m256d high[VECTORS] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    for (uint32_t first = 0; first < n; first += MOE_LINES_PARTS)
        for (uint32_t p = 0; p < VECTORS; p++) {
            uint32_t i = first + p * LANES;
            __m256d last = _mm256_loadu_pd(lines->last + i), due = _mm256_loadu_pd(lines->due + i);
            __m256d slope = _mm256_loadu_pd(lines->slope + i);
            __m256d line = _mm256_mul_pd(_mm256_sub_pd(then, last), slope);
            __m256d stands = _mm256_mul_pd(_mm256_sub_pd(time, last), slope);
            high[p] = _mm256_max_pd(high[p], stand_at(stands, due, time));
            line = _mm256_max_pd(line, stands);
            _mm256_storeu_pd(most + i, _mm256_max_pd(_mm256_sub_pd(due, time), line));
        }
    for (size_t p = 0; p < VECTORS; p++)
        _mm256_storeu_pd(part + p * LANES, high[p]);
}

const struct moe_lines_loops *moe_lines_avx2(void)
{
    static const struct moe_lines_loops loops = {highest, above, look_ahead};
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx2(void)
{
    return NULL;
}

#endif
