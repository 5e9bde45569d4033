/* CPU kernels: one set for each instruction set, chosen at run time. Serial code: threads are the
 * business of exec/pool.h.
 *
 * Every set gives for a row and a token the same bits whatever the number of tokens, rows and
 * threads it is called with: a token's result does not depend on the tokens beside it. (Sets differ
 * from one another in the last bits.) Accumulation is float32; activations are float32 and keep at
 * least 16 bits of mantissa inside a kernel. */
#ifndef MOELAB_EXEC_KERNELS_H
#define MOELAB_EXEC_KERNELS_H

#include "exec/exp.h"
#include "exec/weights.h"

/* A softmax so far: the largest score, and the sum of exp(score - max). */
struct moe_softmax {
    float max, sum;
};

enum { MOE_ATTENTION_KEYS = 32 };

struct moe_kernels {
    const char *name;    /* "portable", "avx2", "avx512", "avx512-bf16", "amx", "neon" */
    const char *summary; /* instructions it needs, for `moelab bench kernels --help` */
    bool (*usable)(void);

    /* The order of sums, for devices that are to give the same bits: partial sum j of `lanes` takes
     * elements j, j + lanes, ..., and they are added by halving. 0: none that a device could keep.
     */
    uint32_t lanes;
    bool fused; /* a product is added without being rounded before */

    /* Rows of a call for more than 16 tokens from which on more of them make it no faster; a
     * multiple of 32. */
    uint32_t many_rows;

    /* y[t * ldy + r] = sum over d of w[r, d] x[t, d], for r in [r0, r1), t in [0, T).
     * x: [T, cols], any alignment, as the weights. Fastest where r1 - r0 is a multiple of 32. */
    void (*dot)(const struct moe_matrix *w, uint32_t r0, uint32_t r1, const float *x,
                uint32_t n_tokens, float *y, size_t ldy);

    /* h[t * ldh + r] = silu(gate[r] . x[t]) * (up[r] . x[t]): both matrices read in one pass.
     * Both have the same shape. */
    void (*gate_up)(const struct moe_matrix *gate, const struct moe_matrix *up, uint32_t r0,
                    uint32_t r1, const float *x, uint32_t n_tokens, float *h, size_t ldh);

    /* Attention of one query over n <= MOE_ATTENTION_KEYS keys: y[hd] and the softmax so far take
     * them in, the sum of values key by key. q: [hd]; keys, values: [n, hd]; y: not yet divided by
     * the softmax's sum. */
    void (*attend)(const float *q, const float *keys, const float *values, uint32_t n, uint32_t hd,
                   struct moe_softmax *softmax, float *y);
};

static inline MOE_ANYWHERE float moe_silu(float g)
{
    return g / (1.0f + moe_expf(-g));
}

/* The sets; those of other architectures than the program's are not there. */
extern const struct moe_kernels moe_kernels_portable, moe_kernels_avx2, moe_kernels_avx512,
    moe_kernels_avx512_bf16, moe_kernels_amx, moe_kernels_neon;

/* Every set built into this program, the portable one first and the best last. AVX-512 stands
 * behind AVX-512 BF16: both read memory as fast as it gives, but with activations of two BF16 terms
 * the dot-product instruction does half as much or less as fused multiply-add where tokens are
 * many. It stands behind AMX as well, which is several times faster there, but gives up 4 to 25 %
 * of the memory's rate where tokens are one to three, and has no order of sums. */
extern const struct moe_kernels *const moe_kernel_sets[];
extern const size_t moe_n_kernel_sets;

/* The last usable set. */
const struct moe_kernels *moe_kernels_best(void);

/* By name; "auto" is the best. Errors: MOE_ERR_USAGE for an unknown name (lists the known ones),
 * MOE_ERR_UNSUPPORTED for one that this processor cannot run. */
enum moe_status moe_kernels_find(const char *name, const struct moe_kernels **out,
                                 struct moe_err *err);

#endif
