#include "exec/rope.h"

#include <math.h>

void moe_rope_init(struct moe_rope *rope, const struct moe_llm_config *config)
{
    rope->half = config->head_dim / 2;
    for (uint32_t i = 0; i < rope->half; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        float wave = powf((float)config->rope_theta, exponent);
        rope->inv_freq[0][i] = 1.0f / (config->longrope ? config->short_factor[i] * wave : wave);
        rope->inv_freq[1][i] = 1.0f / (config->longrope ? config->long_factor[i] * wave : wave);
    }
    rope->mscale[0] = config->longrope ? config->short_mscale : 1;
    rope->mscale[1] = config->longrope ? config->long_mscale : 1;
}

void moe_rope_angles(const struct moe_rope *rope, bool far, uint32_t position, float *cosine,
                     float *sine)
{
    for (uint32_t i = 0; i < rope->half; i++) {
        float angle = (float)position * rope->inv_freq[far][i];
        cosine[i] = cosf(angle) * rope->mscale[far];
        sine[i] = sinf(angle) * rope->mscale[far];
    }
}

void moe_rope_turn(const float *cosine, const float *sine, uint32_t half, float *x)
{
    for (uint32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}
