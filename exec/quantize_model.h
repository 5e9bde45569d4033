/* A model's folder with experts, and dense weights if asked, of 8 or 4 bits, made of one with
 * weights of 16 or 32: what `moelab quantize` writes and moe_llm_open reads. A quantized tensor
 * keeps its name and place among the files, is of dtype U8 and has rows as exec/dtype.h says; all
 * other tensors stay as they are. */
#ifndef MOELAB_EXEC_QUANTIZE_MODEL_H
#define MOELAB_EXEC_QUANTIZE_MODEL_H

#include "exec/llm.h"

struct moe_quantize {
    const struct moe_llm *llm; /* the model, opened from the folder `from` */
    const char *from;
    const char *out;        /* the folder to make */
    enum moe_dtype experts; /* MOE_Q8 or MOE_Q4 */
    /* Of attention's projections and of a head that is not tied; MOE_F32: they stay as they are. */
    enum moe_dtype dense;
    uint32_t threads; /* 0: as many as OpenMP takes; changes no byte */
};

struct moe_quantized {
    uint64_t bytes_before, bytes_after; /* of all tensors */
    uint64_t weights;                   /* in all tensors of a type that moelab computes with */
    uint64_t quantized_weights;         /* of these, in quantized tensors */
};

/* Reads and writes tensor by tensor, with no more than a few megabytes of the model in memory.
 * The folder appears when it is complete; after an error nothing is left. Shows progress on a
 * terminal. Errors: those of moe_model_folder_begin; MOE_ERR_INPUT for experts that are quantized
 * already, sizes that are no multiple of MOE_QUANT_BLOCK, and weights that are no finite number or
 * too large; MOE_ERR_IO for a full disk, before the work where it can be known;
 * MOE_ERR_INTERRUPTED. */
enum moe_status moe_quantize_model(const struct moe_quantize *what, struct moe_quantized *out,
                                   struct moe_err *err);

#endif
