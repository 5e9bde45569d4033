/* Loops over a layer's E experts that compilers turn into vectors, for hybrimoe_mrs.c, which
 * compiles them for AVX2 too. The same bits everywhere: nothing is fused, and sums have one order.
 * Arrays of keys, and of weights, have room for whole blocks. */
#ifndef MOELAB_POLICIES_SCORE_LOOPS_H
#define MOELAB_POLICIES_SCORE_LOOPS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOE_LOOP static inline __attribute__((always_inline))

enum { MOE_KEY_BLOCK = 16 };

/* The bits of floats in arrays, as compilers take whole vectors of them. */
typedef int32_t __attribute__((may_alias)) moe_float_bits;
typedef uint64_t __attribute__((may_alias)) moe_double_bits;

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

MOE_LOOP int32_t moe_keys_highest(const int32_t *key, uint32_t n)
{
    int32_t most = INT32_MIN;
    for (uint32_t i = 0; i < n; i++)
        most = key[i] > most ? key[i] : most;
    return most;
}

MOE_LOOP int32_t moe_keys_lowest(const int32_t *key, uint32_t n)
{
    int32_t least = INT32_MAX;
    for (uint32_t i = 0; i < n; i++)
        least = key[i] < least ? key[i] : least;
    return least;
}

/* exp(x) of a block, x <= 0, each rounded to float32 from a value that is right to 2^-31:
 * 2^n exp(r) with |r| <= ln 2 / 2 and Taylor's series of exp(r). */
MOE_LOOP void moe_exp_block(float *x)
{
    const double to_integer = 0x1.8p52; /* added: the low bits are the integer */
    const uint32_t least = 0xc2d00000;  /* -104: exp of it is below half of the least number: 0 */
    double power[MOE_KEY_BLOCK], scale[MOE_KEY_BLOCK];
    moe_double_bits *bits = (moe_double_bits *)scale;
    moe_float_bits *in = (moe_float_bits *)x; /* less than 0 is more, without its sign */
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        in[i] = (uint32_t)in[i] < least ? in[i] : (int32_t)least;
    for (int i = 0; i < MOE_KEY_BLOCK; i++) {
        double all = (double)x[i], p = 1.0 / 40320;
        scale[i] = all * 0x1.71547652b82fep+0 + to_integer;
        double r = all - (scale[i] - to_integer) * 0x1.62e42fefa39efp-1;
        p = p * r + 1.0 / 5040;
        p = p * r + 1.0 / 720;
        p = p * r + 1.0 / 120;
        p = p * r + 1.0 / 24;
        p = p * r + 1.0 / 6;
        p = p * r + 0.5;
        p = p * r + 1.0;
        power[i] = p * r + 1.0;
    }
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        bits[i] = (bits[i] + 1023) << 52;
    for (int i = 0; i < MOE_KEY_BLOCK; i++)
        x[i] = (float)(power[i] * scale[i]);
}

/* Softmax. The sum runs through the experts in order; a block of exponentials is worked out while
 * the one before is summed. out, key: whole blocks. */
MOE_LOOP void moe_softmax(const float *restrict score, uint32_t n, float *restrict out,
                          int32_t *restrict key)
{
    moe_keys_find(score, n, key);
    float most = moe_key_float(moe_keys_highest(key, n)), sum = 0;
    for (uint32_t i = 0; i < n; i++)
        out[i] = score[i] - most;
    for (uint32_t i = n; i % MOE_KEY_BLOCK > 0; i++)
        out[i] = -INFINITY; /* adds 0 */
    for (uint32_t first = 0; first < n; first += MOE_KEY_BLOCK) {
        float *block = out + first;
        moe_exp_block(block);
        for (int i = 0; i < MOE_KEY_BLOCK; i++)
            sum += block[i];
    }
    for (uint32_t i = 0; i < n; i++)
        out[i] /= sum;
}

/* The p-th highest of at most a block of keys: the lowest that fewer than p are higher than. */
MOE_LOOP int32_t moe_keys_threshold_of_few(const int32_t *key, uint32_t n, uint32_t p)
{
    int32_t least = INT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t n_higher = 0;
        for (uint32_t k = 0; k < n; k++)
            n_higher += key[k] > key[i];
        least = n_higher < p && key[i] < least ? key[i] : least;
    }
    return least;
}

/* A number that p keys, 0 < p <= n, are not below; or where there is none the p-th highest of them.
 * Three numbers are tried at a time. */
MOE_LOOP int32_t moe_keys_threshold(const int32_t *key, uint32_t n, uint32_t p)
{
    if (n <= MOE_KEY_BLOCK)
        return moe_keys_threshold_of_few(key, n, p);
    int64_t low = moe_keys_lowest(key, n), high = moe_keys_highest(key, n); /* it is one of these */
    while (low < high) {
        int64_t quarter = (high - low + 3) / 4;
        int32_t a = (int32_t)(low + quarter), b = (int32_t)(low + 2 * quarter);
        int32_t c = (int32_t)(low + 3 * quarter < high ? low + 3 * quarter : high);
        b = b < high ? b : (int32_t)high;
        uint32_t n_a = 0, n_b = 0, n_c = 0; /* at least there */
        for (uint32_t i = 0; i < n; i++) {
            n_a += key[i] >= a;
            n_b += key[i] >= b;
            n_c += key[i] >= c;
        }
        low = n_c >= p ? c : n_b >= p ? b : n_a >= p ? a : low;
        high = n_a < p ? a - 1 : n_b < p ? b - 1 : n_c < p ? c - 1 : high;
        if (n_a == p || n_b == p || n_c == p)
            break;
    }
    return (int32_t)low;
}

#endif
