/* Model descriptions: the shape that traces, geometries and the cost model need.
 * Files: experiments/models/NAME.yaml; values from the model's published config.json. */
#ifndef MOELAB_TRACES_MODEL_H
#define MOELAB_TRACES_MODEL_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct moe_trace_info; /* trace.h */

enum {
    MOE_MAX_LAYERS = 1024,
    MOE_MAX_EXPERTS = 4096,
    MOE_MAX_TOP_K = 64,
};

struct moe_model {
    char name[64];
    char source[256];   /* where the values come from */
    uint64_t n_layers;  /* L: MoE layers */
    uint64_t n_experts; /* E: routed experts of a layer */
    uint64_t top_k;     /* K */
    uint64_t d_model;   /* D */
    uint64_t d_ffn;     /* F of one expert */
    uint64_t n_heads, n_kv_heads, head_dim;
    /* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 section 2.1), in which head_dim is
     * the part of a query or key without position. kv_lora_rank 0: plain attention. */
    uint64_t kv_lora_rank, q_lora_rank /* 0: queries are not compressed */, qk_rope_head_dim;
    uint64_t v_head_dim; /* 0: head_dim */
    uint64_t n_vocab;
    uint64_t dense_ffn;        /* F of shared experts or of a dense FFN beside the MoE; 0: none */
    uint64_t dense_layers;     /* that come before those with experts and have none */
    uint64_t dense_layers_ffn; /* F of each of these */
    double expert_weight_bits; /* stored bits a weight of an expert: 16 bf16, 4.25 mxfp4 */
    double dense_weight_bits;  /* the same for attention, router, embedding and head */
    double kv_bits; /* of a key or value: 16 as most engines have it; moelab's own executor: 32 */
};

/* Reads a description. Errors: MOE_ERR_IO, MOE_ERR_USAGE (unknown key with line and nearest name,
 * missing key, value outside limits, top_k > n_experts). */
enum moe_status moe_model_load(const char *path, struct moe_model *out, struct moe_err *err);

/* The same from memory; name stands for the file in messages. */
enum moe_status moe_model_parse(const char *name, const void *data, size_t size,
                                struct moe_model *out, struct moe_err *err);

/* Bytes of one expert: 3 D F weights. */
uint64_t moe_model_expert_bytes(const struct moe_model *model);

/* Bytes a token reads in the dense part of one layer: attention projections, router, dense FFN. */
uint64_t moe_model_dense_layer_bytes(const struct moe_model *model);

/* The same of one of the dense_layers: attention projections and FFN. */
uint64_t moe_model_leading_layer_bytes(const struct moe_model *model);

/* Bytes a token reads in the LM head. */
uint64_t moe_model_head_bytes(const struct moe_model *model);

/* Bytes of keys and values that one layer reads at a context of n tokens. */
uint64_t moe_model_kv_bytes(const struct moe_model *model, uint64_t n_tokens);

/* Of all layers, the dense ones too. */
uint64_t moe_model_kv_cache_bytes(const struct moe_model *model, uint64_t n_tokens);

/* Has a trace the model's layers and experts, and routes to no more than it? Else MOE_ERR_USAGE. */
enum moe_status moe_model_check_trace(const struct moe_model *model,
                                      const struct moe_trace_info *info, struct moe_err *err);

#endif
