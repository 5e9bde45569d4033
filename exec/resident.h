/* The part of a model that lies on a device: the dense weights, the KV cache, the activations of
 * one pass, and the buffers for experts. */
#ifndef MOELAB_EXEC_RESIDENT_H
#define MOELAB_EXEC_RESIDENT_H

#include "exec/expert_store.h"

struct moe_resident_options {
    uint32_t context;      /* tokens of the KV cache */
    uint32_t chunk;        /* most tokens of one pass, T */
    uint32_t n_slots;      /* of the expert cache */
    uint32_t n_staging;    /* buffers for experts that are used once and not cached */
    uint64_t expert_bytes; /* of a slot (struct moe_expert_layout) */
};

/* All pointers are device memory, released with the struct. */
struct moe_resident {
    struct moe_device *device;
    struct moe_llm_layer *layers; /* host array [L]; experts NULL */
    struct moe_norm final_norm;
    struct moe_matrix head;
    float *head_bias;     /* or NULL */
    float *keys, *values; /* [L, KV, context, hd] */
    uint32_t context, chunk;
    struct moe_activations a;
    moe_expert *forced;   /* [L, T, K] replayed routes */
    float *forced_weight; /* [L, T, K] */
    float *logits;        /* [V] */
    unsigned char *slots, *staging;
    uint64_t expert_bytes;
    uint64_t dense_bytes; /* weights */
    uint64_t cache_bytes; /* slots and staging buffers */
    uint64_t other_bytes; /* KV cache, activations, routes, logits */
    void **blocks;        /* everything that was allocated */
    size_t n_blocks;
};

/* Device memory that everything except the slots will take, for choosing a geometry. */
uint64_t moe_resident_bytes(const struct moe_llm *llm, const struct moe_resident_options *options);

/* Allocates everything, copies the weights and waits for the copies. Errors: MOE_ERR_MEMORY of the
 * device, saying what the memory was for; other device errors. */
enum moe_status moe_resident_new(struct moe_resident **out, struct moe_device *device,
                                 const struct moe_llm *llm,
                                 const struct moe_resident_options *options, struct moe_err *err);
void moe_resident_free(struct moe_resident *resident);

#endif
