#include "policies/mean_slots.h"

#include "policies/score_loops.h"

enum { MAX = MOE_MEAN_SLOTS_MAX };

/* Victims k to n - 1, one by one; `gone` has a bit for each slot that is out of the question. */
static __attribute__((noinline)) void find_from(const struct moe_mean_slots *slots,
                                                const float *mean, uint64_t gone,
                                                const uint8_t *pinned, uint32_t k, uint32_t n,
                                                moe_slot *slot)
{
    uint32_t turn[MAX];
    for (uint32_t s = 0; s < slots->n_slots; s++)
        turn[s] = moe_turn(((const moe_float_bits *)mean)[slots->at[s]]);
    for (; k < n; k++) {
        moe_slot best = MOE_NO_SLOT;
        for (uint32_t s = 0; s < slots->n_slots; s++)
            if (!pinned[s] && !(gone >> s & 1) &&
                (best == MOE_NO_SLOT || turn[s] > turn[best] ||
                 (turn[s] == turn[best] && slots->since[s] < slots->since[best])))
                best = (moe_slot)s;
        gone |= best != MOE_NO_SLOT ? (uint64_t)1 << best : 0;
        slot[k] = best;
    }
}

void moe_mean_slots_plain(const struct moe_mean_slots *slots, const float *mean,
                          const uint8_t *pinned, uint32_t n, moe_slot *slot)
{
    find_from(slots, mean, 0, pinned, 0, n, slot);
}

#ifdef __x86_64__
#include <immintrin.h>

enum { LANES = 8, BLOCKS = MAX / LANES };

#define AVX2   __attribute__((target("avx2,bmi")))
#define INLINE static inline __attribute__((always_inline))

/* The turns (moe_turn) of a block of slots; 0 in lanes without a slot. */
AVX2 INLINE __m256i turns_at(const struct moe_mean_slots *slots, const float *mean, uint32_t b)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const int32_t *at = (const int32_t *)slots->at + (size_t)b * LANES; /* slower with gathers */
    const moe_float_bits *all = (const moe_float_bits *)mean;
    __m256i bits = _mm256_setr_epi32(all[at[0]], all[at[1]], all[at[2]], all[at[3]], all[at[4]],
                                     all[at[5]], all[at[6]], all[at[7]]);
    __m256i positive = _mm256_cmpgt_epi32(bits, _mm256_set1_epi32(-1));
    __m256i flip = _mm256_and_si256(positive, _mm256_set1_epi32(INT32_MAX));
    __m256i left = _mm256_set1_epi32((int)slots->n_slots - (int)(b * LANES));
    return _mm256_and_si256(_mm256_xor_si256(bits, flip), _mm256_cmpgt_epi32(left, lane));
}

/* The highest turn, in every lane. */
AVX2 INLINE __m256i highest(const __m256i *turn, uint32_t n_blocks)
{
    __m256i most = turn[0];
    for (uint32_t b = 1; b < n_blocks; b++)
        most = _mm256_max_epu32(most, turn[b]);
    most = _mm256_max_epu32(most, _mm256_permute2x128_si256(most, most, 1));
    most = _mm256_max_epu32(most, _mm256_shuffle_epi32(most, 0x4e));
    return _mm256_max_epu32(most, _mm256_shuffle_epi32(most, 0xb1));
}

/* All victims from one load of the turns. If several slots share the highest turn, the rest is
 * found one by one. */
AVX2 INLINE void find_blocks(const struct moe_mean_slots *slots, const float *mean,
                             uint32_t n_blocks, const uint8_t *pinned, uint32_t n, moe_slot *slot)
{
    __m256i turn[BLOCKS];
    for (uint32_t b = 0; b < n_blocks; b++)
        turn[b] = turns_at(slots, mean, b);
    uint64_t gone = 0;
    for (uint32_t k = 0; k < n;) {
        __m256i most = highest(turn, n_blocks);
        uint64_t bits = 0;
        for (uint32_t b = 0; b < n_blocks; b++) {
            __m256i is_in = _mm256_cmpeq_epi32(turn[b], most);
            turn[b] = _mm256_andnot_si256(is_in, turn[b]);
            bits |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(is_in)) << b * LANES;
        }
        if (bits & (bits - 1)) { /* also if none is left */
            find_from(slots, mean, gone, pinned, k, n, slot);
            return;
        }
        uint32_t s = (uint32_t)__builtin_ctzll(bits);
        gone |= bits;
        slot[k] = (moe_slot)s;
        k += pinned[s] == 0;
    }
}

AVX2 static void find_avx2(const struct moe_mean_slots *slots, const float *mean,
                           const uint8_t *pinned, uint32_t n, moe_slot *slot)
{
    uint32_t n_blocks = (slots->n_slots + LANES - 1) / LANES;
    if (n_blocks == 1)
        find_blocks(slots, mean, 1, pinned, n, slot);
    else if (n_blocks <= 4)
        find_blocks(slots, mean, 4, pinned, n, slot);
    else
        find_blocks(slots, mean, BLOCKS, pinned, n, slot);
}

moe_mean_slots_find *moe_mean_slots_best(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") ? find_avx2
                                                                           : moe_mean_slots_plain;
}

#else

moe_mean_slots_find *moe_mean_slots_best(void)
{
    return moe_mean_slots_plain;
}

#endif
