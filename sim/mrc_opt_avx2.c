#include "sim/mrc_opt_pass.h"

#include "policies/policy.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_OPT_BLOCK, GROUP = MOE_OPT_GROUP, LANES = 8 };

#define AVX2 __attribute__((target("avx2")))

/* Sixteen numbers: the places of a block, or one number of each block of a group. */
struct row {
    __m256i a, b;
};

AVX2 static inline struct row row_load(const uint32_t *from)
{
    const __m256i *v = (const __m256i *)from;
    return (struct row){_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}

AVX2 static inline void row_store(uint32_t *to, struct row r)
{
    _mm256_storeu_si256((__m256i *)to, r.a);
    _mm256_storeu_si256((__m256i *)to + 1, r.b);
}

AVX2 static inline struct row row_min(struct row x, struct row y)
{
    return (struct row){_mm256_min_epu32(x.a, y.a), _mm256_min_epu32(x.b, y.b)};
}

AVX2 static inline struct row row_max(struct row x, struct row y)
{
    return (struct row){_mm256_max_epu32(x.a, y.a), _mm256_max_epu32(x.b, y.b)};
}

AVX2 static inline struct row row_equal(struct row x, struct row y)
{
    return (struct row){_mm256_cmpeq_epi32(x.a, y.a), _mm256_cmpeq_epi32(x.b, y.b)};
}

/* Of y where the mask is set, else of x. */
AVX2 static inline struct row row_blend(struct row x, struct row y, struct row mask)
{
    return (struct row){_mm256_blendv_epi8(x.a, y.a, mask.a), _mm256_blendv_epi8(x.b, y.b, mask.b)};
}

AVX2 static inline struct row row_all(uint32_t n)
{
    __m256i v = _mm256_set1_epi32((int)n);
    return (struct row){v, v};
}

AVX2 static inline struct row row_numbers(void)
{
    return (struct row){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                        _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}

AVX2 static inline struct row row_before(uint32_t at)
{
    struct row n = row_numbers(), stop = row_all(at);
    return (struct row){_mm256_cmpgt_epi32(stop.a, n.a), _mm256_cmpgt_epi32(stop.b, n.b)};
}

/* The mask as bits. */
AVX2 static inline uint32_t row_bits(struct row mask)
{
    uint32_t a = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(mask.a));
    return a | (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(mask.b)) << LANES;
}

/* The greatest and the least, in every lane. */
AVX2 static inline struct row row_greatest(struct row r)
{
    __m256i v = _mm256_max_epu32(r.a, r.b);
    v = _mm256_max_epu32(v, _mm256_permute2x128_si256(v, v, 0x01));
    v = _mm256_max_epu32(v, _mm256_shuffle_epi32(v, 0x4e));
    v = _mm256_max_epu32(v, _mm256_shuffle_epi32(v, 0xb1));
    return (struct row){v, v};
}

AVX2 static inline struct row row_least(struct row r)
{
    __m256i v = _mm256_min_epu32(r.a, r.b);
    v = _mm256_min_epu32(v, _mm256_permute2x128_si256(v, v, 0x01));
    v = _mm256_min_epu32(v, _mm256_shuffle_epi32(v, 0x4e));
    v = _mm256_min_epu32(v, _mm256_shuffle_epi32(v, 0xb1));
    return (struct row){v, v};
}

/* Lane i: the greatest of `first` and the lanes before i. */
AVX2 static inline __m256i greatest_before(__m256i v, __m256i first)
{
    const __m256i one = _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6);
    const __m256i two = _mm256_setr_epi32(0, 1, 0, 1, 2, 3, 4, 5);
    v = _mm256_blend_epi32(_mm256_permutevar8x32_epi32(v, one), first, 1);
    v = _mm256_max_epu32(v, _mm256_permutevar8x32_epi32(v, one));
    v = _mm256_max_epu32(v, _mm256_permutevar8x32_epi32(v, two));
    return _mm256_max_epu32(v, _mm256_permute2x128_si256(v, v, 0x00));
}

/* Number of the first one set in the mask; 16: there is none. */
AVX2 static inline uint32_t row_first(struct row mask)
{
    return (uint32_t)__builtin_ctz(row_bits(mask) | 1u << BLOCK);
}

/* What comes to each place or block when each keeps the sooner one and hands on the later. */
AVX2 static inline struct row who_comes(struct row here, __m256i comer)
{
    const __m256i last = _mm256_set1_epi32(LANES - 1);
    __m256i a = greatest_before(here.a, comer);
    __m256i on = _mm256_permutevar8x32_epi32(_mm256_max_epu32(a, here.a), last);
    __m256i b = greatest_before(here.b, _mm256_setzero_si256());
    return (struct row){a, _mm256_max_epu32(b, on)};
}

/* A newcomer passes through a block; returns the block's new greatest. */
AVX2 static inline struct row pass_block(uint32_t *place, uint32_t comer)
{
    struct row here = row_load(place);
    struct row stays = row_min(here, who_comes(here, _mm256_set1_epi32((int)comer)));
    row_store(place, stays);
    return row_greatest(stays);
}

/* The same down to place *at, which a key that is due now leaves; returns the block's new least. */
AVX2 static inline struct row end_in_block(uint32_t *place, uint32_t comer, uint32_t now,
                                           uint32_t *at)
{
    struct row here = row_load(place);
    *at = row_first(row_equal(here, row_all(now)));
    struct row come = who_comes(here, _mm256_set1_epi32((int)comer));
    struct row stays = row_blend(here, row_min(here, come), row_before(*at));
    stays = row_blend(stays, come, row_equal(row_numbers(), row_all(*at)));
    row_store(place, stays);
    return row_least(stays);
}

/* Is there no block in the group that the newcomer changes? */
AVX2 static inline bool goes_by(const uint32_t *low, const uint32_t *high, uint32_t comer,
                                uint32_t now)
{
    struct row h = row_load(high), who = row_all(comer);
    struct row due = row_equal(row_load(low), row_all(now));
    __m256i later = _mm256_max_epu32(_mm256_max_epu32(h.a, h.b), who.a);
    __m256i quiet =
        _mm256_andnot_si256(_mm256_or_si256(due.a, due.b), _mm256_cmpeq_epi32(later, who.a));
    return _mm256_movemask_epi8(quiet) == -1;
}

/* A newcomer passes through a group of blocks, some of which it changes. The blocks' least and
 * greatest are collected in vectors and stored as such: a vector that is loaded soon after single
 * numbers were stored into its place has to wait for them. Returns the one that goes on, or sets
 * *place to the position that a key due now has left, where the pass ends. */
AVX2 static inline uint32_t pass_group(struct moe_opt_stack *st, uint32_t group, uint32_t comer,
                                       uint32_t now, uint32_t *place)
{
    uint32_t *next_use = st->next_use + (size_t)group * BLOCK, comers[GROUP], at;
    struct row low = row_load(st->low + group), high = row_load(st->high + group);
    struct row come = who_comes(high, _mm256_set1_epi32((int)comer)), sums = row_max(come, high);
    uint32_t end = row_first(row_equal(low, row_all(now)));
    struct row before = row_before(end);
    uint32_t bits = ~row_bits(row_equal(sums, come)) & row_bits(before);
    row_store(comers, come);
    low = row_blend(low, row_min(low, come), before);
    for (; bits; bits &= bits - 1) {
        uint32_t b = (uint32_t)__builtin_ctz(bits);
        struct row greatest = pass_block(next_use + (size_t)b * BLOCK, comers[b]);
        high = row_blend(high, greatest, row_equal(row_numbers(), row_all(b)));
    }
    if (end < GROUP) {
        struct row here = row_equal(row_numbers(), row_all(end));
        low = row_blend(low, end_in_block(next_use + (size_t)end * BLOCK, comers[end], now, &at),
                        here);
        high = row_blend(high, sums, here);
        *place = (group + end) * BLOCK + at + 1;
    }
    row_store(st->low + group, low);
    row_store(st->high + group, high);
    return (uint32_t)_mm256_extract_epi32(sums.b, LANES - 1);
}

AVX2 static uint32_t pass_one(struct moe_opt_stack *st, uint32_t comer, uint32_t now)
{
    for (uint32_t group = 0; group < st->n_blocks; group += GROUP) {
        uint32_t place = 0;
        if (!goes_by(st->low + group, st->high + group, comer, now)) {
            comer = pass_group(st, group, comer, now, &place);
            if (place)
                return place;
        }
        if (comer == MOE_NEVER && now == MOE_OPT_NOT_DUE)
            break;
    }
    return MOE_MRC_NOWHERE;
}

AVX2 uint32_t moe_opt_pass_avx2(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                                uint32_t now, uint32_t n_due, uint32_t *position)
{
    uint32_t n_found = n < n_due ? n : n_due;
    for (uint32_t i = 0; i < n_found; i++)
        position[i] = pass_one(st, comer[i], now);
    for (uint32_t i = n_found; i < n; i++)
        pass_one(st, comer[i], MOE_OPT_NOT_DUE);
    return n_found;
}

bool moe_opt_has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

#else

uint32_t moe_opt_pass_avx2(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                           uint32_t now, uint32_t n_due, uint32_t *position)
{
    return moe_opt_pass_plain(st, comer, n, now, n_due, position);
}

bool moe_opt_has_avx2(void)
{
    return false;
}

#endif
