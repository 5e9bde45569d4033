#include "exec/dtype.h"

#include <string.h>

static void f32_to_f32(const void *from, size_t n, float *to)
{
    if (n)
        memcpy(to, from, n * sizeof *to);
}

/* Bits of item i. By memcpy, as weights in a file may lie at any address. */
static uint32_t item_u16(const void *from, size_t i)
{
    uint16_t bits;
    memcpy(&bits, (const char *)from + 2 * i, sizeof bits);
    return bits;
}

static void bf16_to_f32(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = item_u16(from, i) << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

static uint32_t f16_bits_to_f32(uint32_t half)
{
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31)
        return sign | 0x7f800000 | fraction << 13;
    if (exponent > 0)
        return sign | (exponent + 112) << 23 | fraction << 13;
    float small = (float)fraction * 0x1p-24f; /* a subnormal half is a normal float, exactly */
    uint32_t bits;
    memcpy(&bits, &small, sizeof bits);
    return sign | bits;
}

static void f16_to_f32(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = f16_bits_to_f32(item_u16(from, i));
        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* Scale of block b of a row whose numbers take `bytes`. */
static float scale_at(const void *row, size_t bytes, size_t b)
{
    float scale;
    f16_to_f32((const char *)row + bytes + 2 * b, 1, &scale);
    return scale;
}

static void q8_to_f32(const void *row, size_t n, float *to)
{
    const int8_t *q = row;
    for (size_t at = 0; at < n; at += MOE_QUANT_BLOCK) {
        const float scale = scale_at(row, n, at / MOE_QUANT_BLOCK);
        for (size_t i = at; i < at + MOE_QUANT_BLOCK; i++)
            to[i] = (float)q[i] * scale;
    }
}

static void q4_to_f32(const void *row, size_t n, float *to)
{
    enum { HALF = MOE_QUANT_BLOCK / 2 };
    const uint8_t *q = row;
    for (size_t at = 0; at < n; at += MOE_QUANT_BLOCK, q += HALF) {
        const float scale = scale_at(row, n / 2, at / MOE_QUANT_BLOCK);
        for (size_t i = 0; i < HALF; i++) {
            to[at + i] = (float)((q[i] & 15) - 8) * scale;
            to[at + HALF + i] = (float)((q[i] >> 4) - 8) * scale;
        }
    }
}

static const struct moe_dtype_info dtypes[MOE_N_DTYPES] = {
    [MOE_F32] = {"F32", 1, 4, f32_to_f32},
    [MOE_BF16] = {"BF16", 1, 2, bf16_to_f32},
    [MOE_F16] = {"F16", 1, 2, f16_to_f32},
    [MOE_Q8] = {"Q8", MOE_QUANT_BLOCK, MOE_QUANT_BLOCK + 2, q8_to_f32},
    [MOE_Q4] = {"Q4", MOE_QUANT_BLOCK, MOE_QUANT_BLOCK / 2 + 2, q4_to_f32},
};

const struct moe_dtype_info *moe_dtype_info(enum moe_dtype dtype)
{
    return &dtypes[dtype];
}

bool moe_dtype_find(const char *name, enum moe_dtype *out)
{
    for (int i = 0; i < MOE_N_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = (enum moe_dtype)i;
            return true;
        }
    }
    return false;
}

bool moe_dtype_plain(enum moe_dtype dtype)
{
    return dtypes[dtype].block == 1;
}

uint64_t moe_dtype_row_bytes(enum moe_dtype dtype, uint64_t n)
{
    return n / dtypes[dtype].block * dtypes[dtype].bytes;
}
