#include "sim/mrc_opt_pass.h"

#include "policies/policy.h"

#ifdef __x86_64__
#include <immintrin.h>

/* Place i of a group's blocks stands in one vector, and block b in lane b of all of them: so one
 * who comes to each block passes them all at once, without looking which of them change. Blocks are
 * half as large as elsewhere, which is half as long a way through them. */
enum { BLOCK = 8, GROUP = 16, PLACES = BLOCK * GROUP, LANES = 16 };

#define AVX512 __attribute__((target("avx512f")))

/* Lane i: the greatest of the lanes before it. Within each four lanes, then over the fours. */
AVX512 static inline __m512i greatest_before(__m512i v)
{
    const __m512i fourth = _mm512_set_epi32(11, 11, 11, 11, 7, 7, 7, 7, 3, 3, 3, 3, 0, 0, 0, 0);
    const __m512i third = _mm512_set_epi32(7, 7, 7, 7, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i second = _mm512_set_epi32(3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    v = _mm512_max_epu32(v, _mm512_maskz_shuffle_epi32(0xeeee, v, _MM_PERM_CBAA));
    v = _mm512_max_epu32(v, _mm512_maskz_shuffle_epi32(0xcccc, v, _MM_PERM_BAAA));
    __m512i here = _mm512_maskz_shuffle_epi32(0xeeee, v, _MM_PERM_CBAA);
    __m512i one = _mm512_maskz_permutexvar_epi32(0xfff0, fourth, v);
    __m512i two = _mm512_maskz_permutexvar_epi32(0xff00, third, v);
    __m512i three = _mm512_maskz_permutexvar_epi32(0xf000, second, v);
    return _mm512_max_epu32(_mm512_max_epu32(here, one), _mm512_max_epu32(two, three));
}

/* Everyone in the group meets who comes to the block; returns the blocks' greatest then. */
AVX512 static inline __m512i pass_blocks(uint32_t *next_use, __m512i come)
{
    __m512i high = _mm512_setzero_si512();
    for (size_t i = 0; i < BLOCK; i++) {
        __m512i here = _mm512_loadu_si512(next_use + i * GROUP);
        __m512i stays = _mm512_min_epu32(here, come);
        come = _mm512_max_epu32(here, come);
        high = _mm512_max_epu32(high, stays);
        _mm512_storeu_si512(next_use + i * GROUP, stays);
    }
    return high;
}

/* Who is due now leaves. Returns the blocks' least then; the places plus one go to position. */
AVX512 static __m512i free_due(uint32_t *next_use, __m512i now, uint32_t due, uint32_t first,
                               uint32_t *position, uint32_t *n_found)
{
    const __m512i never = _mm512_set1_epi32(-1);
    uint32_t places[GROUP], n = *n_found;
    __m512i least = never, found = _mm512_setzero_si512(), bit = _mm512_set1_epi32(1);
    for (size_t i = 0; i < BLOCK; i++) {
        __m512i here = _mm512_loadu_si512(next_use + i * GROUP);
        __mmask16 leaves = _mm512_cmpeq_epi32_mask(here, now);
        here = _mm512_mask_mov_epi32(here, leaves, never);
        least = _mm512_min_epu32(least, here);
        found = _mm512_mask_or_epi32(found, leaves, found, bit);
        bit = _mm512_slli_epi32(bit, 1);
        _mm512_storeu_si512(next_use + i * GROUP, here);
    }
    _mm512_storeu_si512(places, found);
    for (; due; due &= due - 1) {
        uint32_t b = (uint32_t)__builtin_ctz(due);
        for (uint32_t bits = places[b]; bits; bits &= bits - 1)
            position[n++] = (first + b) * BLOCK + (uint32_t)__builtin_ctz(bits) + 1;
    }
    *n_found = n;
    return least;
}

AVX512 static inline uint32_t last_lane(__m512i v)
{
    return (uint32_t)_mm_extract_epi32(_mm512_extracti32x4_epi32(v, 3), 3);
}

/* Those under way. */
struct going {
    uint32_t *who, n, soonest;
};

/* The one that takes a free place hands on nobody. */
static inline void go_on(struct going *to, uint32_t who)
{
    to->who[to->n] = who;
    to->n += who != MOE_NEVER;
    to->soonest = who < to->soonest ? who : to->soonest;
}

/* All pass the group one by one; is somebody there due now? Who takes a place that has just been
 * left, and who is sooner than the latest there, is told by numbers known before the first of them
 * passes: a branch that waits for the vectors takes longer, and nobody is changed who passes in
 * vain. */
AVX512 static inline struct going pass_group(struct moe_opt_stack *st, uint32_t g,
                                             struct going going, __m512i now, bool is_due,
                                             uint32_t *position, uint32_t *n_found)
{
    uint32_t *next_use = st->next_use + (size_t)g * PLACES;
    __m512i low = _mm512_loadu_si512(st->low + (size_t)g * GROUP);
    __m512i high = _mm512_loadu_si512(st->high + (size_t)g * GROUP);
    struct going on = {.who = going.who, .soonest = MOE_NEVER};
    uint32_t top = st->top[g], left = *n_found;
    if (is_due) {
        uint32_t due = _mm512_cmpeq_epi32_mask(low, now);
        low = free_due(next_use, now, due, g * GROUP, position, n_found);
        high = _mm512_mask_set1_epi32(high, (__mmask16)due, -1);
    }
    left = *n_found - left;
    for (uint32_t i = 0; i < going.n; i++) {
        uint32_t comer = going.who[i];
        if (i < left || comer < top) {
            top = i < left && comer > top ? comer : top;
            __m512i who = _mm512_set1_epi32((int)comer);
            __m512i come = _mm512_max_epu32(greatest_before(high), who);
            comer = last_lane(_mm512_max_epu32(come, high));
            low = _mm512_min_epu32(low, come);
            high = pass_blocks(next_use, come);
        }
        go_on(&on, comer);
    }
    st->least[g] = _mm512_reduce_min_epu32(low);
    st->top[g] = _mm512_reduce_max_epu32(high);
    _mm512_storeu_si512(st->low + (size_t)g * GROUP, low);
    _mm512_storeu_si512(st->high + (size_t)g * GROUP, high);
    return on;
}

/* Groups where somebody is needed later than the soonest of those under way. */
AVX512 static inline uint32_t over(__m512i top, uint32_t soonest)
{
    return _mm512_cmpgt_epu32_mask(top, _mm512_set1_epi32((int)soonest));
}

/* Sixteen groups are looked at together for those to pass: what happens in one changes none below,
 * but who goes on. */
AVX512 uint32_t moe_opt_pass_avx512(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                                    uint32_t now, uint32_t n_due, uint32_t *position)
{
    const __m512i due_now = _mm512_set1_epi32((int)now);
    uint32_t who[MOE_OPT_AT_ONCE], n_groups = st->n_blocks * MOE_OPT_BLOCK / PLACES, n_found = 0;
    struct going going = {.who = who, .soonest = MOE_NEVER};
    for (uint32_t i = 0; i < n; i++)
        go_on(&going, comer[i]);
    for (uint32_t first = 0; first < n_groups && (going.n || n_found < n_due); first += LANES) {
        const __m512i least = _mm512_loadu_si512(st->least + first);
        const __m512i top = _mm512_loadu_si512(st->top + first);
        const uint32_t due = n_due ? _mm512_cmpeq_epi32_mask(least, due_now) : 0;
        uint32_t left = n_groups - first < LANES ? (1U << (n_groups - first)) - 1 : 0xffff, todo;
        while ((todo = (due | over(top, going.soonest)) & left) != 0) {
            uint32_t at = (uint32_t)__builtin_ctz(todo);
            left &= ~1U << at;
            going = pass_group(st, first + at, going, due_now, due >> at & 1, position, &n_found);
        }
    }
    return n_found;
}

bool moe_opt_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

#else

uint32_t moe_opt_pass_avx512(struct moe_opt_stack *st, const uint32_t *comer, uint32_t n,
                             uint32_t now, uint32_t n_due, uint32_t *position)
{
    return moe_opt_pass_plain(st, comer, n, now, n_due, position);
}

bool moe_opt_has_avx512(void)
{
    return false;
}

#endif
