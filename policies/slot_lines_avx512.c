#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_MOST, LANES = 8 };

#define AVX512 __attribute__((target("avx512f,avx512bw")))

/* And those behind the last. */
AVX512 static inline uint64_t find_pinned(const uint8_t *pinned, uint32_t n)
{
    uint64_t there = moe_lines_first(n);
    __m512i bytes = _mm512_maskz_loadu_epi8(there, pinned);
    return _mm512_test_epi8_mask(bytes, bytes) | ~there;
}

/* Four vectors at a time: few branches depend on n. */
AVX512 static inline uint64_t above(const double *stands, uint32_t n, double least)
{
    const __m512d level = _mm512_set1_pd(least);
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i += 4 * LANES) {
        const double *at = stands + i;
        __mmask8 a = _mm512_cmp_pd_mask(_mm512_loadu_pd(at), level, _CMP_GE_OQ);
        __mmask8 b = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + LANES), level, _CMP_GE_OQ);
        __mmask8 c = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + (size_t)2 * LANES), level, _CMP_GE_OQ);
        __mmask8 d = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + (size_t)3 * LANES), level, _CMP_GE_OQ);
        __mmask32 all = _mm512_kunpackw(_mm512_kunpackb(d, c), _mm512_kunpackb(b, a));
        found |= (uint64_t)all << i;
    }
    return found & moe_lines_first(n);
}

/* Of a vector of slots, the barred at -1. */
AVX512 static inline __m512d stand_or_due(const struct moe_slot_lines *lines, uint32_t at,
                                          __m512d time, uint64_t bars)
{
    __m512d left = _mm512_sub_pd(_mm512_loadu_pd(lines->due + at), time);
    __mmask8 past = _mm512_cmp_pd_mask(left, _mm512_setzero_pd(), _CMP_LT_OQ);
    __m512d v = _mm512_mask_sub_pd(left, past, time, _mm512_loadu_pd(lines->last + at));
    return _mm512_mask_mov_pd(v, (__mmask8)bars, _mm512_set1_pd(-1));
}

AVX512 static uint64_t highest(const struct moe_slot_lines *lines, double now,
                               const uint8_t *pinned)
{
    const __m512d time = _mm512_set1_pd(now);
    __m512d high = _mm512_set1_pd(-1);
    uint32_t n = lines->n_slots;
    uint64_t bars = find_pinned(pinned, n);
    double stands[BLOCK];
    if (n <= LANES) {
        high = stand_or_due(lines, 0, time, bars);
        __m512d near = _mm512_set1_pd(_mm512_reduce_max_pd(high) * MOE_LINES_NEAR);
        return _mm512_cmp_pd_mask(high, near, _CMP_GE_OQ) & moe_lines_first(n);
    }
    for (uint32_t i = 0; i < n; i += 4 * LANES, bars >>= 4 * LANES) {
        __m512d v[4];
        for (uint32_t k = 0; k < 4; k++) {
            v[k] = stand_or_due(lines, i + k * LANES, time, bars >> k * LANES);
            _mm512_storeu_pd(stands + i + (size_t)k * LANES, v[k]);
        }
        __m512d low = _mm512_max_pd(v[0], v[1]);
        high = _mm512_max_pd(high, _mm512_max_pd(low, _mm512_max_pd(v[2], v[3])));
    }
    return above(stands, n, _mm512_reduce_max_pd(high) * MOE_LINES_NEAR);
}

AVX512 static inline __m512d stand_at(const double *last, const double *slope, __m512d time,
                                      uint64_t bars)
{
    __m512d age = _mm512_sub_pd(time, _mm512_loadu_pd(last));
    return _mm512_mask_mul_pd(_mm512_set1_pd(-1), (__mmask8)~bars, age, _mm512_loadu_pd(slope));
}

AVX512 static uint64_t oldest(const double *last, const double *slope, uint32_t n, double now,
                              const uint8_t *pinned, uint64_t barred, double *most)
{
    const __m512d time = _mm512_set1_pd(now);
    __m512d high = _mm512_set1_pd(-1);
    uint64_t bars = pinned ? find_pinned(pinned, n) : barred | ~moe_lines_first(n);
    double stands[BLOCK];
    if (n <= LANES) {
        high = stand_at(last, slope, time, bars);
        *most = _mm512_reduce_max_pd(high);
        return _mm512_cmp_pd_mask(high, _mm512_set1_pd(*most * MOE_LINES_NEAR), _CMP_GE_OQ) &
               moe_lines_first(n);
    }
    for (uint32_t i = 0; i < n; i += 4 * LANES, bars >>= 4 * LANES) {
        __m512d v[4];
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t at = i + k * LANES;
            v[k] = stand_at(last + at, slope + at, time, bars >> k * LANES);
            _mm512_storeu_pd(stands + at, v[k]);
        }
        __m512d low = _mm512_max_pd(v[0], v[1]);
        high = _mm512_max_pd(high, _mm512_max_pd(low, _mm512_max_pd(v[2], v[3])));
    }
    *most = _mm512_reduce_max_pd(high);
    return above(stands, n, *most * MOE_LINES_NEAR);
}

AVX512 static uint32_t between(const double *time, uint32_t n, double after, double until,
                               uint32_t *found)
{
    const __m512d low = _mm512_set1_pd(after), high = _mm512_set1_pd(until);
    const __m512i step = _mm512_set1_epi32(2 * LANES);
    __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i += 2 * LANES) {
        __m512d v = _mm512_loadu_pd(time + i), w = _mm512_loadu_pd(time + i + LANES);
        __mmask8 a = _mm512_cmp_pd_mask(v, low, _CMP_GT_OQ);
        __mmask8 b = _mm512_cmp_pd_mask(w, low, _CMP_GT_OQ);
        a = _mm512_mask_cmp_pd_mask(a, v, high, _CMP_LE_OQ);
        b = _mm512_mask_cmp_pd_mask(b, w, high, _CMP_LE_OQ);
        __mmask16 in = _mm512_kunpackb(b, a);
        _mm512_storeu_si512(found + n_found, _mm512_maskz_compress_epi32(in, index));
        n_found += (uint32_t)__builtin_popcount(in);
        index = _mm512_add_epi32(index, step);
    }
    return n_found;
}

/* Each lane is a part. */
AVX512 static void find_parts(const double *last, const double *weight, uint32_t n, double now,
                              double part[MOE_LINES_PARTS])
{
    const __m512d time = _mm512_set1_pd(now);
    __m512d high = _mm512_setzero_pd();
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512d age = _mm512_sub_pd(time, _mm512_loadu_pd(last + i));
        high = _mm512_max_pd(high, _mm512_div_pd(age, _mm512_loadu_pd(weight + i)));
    }
    _mm512_storeu_pd(part, high);
}

AVX512 static void pass_level(const double *last, const double *weight, uint32_t n, double level,
                              double *pass)
{
    const __m512d height = _mm512_set1_pd(level);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512d rise = _mm512_mul_pd(height, _mm512_loadu_pd(weight + i));
        _mm512_storeu_pd(pass + i, _mm512_add_pd(_mm512_loadu_pd(last + i), rise));
    }
}

const struct moe_lines_loops *moe_lines_avx512(void)
{
    static const struct moe_lines_loops loops = {highest, oldest, between, find_parts, pass_level};
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx512(void)
{
    return NULL;
}

#endif
