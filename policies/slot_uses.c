#include "policies/slot_uses.h"

static const struct moe_uses_loops plain = {moe_uses_last, moe_uses_count};

#ifdef __x86_64__
#include <immintrin.h>

enum { LANES = MOE_USES_LANES };

#define AVX2 __attribute__((target("avx2")))

/* Eight next uses, 0 where the slot has a pin of `forbids`. */
AVX2 static inline __m256i allowed(const uint32_t *use, const uint8_t *pinned, __m256i forbids)
{
    __m256i pins = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)pinned));
    __m256i free = _mm256_cmpeq_epi32(_mm256_and_si256(pins, forbids), _mm256_setzero_si256());
    return _mm256_and_si256(_mm256_loadu_si256((const __m256i *)use), free);
}

AVX2 static inline uint32_t highest(__m256i v)
{
    __m128i high = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    high = _mm_max_epu32(high, _mm_shuffle_epi32(high, 0x4e));
    high = _mm_max_epu32(high, _mm_shuffle_epi32(high, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(high);
}

AVX2 static moe_slot last_avx2(const uint32_t *use, uint32_t n, const uint8_t *pinned,
                               uint8_t forbids)
{
    const __m256i bars = _mm256_set1_epi32(forbids);
    __m256i high = _mm256_setzero_si256();
    uint32_t whole = n / LANES * LANES, most;
    for (uint32_t i = 0; i < whole; i += LANES)
        high = _mm256_max_epu32(high, allowed(use + i, pinned + i, bars));
    most = highest(high);
    for (uint32_t i = whole; i < n; i++)
        if (use[i] > most && !(pinned[i] & forbids))
            most = use[i];
    if (most == 0) /* either all next uses are 0, or no slot is allowed: the plain scan tells */
        return moe_uses_last(use, n, pinned, forbids);
    const __m256i level = _mm256_set1_epi32((int)most);
    for (uint32_t i = 0; i < whole; i += LANES) {
        __m256i same = _mm256_cmpeq_epi32(allowed(use + i, pinned + i, bars), level);
        uint32_t found = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same));
        if (found)
            return (moe_slot)(i + (uint32_t)__builtin_ctz(found));
    }
    while (use[whole] != most || (pinned[whole] & forbids))
        whole++;
    return (moe_slot)whole;
}

AVX2 static uint32_t count_avx2(const uint32_t *use, uint32_t n, const uint8_t *pinned,
                                uint8_t forbids, uint32_t next_use)
{
    const __m256i bars = _mm256_set1_epi32(forbids), least = _mm256_set1_epi32((int)next_use + 1);
    uint32_t whole = next_use == MOE_NEVER ? 0 : n / LANES * LANES, found = 0;
    for (uint32_t i = 0; i < whole; i += LANES) {
        __m256i v = allowed(use + i, pinned + i, bars);
        __m256i later = _mm256_cmpeq_epi32(_mm256_max_epu32(v, least), v);
        found +=
            (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(later)));
    }
    return found + moe_uses_count(use + whole, n - whole, pinned + whole, forbids, next_use);
}

static const struct moe_uses_loops *best_loops(void)
{
    static const struct moe_uses_loops avx2 = {last_avx2, count_avx2};
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") ? &avx2 : &plain;
}

#else

static const struct moe_uses_loops *best_loops(void)
{
    return &plain;
}

#endif

void moe_slot_uses_init(struct moe_slot_uses *uses, const struct moe_policy_env *env, void *memory)
{
    uint32_t quarter = env->n_slots / 4; /* a longer list nearly every hit would enter */
    *uses = (struct moe_slot_uses){
        .n_slots = env->n_slots,
        .loops = best_loops(),
        .use = memory,
        .capacity = quarter < MOE_USES_LATE ? quarter / 2 * 2 : MOE_USES_LATE,
        .threshold = env->n_slots <= MOE_USES_SMALL ? UINT64_MAX : 0, /* small: nothing enters */
    };
    memset(uses->use, 0, env->n_slots * sizeof *uses->use);
}
