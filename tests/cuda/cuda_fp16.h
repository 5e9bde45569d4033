/* Stands for CUDA's header of this name: the part that the kernels use. */
#ifndef MOELAB_TESTS_CUDA_FP16_H
#define MOELAB_TESTS_CUDA_FP16_H

#include "exec/dtype.h"
#include "tests/cuda/cuda_emulation.h"

struct __half {
    uint16_t bits;
};

static inline __half __ushort_as_half(unsigned short bits)
{
    return {bits};
}

static inline float __half2float(__half h)
{
    /* Shifting exponent and mantissa and scaling by 2^112 is exact; an exponent of all ones
     * (infinity, NaN) is set again. */
    const uint32_t magnitude = (h.bits & 0x7fffu) << 13;
    const uint32_t sign = (h.bits & 0x8000u) << 16;
    const float scaled = __uint_as_float(magnitude) * 0x1p112f;
    const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000 : 0;
    return __uint_as_float(__float_as_uint(scaled) | special | sign);
}

#endif
