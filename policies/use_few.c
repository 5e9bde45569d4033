#include "policies/use_few.h"

#ifdef __x86_64__
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,bmi,popcnt")))
#define HAS_AVX2                                                                                   \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&                            \
     __builtin_cpu_supports("popcnt"))
#else
#define AVX2
#define HAS_AVX2 false
#endif

enum {
    LANES = 8,
    MAX_ROW = 64, /* bits of a word */
};

#define NONE MOE_USE_NONE
#define IDLE MOE_FEW_IDLE

static uint32_t round_up(uint32_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

static uint32_t count_row(const struct moe_policy_env *env)
{
    return round_up(env->n_slots + env->n_experts + 1);
}

size_t moe_few_size(const struct moe_policy_env *env)
{
    return (2 * (size_t)count_row(env) + LANES) * sizeof(uint32_t);
}

/* Residents and the newcomers of an event must fit one vector, and each candidate of a group of one
 * or two must save something; usually no group is larger. */
static bool suits(const struct moe_policy_env *env, const struct moe_use_times *times)
{
    uint32_t top_k = env->top_k;
    return top_k >= 2 && env->n_slots + top_k <= LANES && count_row(env) <= MAX_ROW &&
           moe_use_saved_by_each(times, top_k, 1, 1) > 0 &&
           moe_use_saved_by_each(times, top_k, 2, 2) > 0;
}

void moe_few_init(struct moe_use_few *few, const struct moe_policy_env *env,
                  const struct moe_use_times *times, void *memory)
{
    uint32_t row = count_row(env);
    *few = (struct moe_use_few){
        .in_use = HAS_AVX2 && suits(env, times),
        .times = *times,
        .n_slots = env->n_slots,
        .top_k = env->top_k,
        .row = row,
        .end = env->n_slots,
        .value_alone = moe_use_saved_by_each(times, env->top_k, 1, 1),
        .value_of_two = moe_use_saved_by_each(times, env->top_k, 2, 2),
        .use = memory,
        .gone = (uint32_t *)memory + row + LANES,
    };
}

/* Events for which a slot is held until the next use. */
static double held(uint32_t key, uint32_t now)
{
    return key > now + 1 ? (double)(key - 1 - now) : 1;
}

static bool may_go(const struct moe_use_few *few, uint32_t i, const uint8_t *pinned)
{
    return i >= few->n_slots || !(pinned[i] & ~MOE_PIN_EVENT);
}

/* A group in the comparison. */
struct rival {
    uint32_t key, member; /* key 0: none; member: the candidate that would go, or NONE */
    double value, held;
};

static bool b_goes_first(const struct rival *a, const struct rival *b)
{
    double left = b->value * a->held, right = a->value * b->held;
    return a->key == 0 || left < right || (left == right && b->key > a->key);
}

/* --- all groups, one after the other --------------------------------------------------------- */

/* The highest of n keys that is at most `limit`, or 0. */
AVX2 static uint32_t highest_up_to(const uint32_t *use, uint32_t n, uint32_t limit)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = use[i] <= limit ? use[i] : 0;
        most = key > most ? key : most;
    }
    return most;
}

AVX2 static uint64_t bits_with(const uint32_t *use, uint32_t n, uint32_t key)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++)
        bits |= (uint64_t)(use[i] == key) << i;
    return bits;
}

AVX2 static uint32_t count_with(const uint32_t *use, uint32_t n, uint32_t key)
{
    return (uint32_t)__builtin_popcountll(bits_with(use, n, key));
}

AVX2 uint32_t moe_few_sharing(const struct moe_use_few *few, uint32_t i)
{
    uint32_t key = moe_few_key_of(few, i), n = round_up(few->end);
    uint32_t gone = few->n_gone > 0 ? count_with(few->gone, n, key) : 0;
    return key == IDLE ? 1 : gone + count_with(few->use, n, key);
}

static double value_of(const struct moe_use_few *few, uint32_t key, uint32_t n_kept)
{
    uint32_t n = n_kept;
    if (key == IDLE)
        return 0;
    if (few->n_gone > 0)
        n += count_with(few->gone, round_up(few->end), key);
    return moe_use_saved_by_each(&few->times, few->top_k, n, n_kept);
}

AVX2 double moe_few_value(const struct moe_use_few *few, uint32_t i)
{
    uint32_t key = few->use[i];
    return value_of(few, key, count_with(few->use, round_up(few->end), key));
}

/* Which of the members (bits) goes first: a newcomer, then a resident, of either the lowest. NONE:
 * none can go. */
AVX2 static uint32_t pick_member(const struct moe_use_few *few, uint64_t members,
                                 const uint8_t *pinned)
{
    uint64_t newcomers = members >> few->n_slots << few->n_slots;
    for (uint64_t left = newcomers ? newcomers : members; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        if (may_go(few, i, pinned))
            return i;
    }
    return NONE;
}

/* moe_few_first for any number of candidates and groups of any size: compares one group after the
 * other. */
AVX2 static __attribute__((noinline)) uint32_t search(struct moe_use_few *few, uint32_t now,
                                                      const uint8_t *pinned)
{
    struct rival best = {.member = NONE}, stuck = {.member = NONE};
    uint32_t n = round_up(few->end), key;
    for (uint32_t limit = UINT32_MAX; (key = highest_up_to(few->use, n, limit)) > 0;
         limit = key - 1) {
        uint64_t bits = bits_with(few->use, n, key);
        double value = value_of(few, key, (uint32_t)__builtin_popcountll(bits));
        struct rival r = {key, pick_member(few, bits, pinned), value, held(key, now)};
        struct rival *than = r.member == NONE ? &stuck : &best;
        if (b_goes_first(than, &r))
            *than = r;
    }
    few->stuck |= stuck.key > 0 && b_goes_first(&best, &stuck);
    return best.member;
}

/* --- eight at once --------------------------------------------------------------------------- */

#ifdef __x86_64__

AVX2 static inline __m256i load(const uint32_t *use)
{
    return _mm256_loadu_si256((const __m256i *)use);
}

AVX2 static inline uint32_t highest(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* In each lane minus the number of keys in u that equal the one in that lane of `keys`. */
AVX2 static inline __m256i count_same(__m256i u, __m256i keys)
{
    const __m256i turn = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
    __m256i n = _mm256_cmpeq_epi32(u, keys);
    for (int k = 1; k < LANES; k++) {
        u = _mm256_permutevar8x32_epi32(u, turn);
        n = _mm256_add_epi32(n, _mm256_cmpeq_epi32(u, keys));
    }
    return n;
}

/* Is there a group of more than two, those given up included? n: of count_same(u, u). */
AVX2 static inline bool any_of_more(const struct moe_use_few *few, __m256i u, __m256i n)
{
    __m256i all = u;
    if (few->n_gone > 0) {
        all = _mm256_or_si256(u, load(few->gone));
        n = count_same(all, all);
    }
    __m256i more = _mm256_and_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(-2), n), all);
    return !_mm256_testz_si256(more, more);
}

/* moe_few_first for up to eight candidates. While all groups are of one or two, there are only two
 * values, both positive: of each the group that is used last goes first, and these two are
 * compared. */
AVX2 static uint32_t first_of_eight(struct moe_use_few *few, uint32_t now, const uint8_t *pinned)
{
    __m256i u = load(few->use), n = count_same(u, u);
    uint32_t a = highest(_mm256_and_si256(u, _mm256_cmpeq_epi32(n, _mm256_set1_epi32(-1))));
    uint32_t b = highest(_mm256_and_si256(u, _mm256_cmpeq_epi32(n, _mm256_set1_epi32(-2))));
    if (a == IDLE || b == IDLE || (a | b) == 0 || any_of_more(few, u, n))
        return search(few, now, pinned);
    few->pairs_at_most = true;
    double left = few->value_of_two * held(a, now), right = few->value_alone * held(b, now);
    bool second = a == 0 || (b > 0 && (left < right || (left == right && b > a)));
    __m256i same = _mm256_cmpeq_epi32(u, _mm256_set1_epi32((int)(second ? b : a)));
    uint32_t bits = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same));
    uint32_t i = pick_member(few, bits, pinned);
    return i != NONE ? i : search(few, now, pinned);
}

uint32_t moe_few_first(struct moe_use_few *few, uint32_t now, const uint8_t *pinned)
{
    return few->end <= LANES ? first_of_eight(few, now, pinned) : search(few, now, pinned);
}

#else

uint32_t moe_few_first(struct moe_use_few *few, uint32_t now, const uint8_t *pinned)
{
    return search(few, now, pinned);
}

#endif
