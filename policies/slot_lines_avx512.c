#include "policies/slot_lines_loops.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_LINES_MAX, LANES = 8, FLOATS = 16 };

#define AVX512 __attribute__((target("avx512f,avx512bw")))

/* The pinned of n slots, with the bits from n on set as well. */
AVX512 static inline uint64_t find_pinned(const uint8_t *pinned, uint32_t n)
{
    uint64_t there = moe_lines_first(n);
    __m512i bytes = _mm512_maskz_loadu_epi8(there, pinned);
    return _mm512_test_epi8_mask(bytes, bytes) | ~there;
}

/* Four vectors at a time, so that few branches depend on n. */
AVX512 static inline uint64_t at_least(const double *priority, uint32_t n, double least)
{
    const __m512d level = _mm512_set1_pd(least);
    uint64_t found = 0;
    for (uint32_t i = 0; i < n; i += 4 * LANES) {
        const double *at = priority + i;
        __mmask8 a = _mm512_cmp_pd_mask(_mm512_loadu_pd(at), level, _CMP_GE_OQ);
        __mmask8 b = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + LANES), level, _CMP_GE_OQ);
        __mmask8 c = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + (size_t)2 * LANES), level, _CMP_GE_OQ);
        __mmask8 d = _mm512_cmp_pd_mask(_mm512_loadu_pd(at + (size_t)3 * LANES), level, _CMP_GE_OQ);
        __mmask32 all = _mm512_kunpackw(_mm512_kunpackb(d, c), _mm512_kunpackb(b, a));
        found |= (uint64_t)all << i;
    }
    return found & moe_lines_first(n);
}

/* The priorities of slots at .. at + 7; -1 where the lowest bits of `skips` are set. */
AVX512 static inline __m512d priority_at(const struct moe_slot_lines *lines, uint32_t at,
                                         __m512d time, uint64_t skips)
{
    __m512d left = _mm512_sub_pd(_mm512_loadu_pd(lines->due + at), time);
    __mmask8 past = _mm512_cmp_pd_mask(left, _mm512_setzero_pd(), _CMP_LT_OQ);
    __m512d v = _mm512_mask_sub_pd(left, past, time, _mm512_loadu_pd(lines->last + at));
    return _mm512_mask_mov_pd(v, (__mmask8)skips, _mm512_set1_pd(-1));
}

AVX512 static uint64_t highest(const struct moe_slot_lines *lines, double now,
                               const uint8_t *pinned)
{
    const __m512d time = _mm512_set1_pd(now);
    __m512d high = _mm512_set1_pd(-1);
    uint32_t n = lines->n_slots;
    uint64_t skips = find_pinned(pinned, n);
    double priority[BLOCK];
    if (n <= LANES) {
        high = priority_at(lines, 0, time, skips);
        __m512d near = _mm512_set1_pd(_mm512_reduce_max_pd(high) * MOE_LINES_NEAR);
        return _mm512_cmp_pd_mask(high, near, _CMP_GE_OQ) & moe_lines_first(n);
    }
    for (uint32_t i = 0; i < n; i += 4 * LANES, skips >>= 4 * LANES) {
        __m512d v[4];
        for (uint32_t k = 0; k < 4; k++) {
            v[k] = priority_at(lines, i + k * LANES, time, skips >> k * LANES);
            _mm512_storeu_pd(priority + i + (size_t)k * LANES, v[k]);
        }
        __m512d low = _mm512_max_pd(v[0], v[1]);
        high = _mm512_max_pd(high, _mm512_max_pd(low, _mm512_max_pd(v[2], v[3])));
    }
    return at_least(priority, n, _mm512_reduce_max_pd(high) * MOE_LINES_NEAR);
}

AVX512 static inline __m512 age_at(const uint32_t *last, __m512i time)
{
    return _mm512_cvtepu32_ps(_mm512_sub_epi32(time, _mm512_loadu_si512(last)));
}

/* Ages times slopes of 16 slots; -1 where the lowest bits of `skips` are set. */
AVX512 static inline __m512 scaled_age(const uint32_t *last, const float *slope, __m512i time,
                                       uint64_t skips)
{
    return _mm512_mask_mul_ps(_mm512_set1_ps(-1), (__mmask16)~skips, age_at(last, time),
                              _mm512_loadu_ps(slope));
}

/* One vector or all four of the block, so that no other branch depends on n. */
AVX512 static uint64_t oldest(const uint32_t *last, const float *slope, uint32_t n, uint32_t now,
                              const uint8_t *pinned, uint64_t skipped, float *most)
{
    const __m512i time = _mm512_set1_epi32((int)now);
    uint64_t skips = pinned ? find_pinned(pinned, n) : skipped | ~moe_lines_first(n);
    __m512 a = scaled_age(last, slope, time, skips), b, c, d;
    if (n <= FLOATS) {
        *most = _mm512_reduce_max_ps(a);
        return _mm512_cmp_ps_mask(a, _mm512_set1_ps(*most * MOE_AGES_NEAR), _CMP_GE_OQ) &
               moe_lines_first(n);
    }
    const size_t two = (size_t)2 * FLOATS, three = (size_t)3 * FLOATS;
    b = scaled_age(last + FLOATS, slope + FLOATS, time, skips >> FLOATS);
    c = scaled_age(last + two, slope + two, time, skips >> two);
    d = scaled_age(last + three, slope + three, time, skips >> three);
    *most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
    const __m512 near = _mm512_set1_ps(*most * MOE_AGES_NEAR);
    __mmask32 low = _mm512_kunpackw(_mm512_cmp_ps_mask(b, near, _CMP_GE_OQ),
                                    _mm512_cmp_ps_mask(a, near, _CMP_GE_OQ));
    __mmask32 high = _mm512_kunpackw(_mm512_cmp_ps_mask(d, near, _CMP_GE_OQ),
                                     _mm512_cmp_ps_mask(c, near, _CMP_GE_OQ));
    return _mm512_kunpackd(high, low) & moe_lines_first(n);
}

AVX512 static uint32_t reach(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                             float level, uint32_t *found)
{
    const __m512i time = _mm512_set1_epi32((int)now), step = _mm512_set1_epi32(FLOATS);
    const __m512 height = _mm512_set1_ps(level);
    __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    uint32_t n_found = 0;
    for (uint32_t i = 0; i < n; i += FLOATS) {
        __m512 least = _mm512_mul_ps(height, _mm512_loadu_ps(weight + i));
        __mmask16 in = _mm512_cmp_ps_mask(age_at(last + i, time), least, _CMP_GE_OQ);
        _mm512_storeu_si512(found + n_found, _mm512_maskz_compress_epi32(in, index));
        n_found += (uint32_t)__builtin_popcount(in);
        index = _mm512_add_epi32(index, step);
    }
    return n_found;
}

/* Lanes i and i + 8 belong to part i. */
AVX512 static void find_parts(const uint32_t *last, const float *weight, uint32_t n, uint32_t now,
                              float part[MOE_LINES_PARTS])
{
    const __m512i time = _mm512_set1_epi32((int)now);
    __m512 high = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i += FLOATS) {
        __m512 priority = _mm512_div_ps(age_at(last + i, time), _mm512_loadu_ps(weight + i));
        high = _mm512_max_ps(high, priority);
    }
    __m512 upper = _mm512_shuffle_f32x4(high, high, 0xEE);
    _mm256_storeu_ps(part, _mm512_castps512_ps256(_mm512_max_ps(high, upper)));
}

const struct moe_lines_loops *moe_lines_avx512(void)
{
    static const struct moe_lines_loops loops = {highest, oldest, reach, find_parts};
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? &loops : NULL;
}

#else

const struct moe_lines_loops *moe_lines_avx512(void)
{
    return NULL;
}

#endif
