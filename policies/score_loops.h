/* Loops over a layer's E experts that compilers turn into vectors, for hybrimoe_mrs.c, which
 * compiles them for AVX2 too. The same bits everywhere: nothing is fused, and sums have one order.
 * Arrays of keys, and of weights, have room for whole blocks. */
#ifndef MOELAB_POLICIES_SCORE_LOOPS_H
#define MOELAB_POLICIES_SCORE_LOOPS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MOE_LOOP static inline __attribute__((always_inline))

enum {
    MOE_KEY_BLOCK = 8,
    MOE_KEY_OCTAVE = 1 << 23,          /* between the keys of x and 2 x */
    MOE_KEY_NEAR = MOE_KEY_OCTAVE / 8, /* fewer instructions than / 4 and / 16; all are exact */
    MOE_KEY_TRIES = 4,                 /* before the quarters: a guess; any number is exact */
};

/* The bits of floats in arrays, as compilers take whole vectors of them. */
typedef int32_t __attribute__((may_alias)) moe_float_bits;

/* A block as one vector, or as two where the processor has none of 8. */
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

/* Whole numbers in the order of the floats; 0 and -0 are different. */
MOE_LOOP void moe_keys_find(const float *x, uint32_t n, int32_t *key)
{
    const moe_float_bits *bits = (const moe_float_bits *)x;
    for (uint32_t i = 0; i < n; i++)
        key[i] = bits[i] ^ (bits[i] >> 31 & INT32_MAX);
}

/* The higher the lower the float is; neither 0 nor UINT32_MAX. */
MOE_LOOP uint32_t moe_turn(int32_t bits)
{
    uint32_t turn = (uint32_t)bits ^ (uint32_t)(~(bits >> 31) & INT32_MAX);
    turn = turn < UINT32_MAX ? turn : UINT32_MAX - 1;
    return turn > 0 ? turn : 1;
}

/* Likewise of a block; what is 0 stays. */
MOE_LOOP void moe_turns_find(const float *block, uint32_t *turn)
{
    moe_ints bits = *(const moe_ints *)block, is_none = *(moe_ints *)turn == 0;
    moe_uints t = (moe_uints)(bits ^ (~(bits >> 31) & INT32_MAX));
    t += (moe_uints)(t == UINT32_MAX);
    t -= (moe_uints)(t == 0);
    *(moe_uints *)turn = t & ~(moe_uints)is_none;
}

MOE_LOOP uint32_t moe_turns_highest(const uint32_t *turn, uint32_t n)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; i++)
        most = turn[i] > most ? turn[i] : most;
    return most;
}

/* Of the floats the highest, in the order of their keys. */
MOE_LOOP float moe_floats_highest(const float *x, uint32_t n)
{
    const moe_float_bits *bits = (const moe_float_bits *)x;
    int32_t most = INT32_MIN;
    for (uint32_t i = 0; i < n; i++) {
        int32_t key = bits[i] ^ (bits[i] >> 31 & INT32_MAX);
        most = key > most ? key : most;
    }
    return moe_key_float(most);
}

/* exp(x) of a block, x <= 0, to the last place: 2^n exp(r) with |r| <= ln 2 / 2, ln 2 in two parts
 * of which n times the first is exact, and Taylor's series of exp(r). */
MOE_LOOP void moe_exp_block(float *block)
{
    const float to_integer = 0x1.8p23f; /* added: the low bits are the integer */
    moe_floats x = *(moe_floats *)block;
    moe_floats least = (moe_floats){0} - 104; /* exp of it is below half of the least number: 0 */
    moe_ints less = x < least;
    x = (moe_floats)(((moe_ints)x & ~less) | ((moe_ints)least & less));
    moe_floats sum = x * 0x1.715476p+0f + to_integer, n = sum - to_integer;
    moe_floats r = x - n * 0x1.63p-1f - n * -0x1.bd0106p-13f, r2 = r * r;
    moe_floats first = r * (1.0f / 6) + 0.5f, second = r * (1.0f / 120) + 1.0f / 24;
    moe_floats third = r * (1.0f / 5040) + 1.0f / 720;
    moe_floats power = r + r2 * (first + r2 * (second + r2 * third)) + 1.0f;
    moe_ints whole = (moe_ints)sum - 0x4b400000, half = whole >> 1;
    moe_floats scale = (moe_floats)((half + 127) << 23);
    moe_floats rest = (moe_floats)((whole - half + 127) << 23);
    *(moe_floats *)block = power * scale * rest; /* rounded once: the first product is exact */
}

/* x[i] becomes exp(x[i] - most); n: whole blocks. Returns the sum: of every 8th, and these in one
 * order. */
MOE_LOOP float moe_exp_all(float *x, uint32_t n, float most)
{
    moe_floats lane = {0};
    for (uint32_t first = 0; first < n; first += MOE_KEY_BLOCK) {
        *(moe_floats *)(x + first) -= most;
        moe_exp_block(x + first);
        lane += *(moe_floats *)(x + first);
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* Of a block the p highest keys, of equals the lower indices, become 0, the others -1. */
MOE_LOOP void moe_keys_cut_block(int32_t *key, uint32_t p)
{
    const moe_ints index = {0, 1, 2, 3, 4, 5, 6, 7};
    moe_ints own = *(moe_ints *)key, place = {0};
    for (int k = 0; k < MOE_KEY_BLOCK; k++)
        place -= (own < key[k]) | ((own == key[k]) & (index > k));
    *(moe_ints *)key = ~(place < (int32_t)p);
}

/* Of those at the threshold the higher indices are left out, where there are more than p. */
MOE_LOOP void moe_keys_leave_out(int32_t *key, uint32_t n, uint32_t p, int32_t threshold)
{
    uint32_t n_there = 0;
    for (uint32_t i = 0; i < n; i++)
        n_there += key[i] >= threshold;
    for (uint32_t i = n; n_there > p && i-- > 0;)
        if (key[i] == threshold) {
            key[i] = INT32_MIN;
            n_there--;
        }
}

MOE_LOOP int32_t moe_clamp(int64_t x, int64_t low, int64_t high)
{
    return (int32_t)(x < low ? low : x > high ? high : x);
}

/* A number that p keys, 0 < p <= n, are not below: the others of those at it are made lower. Any
 * that so many keys are not below does, so that the search may begin at a guess. Three numbers are
 * tried at a time: beside the guess, where the number should lie if keys were spread evenly, and
 * when that has failed for some time the quarters. */
MOE_LOOP int32_t moe_keys_cut(int32_t *key, uint32_t n, uint32_t p, int64_t guess)
{
    if (n == MOE_KEY_BLOCK) {
        moe_keys_cut_block(key, p);
        return 0;
    }
    int64_t low = INT32_MIN, high = INT32_MAX, step = MOE_KEY_NEAR; /* it is one of these */
    uint32_t n_low = n, n_high = 0;                                 /* at least low, above high */
    for (int tries = 0; low < high; tries++) {
        int32_t b = moe_clamp(guess, low, high - 1);
        int32_t a = moe_clamp(guess - step, low, b), c = moe_clamp(guess + step, b, high - 1);
        uint32_t n_a = 0, n_b = 0, n_c = 0; /* above */
        for (uint32_t i = 0; i < n; i++) {
            n_a += key[i] > a;
            n_b += key[i] > b;
            n_c += key[i] > c;
        }
        if (n_a >= p) {
            n_low = n_c >= p ? n_c : n_b >= p ? n_b : n_a;
            low = 1 + (int64_t)(n_c >= p ? c : n_b >= p ? b : a);
        }
        if (n_c < p) {
            n_high = n_a < p ? n_a : n_b < p ? n_b : n_c;
            high = n_a < p ? a : n_b < p ? b : c;
        }
        if (n_low == p)
            return (int32_t)low;
        bool spread = tries < MOE_KEY_TRIES && n_high < n_low; /* the latter always is */
        step = spread ? (high - low) / (n_low - n_high) : (high - low) / 4;
        guess = spread ? high - (p - n_high) * step : low + 2 * step;
    }
    moe_keys_leave_out(key, n, p, (int32_t)low);
    return (int32_t)low;
}

#endif
