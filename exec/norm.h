/* RMSNorm and LayerNorm of one token. Sums are double, so that they do not depend on how a compiler
 * orders them within the precision of float32. Source: transformers, MixtralRMSNorm;
 * torch.nn.LayerNorm (variance over D, not D - 1). */
#ifndef MOELAB_EXEC_NORM_H
#define MOELAB_EXEC_NORM_H

#include "exec/llm.h"

/* y[D] = norm(x[D]); y may be x. With shift it is LayerNorm, without RMSNorm. */
void moe_norm_apply(const struct moe_norm *norm, float eps, const float *x, uint32_t d_model,
                    float *y);

#endif
