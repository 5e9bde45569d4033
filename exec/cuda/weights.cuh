// Weights as float32 in registers.
#ifndef MOELAB_EXEC_CUDA_WEIGHTS_CUH
#define MOELAB_EXEC_CUDA_WEIGHTS_CUH

#include "exec/cuda/launch.cuh"

#include <cuda_fp16.h>

template <moe_dtype TYPE> struct weight_type {
    static const int SIZE = TYPE == MOE_F32 ? 4 : 2;
    static const int PER_LOAD = 16 / SIZE; // weights of a load of 16 bytes
};

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

// One weight at any address that is a multiple of its own size.
template <moe_dtype TYPE>
static __device__ __forceinline__ float weight_at(const void *row, uint32_t i)
{
    if (TYPE == MOE_F32)
        return __ldcs(static_cast<const float *>(row) + i);
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

#endif
