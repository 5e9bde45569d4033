/* CPU kernels: one set for each instruction set, chosen at run time. Serial code: threads are the
 * business of exec/pool.h.
 *
 * Every set gives for a row and a token the same bits whatever the number of tokens, rows and
 * threads it is called with: a token's result does not depend on the tokens beside it. (Sets differ
 * from one another in the last bits.) Accumulation is float32; activations are float32 and keep at
 * least 16 bits of mantissa inside a kernel. */
#ifndef MOELAB_EXEC_KERNELS_H
#define MOELAB_EXEC_KERNELS_H

#include "exec/weights.h"

struct moe_kernels {
    const char *name;    /* "portable", "avx2", "avx512", "avx512-bf16" */
    const char *summary; /* instructions it needs, for `moelab bench kernels --help` */
    bool (*usable)(void);

    /* Activations in the form that `dot` of this dtype reads: bytes of one token of n numbers, and
     * the conversion of one token. A set that reads float32 as it is returns 0 here, and then
     * `packed` below is x itself. */
    size_t (*packed_bytes)(enum moe_dtype dtype, uint32_t n);
    void (*pack)(enum moe_dtype dtype, const float *x, uint32_t n, void *packed);

    /* y[t * ldy + r] = sum over d of w[r, d] x[t, d], for r in [r0, r1), t in [0, T).
     * x: [T, cols] float32 with packed_bytes == 0, else T packed tokens one after another. */
    void (*dot)(const struct moe_matrix *w, uint32_t r0, uint32_t r1, const void *x,
                uint32_t n_tokens, float *y, size_t ldy);

    /* h[t * ldh + r] = silu(gate[r] . x[t]) * (up[r] . x[t]): both matrices read in one pass. */
    void (*gate_up)(const struct moe_matrix *gate, const struct moe_matrix *up, uint32_t r0,
                    uint32_t r1, const void *x, uint32_t n_tokens, float *h, size_t ldh);

    /* Sum of n float32 products; one accumulation order for all uses: attention scores. */
    float (*dot_f32)(const float *a, const float *b, uint32_t n);
    /* y[0..n) += s * x[0..n): attention output. */
    void (*axpy_f32)(float s, const float *x, uint32_t n, float *y);
};

/* Every set built into this program, the portable one first and the fastest last. */
extern const struct moe_kernels *const moe_kernel_sets[];
extern const size_t moe_n_kernel_sets;

/* The last usable set. */
const struct moe_kernels *moe_kernels_best(void);

/* By name; "auto" is the best. Errors: MOE_ERR_USAGE for an unknown name (lists the known ones),
 * MOE_ERR_UNSUPPORTED for one that this processor cannot run. */
enum moe_status moe_kernels_find(const char *name, const struct moe_kernels **out,
                                 struct moe_err *err);

#endif
