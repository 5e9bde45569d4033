// Weights as float32 in registers.
#ifndef MOELAB_EXEC_CUDA_WEIGHTS_CUH
#define MOELAB_EXEC_CUDA_WEIGHTS_CUH

#include "exec/cuda/launch.cuh"

#include <cuda_fp16.h>

// PER_LOAD weights are one load, of type `load`; QUANT: of numbers whose scales are at the row's
// end.
template <moe_dtype TYPE> struct weight_type {
    static constexpr bool QUANT = false;
    static constexpr int PER_LOAD = TYPE == MOE_F32 ? 4 : 8;
    typedef uint4 load;
};

template <> struct weight_type<MOE_Q8> {
    static constexpr bool QUANT = true;
    static constexpr int PER_LOAD = 8;
    static constexpr float CENTER = 0, UNIT = 1; // of numbers_of
    typedef uint2 load;
};

template <> struct weight_type<MOE_Q4> {
    static constexpr bool QUANT = true;
    static constexpr int PER_LOAD = 8;
    static constexpr float CENTER = 0.75f, UNIT = 32;
    typedef uint32_t load;
};

// Bytes of the numbers of a row of n weights, and of the row.
template <moe_dtype TYPE> static __host__ __device__ __forceinline__ size_t number_bytes(uint32_t n)
{
    const size_t all = n;
    return TYPE == MOE_F32 ? 4 * all : TYPE == MOE_Q8 ? all : TYPE == MOE_Q4 ? all / 2 : 2 * all;
}

template <moe_dtype TYPE> static __host__ __device__ __forceinline__ size_t row_bytes(uint32_t n)
{
    return number_bytes<TYPE>(n) + (weight_type<TYPE>::QUANT ? n / MOE_QUANT_BLOCK * 2 : 0);
}

template <moe_dtype TYPE>
static __host__ __device__ __forceinline__ const void *row_at(const void *w, uint32_t row,
                                                              uint32_t cols)
{
    return static_cast<const char *>(w) + row * row_bytes<TYPE>(cols);
}

static __device__ __forceinline__ float bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

static __device__ __forceinline__ float f16_of(uint32_t bits)
{
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// Of the block that weight i of a row of n is in, for a row of Q8 or Q4.
template <moe_dtype TYPE>
static __device__ __forceinline__ const unsigned short *scale_at(const void *row, uint32_t n,
                                                                 uint32_t i)
{
    return reinterpret_cast<const unsigned short *>(static_cast<const char *>(row) +
                                                    number_bytes<TYPE>(n)) +
           i / MOE_QUANT_BLOCK;
}

// Weight i of a row of n at any even address, or for F32 at any multiple of 4.
template <moe_dtype TYPE>
static __device__ __forceinline__ float weight_at(const void *row, uint32_t n, uint32_t i)
{
    if (TYPE == MOE_F32)
        return __ldcs(static_cast<const float *>(row) + i);
    if (TYPE == MOE_Q8)
        return static_cast<float>(__ldcs(static_cast<const signed char *>(row) + i)) *
               f16_of(__ldg(scale_at<TYPE>(row, n, i)));
    if (TYPE == MOE_Q4) {
        const uint32_t half = MOE_QUANT_BLOCK / 2, place = i % MOE_QUANT_BLOCK;
        const int both = __ldcs(static_cast<const unsigned char *>(row) +
                                i / MOE_QUANT_BLOCK * half + place % half);
        const int number = (place < half ? both & 15 : both >> 4) - 8;
        return static_cast<float>(number) * f16_of(__ldg(scale_at<TYPE>(row, n, i)));
    }
    const uint32_t bits = __ldcs(static_cast<const unsigned short *>(row) + i);
    return TYPE == MOE_BF16 ? bf16_low(bits) : f16_of(bits);
}

template <moe_dtype TYPE> static __device__ __forceinline__ void unpack(const uint4 &v, float *f)
{
    const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (TYPE == MOE_F32) {
            f[i] = __uint_as_float(word[i]);
        } else if (TYPE == MOE_BF16) {
            f[2 * i] = bf16_low(word[i]);
            f[2 * i + 1] = bf16_high(word[i]);
        } else {
            f[2 * i] = f16_of(word[i] & 0xffffu);
            f[2 * i + 1] = f16_of(word[i] >> 16);
        }
    }
}

// A load of numbers as float32 without conversions, which a multiprocessor does at a quarter of the
// rate of other operations or less: the bits of a number are put into the mantissa of a float whose
// exponent is known: number = (f - CENTER) UNIT.

// Q8: bytes with another sign make 2^23 + 128 + number.
static __device__ __forceinline__ void numbers_of(const uint2 &v, const uint32_t (&)[2],
                                                  float (&f)[8])
{
    const uint32_t word[2] = {v.x ^ 0x80808080u, v.y ^ 0x80808080u};
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        f[i] = __uint_as_float(__byte_perm(word[i / 4], 0x4b000000u, 0x7440 + i % 4)) - 8388736.0f;
}

// Q4: halves make (1 + half / 16) / 2, which is 0.75 + number / 32. Turned to the left by 3 bits
// the low ones lie where a mantissa begins in a byte, by 31 the high ones.
static __device__ __forceinline__ void numbers_of(uint32_t v, const uint32_t (&turn)[2],
                                                  float (&f)[8])
{
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t word = __funnelshift_l(v, v, turn[i / 4]) & 0x78787878u;
        f[i] = __uint_as_float(__byte_perm(word, 0x3f000000u, 0x7044 + (i % 4 << 8)));
    }
}

#endif
