/* What differs from one architecture to the next, beside the router's rule: keys and defaults of
 * config.json, and names of tensors. Sources: transformers 4.57 and 5.23, models/mixtral, phimoe,
 * qwen3_moe and olmoe, configuration_*.py and modeling_*.py. */
#ifndef MOELAB_EXEC_ARCH_H
#define MOELAB_EXEC_ARCH_H

#include <stdbool.h>
#include <stdint.h>

enum moe_arch { MOE_ARCH_MIXTRAL, MOE_ARCH_PHIMOE, MOE_ARCH_QWEN3_MOE, MOE_ARCH_OLMOE };

/* RMSNorm of queries and keys between their projection and RoPE. */
enum moe_qk_norm {
    MOE_QK_NORM_NONE,
    MOE_QK_NORM_HEAD, /* every head for itself, all with one scale [hd] */
    MOE_QK_NORM_ALL,  /* all heads of a token together, scale [H hd] and [KV hd] */
};

struct moe_arch_info {
    /* config.json */
    const char *experts_key, *ffn_key; /* number of experts, width of one */
    uint32_t kv_heads; /* where num_key_value_heads is absent; 0: num_attention_heads */
    uint32_t max_context;
    float norm_eps;
    double rope_theta;
    int32_t bos, eos;  /* -1: none */
    bool renormalises; /* without being asked by norm_topk_prob */

    /* The model: parts of the names are "model.layers.L.BLOCK.experts.E.GATE.weight". */
    enum moe_qk_norm qk_norm;
    bool layer_norm; /* norms have a shift */
    const char *block, *gate, *up, *down;
};

const struct moe_arch_info *moe_arch_info(enum moe_arch arch);

#endif
