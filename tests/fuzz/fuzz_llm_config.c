#include "exec/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_sound(const struct moe_llm_config *c)
{
    bool sound =
        c->top_k >= 1 && c->top_k <= c->n_experts && c->n_layers >= 1 &&
        c->n_heads % c->n_kv_heads == 0 && c->head_dim >= 2 && c->head_dim % 2 == 0 &&
        c->head_dim <= MOE_HEAD_DIM_MAX && c->n_eos <= MOE_EOS_MAX &&
        c->max_context <= MOE_CONTEXT_MAX && c->rope_theta >= 1 && c->bos >= -1 &&
        c->bos < (int32_t)c->n_vocab && c->architecture[0] &&
        (c->experts == MOE_F32 ||
         (!moe_dtype_plain(c->experts) && (c->d_model | c->d_ffn) % MOE_QUANT_BLOCK == 0)) &&
        (c->dense == MOE_F32 || (!moe_dtype_plain(c->dense) &&
                                 (c->d_model | c->n_heads * c->head_dim) % MOE_QUANT_BLOCK == 0));
    for (uint32_t i = 0; i < c->n_eos; i++)
        sound = sound && c->eos[i] >= 0 && c->eos[i] < (int32_t)c->n_vocab;
    for (uint32_t i = 0; c->longrope && i < c->head_dim / 2; i++)
        sound = sound && c->short_factor[i] > 0 && c->long_factor[i] > 0;
    return sound;
}

/* config.json, and behind a zero byte generation_config.json. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moe_llm_config config;
    const char *text = (const char *)data;
    const char *zero = size ? memchr(text, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - text) : size;
    enum moe_status s = moe_llm_config_parse("x", text, n, zero ? zero + 1 : NULL,
                                             zero ? size - n - 1 : 0, &config, NULL);
    if (s == MOE_OK && !is_sound(&config))
        abort();
    return 0;
}
