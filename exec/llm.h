/* A model ready to run: its configuration, and its weights where they lie in the mapped files. */
#ifndef MOELAB_EXEC_LLM_H
#define MOELAB_EXEC_LLM_H

#include "exec/config.h"
#include "exec/weights.h"
#include "traces/trace.h"

/* Scale and, for LayerNorm, shift: float32 [D] (q_norm, k_norm: see there). */
struct moe_norm {
    float *scale, *shift; /* shift NULL: RMSNorm */
};

struct moe_expert_weights {
    struct moe_matrix w1, w3, w2; /* gate [F, D], up [F, D], down [D, F] */
};

struct moe_llm_layer {
    struct moe_norm before_attention, before_experts;
    struct moe_matrix q, k, v, o;             /* [H hd, D], [KV hd, D] twice, [D, H hd] */
    float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL: none */
    struct moe_norm q_norm, k_norm;           /* of moe_llm_qk_width numbers; scale NULL: none */
    struct moe_matrix router;                 /* [E, D] */
    struct moe_expert_weights *experts;       /* [E] */
};

struct moe_device;

struct moe_llm {
    struct moe_llm_config config;
    struct moe_weights *weights; /* NULL: made in memory (exec/synthetic.h) */
    /* The device in whose pinned memory all experts lie packed (exec/expert_store.h); or NULL. */
    const struct moe_device *pinned_on;
    struct moe_matrix embedding; /* [V, D] */
    struct moe_matrix head;      /* [V, D]; the embedding itself when tied */
    float *head_bias;            /* [V] or NULL */
    struct moe_norm final_norm;
    struct moe_llm_layer *layers; /* [L] */
    char name[MOE_TEXT_MAX];      /* last part of the directory's path */
};

/* Opens the model in folder `dir`; expert weights are not read. Errors: those of
 * moe_llm_config_load and moe_weights_*; MOE_ERR_INPUT for a tied head that is stored as well and
 * differs from the embedding. *out is owned by the caller; free with moe_llm_close. */
enum moe_status moe_llm_open(struct moe_llm **out, const char *dir, struct moe_err *err);
void moe_llm_close(struct moe_llm *llm);

/* The number of tensors in the files that are not used: layers beyond num_hidden_layers, parts that
 * the architecture or the configuration lacks. RoPE's stored frequencies do not count. *first: the
 * first of them by name, or NULL; valid as long as llm. */
uint64_t moe_llm_unused(const struct moe_llm *llm, const char **first);

/* How many numbers of the queries or keys of a token, which are those of n_heads heads, are
 * normalised together. */
static inline uint32_t moe_llm_qk_width(const struct moe_llm_config *config, uint32_t n_heads)
{
    return config->qk_norm == MOE_QK_NORM_ALL ? n_heads * config->head_dim : config->head_dim;
}

/* Stored bytes of one expert, and of the dense part of one layer (attention, norms, router). */
uint64_t moe_llm_expert_bytes(const struct moe_llm *llm, uint32_t layer);
uint64_t moe_llm_dense_bytes(const struct moe_llm *llm, uint32_t layer);

#endif
