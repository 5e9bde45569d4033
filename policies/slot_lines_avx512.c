#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_BLOCK, LANES = MOE_LINES_STRIDE };

#define AVX512 __attribute__((target("avx512f,avx512bw")))

AVX512 static inline uint64_t find_pinned(const uint8_t *pinned, uint32_t left)
{
    uint64_t there = left < BLOCK ? ((uint64_t)1 << left) - 1 : UINT64_MAX;
    __m512i bytes = _mm512_maskz_loadu_epi8(there, pinned);
    return _mm512_test_epi8_mask(bytes, bytes);
}

AVX512 static inline __m512d stand_at(const struct moe_lines *lines, uint32_t i, __m512d now)
{
    __m512d due = _mm512_loadu_pd(lines->due + i);
    __m512d age = _mm512_sub_pd(now, _mm512_loadu_pd(lines->last + i));
    __mmask8 past = _mm512_cmp_pd_mask(now, due, _CMP_GT_OQ);
    return _mm512_mask_mul_pd(_mm512_sub_pd(due, now), past, age,
                              _mm512_loadu_pd(lines->slope + i));
}

AVX512 static uint64_t above(const double *stands, uint32_t first, uint32_t n, double least)
{
    const __m512d level = _mm512_set1_pd(least);
    uint32_t left = n > first ? n - first : 0;
    uint64_t found = 0;
    for (uint32_t i = 0; i < BLOCK && i < left; i += LANES) {
        __m512d v = _mm512_loadu_pd(stands + first + i);
        found |= (uint64_t)_mm512_cmp_pd_mask(v, level, _CMP_GE_OQ) << i;
    }
    return left < BLOCK ? found & (((uint64_t)1 << left) - 1) : found;
}

/* Maxima are of every other vector: none waits for the one before. */
AVX512 static uint64_t highest(const struct moe_lines *lines, uint32_t first, uint32_t n,
                               double now, const uint8_t *pinned, uint64_t barred, double *most)
{
    const __m512d time = _mm512_set1_pd(now), none = _mm512_set1_pd(-1);
    __m512d high = none, other = none;
    uint64_t bars = pinned ? find_pinned(pinned + first, n) : barred;
    double stands[BLOCK];
    for (uint32_t i = 0; i < n; i += LANES, bars >>= LANES) {
        __m512d v = stand_at(lines, first + i, time), next = other;
        v = _mm512_mask_mov_pd(v, (__mmask8)bars, none);
        _mm512_storeu_pd(stands + i, v);
        other = _mm512_max_pd(high, v);
        high = next;
    }
    *most = _mm512_reduce_max_pd(_mm512_max_pd(high, other));
    return above(stands, 0, n, *most * MOE_LINES_NEAR);
}

/* Each lane is a part. */
AVX512 static void look_ahead(const struct moe_lines *lines, uint32_t n, double now, double later,
                              double *most, double part[MOE_LINES_PARTS])
{
    const __m512d time = _mm512_set1_pd(now), then = _mm512_set1_pd(later);
    __m512d high = _mm512_setzero_pd();
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512d last = _mm512_loadu_pd(lines->last + i), slope = _mm512_loadu_pd(lines->slope + i);
        __m512d wait = _mm512_sub_pd(_mm512_loadu_pd(lines->due + i), time);
        __m512d line = _mm512_mul_pd(_mm512_sub_pd(then, last), slope);
        line = _mm512_max_pd(line, _mm512_mul_pd(_mm512_sub_pd(time, last), slope));
        high = _mm512_max_pd(high, stand_at(lines, i, time));
        _mm512_storeu_pd(most + i, _mm512_max_pd(wait, line));
    }
    _mm512_storeu_pd(part, high);
}

const struct moe_lines_loops *moe_lines_avx512(void)
{
    static const struct moe_lines_loops loops = {highest, above, look_ahead};
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx512(void)
{
    return NULL;
}

#endif
