#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <math.h>

enum { BLOCK = MOE_LINES_BLOCK, LANES = MOE_LINES_LANES, PARTS = 2 };

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

AVX2 static double stand(const struct moe_lines *lines, uint32_t n, double now, double *stands)
{
    const __m256d time = _mm256_set1_pd(now);
    __m256d most = _mm256_set1_pd(-1);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(lines->last + i));
        __m256d line = _mm256_mul_pd(age, _mm256_loadu_pd(lines->slope + i));
        __m256d v = stand_at(line, _mm256_loadu_pd(lines->due + i), time);
        most = _mm256_max_pd(most, v);
        _mm256_storeu_pd(stands + i, v);
    }
    return greatest(most);
}

AVX2 static double highest(const double *stands, uint32_t n)
{
    __m256d most = _mm256_set1_pd(-1);
    for (uint32_t i = 0; i < n; i += LANES)
        most = _mm256_max_pd(most, _mm256_loadu_pd(stands + i));
    return greatest(most);
}

AVX2 static uint32_t above(const double *stands, uint32_t first, uint32_t n, double least)
{
    const __m256d level = _mm256_set1_pd(least);
    uint32_t found = 0, left = n > first ? n - first : 0;
    for (uint32_t i = 0; i < BLOCK && i < left; i += LANES) {
        __m256d high = _mm256_cmp_pd(_mm256_loadu_pd(stands + first + i), level, _CMP_GE_OQ);
        found |= (uint32_t)_mm256_movemask_pd(high) << i;
    }
    return left < BLOCK ? found & ((1u << left) - 1) : found;
}

AVX2 static inline __m256d above_0(__m256d v)
{
    const __m256d none = _mm256_set1_pd(INFINITY), zero = _mm256_setzero_pd();
    return _mm256_blendv_pd(none, v, _mm256_cmp_pd(v, zero, _CMP_GT_OQ));
}

/* Each lane of each other block is a part. */
AVX2 static double look_ahead(const struct moe_lines *lines, uint32_t n, double now, double later,
                              double *most)
{
    const __m256d time = _mm256_set1_pd(now), then = _mm256_set1_pd(later);
    __m256d part[PARTS], least;
    for (int p = 0; p < PARTS; p++)
        part[p] = _mm256_setzero_pd();
    for (uint32_t first = 0; first < n; first += BLOCK) {
        __m256d high = part[first / BLOCK % PARTS];
        for (uint32_t i = first; i < first + BLOCK; i += LANES) {
            __m256d last = _mm256_loadu_pd(lines->last + i), due = _mm256_loadu_pd(lines->due + i);
            __m256d slope = _mm256_loadu_pd(lines->slope + i);
            __m256d line = _mm256_mul_pd(_mm256_sub_pd(then, last), slope);
            __m256d stands = _mm256_mul_pd(_mm256_sub_pd(time, last), slope);
            high = _mm256_max_pd(high, stand_at(stands, due, time));
            line = _mm256_max_pd(line, stands);
            _mm256_storeu_pd(most + i, _mm256_max_pd(_mm256_sub_pd(due, time), line));
        }
        part[first / BLOCK % PARTS] = high;
    }
    least = _mm256_min_pd(above_0(part[0]), above_0(part[1]));
    return -greatest(_mm256_sub_pd(_mm256_setzero_pd(), least));
}

const struct moe_lines_loops *moe_lines_avx2(void)
{
    static const struct moe_lines_loops loops = {stand, highest, above, look_ahead};
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx2(void)
{
    return NULL;
}

#endif
