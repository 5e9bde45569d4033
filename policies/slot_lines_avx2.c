#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_MOST, LANES = 4, BYTES = 32, VECTORS = 2 };

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline double greatest(__m256d v)
{
    __m128d low = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(low, _mm_unpackhi_pd(low, low)));
}

AVX2 static inline uint64_t above(const double *stands, uint32_t n, double least)
{
    const __m256d level = _mm256_set1_pd(least);
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256d high = _mm256_cmp_pd(_mm256_loadu_pd(stands + i), level, _CMP_GE_OQ);
        found |= (uint64_t)(uint32_t)_mm256_movemask_pd(high) << i;
    }
    return found & moe_lines_first(n);
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
    for (; i < n && i < BLOCK; i++)
        found |= (uint64_t)(pinned[i] != 0) << i;
    return found;
}

/* Those of the lowest bits, and those behind the last, at -1. */
AVX2 static inline __m256d bar(__m256d v, uint64_t bars)
{
    const __m256i lane = _mm256_set_epi64x(8, 4, 2, 1);
    __m256i bits = _mm256_and_si256(_mm256_set1_epi64x((long long)bars), lane);
    return _mm256_blendv_pd(v, _mm256_set1_pd(-1),
                            _mm256_castsi256_pd(_mm256_cmpeq_epi64(bits, lane)));
}

/* Maxima are of every other vector: none waits for the one before. */
AVX2 static uint64_t highest(const struct moe_slot_lines *lines, double now, const uint8_t *pinned)
{
    const __m256d time = _mm256_set1_pd(now);
    __m256d high = _mm256_set1_pd(-1), other = high;
    uint32_t n = lines->n_slots;
    uint64_t bars = find_pinned(pinned, n) | ~moe_lines_first(n);
    double stands[BLOCK];
    for (uint32_t i = 0; i < n; i += LANES, bars >>= LANES) {
        __m256d due = _mm256_loadu_pd(lines->due + i), next = other;
        __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(lines->last + i));
        __m256d v =
            _mm256_blendv_pd(_mm256_sub_pd(due, time), age, _mm256_cmp_pd(time, due, _CMP_GT_OQ));
        v = bar(v, bars);
        _mm256_storeu_pd(stands + i, v);
        other = _mm256_max_pd(high, v);
        high = next;
    }
    return above(stands, n, greatest(_mm256_max_pd(high, other)) * MOE_LINES_NEAR);
}

AVX2 static uint64_t oldest(const double *last, const double *slope, uint32_t n, double now,
                            const uint8_t *pinned, uint64_t barred, double *most)
{
    const __m256d time = _mm256_set1_pd(now);
    __m256d high = _mm256_set1_pd(-1), other = high;
    uint64_t bars = (pinned ? find_pinned(pinned, n) : barred) | ~moe_lines_first(n);
    double stands[BLOCK];
    for (uint32_t i = 0; i < n; i += LANES, bars >>= LANES) {
        __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(last + i)), next = other;
        __m256d v = bar(_mm256_mul_pd(age, _mm256_loadu_pd(slope + i)), bars);
        _mm256_storeu_pd(stands + i, v);
        other = _mm256_max_pd(high, v);
        high = next;
    }
    *most = greatest(_mm256_max_pd(high, other));
    return above(stands, n, *most * MOE_LINES_NEAR);
}

AVX2 static uint32_t between(const double *time, uint32_t n, double after, double until,
                             uint32_t *found)
{
    const __m256d low = _mm256_set1_pd(after), high = _mm256_set1_pd(until);
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i += 2 * LANES) {
        __m256d v = _mm256_loadu_pd(time + i), w = _mm256_loadu_pd(time + i + LANES);
        __m256d a =
            _mm256_and_pd(_mm256_cmp_pd(v, low, _CMP_GT_OQ), _mm256_cmp_pd(v, high, _CMP_LE_OQ));
        __m256d b =
            _mm256_and_pd(_mm256_cmp_pd(w, low, _CMP_GT_OQ), _mm256_cmp_pd(w, high, _CMP_LE_OQ));
        uint32_t in = (uint32_t)_mm256_movemask_pd(a) | (uint32_t)_mm256_movemask_pd(b) << LANES;
        for (; in; in &= in - 1)
            found[n_found++] = i + (uint32_t)__builtin_ctz(in);
    }
    return n_found;
}

/* Each lane of each other vector is a part. */
AVX2 static void find_parts(const double *last, const double *weight, uint32_t n, double now,
                            double part[MOE_LINES_PARTS])
{
    const __m256d time = _mm256_set1_pd(now);
    __m256d high[VECTORS] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    for (uint32_t first = 0; first < n; first += MOE_LINES_PARTS)
        for (uint32_t p = 0; p < VECTORS; p++) {
            uint32_t i = first + p * LANES;
            __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(last + i));
            __m256d v = _mm256_div_pd(age, _mm256_loadu_pd(weight + i));
            high[p] = _mm256_max_pd(high[p], v);
        }
    for (size_t p = 0; p < VECTORS; p++)
        _mm256_storeu_pd(part + p * LANES, high[p]);
}

AVX2 static void pass_level(const double *last, const double *weight, uint32_t n, double level,
                            double *pass)
{
    const __m256d height = _mm256_set1_pd(level);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256d rise = _mm256_mul_pd(height, _mm256_loadu_pd(weight + i));
        _mm256_storeu_pd(pass + i, _mm256_add_pd(_mm256_loadu_pd(last + i), rise));
    }
}

const struct moe_lines_loops *moe_lines_avx2(void)
{
    static const struct moe_lines_loops loops = {highest, oldest, between, find_parts, pass_level};
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx2(void)
{
    return NULL;
}

#endif
