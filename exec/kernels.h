/* CPU kernels: one set for each instruction set, chosen at run time. Serial code; exec/pool.h adds
 * the threads.
 *
 * Within one set, the result for a row and a token has the same bits however many tokens, rows and
 * threads a call works on: it does not depend on the tokens beside it. (Different sets differ in
 * the last bits.) Accumulation is float32; activations are float32 and keep at least 16 bits of
 * mantissa inside a kernel. */
#ifndef MOELAB_EXEC_KERNELS_H
#define MOELAB_EXEC_KERNELS_H

#include "exec/exp.h"
#include "exec/weights.h"

/* State of a softmax that is computed incrementally: the largest score so far, and the sum of
 * exp(score - max). */
struct moe_softmax {
    float max, sum;
};

enum { MOE_ATTENTION_KEYS = 32 }; /* most keys of one call of `attend` */

struct moe_kernels {
    const char *name;    /* "portable", "avx2", "avx512", "avx512-bf16", "amx", "neon" */
    const char *summary; /* instructions it needs, for `moelab bench kernels --help` */
    bool (*usable)(void);

    /* The order of sums, for devices that have to give the same bits: partial sum j of `lanes`
     * takes elements j, j + lanes, ...; then the upper half of the partial sums is added to the
     * lower half until one is left. 0: an order that a device cannot reproduce. */
    uint32_t lanes;
    bool fused; /* fused multiply-add: the product is not rounded before it is added */

    /* For more than 16 tokens: the rows per call above which a call gets no faster per row; a
     * multiple of 32. */
    uint32_t many_rows;

    /* y[t * ldy + r] = sum over d of w[r, d] x[t, d], for r in [r0, r1), t in [0, T).
     * x: [T, cols], any alignment, as the weights. Fastest where r1 - r0 is a multiple of 32. */
    void (*dot)(const struct moe_matrix *w, uint32_t r0, uint32_t r1, const float *x,
                uint32_t n_tokens, float *y, size_t ldy);

    /* h[t * ldh + r] = silu(gate[r] . x[t]) * (up[r] . x[t]). Both matrices have the same shape and
     * are read in one pass. */
    void (*gate_up)(const struct moe_matrix *gate, const struct moe_matrix *up, uint32_t r0,
                    uint32_t r1, const float *x, uint32_t n_tokens, float *h, size_t ldh);

    /* Attention of one query over n <= MOE_ATTENTION_KEYS more keys: updates the softmax and y[hd],
     * the weighted sum of the values seen so far, not yet divided by the softmax's sum. Values are
     * added key by key. q: [hd]; keys, values: [n, hd]. */
    void (*attend)(const float *q, const float *keys, const float *values, uint32_t n, uint32_t hd,
                   struct moe_softmax *softmax, float *y);
};

static inline MOE_ANYWHERE float moe_silu(float g)
{
    return g / (1.0f + moe_expf(-g));
}

/* The sets; only those of the architecture that the program is built for are defined. */
extern const struct moe_kernels moe_kernels_portable, moe_kernels_avx2, moe_kernels_avx512,
    moe_kernels_avx512_bf16, moe_kernels_amx, moe_kernels_neon;

/* Every set built into this program, the portable one first and the preferred one last. AVX-512 is
 * preferred to AVX-512 BF16: both read memory at its full rate, but since an activation is two BF16
 * terms, with many tokens the dot-product instruction achieves half the rate of fused multiply-add
 * or less. It is preferred to AMX, too: AMX is several times faster with many tokens, but loses 4
 * to 25 % of the memory's rate with one to three, and has no order of sums that a device could
 * reproduce. */
extern const struct moe_kernels *const moe_kernel_sets[];
extern const size_t moe_n_kernel_sets;

/* The last usable set of moe_kernel_sets. */
const struct moe_kernels *moe_kernels_best(void);

/* By name; "auto" is the best. Errors: MOE_ERR_USAGE for an unknown name (lists the known ones),
 * MOE_ERR_UNSUPPORTED for one that this processor cannot run. */
enum moe_status moe_kernels_find(const char *name, const struct moe_kernels **out,
                                 struct moe_err *err);

#endif
