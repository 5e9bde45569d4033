/* For each key, how many other keys were used since its last use (LRU's stack distance). A part of
 * mrc_lru.c, which alone includes it: its functions are inlined there with a constant `wide` (use
 * AVX-512), and so compiled for the instruction set of their caller. */
#ifndef MOELAB_SIM_MRC_RECENCY_H
#define MOELAB_SIM_MRC_RECENCY_H

#include "sim/mrc_room.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum {
    WORD = 64,
    BYTES = 8,
    COUNTS = 8,
    RANKS = 16,
    AT_ONCE = 8,
    MAX_RANKED = 128,
    NEVER = UINT8_MAX
};
enum {
    WIDE_RANKS = 64,
    WIDE_MAX_RANKED = 256,
    WIDE_SUMS = 32,
    WIDE_PAIR = 2,
    WIDE_MAX_KEYS = UINT16_MAX
};

/* Each use sets the next bit of a long bitmap and clears the key's bit before, so that the number
 * of bits set behind a key's own is the number of distinct keys used since. Counts of blocks of
 * words make that sum short. When the bitmap is full, the bits set move to its front. With up to
 * MAX_RANKED keys there is none of that, but the number itself (rank): updating it for all keys,
 * sixteen at once, is faster than finding it (8 keys: 0.6 of the time). With AVX-512 ("wide") ranks
 * serve up to WIDE_MAX_RANKED keys, and with more keys the number of bits set behind each eight
 * words is updated at once in the same way. */
struct recency {
    uint8_t *rank; /* [n_keys] keys used since; NEVER: never used; NULL: too many keys for ranks */
    uint32_t n_used; /* keys that have a rank: when all of 256 have, NEVER is a rank as well */
    uint32_t n_keys, n_words, next; /* next: bit that the next use takes */
    uint32_t *bit_of;               /* [n_keys] plus one; 0: never used */
    uint32_t *key_at;               /* [n_words * WORD] */
    uint64_t *word;                 /* [n_words] the bitmap */
    uint64_t *count;   /* [n_words / 8 + 1] bits set in each of eight words, a byte a word */
    uint16_t *behind;  /* wide: [n_behind] bits set behind each count's words; else NULL */
    uint32_t n_behind; /* a multiple of WIDE_SUMS */
    uint32_t *sum;     /* not wide: [n_totals * 8] bits set in each count's words */
    uint32_t *total;   /* [n_totals] of each eight sums */
    uint32_t n_totals; /* a multiple of eight */
};

static bool recency_init(struct recency *r, uint32_t n_keys, bool wide)
{
    r->n_keys = n_keys;
    if (n_keys <= (uint32_t)(wide ? WIDE_MAX_RANKED : MAX_RANKED)) {
        r->rank = moe_mrc_room(n_keys + (size_t)WIDE_RANKS, sizeof *r->rank);
        if (r->rank)
            memset(r->rank, NEVER, n_keys + (size_t)WIDE_RANKS);
        return r->rank;
    }
    r->n_words = (uint32_t)(((uint64_t)n_keys * 4 + WORD - 1) / WORD);
    r->bit_of = moe_mrc_room(n_keys + 1u, sizeof *r->bit_of);
    r->key_at = moe_mrc_room((size_t)r->n_words * WORD, sizeof *r->key_at);
    r->word = moe_mrc_room(r->n_words, sizeof *r->word);
    r->count = moe_mrc_room((r->n_words / BYTES + 1), sizeof *r->count);
    if (wide) {
        r->n_behind = (r->n_words / BYTES / WIDE_SUMS + 1) * WIDE_SUMS;
        r->behind = moe_mrc_room(r->n_behind, sizeof *r->behind);
        return r->bit_of && r->key_at && r->word && r->count && r->behind;
    }
    r->n_totals = (r->n_words / (BYTES * COUNTS * COUNTS) + 1) * COUNTS;
    r->sum = moe_mrc_room((size_t)r->n_totals * COUNTS, sizeof *r->sum);
    r->total = moe_mrc_room(r->n_totals, sizeof *r->total);
    return r->bit_of && r->key_at && r->word && r->count && r->sum && r->total;
}

static void recency_release(struct recency *r)
{
    free(r->rank);
    free(r->bit_of);
    free(r->key_at);
    free(r->word);
    free(r->count);
    free(r->behind);
    free(r->sum);
    free(r->total);
}

static void clear_counts(struct recency *r)
{
    memset(r->count, 0, (r->n_words / BYTES + 1) * sizeof *r->count);
    if (r->behind) {
        memset(r->behind, 0, r->n_behind * sizeof *r->behind);
        return;
    }
    memset(r->sum, 0, (size_t)r->n_totals * COUNTS * sizeof *r->sum);
    memset(r->total, 0, r->n_totals * sizeof *r->total);
}

static void recency_clear(struct recency *r)
{
    r->n_used = 0;
    if (r->rank) {
        memset(r->rank, NEVER, r->n_keys);
        return;
    }
    memset(r->bit_of, 0, r->n_keys * sizeof *r->bit_of);
    memset(r->word, 0, r->n_words * sizeof *r->word);
    clear_counts(r);
    r->next = 0;
}

/* Becomes part of its caller, with the instruction set that the caller is compiled for. */
#define INLINE inline __attribute__((always_inline))

/* The lowest n bits of a word. */
static inline uint64_t first_bits(uint32_t n)
{
    return n < WORD ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* Where the target lacks the instruction, __builtin_popcountll would call a function; where it has
 * it, compilers recognise this. */
static inline uint32_t bits_set(uint64_t w)
{
    w -= w >> 1 & 0x5555555555555555u;
    w = (w & 0x3333333333333333u) + (w >> 2 & 0x3333333333333333u);
    return (uint32_t)(((w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static inline uint32_t bytes_sum(uint64_t bytes)
{
    const uint64_t even = 0x00ff00ff00ff00ff;
    return (uint32_t)(((bytes & even) + (bytes >> 8 & even)) * 0x0001000100010001 >> 48);
}

/* The sum of those of eight numbers that are behind index `at`, -1 (all of them) to 7 (none). */
static inline uint32_t sum_behind(const uint32_t *number, int at)
{
    static const uint32_t none_then_all[2 * COUNTS] = {
        [COUNTS] = ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    const uint32_t *keep = none_then_all + (COUNTS - 1 - at);
    uint32_t n = 0;
    for (int i = 0; i < COUNTS; i++)
        n += keep[i] & number[i];
    return n;
}

static inline int within_eight(int at)
{
    at = at < COUNTS - 1 ? at : COUNTS - 1;
    return at > -1 ? at : -1;
}

static inline bool recency_has(const struct recency *r, uint32_t key)
{
    return r->rank ? r->rank[key] != NEVER || r->n_used > NEVER : r->bit_of[key] != 0;
}

/* The number of distinct keys used after this one, which was used. No branch depends on how long
 * ago that was. */
static INLINE uint32_t recency_distance(const struct recency *r, uint32_t key, bool wide)
{
    if (r->rank)
        return r->rank[key];
    uint32_t bit = r->bit_of[key] - 1, w = bit / WORD, at = w / BYTES;
    uint32_t n = bits_set(r->word[w] >> bit % WORD >> 1);
    n += bytes_sum(r->count[at] & UINT64_MAX << w % BYTES * 8 << 8);
    if (wide)
        return n + r->behind[at];
    n += sum_behind(r->sum + (at - at % COUNTS), (int)(at % COUNTS));
    for (uint32_t i = 0; r->n_words > BYTES * COUNTS && i < r->n_totals; i += COUNTS)
        n += sum_behind(r->total + i, within_eight((int)(at / COUNTS) - (int)i));
    return n;
}

/* Was a's last use before b's? Both were used. */
static inline bool recency_before(const struct recency *r, uint32_t a, uint32_t b)
{
    return r->rank ? r->rank[a] > r->rank[b] : r->bit_of[a] < r->bit_of[b];
}

static inline uint64_t one_at(uint32_t w)
{
    return UINT64_C(1) << w % BYTES * 8;
}

#ifdef __x86_64__
#define AVX512 __attribute__((target("avx512f,avx512bw,bmi,bmi2,popcnt")))

static const uint8_t from_zero[WIDE_RANKS] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* For each of n <= AT_ONCE counts `at`: `more` bits more are set behind all counts before it. */
AVX512 static inline void behind_add(struct recency *r, const uint32_t *at, uint32_t n, int more)
{
    const __m512i by = _mm512_set1_epi16((short)more), step = _mm512_set1_epi16(WIDE_SUMS);
    __m512i number = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from_zero));
    for (uint32_t i = 0; i < r->n_behind; i += WIDE_SUMS) {
        __m512i sums = _mm512_loadu_si512(r->behind + i);
        for (uint32_t k = 0; k < n; k++) {
            __m512i stop = _mm512_set1_epi16((short)at[k]);
            sums = _mm512_mask_add_epi16(sums, _mm512_cmplt_epu16_mask(number, stop), sums, by);
        }
        _mm512_storeu_si512(r->behind + i, sums);
        number = _mm512_add_epi16(number, step);
    }
}

/* ranks_touch for up to `room` keys, a constant where it is called, so that they stay in registers.
 * Of a pair of keys, their own new ranks are stored by vectors as well: a vector that is loaded
 * soon after single bytes of it were stored has to wait for them. */
AVX512 static INLINE void ranks_touch_room(struct recency *r, const uint32_t *key, uint32_t n,
                                           uint32_t room)
{
    const __m512i one = _mm512_set1_epi8(1), step = _mm512_set1_epi8(WIDE_RANKS);
    const bool is_pair = room <= WIDE_PAIR;
    __m512i before[AT_ONCE], own[AT_ONCE], number = _mm512_loadu_si512(from_zero);
    for (uint32_t i = 0; i < room; i++) {
        uint32_t k = key[i < n ? i : 0];
        r->n_used += i < n && !recency_has(r, k);
        before[i] = _mm512_set1_epi8((char)(i < n ? r->rank[k] : 0));
        own[i] = _mm512_set1_epi8((char)k);
    }
    for (uint32_t at = 0; at < r->n_keys; at += WIDE_RANKS) {
        __m512i old = _mm512_loadu_si512(r->rank + at), new = old;
        for (uint32_t i = 0; i < room; i++)
            new = _mm512_mask_add_epi8(new, _mm512_cmplt_epu8_mask(old, before[i]), new, one);
        for (uint32_t i = room; is_pair && i-- > 0;) /* n of 1: the same key twice, with rank 0 */
            new = _mm512_mask_mov_epi8(new, _mm512_cmpeq_epi8_mask(number, own[i]),
                                       _mm512_set1_epi8((char)(i < n ? n - 1 - i : 0)));
        _mm512_storeu_si512(r->rank + at, new);
        number = _mm512_add_epi8(number, step);
    }
    for (uint32_t i = 0; !is_pair && i < n; i++)
        r->rank[key[i]] = (uint8_t)(n - 1 - i);
}

AVX512 static inline void ranks_touch_wide(struct recency *r, const uint32_t *key, uint32_t n)
{
    if (n <= WIDE_PAIR)
        ranks_touch_room(r, key, n, WIDE_PAIR);
    else
        ranks_touch_room(r, key, n, AT_ONCE);
}

#else

/* Never called: there is no such processor. */
static inline void behind_add(struct recency *r, const uint32_t *at, uint32_t n, int more)
{
    (void)r;
    (void)at;
    (void)n;
    (void)more;
}

static inline void ranks_touch_wide(struct recency *r, const uint32_t *key, uint32_t n)
{
    (void)r;
    (void)key;
    (void)n;
}

#endif

/* Word w has n more bits set (UINT32_MAX: one less). wide: `behind` is left to the caller. */
static INLINE void recency_add(struct recency *r, uint32_t w, uint32_t n, bool wide)
{
    r->count[w / BYTES] += (uint64_t)(int32_t)n * one_at(w);
    if (wide)
        return;
    r->sum[w / BYTES] += n;
    r->total[w / BYTES / COUNTS] += n;
}

static void recency_compact(struct recency *r)
{
    uint32_t n = 0;
    for (uint32_t w = 0; w < r->n_words; w++) {
        for (uint64_t bits = r->word[w]; bits; bits &= bits - 1) {
            uint32_t key = r->key_at[w * WORD + (uint32_t)__builtin_ctzll(bits)];
            r->key_at[n] = key;
            r->bit_of[key] = ++n;
        }
    }
    clear_counts(r);
    for (uint32_t w = 0; w < r->n_words; w++) {
        uint32_t first = w * WORD, set = n > first ? n - first : 0;
        set = set < WORD ? set : WORD;
        r->word[w] = first_bits(set);
        recency_add(r, w, set, r->behind);
    }
    for (uint32_t at = 0; at < r->n_behind && n > (at + 1) * WORD * BYTES; at++)
        r->behind[at] = (uint16_t)(n - (at + 1) * WORD * BYTES);
    r->next = n;
}

static INLINE void recency_leave(struct recency *r, uint32_t key, bool wide)
{
    uint32_t old = r->bit_of[key];
    if (!old)
        return;
    r->word[(old - 1) / WORD] &= ~(UINT64_C(1) << (old - 1) % WORD);
    recency_add(r, (old - 1) / WORD, UINT32_MAX, wide); /* one less */
    r->bit_of[key] = 0;
}

/* Clears the bits of up to AT_ONCE keys. */
static INLINE void recency_leave_some(struct recency *r, const uint32_t *key, uint32_t n, bool wide)
{
    uint32_t at[AT_ONCE];
    for (uint32_t i = 0; wide && i < n; i++) {
        uint32_t old = r->bit_of[key[i]];
        at[i] = (old - (old > 0)) / (WORD * BYTES);
    }
    for (uint32_t i = 0; i < n; i++)
        recency_leave(r, key[i], wide);
    if (wide)
        behind_add(r, at, n, -1);
}

/* Sets the next n bits, which lie in one word. */
static INLINE void recency_take(struct recency *r, uint32_t n, bool wide)
{
    uint32_t bit = r->next, at = bit / (WORD * BYTES);
    r->word[bit / WORD] |= first_bits(n) << bit % WORD;
    recency_add(r, bit / WORD, n, wide);
    if (wide)
        behind_add(r, &at, 1, (int)n);
    r->next += n;
}

typedef uint8_t ranks __attribute__((vector_size(RANKS)));

/* Uses of up to AT_ONCE keys, in this order. For each of them, the keys that were used after it go
 * back by one rank. */
static inline void ranks_touch(struct recency *r, const uint32_t *key, uint32_t n)
{
    ranks before[AT_ONCE];
    for (uint32_t i = 0; i < n; i++)
        before[i] = (ranks){0} + r->rank[key[i]];
    for (uint32_t at = 0; at < r->n_keys; at += RANKS) {
        ranks *rank = (ranks *)(r->rank + at), old = *rank, new = old;
        for (uint32_t i = 0; i < n; i++)
            new -= (ranks)(old < before[i]);
        *rank = new;
    }
    for (uint32_t i = 0; i < n; i++)
        r->rank[key[i]] = (uint8_t)(n - 1 - i);
}

/* Uses of n keys, in this order. */
static INLINE void recency_touch(struct recency *r, const uint32_t *key, uint32_t n, bool wide)
{
    for (uint32_t done = 0, some; done < n; done += some) {
        some = n - done < AT_ONCE ? n - done : AT_ONCE;
        if (!r->rank)
            recency_leave_some(r, key + done, some, wide);
        else if (wide)
            ranks_touch_wide(r, key + done, some);
        else
            ranks_touch(r, key + done, some);
    }
    if (r->rank)
        return;
    for (uint32_t done = 0; done < n;) {
        if (r->next ==
            (r->n_words - 1) * WORD) /* distance may look at the last word: it is empty */
            recency_compact(r);
        uint32_t room = WORD - r->next % WORD, more = n - done < room ? n - done : room;
        for (uint32_t i = 0; i < more; i++) {
            r->key_at[r->next + i] = key[done + i];
            r->bit_of[key[done + i]] = r->next + i + 1;
        }
        recency_take(r, more, wide);
        done += more;
    }
}

#endif
