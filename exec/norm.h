/* RMSNorm and LayerNorm of one token. Sums are in double, so that to the precision of float32 they
 * do not depend on the order in which a compiler adds. Source: transformers, MixtralRMSNorm;
 * torch.nn.LayerNorm (variance over D, not D - 1). */
#ifndef MOELAB_EXEC_NORM_H
#define MOELAB_EXEC_NORM_H

#include "exec/llm.h"

/* y[D] = norm(x[D]); y may be x. With norm->shift it is LayerNorm, without RMSNorm. */
void moe_norm_apply(const struct moe_norm *norm, float eps, const float *x, uint32_t d_model,
                    float *y);

#endif
