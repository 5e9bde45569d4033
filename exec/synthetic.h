/* A model of a given shape with random weights made in memory: full-size kernels and copies without
 * a download. Its text is meaningless, and every result with it says SYNTHETIC. */
#ifndef MOELAB_EXEC_SYNTHETIC_H
#define MOELAB_EXEC_SYNTHETIC_H

#include "exec/device.h"
#include "traces/model.h"

struct moe_synthetic_options {
    uint32_t layers;  /* 0: all of the shape's */
    uint32_t buffers; /* experts that exist in memory, used for all; 0: as many as fit into half of
                         the memory that may be pinned, at most layers x experts and at least 1 */
    uint64_t seed;
};

struct moe_synthetic; /* opaque: owns the memory */

/* The type of a shape's experts: BF16 of 16 bits, Q8 of 8.5, Q4 of 4.5. Errors:
 * MOE_ERR_UNSUPPORTED (other bits, or Q8 or Q4 where d_model or d_ffn is no multiple of
 * MOE_QUANT_BLOCK). */
enum moe_status moe_synthetic_expert_type(const struct moe_model *shape, enum moe_dtype *out,
                                          struct moe_err *err);

/* Makes a model with a Mixtral-like forward pass (softmax over top-k, RMSNorm) in the shape's
 * sizes, with dense weights in BF16 and experts in the type of their bits. All layers share one set
 * of dense weights in host memory. Expert (l, e) is buffer (l E + e) modulo `buffers`, packed
 * (exec/expert_store.h) in pinned memory of the device; llm->pinned_on is the device, so that a
 * store uses the experts in place. Values are small random numbers, so that nothing overflows in
 * hundreds of layers. device must outlive the model. Errors: MOE_ERR_UNSUPPORTED (a shape with
 * dense_ffn, dense_layers or kv_lora_rank, dense weights not of 16 bits, experts of no type above:
 * named), MOE_ERR_USAGE (more layers than the shape, more buffers than experts), MOE_ERR_MEMORY,
 * MOE_ERR_INTERRUPTED. */
enum moe_status moe_synthetic_new(struct moe_synthetic **out, const struct moe_model *shape,
                                  struct moe_device *device,
                                  const struct moe_synthetic_options *options, struct moe_err *err);
void moe_synthetic_free(struct moe_synthetic *synthetic);

const struct moe_llm *moe_synthetic_llm(const struct moe_synthetic *synthetic);
uint32_t moe_synthetic_buffers(const struct moe_synthetic *synthetic);

#endif
