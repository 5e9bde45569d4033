#include "exec/quantize.h"

#include <math.h>
#include <string.h>

enum { BLOCK = MOE_QUANT_BLOCK, HALF = BLOCK / 2 };

uint16_t moe_f16_of(float x)
{
    /* Numbers below 2^-14 share the smallest step, 2^-24. */
    const double size = fabs((double)x);
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x))
        return sign | 0x7e00;
    if (size >= 65520) /* halfway from 65504 to what would be the next number */
        return sign | 0x7c00;
    const int exponent = size < 0x1p-14 ? -13 : ilogb(size) + 1; /* size < 2^exponent */
    const int step = exponent - 11;
    /* A mantissa that rounds up to 2048 carries into the exponent, as it should. */
    const uint32_t mantissa = (uint32_t)nearbyint(ldexp(size, -step));
    return (uint16_t)(sign | (mantissa + ((uint32_t)(step + 24) << 10)));
}

static float as_stored(uint16_t bits)
{
    float scale;
    moe_dtype_info(MOE_F16)->to_f32(&bits, 1, &scale);
    return scale;
}

/* The weight of a block farthest from 0, the first of equals. *bad: index of the first that is not
 * finite; else the block's size. */
static float farthest(const float *x, size_t *bad)
{
    float far = 0;
    for (*bad = 0; *bad < BLOCK && isfinite(x[*bad]); ++*bad)
        if (fabsf(x[*bad]) > fabsf(far))
            far = x[*bad];
    return far;
}

static int rounded(float x, float scale, int min, int max)
{
    const float q = scale == 0 ? 0 : nearbyintf(x / scale);
    return q < (float)min ? min : q > (float)max ? max : (int)q;
}

static void put_q8(const float *x, float scale, uint8_t *to)
{
    for (int i = 0; i < BLOCK; i++)
        to[i] = (uint8_t)(int8_t)rounded(x[i], scale, -127, 127);
}

static void put_q4(const float *x, float scale, uint8_t *to)
{
    for (int i = 0; i < HALF; i++) {
        const int low = rounded(x[i], scale, -8, 7) + 8;
        const int high = rounded(x[i + HALF], scale, -8, 7) + 8;
        to[i] = (uint8_t)(low | high << 4);
    }
}

size_t moe_quantize_row(enum moe_dtype dtype, const float *from, size_t n, void *row)
{
    const size_t block_bytes = dtype == MOE_Q8 ? BLOCK : HALF;
    uint8_t *numbers = row, *scales = numbers + n / BLOCK * block_bytes;
    for (size_t i = 0; i < n; i += BLOCK, numbers += block_bytes, scales += 2) {
        size_t bad;
        const float far = farthest(from + i, &bad);
        if (bad < BLOCK)
            return i + bad;
        const uint16_t bits = moe_f16_of(dtype == MOE_Q8 ? fabsf(far) / 127 : far / -8);
        const float scale = as_stored(bits);
        if (!isfinite(scale))
            return i;
        memcpy(scales, &bits, sizeof bits);
        if (dtype == MOE_Q8)
            put_q8(from + i, scale, numbers);
        else
            put_q4(from + i, scale, numbers);
    }
    return n;
}
