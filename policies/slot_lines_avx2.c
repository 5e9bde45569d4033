#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_MAX, LANES = 4, FLOATS = 8, BYTES = 32 };

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline double greatest(__m256d v)
{
    __m128d low = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(low, _mm_unpackhi_pd(low, low)));
}

AVX2 static inline uint64_t at_least(const double *priority, uint32_t n, double least)
{
    const __m256d level = _mm256_set1_pd(least);
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256d high = _mm256_cmp_pd(_mm256_loadu_pd(priority + i), level, _CMP_GE_OQ);
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

/* v with -1 in those lanes whose bit of the lowest 4 bits of `skips` is set. */
AVX2 static inline __m256d skip_lanes(__m256d v, uint64_t skips)
{
    const __m256i lane = _mm256_set_epi64x(8, 4, 2, 1);
    __m256i bits = _mm256_and_si256(_mm256_set1_epi64x((long long)skips), lane);
    return _mm256_blendv_pd(v, _mm256_set1_pd(-1),
                            _mm256_castsi256_pd(_mm256_cmpeq_epi64(bits, lane)));
}

/* Two maxima, each of every other vector, so that none has to wait for the one before. */
AVX2 static uint64_t highest(const struct moe_slot_lines *lines, double now, const uint8_t *pinned)
{
    const __m256d time = _mm256_set1_pd(now);
    __m256d high = _mm256_set1_pd(-1), other = high;
    uint32_t n = lines->n_slots;
    uint64_t skips = find_pinned(pinned, n) | ~moe_lines_first(n);
    double priority[BLOCK];
    for (uint32_t i = 0; i < n; i += LANES, skips >>= LANES) {
        __m256d due = _mm256_loadu_pd(lines->due + i), next = other;
        __m256d age = _mm256_sub_pd(time, _mm256_loadu_pd(lines->last + i));
        __m256d v =
            _mm256_blendv_pd(_mm256_sub_pd(due, time), age, _mm256_cmp_pd(time, due, _CMP_GT_OQ));
        v = skip_lanes(v, skips);
        _mm256_storeu_pd(priority + i, v);
        other = _mm256_max_pd(high, v);
        high = next;
    }
    return at_least(priority, n, greatest(_mm256_max_pd(high, other)) * MOE_LINES_NEAR);
}

/* now - last as floats. AVX2 converts signed numbers only: a negative result gets 2^32 added. */
AVX2 static inline __m256 age_at(const uint32_t *last, __m256i time)
{
    __m256i age = _mm256_sub_epi32(time, _mm256_loadu_si256((const __m256i *)last));
    __m256 v = _mm256_cvtepi32_ps(age);
    return _mm256_blendv_ps(v, _mm256_add_ps(v, _mm256_set1_ps(0x1p32f)), v);
}

/* As skip_lanes, by the lowest 8 bits. */
AVX2 static inline __m256 skip_floats(__m256 v, uint64_t skips)
{
    const __m256i lane = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
    __m256i bits = _mm256_and_si256(_mm256_set1_epi32((int)skips), lane);
    return _mm256_blendv_ps(v, _mm256_set1_ps(-1),
                            _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, lane)));
}

AVX2 static inline float greatest_float(__m256 v)
{
    __m128 low = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    low = _mm_max_ps(low, _mm_movehl_ps(low, low));
    return _mm_cvtss_f32(_mm_max_ss(low, _mm_movehdup_ps(low)));
}

AVX2 static uint64_t oldest(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                            const uint8_t *pinned, uint64_t skipped, float *most)
{
    const __m256i time = _mm256_set1_epi32((int)now);
    __m256 high = _mm256_set1_ps(-1);
    uint64_t skips = (pinned ? find_pinned(pinned, n) : skipped) | ~moe_lines_first(n), found = 0;
    float priority[BLOCK];
    for (uint32_t i = 0; i < n; i += FLOATS, skips >>= FLOATS) {
        __m256 v = _mm256_mul_ps(age_at(last + i, time), _mm256_loadu_ps(slope + i));
        v = skip_floats(v, skips);
        _mm256_storeu_ps(priority + i, v);
        high = _mm256_max_ps(high, v);
    }
    *most = greatest_float(high);
    const __m256 near = _mm256_set1_ps(*most * MOE_AGES_NEAR);
    for (uint32_t i = 0; i < n; i += FLOATS) {
        __m256 in = _mm256_cmp_ps(_mm256_loadu_ps(priority + i), near, _CMP_GE_OQ);
        found |= (uint64_t)(uint32_t)_mm256_movemask_ps(in) << i;
    }
    return found & moe_lines_first(n);
}

AVX2 static uint32_t reach(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                           float level, uint32_t *found)
{
    const __m256i time = _mm256_set1_epi32((int)now);
    const __m256 height = _mm256_set1_ps(level);
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i += FLOATS) {
        __m256 least = _mm256_mul_ps(height, _mm256_loadu_ps(weight + i));
        __m256 is_in = _mm256_cmp_ps(age_at(last + i, time), least, _CMP_GE_OQ);
        uint32_t in = (uint32_t)_mm256_movemask_ps(is_in);
        for (; in; in &= in - 1)
            found[n_found++] = i + (uint32_t)__builtin_ctz(in);
    }
    return n_found;
}

AVX2 static void find_parts(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                            float part[MOE_LINES_PARTS])
{
    const __m256i time = _mm256_set1_epi32((int)now);
    __m256 high = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i += FLOATS) {
        __m256 priority = _mm256_div_ps(age_at(last + i, time), _mm256_loadu_ps(weight + i));
        high = _mm256_max_ps(high, priority);
    }
    _mm256_storeu_ps(part, high);
}

const struct moe_lines_loops *moe_lines_avx2(void)
{
    static const struct moe_lines_loops loops = {highest, oldest, reach, find_parts};
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx2(void)
{
    return NULL;
}

#endif
