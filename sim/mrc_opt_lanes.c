#include "sim/mrc_opt_lanes.h"

#include "policies/policy.h"
#include "sim/mrc_opt_ends.h"
#include "sim/mrc_opt_pass.h"
#include "sim/mrc_room.h"

#include <stdlib.h>

enum { LANES = MOE_OPT_LANES, AT_ONCE = MOE_OPT_AT_ONCE, LINE = 64 };

struct moe_opt_lanes {
    uint32_t n_keys;
    uint32_t *next_use; /* [n_keys, LANES] from the top; MOE_NEVER: the place is free */
};

void moe_opt_lanes_clear(struct moe_opt_lanes *st)
{
    for (size_t i = 0; i < (size_t)st->n_keys * LANES; i++)
        st->next_use[i] = MOE_NEVER;
}

void moe_opt_lanes_free(struct moe_opt_lanes *st)
{
    if (!st)
        return;
    free(st->next_use);
    free(st);
}

enum moe_status moe_opt_lanes_new(struct moe_opt_lanes **out, uint32_t n_keys, struct moe_err *err)
{
    struct moe_opt_lanes *st = moe_mrc_room(1, sizeof *st);
    if (!st)
        return moe_fail_memory(err, "OPT stacks");
    st->n_keys = n_keys;
    st->next_use = aligned_alloc(LINE, ((size_t)n_keys + 1) * LANES * sizeof *st->next_use);
    if (!st->next_use) {
        free(st);
        return moe_fail_memory(err, "OPT stacks");
    }
    moe_opt_lanes_clear(st);
    *out = st;
    return MOE_OK;
}

#ifdef __x86_64__
#include <immintrin.h>

/* Measured against a stack for each layer, with sixteen layers and more: events of eight keys take
 * a third of the time with 128 places and under half with 256; events of one key and 256 places
 * take no less. With fewer layers some lanes are idle, and cost the same. */
enum { MOST_KEYS = 256, KEYS_A_LAYER = 16 };

#define AVX512 __attribute__((target("avx512f")))

bool moe_opt_lanes_pay(uint32_t n_layers, uint32_t n_keys)
{
    return n_keys <= MOST_KEYS && n_keys <= (uint64_t)n_layers * KEYS_A_LAYER &&
           moe_opt_has_avx512();
}

/* As struct moe_opt_found. */
struct sums {
    __m512i n, first, last;
};

/* Up to `room` newcomers pass all places once; a key that is due now leaves its place before they
 * come to it. room is a constant where this is called, so that the newcomers stay in registers. */
AVX512 static inline __attribute__((always_inline)) struct sums
sweep(struct moe_opt_lanes *st, __m512i now, const uint32_t *next_use, uint32_t n, uint32_t room,
      uint32_t *uses)
{
    const __m512i one = _mm512_set1_epi32(1), never = _mm512_set1_epi32(-1);
    struct sums sums = {_mm512_setzero_si512(), never, _mm512_setzero_si512()};
    __m512i comer[AT_ONCE], at = one;
    for (uint32_t i = 0; i < room; i++)
        comer[i] = i < n ? _mm512_loadu_si512(next_use + (size_t)i * LANES) : never;
    for (size_t p = 0; p < st->n_keys; p++) {
        __m512i here = _mm512_loadu_si512(st->next_use + p * LANES);
        __m512i count = _mm512_loadu_si512(uses + p * LANES);
        __mmask16 due = _mm512_cmpeq_epi32_mask(here, now);
        here = _mm512_mask_mov_epi32(here, due, never);
        _mm512_storeu_si512(uses + p * LANES, _mm512_mask_add_epi32(count, due, count, one));
        sums.n = _mm512_mask_add_epi32(sums.n, due, sums.n, one);
        sums.first = _mm512_mask_min_epu32(sums.first, due, sums.first, at);
        sums.last = _mm512_mask_mov_epi32(sums.last, due, at);
        at = _mm512_add_epi32(at, one);
        for (uint32_t i = 0; i < room; i++) {
            __m512i stays = _mm512_min_epu32(here, comer[i]);
            comer[i] = _mm512_max_epu32(here, comer[i]);
            here = stays;
        }
        _mm512_storeu_si512(st->next_use + p * LANES, here);
    }
    return sums;
}

AVX512 static struct sums sweep_some(struct moe_opt_lanes *st, __m512i now,
                                     const uint32_t *next_use, uint32_t n, uint32_t *uses)
{
    if (n <= 2)
        return sweep(st, now, next_use, n, 2, uses);
    if (n <= 4)
        return sweep(st, now, next_use, n, 4, uses);
    return sweep(st, now, next_use, n, AT_ONCE, uses);
}

AVX512 void moe_opt_lanes_event(struct moe_opt_lanes *st, const uint32_t *now,
                                const uint32_t *next_use, uint32_t n, uint32_t *uses,
                                struct moe_opt_found *found)
{
    struct sums sums = sweep_some(st, _mm512_loadu_si512(now), next_use, n, uses);
    for (uint32_t i = AT_ONCE; i < n; i += AT_ONCE) /* all keys due now have left */
        sweep_some(st, _mm512_setzero_si512(), next_use + (size_t)i * LANES, n - i, uses);
    _mm512_storeu_si512(found->n, sums.n);
    _mm512_storeu_si512(found->first, sums.first);
    _mm512_storeu_si512(found->last, sums.last);
}

#else

bool moe_opt_lanes_pay(uint32_t n_layers, uint32_t n_keys)
{
    (void)n_layers;
    (void)n_keys;
    return false;
}

/* Never called, as it does not pay. */
void moe_opt_lanes_event(struct moe_opt_lanes *st, const uint32_t *now, const uint32_t *next_use,
                         uint32_t n, uint32_t *uses, struct moe_opt_found *found)
{
    (void)st;
    (void)now;
    (void)next_use;
    (void)n;
    (void)uses;
    (void)found;
}

#endif
