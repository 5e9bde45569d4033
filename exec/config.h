/* config.json of a Hugging Face model directory: exactly what the forward pass needs. Anything in
 * the file that moelab cannot do is refused by its name, never ignored.
 *
 * Both spellings are read: the one of published checkpoints (rope_theta, rope_scaling,
 * torch_dtype) and the one that transformers 5 writes (rope_parameters, dtype).
 * What differs between architectures, and the sources: exec/arch.h.
 */
#ifndef MOELAB_EXEC_CONFIG_H
#define MOELAB_EXEC_CONFIG_H

#include "base/error.h"
#include "exec/arch.h"
#include "exec/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MOE_HEAD_DIM_MAX = 512,
    MOE_EOS_MAX = 16,
    MOE_CONTEXT_MAX = 1 << 24, /* positions are exact in float32 up to here */
};

struct moe_llm_config {
    enum moe_arch arch;
    char architecture[64]; /* in the file's spelling */
    uint32_t n_layers, n_experts, top_k;
    uint32_t d_model, d_ffn;
    /* MOE_Q8 or MOE_Q4 if quantization_config (with quant_method moelab) says so; their
     * rows are then multiples of MOE_QUANT_BLOCK. Else MOE_F32: the type is that of each tensor. */
    enum moe_dtype experts;
    enum moe_dtype dense; /* the same of attention's projections and of a head that is not tied */
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab;
    uint32_t max_context; /* max_position_embeddings */
    /* A token attends only to keys at a distance < window; 0: to all. The key sliding_window, plus
     * one where the architecture's code does not count the token itself. */
    uint32_t sliding_window;
    float norm_eps;
    double rope_theta;
    bool tied_head, attention_bias, head_bias;
    bool renormalise; /* the weights of the chosen experts are divided by their sum */
    enum moe_qk_norm qk_norm;
    float router_jitter; /* SparseMixer's epsilon, router_jitter_noise; 0 except for PhiMoE */
    /* LongRoPE: factors [head_dim / 2]. longrope false: plain RoPE, and the rest is unused. */
    bool longrope;
    uint32_t original_context; /* a sequence of more tokens than this uses long_factor */
    float short_factor[MOE_HEAD_DIM_MAX / 2], long_factor[MOE_HEAD_DIM_MAX / 2];
    float short_mscale, long_mscale; /* multiply cos and sin */
    int32_t bos, eos[MOE_EOS_MAX];   /* -1: none; eos from generation_config.json if there */
    uint32_t n_eos;
};

/* Reads DIR/config.json and, if present, the tokens of DIR/generation_config.json. Errors:
 * MOE_ERR_IO (missing directory or file: says which), MOE_ERR_INPUT (not JSON, nested too deep,
 * missing key, value outside its limits: file, key, value, limit), MOE_ERR_UNSUPPORTED
 * (architecture, activation, rope type, another quantization_config ...: the key, the value). */
enum moe_status moe_llm_config_load(const char *dir, struct moe_llm_config *out,
                                    struct moe_err *err);

/* The same from the files' text in memory; dir: the directory's name, for messages; generation may
 * be NULL. */
enum moe_status moe_llm_config_parse(const char *dir, const char *config, size_t config_size,
                                     const char *generation, size_t generation_size,
                                     struct moe_llm_config *out, struct moe_err *err);

/* Checks that rows are whole blocks where experts or dense weights are Q8 or Q4 (plain types: not
 * checked). Errors: MOE_ERR_INPUT (the key, its value, the type). */
enum moe_status moe_llm_config_rows(const struct moe_llm_config *config, enum moe_dtype experts,
                                    enum moe_dtype dense, struct moe_err *err);

#endif
