/* Loops over the E experts of a layer in GCC's vector types, for hybrimoe_mrs.c, which compiles
 * them with and without AVX2. Results have the same bits everywhere: no operation is fused, and
 * sums have one order. Arrays of keys and of weights are padded to whole blocks.
 *
 * A key is an int32 in the order of the floats: the p largest of a token are found by a threshold,
 * a key that exactly p keys reach (moe_keys_cut). A turn is a uint32 in the opposite order. */
#ifndef MOELAB_POLICIES_SCORE_LOOPS_H
#define MOELAB_POLICIES_SCORE_LOOPS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MOE_LOOP static inline __attribute__((always_inline))

enum {
    MOE_KEY_BLOCK = 8,
    MOE_EXP_BLOCKS = 4, /* computed side by side: more would not fit into 16 registers */
    MOE_EXP_UNIT = MOE_EXP_BLOCKS * MOE_KEY_BLOCK,
    MOE_KEY_OCTAVE = 1 << 23, /* difference of the keys of 2 x and x */
    MOE_KEY_NEAR = 12,        /* keys wanted between the first thresholds tried; of 3 to 12 it takes
                                 the fewest tries, and any value gives the same result */
    MOE_KEY_TRIES = 4, /* tries by interpolation before the interval is quartered; likewise */
};

/* The bits of floats in arrays, so that compilers load them as vectors. */
typedef int32_t __attribute__((may_alias)) moe_float_bits;

/* A block: one vector, or two where the processor's are shorter. */
typedef int32_t __attribute__((vector_size(32), aligned(4), may_alias)) moe_ints;
typedef uint32_t __attribute__((vector_size(32), aligned(4), may_alias)) moe_uints;
typedef float __attribute__((vector_size(32), aligned(4), may_alias)) moe_floats;

static inline uint32_t moe_blocks_round(uint32_t n)
{
    return (n + MOE_KEY_BLOCK - 1) / MOE_KEY_BLOCK * MOE_KEY_BLOCK;
}

MOE_LOOP float moe_key_float(int32_t key)
{
    float x;
    key ^= key >> 31 & INT32_MAX;
    memcpy(&x, &key, sizeof x);
    return x;
}

/* The keys of floats; those of 0 and -0 differ. */
MOE_LOOP void moe_keys_find(const float *x, size_t n, int32_t *key)
{
    const moe_float_bits *bits = (const moe_float_bits *)x;
    for (size_t i = 0; i < n; i++)
        key[i] = bits[i] ^ (bits[i] >> 31 & INT32_MAX);
}

MOE_LOOP bool moe_floats_finite(const float *x, size_t n)
{
    const moe_float_bits *bits = (const moe_float_bits *)x;
    int32_t most = 0;
    for (size_t i = 0; i < n; i++)
        most = (bits[i] & INT32_MAX) > most ? bits[i] & INT32_MAX : most;
    return most < 0x7f800000;
}

/* The turn of a float that is no NaN, given as its bits: the lower the float, the higher; neither 0
 * nor UINT32_MAX. */
MOE_LOOP uint32_t moe_turn(int32_t bits)
{
    return (uint32_t)(bits ^ (~(bits >> 31) & INT32_MAX));
}

/* The turns of a block; a turn that is 0 (no resident) stays 0. */
MOE_LOOP void moe_turns_find(const moe_floats *block, moe_uints *turn)
{
    moe_ints bits = (moe_ints)*block, is_none = (moe_ints)*turn == 0;
    *turn = (moe_uints)((bits ^ (~(bits >> 31) & INT32_MAX)) & ~is_none);
}

/* *most = max(*most, *turn), lane by lane. */
MOE_LOOP void moe_turns_raise(moe_uints *most, const moe_uints *turn)
{
    moe_uints a = *most, b = *turn;
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        a[i] = b[i] > a[i] ? b[i] : a[i];
    *most = a;
}

/* The sum of all lanes, which is below 2^31. */
MOE_LOOP uint32_t moe_lanes_count(const moe_uints *lane)
{
    uint64_t four[2][2];
    memcpy(four, lane, sizeof four);
    four[0][0] += four[1][0] + (four[0][1] + four[1][1]);
    return (uint32_t)(four[0][0] + (four[0][0] >> 32));
}

struct moe_first {
    uint32_t turn; /* the highest */
    uint32_t at;   /* its index, if it is the only one */
    bool alone;    /* no other turn is equal to it */
};

/* n: a multiple of unit, below 16384. */
MOE_LOOP struct moe_first moe_turns_first(const uint32_t *turn, size_t n, size_t unit)
{
    const uint32_t one = 1 << 16; /* a lane of `found` counts above this bit, sums indices below */
    moe_uints most = {0}, found = {0};
    moe_uints mark = {one, one + 1, one + 2, one + 3, one + 4, one + 5, one + 6, one + 7};
    for (size_t first = 0; first < n; first += unit)
        for (size_t i = first; i < first + unit; i += MOE_KEY_BLOCK)
            moe_turns_raise(&most, (const moe_uints *)(turn + i));
    uint32_t highest = 0, sum;
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        highest = most[i] > highest ? most[i] : highest;
    for (size_t first = 0; first < n; first += unit)
        for (size_t i = first; i < first + unit; i += MOE_KEY_BLOCK) {
            found += (moe_uints)(*(const moe_uints *)(turn + i) == highest) & mark;
            mark += MOE_KEY_BLOCK;
        }
    sum = moe_lanes_count(&found);
    return (struct moe_first){highest, sum % one, sum / one == 1};
}

/* The highest of bits ^ flip; n: a multiple of unit. */
MOE_LOOP int32_t moe_bits_highest(const float *x, size_t n, size_t unit, int32_t flip)
{
    moe_ints most = {0};
    most += INT32_MIN;
    for (size_t first = 0; first < n; first += unit)
        for (size_t k = 0; k < unit; k += MOE_KEY_BLOCK) {
            moe_ints key = *(const moe_ints *)(x + first + k) ^ flip;
            for (int i = 0; i < MOE_KEY_BLOCK; i++)
                most[i] = key[i] > most[i] ? key[i] : most[i];
        }
    int32_t highest = INT32_MIN;
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        highest = most[i] > highest ? most[i] : highest;
    return highest;
}

/* The highest float, in the order of keys. If any is not negative, the highest is the one with the
 * highest bits: usually there is nothing to flip. */
MOE_LOOP float moe_floats_highest(const float *x, size_t n, size_t unit)
{
    int32_t highest = moe_bits_highest(x, n, unit, 0);
    return moe_key_float(highest < 0 ? moe_bits_highest(x, n, unit, INT32_MAX) : highest);
}

/* exp(x) of n <= MOE_EXP_BLOCKS blocks in place, x <= 0, to the last place: 2^m exp(r) with
 * |r| <= ln 2 / 2. ln 2 is split in two, so that m times the first part is exact; exp(r) is
 * Taylor's series. Each step is done for all blocks, since the steps of one depend on each other.
 */
MOE_LOOP void moe_exp_blocks(moe_floats *block, int n)
{
    const float to_integer = 0x1.8p23f + 64; /* added: the low bits are the integer + 64 */
    const uint32_t least = 0xc2d00000;       /* -104: exp(-104) rounds to 0 */
    moe_floats r[MOE_EXP_BLOCKS], r2[MOE_EXP_BLOCKS], sum[MOE_EXP_BLOCKS], power[MOE_EXP_BLOCKS];
    for (int k = 0; k < n; k++) {
        moe_uints bits = (moe_uints)block[k];
        for (int i = 0; i < MOE_KEY_BLOCK; i++)
            bits[i] = bits[i] < least ? bits[i] : least;
        r[k] = (moe_floats)bits;
    }
    for (int k = 0; k < n; k++)
        sum[k] = r[k] * 0x1.715476p+0f + to_integer;
    for (int k = 0; k < n; k++) {
        moe_floats m = sum[k] - to_integer;
        r[k] = r[k] - m * 0x1.63p-1f - m * -0x1.bd0106p-13f;
    }
    for (int k = 0; k < n; k++) {
        r2[k] = r[k] * r[k];
        power[k] = r2[k] * (r[k] * (1.0f / 5040) + 1.0f / 720);
    }
    for (int k = 0; k < n; k++)
        power[k] = r2[k] * ((r[k] * (1.0f / 120) + 1.0f / 24) + power[k]);
    for (int k = 0; k < n; k++)
        power[k] = r[k] + r2[k] * ((r[k] * (1.0f / 6) + 0.5f) + power[k]) + 1.0f;
    for (int k = 0; k < n; k++) /* the first product is exact */
        block[k] = (moe_floats)((moe_uints)power[k] + ((moe_uints)sum[k] << 23)) * 0x1p-64f;
}

MOE_LOOP float moe_lanes_sum(const moe_floats *lane)
{
    float a = (*lane)[0] + (*lane)[4], b = (*lane)[1] + (*lane)[5];
    float c = (*lane)[2] + (*lane)[6], d = (*lane)[3] + (*lane)[7];
    return (a + c) + (b + d);
}

/* power[i] = exp(x[i] - most); n: a multiple of unit. Returns their sum: eight partial sums, each
 * of every 8th element, added as in moe_lanes_sum. */
MOE_LOOP float moe_exp_all(const float *x, float *power, size_t n, size_t unit, float most)
{
    moe_floats lane = {0}, block[MOE_EXP_BLOCKS];
    const size_t at_once = unit < MOE_EXP_UNIT ? unit : MOE_EXP_UNIT;
    for (size_t first = 0; first < n; first += at_once) {
        for (size_t k = 0; k < at_once; k += MOE_KEY_BLOCK)
            block[k / MOE_KEY_BLOCK] = *(const moe_floats *)(x + first + k) - most;
        moe_exp_blocks(block, (int)(at_once / MOE_KEY_BLOCK));
        for (size_t k = 0; k < at_once; k += MOE_KEY_BLOCK) {
            *(moe_floats *)(power + first + k) = block[k / MOE_KEY_BLOCK];
            lane += block[k / MOE_KEY_BLOCK];
        }
    }
    return moe_lanes_sum(&lane);
}

/* For the only block of a row: all ones in the lanes of the p highest keys (of equal keys the lower
 * indices), 0 in the others. */
MOE_LOOP void moe_keys_cut_block(const int32_t *key, uint32_t p, moe_ints *counts)
{
    const moe_ints index = {0, 1, 2, 3, 4, 5, 6, 7};
    moe_ints own = *(const moe_ints *)key, place = {0};
    for (int k = 0; k < MOE_KEY_BLOCK; k++)
        place -= key[k] > own + (index > k); /* keys above it, and equal ones before it */
    *counts = place < (int32_t)p;
}

/* If more than p keys reach the threshold, lowers the last of those equal to it. */
MOE_LOOP void moe_keys_leave_out(int32_t *key, size_t n, uint32_t p, int32_t threshold)
{
    uint32_t n_there = 0;
    for (size_t i = 0; i < n; i++)
        n_there += key[i] >= threshold;
    for (size_t i = n; n_there > p && i-- > 0;)
        if (key[i] == threshold) {
            key[i] = INT32_MIN;
            n_there--;
        }
}

MOE_LOOP int32_t moe_clamp(int64_t x, int64_t low, int64_t high)
{
    return (int32_t)(x < low ? low : x > high ? high : x);
}

/* Where the search for a threshold begins, learnt from the searches before. Any values give the
 * same threshold's keys. */
struct moe_start {
    float at;   /* moving mean of the thresholds found */
    float step; /* distance of the first tries on either side of it */
};

MOE_LOOP void moe_start_learn(struct moe_start *start, float found, uint32_t n_near)
{
    bool near = fabsf(found - start->at) < 64 * start->step; /* false: the first, or a jump */
    start->at = near ? start->at + (found - start->at) / 4 : found;
    float step = start->step * (n_near > MOE_KEY_NEAR ? 0.875f : 1.125f);
    start->step = step > 1 && step < MOE_KEY_OCTAVE ? step : 0x1p20f;
}

/* Counts the keys above each of three numbers; n: a multiple of unit. */
MOE_LOOP void moe_keys_above(const int32_t *key, size_t n, size_t unit, const int32_t *number,
                             uint32_t *above)
{
    moe_uints a = {0}, b = {0}, c = {0};
    for (size_t i = 0; i < n; i += unit)
        for (size_t k = 0; k < unit; k += MOE_KEY_BLOCK) {
            moe_ints block = *(const moe_ints *)(key + i + k);
            a -= (moe_uints)(block > number[0]);
            b -= (moe_uints)(block > number[1]);
            c -= (moe_uints)(block > number[2]);
        }
    above[0] = moe_lanes_count(&a);
    above[1] = moe_lanes_count(&b);
    above[2] = moe_lanes_count(&c);
}

/* Returns a threshold that exactly p keys reach, 0 < p <= n; surplus keys equal to it are lowered.
 * Tries three numbers at a time: around the guess, then around where the threshold would be if keys
 * were spread evenly, and after MOE_KEY_TRIES of these the quarters of what is left. `start` is
 * kept relative to the largest score: shift is that score in units of keys. */
MOE_LOOP int32_t moe_keys_cut(int32_t *key, size_t n, size_t unit, uint32_t p,
                              struct moe_start *start, float shift)
{
    int64_t low = INT32_MIN, high = INT32_MAX; /* the threshold is in [low, high] */
    uint32_t n_low = (uint32_t)n, n_high = 0;  /* keys that reach low; keys above high */
    uint32_t n_near = 0;                       /* keys between the first numbers tried */
    float from = start->at - shift;
    int64_t guess = from > -0x1p31f && from < 0x1p31f ? (int64_t)from : 0;
    int64_t step = (int64_t)start->step;
    for (int tries = 0; n_low != p && low < high; tries++) {
        int32_t number[3];
        uint32_t above[3];
        number[1] = moe_clamp(guess, low, high - 1);
        number[0] = moe_clamp(guess - step, low, number[1]);
        number[2] = moe_clamp(guess + step, number[1], high - 1);
        moe_keys_above(key, n, unit, number, above);
        n_near = tries ? n_near : above[0] - above[2];
        for (int i = 0; i < 3; i++) {
            low = above[i] >= p ? (int64_t)number[i] + 1 : low;
            n_low = above[i] >= p ? above[i] : n_low;
            high = above[2 - i] < p ? number[2 - i] : high;
            n_high = above[2 - i] < p ? above[2 - i] : n_high;
        }
        bool spread = tries < MOE_KEY_TRIES && n_high < n_low; /* the latter always is */
        float part = (float)(high - low) / (spread ? (float)(n_low - n_high) : 4);
        step = (int64_t)part;
        guess = spread ? high - (p - n_high) * step : low + 2 * step;
        step -= step / 4;
    }
    if (n_low != p)
        moe_keys_leave_out(key, n, p, (int32_t)low);
    moe_start_learn(start, (float)low + shift, n_near);
    return (int32_t)low;
}

#endif
