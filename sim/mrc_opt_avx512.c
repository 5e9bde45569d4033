#include "sim/mrc_opt_pass.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { BLOCK = MOE_OPT_BLOCK, GROUP = MOE_OPT_GROUP, LAST = 15 };

#define AVX512 __attribute__((target("avx512f")))

/* Lane i: lane i - 1 of v; lane 0: the last lane of `first`. */
AVX512 static inline __m512i moved_up(__m512i v, __m512i first)
{
    return _mm512_alignr_epi32(v, first, LAST);
}

/* Lane i of every lane. */
AVX512 static inline __m512i lane(__m512i v, uint32_t i)
{
    return _mm512_permutexvar_epi32(_mm512_set1_epi32((int)i), v);
}

/* Who comes to each place or block, when each keeps the sooner and hands on the later. */
AVX512 static inline __m512i who_comes(__m512i here, __m512i comer)
{
    const __m512i none = _mm512_setzero_si512();
    __m512i v = moved_up(here, comer);
    v = _mm512_max_epu32(v, _mm512_alignr_epi32(v, none, LAST));
    v = _mm512_max_epu32(v, _mm512_alignr_epi32(v, none, 14));
    v = _mm512_max_epu32(v, _mm512_alignr_epi32(v, none, 12));
    return _mm512_max_epu32(v, _mm512_alignr_epi32(v, none, 8));
}

/* The greatest and the least, in every lane. */
AVX512 static inline __m512i greatest(__m512i v)
{
    v = _mm512_max_epu32(v, _mm512_shuffle_i64x2(v, v, 0x4e));
    v = _mm512_max_epu32(v, _mm512_shuffle_i64x2(v, v, 0xb1));
    v = _mm512_max_epu32(v, _mm512_shuffle_epi32(v, 0x4e));
    return _mm512_max_epu32(v, _mm512_shuffle_epi32(v, 0xb1));
}

AVX512 static inline __m512i least(__m512i v)
{
    v = _mm512_min_epu32(v, _mm512_shuffle_i64x2(v, v, 0x4e));
    v = _mm512_min_epu32(v, _mm512_shuffle_i64x2(v, v, 0xb1));
    v = _mm512_min_epu32(v, _mm512_shuffle_epi32(v, 0x4e));
    return _mm512_min_epu32(v, _mm512_shuffle_epi32(v, 0xb1));
}

/* The one lane `b` of v is that of w. */
AVX512 static inline __m512i with_lane(__m512i v, uint32_t b, __m512i w)
{
    return _mm512_mask_mov_epi32(v, (__mmask16)(1u << b), w);
}

/* Everyone in the block meets the newcomer; returns the block's greatest then. */
AVX512 static inline __m512i pass_block(uint32_t *place, __m512i comer)
{
    __m512i here = _mm512_loadu_si512(place);
    __m512i stays = _mm512_min_epu32(here, who_comes(here, comer));
    _mm512_storeu_si512(place, stays);
    return greatest(stays);
}

/* The same down to the place of somebody due now, who leaves it; returns the block's least then. */
AVX512 static inline __m512i end_in_block(uint32_t *place, __m512i comer, __m512i now, uint32_t *at)
{
    __m512i here = _mm512_loadu_si512(place), come = who_comes(here, comer);
    *at = (uint32_t)__builtin_ctz(_mm512_cmpeq_epi32_mask(here, now));
    __m512i stays = _mm512_mask_min_epu32(here, (__mmask16)((1u << *at) - 1), here, come);
    stays = with_lane(stays, *at, come);
    _mm512_storeu_si512(place, stays);
    return least(stays);
}

/* Through a group of blocks, of which it changes some; `due`: those where somebody is due now, of
 * which the first ends the way. Returns who goes on, or with *place the place that it ends at. */
AVX512 static inline __m512i pass_group(struct moe_opt_stack *st, uint32_t group, __m512i comer,
                                        __m512i now, uint32_t due, uint32_t *place)
{
    uint32_t *next_use = st->next_use + (size_t)group * BLOCK, at;
    __m512i low = _mm512_loadu_si512(st->low + group), high = _mm512_loadu_si512(st->high + group);
    __m512i come = who_comes(high, comer), sums = _mm512_max_epu32(come, high);
    uint32_t end = (uint32_t)__builtin_ctz(due | 1u << GROUP), before = (1u << end) - 1;
    uint32_t bits = _mm512_cmpgt_epu32_mask(high, come) & before;
    low = _mm512_mask_min_epu32(low, (__mmask16)before, low, come);
    for (; bits; bits &= bits - 1) {
        uint32_t b = (uint32_t)__builtin_ctz(bits);
        high = with_lane(high, b, pass_block(next_use + (size_t)b * BLOCK, lane(come, b)));
    }
    if (due) {
        __m512i soonest = end_in_block(next_use + (size_t)end * BLOCK, lane(come, end), now, &at);
        low = with_lane(low, end, soonest);
        high = with_lane(high, end, sums);
        *place = (group + end) * BLOCK + at + 1;
    }
    _mm512_storeu_si512(st->low + group, low);
    _mm512_storeu_si512(st->high + group, high);
    return lane(sums, LAST);
}

AVX512 uint32_t moe_opt_pass_avx512(struct moe_opt_stack *st, uint32_t comer, uint32_t now)
{
    const __m512i never = _mm512_set1_epi32(-1); /* MOE_NEVER */
    __m512i who = _mm512_set1_epi32((int)comer), due_now = _mm512_set1_epi32((int)now);
    for (uint32_t group = 0; group < st->n_blocks; group += GROUP) {
        uint32_t place = 0;
        uint32_t due = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(st->low + group), due_now);
        uint32_t later = _mm512_cmpgt_epu32_mask(_mm512_loadu_si512(st->high + group), who);
        if (due | later) {
            who = pass_group(st, group, who, due_now, due, &place);
            if (due)
                return place;
        }
        if (now == MOE_OPT_NOT_DUE && _mm512_cmpeq_epi32_mask(who, never))
            break;
    }
    return MOE_MRC_NOWHERE;
}

bool moe_opt_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

#else

uint32_t moe_opt_pass_avx512(struct moe_opt_stack *st, uint32_t comer, uint32_t now)
{
    return moe_opt_pass_plain(st, comer, now);
}

bool moe_opt_has_avx512(void)
{
    return false;
}

#endif
