#include "exec/kernels.h"

#ifdef __aarch64__
#include <arm_neon.h>

#define TILE_TARGET  __attribute__((unused))
#define TILE_INLINE  static inline __attribute__((always_inline, unused))
#define TILE_KEEP(v) __asm__("" : "+w"(v))

enum { TILE_LANES = 4, TILE_ROWS = 4 };
#define TILE_LANES TILE_LANES
typedef float32x4_t vf;

TILE_INLINE vf vf_zero(void)
{
    return vdupq_n_f32(0);
}

TILE_INLINE vf vf_load(const float *p)
{
    return vld1q_f32(p);
}

TILE_INLINE void vf_store(float *p, vf v)
{
    vst1q_f32(p, v);
}

TILE_INLINE vf vf_set(float s)
{
    return vdupq_n_f32(s);
}

TILE_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

TILE_INLINE vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}

TILE_INLINE vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

/* By halving, as the other sets. */
TILE_INLINE float vf_sum(vf v)
{
    const float32x2_t half = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}

TILE_INLINE vf vf_bf16(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

TILE_INLINE vf vf_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

/* 16 signed bytes as floats. */
TILE_INLINE void vf_bytes(int8x16_t bytes, vf v[4])
{
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    v[1] = vcvtq_f32_s32(vmovl_high_s16(low));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    v[3] = vcvtq_f32_s32(vmovl_high_s16(high));
}

TILE_INLINE void vf_q8(const uint8_t *p, vf v[8])
{
    vf_bytes(vreinterpretq_s8_u8(vld1q_u8(p)), v);
    vf_bytes(vreinterpretq_s8_u8(vld1q_u8(p + 16)), v + 4);
}

TILE_INLINE void vf_q4(const uint8_t *p, const float *factor, size_t stride, vf v[8])
{
    (void)stride;
    const uint8x16_t bytes = vld1q_u8(p);
    const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
    const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
    vf_bytes(vsubq_s8(low, vdupq_n_s8(8)), v);
    vf_bytes(vsubq_s8(high, vdupq_n_s8(8)), v + 4);
    for (int i = 0; i < 8; i++)
        v[i] = vmulq_n_f32(v[i], *factor);
}

#include "exec/kernels_tile.h"

static bool usable(void)
{
    return true; /* every aarch64 has these instructions */
}

const struct moe_kernels moe_kernels_neon = {
    .name = "neon",
    .summary = "Advanced SIMD of aarch64",
    .usable = usable,
    .lanes = TILE_LANES,
    .fused = true,
    .many_rows = 32,
    .dot = tile_dot,
    .gate_up = tile_gate_up,
    .attend = tile_attend,
};
#endif
